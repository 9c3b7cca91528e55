"""Family "filelocks": ``fcntl.flock`` and ``fcntl.lockf``. Nothing tells when one is free: it is tried again and again.

A wait for a lock, so no cancellation breaks it before the server's grace is over.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable
from time import monotonic
from typing import Any

from greenlet import getcurrent

from .patching import Shim
from .showing import Descriptor
from .suspension import WAIT, Sleep, suspend
from .workers import Worker

_flock, _lockf = fcntl.flock, fcntl.lockf

#: Seconds between two tries: the first, and what it grows to.
_FIRST, _LAST = 0.001, 0.02


def _try_on(worker: Worker, call: str, fd: Any, attempt: Callable[[], Any]) -> Any:
    period = _FIRST
    while True:
        try:
            return attempt()
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        suspend(worker, WAIT, call, Descriptor(fd), Sleep, monotonic() + period)
        period = min(period * 2, _LAST)


def flock(fd: Any, operation: int, /) -> None:
    worker = getcurrent()
    if type(worker) is not Worker or operation & fcntl.LOCK_NB or operation & fcntl.LOCK_UN:
        return _flock(fd, operation)
    _try_on(worker, "flock", fd, lambda: _flock(fd, operation | fcntl.LOCK_NB))
    return None


def lockf(fd: Any, cmd: int, len: int = 0, start: int = 0, whence: int = 0, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or cmd & fcntl.LOCK_NB or cmd & fcntl.LOCK_UN:
        return _lockf(fd, cmd, len, start, whence)
    return _try_on(worker, "lockf", fd, lambda: _lockf(fd, cmd | fcntl.LOCK_NB, len, start, whence))


ROWS = (Shim("fcntl", "flock", flock), Shim("fcntl", "lockf", lockf))
