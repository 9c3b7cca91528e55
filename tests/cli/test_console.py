"""The output on a terminal of 80 columns: colours, none with NO_COLOR, and a typed Ctrl+C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from .conftest import COMMAND, TIMEOUT

#: Makes the pseudo-terminal the one whose Ctrl+C counts, then becomes the command.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The command on a pseudo-terminal: ``text`` has its output."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *COMMAND, "serve", "app", "--port", "0"],
            cwd=folder,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def read_until(self, wanted: str) -> None:
        while wanted not in self.text:
            try:
                piece = os.read(self.master, 4096)
            except OSError:  # Linux: the other side is closed
                break
            if not piece:
                break
            self.text += piece.decode()
        assert wanted in self.text

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.mark.parametrize("colours", [True, False])
def test_start_and_stop(folder: Path, environment: dict[str, str], colours: bool) -> None:
    terminal = Terminal(folder, environment if colours else {**environment, "NO_COLOR": "1"})
    try:
        terminal.read_until("Press Ctrl+C to stop")
        terminal.type(b"\x03")
        terminal.read_until("stopping")
        assert terminal.process.wait(TIMEOUT) == 130
    finally:
        terminal.close()
    assert ("\x1b[36m" in terminal.text) is colours
    lines = ESCAPE.sub("", terminal.text).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.rstrip() for line in lines[-2:]] == ["Press Ctrl+C to stop", "^Cstopping"]
