"""A server in a process of its own, so that its memory can be weighed: ``python -m tests.faults.victim BACKEND CODEC``.

It says its port and serves until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from coserver import App, Limits, Request

#: What clients ask for and do not read; it is a hole, and takes no disk.
HUGE = 512 << 20


def make(folder: Path) -> App:
    app = App(limits=Limits(linger_timeout=0.5))
    with (folder / "huge").open("wb") as file:
        file.truncate(HUGE)
    app.static("/files", folder)

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/huge")
    async def huge() -> Any:
        for _ in range(HUGE >> 16):
            yield bytes(1 << 16)

    @app.get("/huge/def")
    def huge_def() -> Any:
        for _ in range(HUGE >> 16):
            yield bytes(1 << 16)

    @app.post("/p")
    @app.post("/take")
    def take(request: Request) -> str:
        return str(request.body_file.seek(0, 2))

    @app.post("/unread", stream=True)
    async def unread(request: Request) -> str:
        return "not for me"

    @app.get("/kb")
    async def kilobyte() -> str:
        return "x" * 1000

    return app


def main() -> None:
    backend, codec = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, make(Path(folder)).start(backend=backend, codec=codec) as server:
        print(server.port, flush=True)
        sys.stdin.read()


class Victim:
    """The running server: where it listens, and what it weighs."""

    def __init__(self, port: int, process: psutil.Process) -> None:
        self.port = port
        self.codec = ""
        self.process = process
        self.at_rest = self.weight

    @property
    def weight(self) -> int:
        """Bytes of memory."""
        return int(self.process.memory_info().rss)

    @contextmanager
    def weighed(self) -> Iterator[list[int]]:
        """Weigh it all the time; the list's item is by how much it grew at most, in bytes."""
        before = self.weight
        grown = [0]
        stop = threading.Event()

        def weigh() -> None:
            while not stop.wait(0.02):
                grown[0] = max(grown[0], self.weight - before)

        thread = threading.Thread(target=weigh)
        thread.start()
        try:
            yield grown
        finally:
            stop.set()
            thread.join()
            grown[0] = max(grown[0], self.weight - before)

    def settled(self, connections: int = 0, seconds: float = 10) -> None:
        """Wait until its clients are gone."""
        until = monotonic() + seconds
        while len(self.process.net_connections("tcp")) > connections + 1:
            assert monotonic() < until, "connections are left"
            sleep(0.02)


@contextmanager
def victim(backend: str, codec: str) -> Iterator[Victim]:
    command = [sys.executable, "-m", "tests.faults.victim", backend, codec]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Victim(int(process.stdout.readline()), psutil.Process(process.pid))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(20) == 0


if __name__ == "__main__":
    main()
