"""A folder with modules to serve, and the real command in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

#: Seconds that no test needs, unless something hangs.
TIMEOUT = 60.0
COMMAND = [sys.executable, "-W", "error", "-m", "coserver_cli"]

#: /slow makes a file when it has begun, and ends when another file is there.
APP = """
from pathlib import Path

import anyio
from coserver import App

app = App("shop")
other = App("other")
number = 7

@app.get("/")
async def index():
    return "ok"

@app.get("/slow")
async def slow():
    Path("begun").touch()
    while not Path("go on").exists():
        await anyio.sleep(0.01)
    return "finished"

@app.tcp(framing="lines")
async def echo(connection):
    async for line in connection:
        await connection.send(line)
"""


class Running:
    """A ``coserver serve`` process. Its lines are collected as they arrive."""

    def __init__(self, process: subprocess.Popen[str], output: IO[str] | None = None) -> None:
        self.process = process
        self._output = output or process.stderr
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._output is not None
        for line in self._output:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, pattern: str) -> re.Match[str]:
        until = time.monotonic() + TIMEOUT
        while time.monotonic() < until:
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.005)
        raise AssertionError(f"no line matches {pattern!r}: {self.lines}")

    @property
    def port(self) -> int:
        port = int(self.wait_for(r"http://\S+:(\d+)")[1])
        self.wait_for("Press Ctrl")
        return port

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment, without settings of the terminal that started the tests."""
    left_out = (
        "NO_COLOR",
        "FORCE_COLOR",
        "TTY_COMPATIBLE",
        "TTY_INTERACTIVE",
        "COLUMNS",
        "LINES",
        "CI",
        "GITHUB_ACTIONS",
        "PYTHONUNBUFFERED",
    )
    kept = {k: v for k, v in os.environ.items() if k not in left_out}
    # Python takes a file of the same size, changed within the second, for the one that it has compiled.
    return {**kept, "TERM": "xterm-256color", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def coserver(folder: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    return run


@pytest.fixture
def serve(folder: Path, environment: dict[str, str]) -> Iterator[Callable[..., Running]]:
    """Start ``coserver serve``, or another such command, on a free port; kill it at the end if it still runs."""
    started: list[Running] = []

    def start(*arguments: str, port: bool = True, command: str = "serve") -> Running:
        line = [*COMMAND, command, *arguments, *(["--port", "0"] if port else [])]
        process = subprocess.Popen(line, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(Running(process))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.ended()
        assert one.process.stderr is not None
        one.process.stderr.close()
