"""Family "filelocks": ``fcntl.flock``, ``fcntl.lockf``, ``os.lockf``. No event tells that a lock is free: it polls.

It is a wait for a lock, so no cancellation breaks it before the server's grace is over.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent

from ..describe import Descriptor
from ..locks.waiters import poll_and_take
from ..patch import Shim
from ..workers import Worker

_flock, _lockf = fcntl.flock, fcntl.lockf
_os_lockf: Any = getattr(os, "lockf", None)


def _take(worker: Worker, call: str, fd: Any, attempt: Callable[[], Any]) -> None:
    poll_and_take(worker, call, Descriptor(fd), lambda: _succeeds(attempt))


def _succeeds(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def flock(fd: Any, operation: int, /) -> None:
    worker = getcurrent()
    if type(worker) is not Worker or operation & fcntl.LOCK_NB or operation & fcntl.LOCK_UN:
        return _flock(fd, operation)
    _take(worker, "flock", fd, lambda: _flock(fd, operation | fcntl.LOCK_NB))
    return None


def lockf(fd: Any, cmd: int, len: int = 0, start: int = 0, whence: int = 0, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or cmd & fcntl.LOCK_NB or cmd & fcntl.LOCK_UN:
        return _lockf(fd, cmd, len, start, whence)
    _take(worker, "lockf", fd, lambda: _lockf(fd, cmd | fcntl.LOCK_NB, len, start, whence))
    return None


def os_lockf(fd: int, command: int, length: int, /) -> None:
    worker = getcurrent()
    if type(worker) is not Worker or command != os.F_LOCK:
        _os_lockf(fd, command, length)
        return
    _take(worker, "lockf", fd, lambda: _os_lockf(fd, os.F_TLOCK, length))


ROWS = (Shim("fcntl", "flock", flock), Shim("fcntl", "lockf", lockf), Shim("os", "lockf", os_lockf))
