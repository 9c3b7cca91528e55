"""The process that uses a port or a UNIX socket, found by psutil if it is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

#: Characters of a command line that are shown: two lines of a terminal.
_WIDTH = 160


def holder(place: str) -> str:
    """``it is used by process 4711 of ann: python -m http.server``, or "" if that is unknown.

    ``place`` is ``host:port`` or a socket's path.
    """
    try:
        import psutil
    except ImportError:
        return ""
    # The system does not show processes of other users and containers.
    with suppress(psutil.Error, OSError, RuntimeError, NotImplementedError):
        for number in _processes(psutil, place):
            return f"it is used by {_described(psutil, number)}"
    return ""


def _processes(psutil: Any, place: str) -> Iterator[int]:
    """The ids of processes that listen there."""
    host, _, port = place.rpartition(":")
    is_path = not host or not port.isdecimal()
    for one in psutil.net_connections("unix" if is_path else "tcp"):
        if one.pid is None or one.pid == os.getpid():
            continue
        if is_path:
            if _same_file(psutil, one.pid, str(one.laddr), place):
                yield one.pid
        elif one.status == psutil.CONN_LISTEN and one.laddr.port == int(port) and _meets(one.laddr.ip, host):
            yield one.pid


def _same_file(psutil: Any, number: int, theirs: str, wanted: str) -> bool:
    """Compare paths: one is as it was bound, so it may be relative to that process's folder."""
    if os.path.basename(theirs) != os.path.basename(wanted):
        return False
    try:
        return os.path.samefile(os.path.join(psutil.Process(number).cwd(), theirs), wanted)
    except (psutil.Error, OSError):
        return False


def _meets(theirs: str, wanted: str) -> bool:
    """Whether two listeners of one port collide. A host name may be any address; ``wanted`` may list several."""
    if "," in wanted:
        return any(_meets(theirs, one.strip()) for one in wanted.split(","))
    wild = ("0.0.0.0", "::", "")
    numeric = wanted.replace(".", "").isdecimal() or ":" in wanted
    return theirs == wanted or theirs in wild or wanted in wild or not numeric


def _described(psutil: Any, number: int) -> str:
    process = psutil.Process(number)
    user = command = ""
    with suppress(psutil.Error):
        user = process.username()
    with suppress(psutil.Error):
        command = " ".join(process.cmdline()) or process.name()
    shown = "".join(one if one.isprintable() else "?" for one in command)
    cut = shown if len(shown) <= _WIDTH else f"{shown[: _WIDTH - 3]}..."
    return f"process {number}{f' of {user}' if user else ''}{f': {cut}' if cut else ''}"
