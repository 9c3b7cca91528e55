"""The file of a UNIX socket is removed by the server that made it, and by no other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coserver import App
from coserver.app import registry
from coserver.app.process import isolation
from coserver.control.client import find
from coserver.transport.unix_socket import SocketFile, answers, bind_unix

from .get import get


def make(name: str, answer: str) -> App:
    app = App(name)
    app.get("/")(lambda: answer)
    return app


def ask(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := sock.recv(1000):
            answer += piece
    return answer.rpartition(b"\r\n\r\n")[2].decode()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return os.path.relpath(tmp_path / "s")  # relative: a long folder has no room in a socket's name


@contextmanager
def foreign(path: str) -> Iterator[None]:
    """A server of another process, which listens at the path."""
    code = f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(); print(); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.stdin.close()


@pytest.mark.parametrize("gone", [os.unlink, lambda path: os.rename(path, f"{path}.old")])
def test_another_servers_file_stays(path: str, gone: Callable[[str], Any]) -> None:
    first = make("first", "1").start(uds=path)
    gone(path)
    with make("second", "2").start(uds=path):
        first.stop()
        assert ask(path) == "2"
    assert not os.path.exists(path)


def test_a_file_of_another_process_stays(path: str) -> None:
    with make("first", "1").start(uds=path):
        os.unlink(path)
        with foreign(path):
            registry.running("first").stop()  # type: ignore[union-attr]
            assert answers(path)


def test_no_file_has_the_number_of_one_that_is_gone(path: str) -> None:
    """File systems give a free inode to the next file: the number is compared while the socket is open."""
    for _ in range(20):
        first = make("first", "1").start(uds=path)
        os.unlink(path)
        with make("second", "2").start(uds=path):
            first.stop()
            assert ask(path) == "2"


def test_a_plain_file_in_its_place_stays(path: str) -> None:
    with make("first", "1").start(uds=path):
        os.unlink(path)
        Path(path).write_text("precious")
    assert Path(path).read_text() == "precious"


def test_a_failed_start_removes_its_own_files_alone(path: str) -> None:
    app = make("first", "1")
    app.listen(name="good", uds=path)
    with make("second", "2").start(uds=f"{path}2"):
        app.listen(name="taken", uds=f"{path}2")
        with pytest.raises(OSError, match="is taken by server 'second'"):
            app.start(port=0)
        assert not os.path.exists(path)
        assert ask(f"{path}2") == "2"


def test_a_successor_binds_anew_if_the_file_is_gone(path: str) -> None:
    make("cell", "1").start(uds=path)
    os.rename(path, f"{path}.old")
    with make("cell", "2").start(uds=path):
        assert ask(path) == "2"
    assert not os.path.exists(path)


def test_a_successor_at_another_path_leaves_no_file(path: str) -> None:
    first = make("cell", "1").start(uds=path)
    with make("cell", "2").start(uds=f"{path}2"):
        first.wait_for_end()
        assert not os.path.exists(path)
        assert ask(f"{path}2") == "2"


def test_the_file_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with make("first", "1").start(uds="s"):
        (tmp_path / "other").mkdir()
        monkeypatch.chdir("other")
        Path("s").write_text("another folder's")
    assert not (tmp_path / "s").exists()
    assert Path("s").exists()


def test_the_control_socket_of_another_stays(tmp_path: Path) -> None:
    path = f"{os.environ['XDG_RUNTIME_DIR']}/mine.sock"
    with make("first", "1").start(control=path):
        os.rename(path, f"{path}.old")
        second = make("second", "2").start(control=path)
    assert find(path).name == "second"
    second.stop()
    assert not os.path.exists(path)
    os.unlink(f"{path}.old")


def test_a_file_that_is_none(tmp_path: Path, path: str) -> None:
    assert SocketFile.at("@abstract") is None
    assert SocketFile.at(str(tmp_path)) is None
    sock, file = bind_unix(path)
    with sock:
        assert file is not None
        assert file.in_place
        file.remove()
        file.remove()
    assert not file.in_place


def in_child(work: Callable[[], Any]) -> tuple[int, int]:
    """Fork a child that does ``work`` and then waits until its pipe is closed. Its id, and the pipe's end."""
    reading, writing = os.pipe()
    done, doing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: a fork beside threads
        pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(writing)
            work()
            os.write(doing, b"done")
            os.read(reading, 1)
            code = 0
        finally:
            os._exit(code)
    for fd in (reading, doing):
        os.close(fd)
    assert os.read(done, 4) == b"done"
    os.close(done)
    return pid, writing


def end(pid: int, writing: int) -> None:
    os.close(writing)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_forked_child_keeps_no_port(backend: str, path: str) -> None:
    app = make("first", "1")
    app.listen(name="unix", uds=path)
    server = app.start(backend=backend, port=0, control="auto")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000).endswith(b"1")
        child = in_child(server.stop)
        assert get(server) == (200, "1")  # the parent's goes on
        assert ask(path) == "1"
        port = server.port
        server.stop()
        client.settimeout(5)
        assert client.recv(1) == b""  # the end of the connection has come, too
        socket.create_server(("127.0.0.1", port)).close()
        assert not os.path.exists(path)
    end(*child)


def test_a_forked_child_has_no_server() -> None:
    with make("first", "1").start() as server:

        def work() -> None:
            assert not server.running
            assert registry.all_running() == []
            with make("first", "2").start() as own:
                assert own.port != server.port
                assert get(own) == (200, "2")

        child = in_child(work)
        assert server.running
        assert get(server) == (200, "1")
        end(*child)


def test_a_forked_child_leaves_an_isolated_server_alone() -> None:
    pytest.importorskip("cloudpickle")
    server = make("first", "1").start(isolated=True)

    def work() -> None:
        server.stop()
        isolation._stop_all()

    child = in_child(work)
    assert server.running
    assert get(server) == (200, "1")
    assert not server.traces.recording  # its control socket lies where it was
    server.stop()
    end(*child)
