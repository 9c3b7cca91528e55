"""The process of a server that is isolated: how it is started, what it reports, how it ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

#: Seconds for the process to listen: an import of a big library, and a machine that is busy.
_PATIENCE = 120.0


def spawn(inherited: list[int]) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and where it reports."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "coserver.app.process.child", str(writing)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[writing, *inherited],
            start_new_session=True,  # what interrupts a cell is not for it
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return process, reading


def report(reading: int) -> dict[str, Any]:
    """What it says when it listens, or why it does not."""
    with os.fdopen(reading) as file:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            return {"kind": "TimeoutError", "error": f"it does not listen after {_PATIENCE:g} s"}
        line = file.readline()
    found: dict[str, Any] = json.loads(line) if line else {"kind": "EOFError", "error": "it ended; see what it printed"}
    return found


def ending(status: int) -> str:
    """How a process ended, in words; ``status`` is Popen's, a signal's number negated."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"with status {status}"
