"""Terminals in which a page's commands are run, as a reader would type them: a shell behind a pseudo-terminal each.

A line ``$ command`` or ``step> command`` is typed when its prompt has come, ``^C`` at once and seen as well; any other
line must then appear, in order.
In it ``…`` stands for whatever the machine makes of it.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

#: What a reader types at.
PROMPTS = ("$ ", "step> ", "> ")
#: The terminal becomes the shell's own, or Ctrl+C would reach nobody.
_OWNING = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r")


class Terminal:
    """A shell in ``folder``. What it prints is waited for at most ``patience`` seconds."""

    def __init__(self, folder: Path, environment: dict[str, str], patience: float = 20) -> None:
        self._patience = patience
        self._text = ""
        self._at = 0
        self._main, inner = pty.openpty()
        termios.tcsetwinsize(inner, (40, 80))
        self._shell = subprocess.Popen(
            [sys.executable, "-c", _OWNING, "bash", "--norc", "--noediting"], stdin=inner, stdout=inner, stderr=inner,
            cwd=folder, start_new_session=True,
            env={**os.environ, **environment, "PS1": "$ ", "PS2": "", "TERM": "xterm", "NO_COLOR": "1"},
        )  # fmt: skip
        os.close(inner)

    def run(self, transcript: str) -> None:
        """Type what a transcript types, and see what it shows. AssertionError says what did not come."""
        for line in transcript.splitlines():
            if line.startswith("^C"):
                os.write(self._main, b"\x03")
            prompt = next((prompt for prompt in PROMPTS if line.startswith(prompt)), None)
            if prompt is None:
                self.see(line)
                continue
            self.see(prompt.rstrip(), whole=False)
            os.write(self._main, line.removeprefix(prompt).encode() + b"\n")

    def see(self, line: str, *, whole: bool = True) -> None:
        """Wait until it has appeared, after what was seen before."""
        pattern = ".*?".join(re.escape(part) for part in line.rstrip().split("…"))
        # What does not end its line has the next prompt behind it.
        begin = "" if line.startswith("…") else "^"
        wanted = re.compile(rf"(?m){begin}{pattern}[ \t]*(?:$|(?=\$ ))" if whole else pattern)
        until = time.monotonic() + self._patience
        while not (found := wanted.search(self._text, self._at)):
            ready = select.select([self._main], [], [], max(until - time.monotonic(), 0))[0]
            assert ready, f"{line!r} did not come, but:\n{self._text[self._at :]}\nafter:\n{self._text[: self._at]}"
            self._text += _CONTROLS.sub("", os.read(self._main, 65536).decode(errors="replace"))
        self._at = found.end()

    def close(self) -> None:
        """End the shell, and with it what runs in it."""
        self._shell.send_signal(signal.SIGHUP)
        self._shell.wait(20)
        os.close(self._main)
