"""``coserver serve`` while it runs: its output, its arguments, its end."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver import __version__
from tests.ipv6 import needs_ipv6

from ..conftest import TIMEOUT, Running


def get(port: int, path: str = "/", host: str = "127.0.0.1") -> str:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def under_way(port: int, folder: Path) -> tuple[threading.Thread, list[str]]:
    """A request whose handler has started, and the place of its response."""
    answers: list[str] = []

    def ask() -> None:
        try:
            answers.append(get(port, "/slow"))
        except (OSError, http.client.HTTPException):
            answers.append("cut off")

    thread = threading.Thread(target=ask)
    thread.start()
    until = time.monotonic() + TIMEOUT
    while not (folder / "begun").exists():
        assert time.monotonic() < until, answers
        time.sleep(0.005)
    return thread, answers


def said(running: Running) -> list[str]:
    """The output since the server listens, without the access log."""
    return [line for line in running.lines[5:] if "HTTP/1." not in line]


@pytest.mark.parametrize("codec", ["auto", "h11"])
def test_it_serves_and_says_where(serve: Callable[..., Running], backend: str, codec: str) -> None:
    running = serve("app:app", "--backend", backend, "--codec", codec, "--no-access-log")
    port = running.port
    assert get(port) == "ok"
    assert running.lines[0] == f"coserver {__version__} serves shop"
    assert re.fullmatch(rf"  http://127\.0\.0\.1:{port}  HTTP, 2 routes", running.lines[1])
    assert re.fullmatch(r"  tcp://127\.0\.0\.1:\d+\s+echo, framing lines", running.lines[2])
    assert re.fullmatch(rf"  backend {backend}, codec (h11|httptools)", running.lines[3])
    assert running.lines[4] == "Press Ctrl+C to stop"
    with socket.create_connection(
        ("127.0.0.1", int(running.lines[2].split()[0].rpartition(":")[2])), TIMEOUT
    ) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
    running.signal(signal.SIGINT)
    assert running.ended() == 130
    assert said(running) == ["stopping"]


def test_the_module_alone(serve: Callable[..., Running]) -> None:
    assert get(serve("app").port) == "ok"


def test_sigterm_ends_well(serve: Callable[..., Running], backend: str) -> None:
    running = serve("app", "--backend", backend, "--no-access-log")
    assert get(running.port) == "ok"
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    assert said(running) == ["stopping"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_drain_finishes_what_runs(
    serve: Callable[..., Running], folder: Path, number: signal.Signals, code: int
) -> None:
    running = serve("app")
    client, answers = under_way(running.port, folder)
    running.signal(number)
    running.wait_for("stopping: finishing 1 request, Ctrl\\+C again to stop at once")
    (folder / "go on").touch()
    assert running.ended() == code
    client.join()
    assert answers == ["finished"]


def test_a_second_signal_stops_at_once(serve: Callable[..., Running], folder: Path, backend: str) -> None:
    running = serve("app", "--backend", backend)
    client, answers = under_way(running.port, folder)
    running.signal(signal.SIGINT)
    running.wait_for("stopping: finishing 1 request")
    running.signal(signal.SIGINT)
    assert running.ended() == 130
    running.wait_for("stopping at once")
    client.join()
    assert answers == ["cut off"]


def test_a_unix_socket(serve: Callable[..., Running], tmp_path: Path) -> None:
    path = tmp_path / "shop.sock"
    running = serve("app", "--uds", str(path), port=False)
    running.wait_for(re.escape(f"http+unix:{path}") + r"\s+HTTP, 2 routes$")
    running.wait_for("Press")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000).endswith(b"ok")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    assert not path.exists()


def test_every_address(serve: Callable[..., Running]) -> None:
    running = serve("app", "--host", "0.0.0.0")
    assert get(running.port) == "ok"
    running.wait_for(r"http://127\.0\.0\.1:\d+\s+HTTP, 2 routes, on all addresses$")


@needs_ipv6
def test_several_hosts(serve: Callable[..., Running]) -> None:
    running = serve("app", "--host", "127.0.0.1", "--host", "::1")
    port = running.port
    running.wait_for(rf"http://127\.0\.0\.1:{port}\s+HTTP, 2 routes, and http://\[::1\]:{port}$")
    for place in ("127.0.0.1", "::1"):
        with socket.create_connection((place, port), TIMEOUT) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).endswith(b"ok")


def test_a_handlers_error_is_logged_and_it_goes_on(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "broken.py").write_text(
        "from coserver import App\napp = App()\napp.get('/')(lambda: 1 / 0)\napp.get('/x')(lambda: 'x')\n"
    )
    running = serve("broken")
    assert get(running.port).startswith("500 ")
    assert get(running.port, "/x") == "x"
    running.wait_for(r"^\S+ \S+ ERROR coserver\.server: handler <lambda> failed")
    running.wait_for("ZeroDivisionError")


def test_stop_from_a_handler_ends_it_well(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "ending.py").write_text(
        "import os, signal\nfrom coserver import App\napp = App()\n"
        "@app.get('/end')\nasync def end():\n    os.kill(os.getpid(), signal.SIGTERM)\n    return 'bye'\n"
    )
    running = serve("ending")
    assert get(running.port, "/end") == "bye"
    assert running.ended() == 0


def test_stderr_that_nobody_reads_stops_nothing(folder: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "coserver_cli", "serve", "app", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    port = int(process.stderr.readline().split()[0].rpartition(":")[2])
    process.stderr.close()
    try:
        assert get(port) == "ok"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
    finally:
        process.kill()
        process.wait()


SLOW_START = """
import os, signal
import anyio
from coserver import App

app = App("shop")

@app.lifespan
async def life():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(60)
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
        print("the database is closed")
"""


def test_a_signal_during_the_start_ends_what_the_lifespan_has_begun(
    coserver: Callable[..., subprocess.CompletedProcess[str]], folder: Path, backend: str
) -> None:
    (folder / "app.py").write_text(SLOW_START)
    done = coserver("serve", "app", "--port", "0", "--backend", backend)
    assert done.stdout == "the database is closed\n"
    assert (done.stderr, done.returncode) == ("", 0)


FORKING = """
import os, signal
from coserver import App

app = App("shop")

@app.get("/")
def fork():
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_signal_to_a_forked_child_is_the_childs_alone(
    serve: Callable[..., Running], folder: Path, backend: str
) -> None:
    (folder / "app.py").write_text(FORKING)
    running = serve("app", "--backend", backend, "--no-access-log")
    assert get(running.port) == f"{-signal.SIGTERM}"
    assert get(running.port) == f"{-signal.SIGTERM}"  # it still serves
    assert "stopping" not in "".join(running.lines)
