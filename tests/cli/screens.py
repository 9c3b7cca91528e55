"""A command on a pseudo-terminal; pyte reads its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyte

from .conftest import TIMEOUT
from .test_console import TAKE_TERMINAL


class Screen:
    """``keys`` types, ``until`` waits for a text; ``raw`` has all output."""

    def __init__(
        self, command: list[str], folder: Path, environment: dict[str, str], columns: int = 80, lines: int = 24
    ) -> None:
        self.master, self._slave = pty.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = b""
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *command],
            cwd=folder, env=environment, stdin=self._slave, stdout=self._slave, stderr=self._slave,
            start_new_session=True,
        )  # fmt: skip
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:
                    return
                with self._lock:
                    self.raw += data
                    self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def keys(self, *keys: str) -> None:
        for key in keys:
            os.write(self.master, key.encode())
            time.sleep(0.02)  # as a person: a terminal sends them one by one

    def until(self, wanted: str | Callable[[str], Any]) -> str:
        """Wait for a text on the screen, or for a condition."""
        there = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        end = time.monotonic() + TIMEOUT
        while not there(text := self.text):
            assert time.monotonic() < end, f"{wanted!r} is not to be seen:\n{text}"
            assert self.process.poll() is None, f"it has ended:\n{text}"
            time.sleep(0.01)
        return text

    def resize(self, columns: int, lines: int) -> None:
        with self._lock:
            self._screen.resize(lines, columns)
            fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def ended(self) -> int:
        """Wait for the end; the exit code. The terminal must be restored."""
        code = self.process.wait(TIMEOUT)
        time.sleep(0.1)  # what was written last is on its way through the terminal
        return code

    def is_clean(self) -> bool:
        """Whether its modes are as before, and the alternate screen was left last."""
        return termios.tcgetattr(self._slave) == self.before and self.is_given_back()

    def is_given_back(self) -> bool:
        """Whether the alternate screen was left last, and the cursor is visible."""
        left, taken = (self.raw.rfind(each) for each in (b"\x1b[?1049l", b"\x1b[?1049h"))
        return left > taken and self.raw.rfind(b"\x1b[?25h") > taken

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._ended.set()
        self._reader.join()
        os.close(self.master)
        os.close(self._slave)
