"""Who holds a port or a UNIX socket that a server wants, where the system tells: by psutil, if it is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

#: Characters of a command line that are shown: two lines of a terminal.
_WIDTH = 160


def holder(place: str) -> str:
    """``it is held by process 4711 of ann: python -m http.server``, or "" if nobody can say.

    ``place`` is ``host:port`` or a socket's path.
    """
    try:
        import psutil
    except ImportError:
        return ""
    # Other users' processes, and other containers', are not told.
    with suppress(psutil.Error, OSError, RuntimeError, NotImplementedError):
        for number in _processes(psutil, place):
            return f"it is held by {_described(psutil, number)}"
    return ""


def _processes(psutil: Any, place: str) -> Iterator[int]:
    """Those that listen there."""
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
    """A path is told as it was bound: it may be relative to the folder where that process is."""
    if os.path.basename(theirs) != os.path.basename(wanted):
        return False
    try:
        return os.path.samefile(os.path.join(psutil.Process(number).cwd(), theirs), wanted)
    except (psutil.Error, OSError):
        return False


def _meets(theirs: str, wanted: str) -> bool:
    """Whether two addresses of one port cannot both be listened on. A name may be any address."""
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
