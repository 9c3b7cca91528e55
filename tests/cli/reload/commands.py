"""An app whose files change while ``--reload`` serves it, and requests to it."""

from __future__ import annotations

import http.client
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..conftest import TIMEOUT, Running

APP = """
import os, time
from pathlib import Path
import anyio
from coserver import App

app = App("shop")

@app.get("/")
async def index():
    return "WORD"

@app.get("/pid")
async def pid():
    return str(os.getpid())

@app.get("/slow")
async def slow():
    Path("begun").touch()
    while not Path("go on").exists():
        await anyio.sleep(0.01)
    return "finished"

@app.get("/stuck")
async def stuck():
    Path("begun").touch()
    while True:
        time.sleep(0.1)

@app.tcp(framing="lines")
async def echo(connection):
    async for line in connection:
        await connection.send(line)
"""

Serve = Callable[..., Running]


def write(folder: Path, word: str, name: str = "app.py") -> None:
    (folder / name).write_text(APP.replace("WORD", word))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "one")
    return tmp_path


def ask(port: int, path: str = "/", **fields: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers=fields)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def until(port: int, status: int, text: str, path: str = "/") -> None:
    deadline = time.monotonic() + TIMEOUT
    while (got := ask(port, path)) != (status, text):
        assert time.monotonic() < deadline, got
        time.sleep(0.01)


def count(running: Running, pattern: str) -> int:
    return sum(re.search(pattern, line) is not None for line in running.lines)


def gone(pid: int) -> bool:
    """Whether the process has ended; a zombie counts as ended."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


@contextmanager
def under_way(port: int, folder: Path, path: str) -> Iterator[list[str]]:
    """A request whose handler has started. At the end of the block its response is there, or "cut off"."""
    answers: list[str] = []

    def run() -> None:
        try:
            answers.append(ask(port, path)[1])
        except (OSError, http.client.HTTPException):
            answers.append("cut off")

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + TIMEOUT
    while not (folder / "begun").exists():
        assert time.monotonic() < deadline, answers
        time.sleep(0.005)
    yield answers
    thread.join(TIMEOUT)
