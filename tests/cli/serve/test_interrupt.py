"""Ctrl+C while blocking handlers are suspended."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ..conftest import TIMEOUT, Running

APP = """
import socket, time
from pathlib import Path
from coserver import App

app = App("shop")
near, far = socket.socketpair()

def wait_in(name, function):
    try:
        Path("begun " + name).touch()
        function()
    finally:
        far.send(b".")  # I/O, and a wait: cleaning up may take both
        time.sleep(0.01)
        Path("ended " + name).touch()

@app.get("/sleep")
def sleep():
    wait_in("sleep", lambda: time.sleep(60))

@app.get("/recv")
def recv():
    wait_in("recv", lambda: near.recv(1) and near.recv(1000))

@app.get("/short")
def short():
    wait_in("short", lambda: [time.sleep(0.01) for _ in range(10)])
    return "done"
"""


def test_ctrl_c_while_handlers_are_suspended(serve: Callable[..., Running], folder: Path, backend: str) -> None:
    (folder / "app.py").write_text(APP)
    running = serve("app", "--backend", backend, "--grace", "60")
    with ExitStack() as stack:
        clients = {}
        for name in ("sleep", "recv", "short"):
            client = clients[name] = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), TIMEOUT))
            client.sendall(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while not (folder / f"begun {name}").exists():
                assert running.process.poll() is None
        running.signal(signal.SIGINT)
        running.wait_for("stopping: finishing [23] requests")
        assert clients["short"].recv(1000).endswith(b"done")
        assert not (folder / "ended sleep").exists()
        running.signal(signal.SIGINT)
        assert running.ended() == 130
        assert not clients["sleep"].recv(1000).startswith(b"HTTP/1.1 200")
    for name in ("sleep", "recv", "short"):
        assert (folder / f"ended {name}").exists(), name
    assert not [line for line in running.lines if re.search("Traceback|ERROR", line)]
