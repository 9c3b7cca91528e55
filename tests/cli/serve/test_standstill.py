"""A handler that stands on the event loop: it is named in the log, and signals end the process all the same."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import TIMEOUT, Running

APP = """
import ctypes
from coserver import App

app = App("shop")

@app.get("/")
async def index():
    return "ok"

@app.get("/spin")
def spin():
    while True:
        pass

@app.get("/await")
async def spin_on_the_loop():
    while True:
        pass


@app.get("/short")
async def short():
    ctypes.CDLL(None).usleep(900_000); ctypes.CDLL(None).usleep(900_000); ctypes.CDLL(None).usleep(900_000)
    return "done"
"""
TIMES = ("--grace", "0.2s", "--cleanup-timeout", "0.2s", "--stuck-after", "1.5s")


def stand(running: Running, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", running.port), TIMEOUT)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    time.sleep(0.3)  # it is on its way
    return client


@pytest.mark.parametrize("path", ["/spin", "/await"])
def test_sigterm_ends_it_after_the_grace(
    serve: Callable[..., Running], folder: Path, backend: str, path: str
) -> None:
    (folder / "app.py").write_text(APP)
    running = serve("app", "--backend", backend, *TIMES)
    with stand(running, path):
        began = time.monotonic()
        running.signal(signal.SIGTERM)
        running.wait_for("the event loop stands still, at .*app.py:1[3489] in spin.*hears no signal")
        running.wait_for("the process is ended by force: its event loop stands still, at .*app.py")
        assert running.process.wait(TIMEOUT) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 15


def test_a_second_ctrl_c_ends_it_at_once(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "app.py").write_text(APP)
    running = serve("app", "--grace", "60s")
    with stand(running, "/spin"):
        running.signal(signal.SIGINT)
        running.wait_for("another ends the process at once")
        running.signal(signal.SIGINT)
        assert running.process.wait(TIMEOUT) == 128 + signal.SIGINT


def test_the_line_is_logged_and_that_it_goes_on(serve: Callable[..., Running], folder: Path, backend: str) -> None:
    (folder / "app.py").write_text(APP)
    running = serve("app", "--backend", backend, *TIMES)
    with stand(running, "/short") as client:
        running.wait_for(r"the event loop has stood still for \d s, at .*app.py:24 in short.*The thread waits")
        running.wait_for("the event loop goes on after a standstill of [2-9]")
        assert client.recv(1000).endswith(b"done")
    running.signal(signal.SIGTERM)
    assert running.process.wait(TIMEOUT) == 0
    assert sum("has stood still" in line for line in running.lines) == 1


def test_the_socket_files_are_removed(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "app.py").write_text(APP)
    running = serve("app", "--control", str(folder / "control.sock"), *TIMES)
    with stand(running, "/spin"):
        assert (folder / "control.sock").exists()
        running.signal(signal.SIGTERM)
        assert running.process.wait(TIMEOUT) == 128 + signal.SIGTERM
    assert not (folder / "control.sock").exists()
