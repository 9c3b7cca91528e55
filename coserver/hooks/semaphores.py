"""Family "semaphores": multiprocessing's Lock, RLock, Semaphore, and what is made of them: Condition, Event, Queue.

They are the system's, shared between processes. Nothing tells when one is free: it is tried again and again. A wait for
a lock, so no cancellation breaks it before the server's grace is over.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from greenlet import getcurrent

from .patching import Shim
from .suspension import WAIT, Sleep, suspend
from .workers import Worker

#: Seconds between two tries: the first, and what it grows to.
_FIRST, _LAST = 0.001, 0.02
_RECURSIVE = 0

#: By the RLock's id: the worker that has it. C knows the thread alone.
_owners: dict[int, Worker] = {}


def _original(name: str) -> Callable[..., Any]:
    from _multiprocessing import SemLock  # type: ignore[import-not-found]  # not on every system

    found: Callable[..., Any] = getattr(SemLock, name)
    return found


def _attempt(worker: Worker, lock: Any) -> bool:
    if lock.kind != _RECURSIVE:
        return bool(_acquire(lock, False))
    if lock._is_mine() and _owners.get(id(lock)) is not worker:
        return False  # another worker's of this thread, or the loop's
    if not _acquire(lock, False):
        return False
    _owners[id(lock)] = worker
    return True


def acquire(self: Any, block: Any = True, timeout: Any = None) -> bool:
    worker = getcurrent()
    if type(worker) is not Worker:
        return bool(_acquire(self, block, timeout))
    if _attempt(worker, self):
        return True
    until = None if timeout is None else monotonic() + timeout
    period = _FIRST
    while block and (until is None or monotonic() < until):
        wake = monotonic() + period
        suspend(worker, WAIT, "acquire", self, Sleep, wake if until is None else min(wake, until))
        if _attempt(worker, self):
            return True
        period = min(period * 2, _LAST)
    return False


def __enter__(self: Any) -> bool:  # noqa: N807
    return acquire(self)


def release(self: Any, /) -> None:
    if _owners and self.kind == _RECURSIVE and self._count() == 1:
        _owners.pop(id(self), None)
    _release(self)


def __exit__(self: Any, kind: Any = None, error: Any = None, trace: Any = None, /) -> None:  # noqa: N807
    release(self)


try:
    _acquire, _release = _original("acquire"), _original("release")
except (ImportError, AttributeError):  # a system without semaphores
    ROWS: tuple[Shim, ...] = ()
else:
    ROWS = (
        Shim("_multiprocessing:SemLock", "acquire", acquire),
        Shim("_multiprocessing:SemLock", "release", release),
        Shim("_multiprocessing:SemLock", "__enter__", __enter__),
        Shim("_multiprocessing:SemLock", "__exit__", __exit__),
    )
