"""``coserver serve`` under a service manager: ``--fd``, systemd's sockets by name, and notifications."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from ..conftest import COMMAND, TIMEOUT, Running


def ask(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=TIMEOUT) as answer:
        return str(answer.read().decode())


def launch(folder: Path, command: list[str], **options: object) -> Running:
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
    return Running(process)


def end(running: Running) -> None:
    running.process.terminate()
    try:
        assert running.process.wait(TIMEOUT) == 0
    finally:
        running.process.kill()
        running.process.wait()
        running._reader.join()
        assert running.process.stderr is not None
        running.process.stderr.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(
        "from coserver import App\napp = App('shop')\n@app.get('/')\nasync def index(): return 'ok'\n"
        "@app.tcp(framing='lines')\nasync def echo(connection):\n"
        "    async for line in connection: await connection.send(line)\n"
    )
    return tmp_path


def test_a_descriptor(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port, number = sock.getsockname()[1], sock.fileno()
        running = launch(folder, [*COMMAND, "serve", "shop:app", "--fd", str(number)], pass_fds=[number])
        try:
            assert running.port == port
            assert ask(port) == "ok"
        finally:
            end(running)


def test_a_descriptor_that_is_none(folder: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve", "shop:app", "--fd", "77"], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot listen on descriptor 77: it is not open; the parent process must let its child" in done.stderr
    done = subprocess.run(
        [*COMMAND, "serve", "shop:app", "--fd", "3", "--port", "1"], cwd=folder, capture_output=True, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "give --fd alone, or --host and --port" in " ".join(done.stderr.split())


# What systemd does: sockets from descriptor 3 on, the pid of the very process, then exec; and a socket to tell.
SYSTEMD = """
import os, sys
count, names, *command = sys.argv[1:]
fds = [int(fd) for fd in os.environ.pop("FDS").split()]
high = [os.dup2(fd, 100 + number) for number, fd in enumerate(fds)]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=count, LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


def test_systemds_sockets_by_name(folder: Path) -> None:
    notify = str(folder / "notify")
    with (
        socket.create_server(("127.0.0.1", 0)) as web,
        socket.create_server(("127.0.0.1", 0)) as lines,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(notify)
        manager.settimeout(TIMEOUT)
        fds = [lines.fileno(), web.fileno()]
        environ = {**os.environ, "NOTIFY_SOCKET": notify, "FDS": " ".join(map(str, fds))}
        command = [sys.executable, "-c", SYSTEMD, "2", "echo:http", *COMMAND, "serve", "shop:app"]
        running = launch(folder, command, pass_fds=fds, env=environ)
        try:
            assert manager.recv(100) == b"READY=1"
            assert ask(web.getsockname()[1]) == "ok"
            with socket.create_connection(lines.getsockname(), timeout=TIMEOUT) as client:
                client.sendall(b"hello\n")
                assert client.recv(100).strip() == b"hello"
        finally:
            end(running)
        assert manager.recv(100) == b"STOPPING=1"


def test_one_socket_too_many(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        environ = {**os.environ, "FDS": " ".join([str(sock.fileno())] * 3)}
        command = [sys.executable, "-c", SYSTEMD, "3", "", *COMMAND, "serve", "shop:app"]
        done = subprocess.run(
            command, cwd=folder, pass_fds=[sock.fileno()], env=environ, capture_output=True, text=True,
            timeout=TIMEOUT, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "systemd passes 3 sockets, and there are 2 listeners (http, echo)" in " ".join(done.stderr.split())


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed")
def test_activated_by_the_first_client(folder: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", *COMMAND, "serve", "shop:app"]
    running = launch(folder, command)
    try:
        running.wait_for("Listening on")
        assert ask(port) == "ok"
        assert running.port == port
    finally:
        end(running)
