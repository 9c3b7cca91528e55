"""Family "semaphores": multiprocessing's Lock, RLock, Semaphore, and all made of them: Condition, Event, Queue.

They are the operating system's, shared between processes. No event tells that one is free: the shim polls. It is a wait
for a lock, so no cancellation breaks it before the server's grace is over. A recursive lock belongs to the worker: this
module notes the worker, as C code notes only the thread.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from time import monotonic
from typing import Any

from greenlet import getcurrent

from ..locks.waiters import poll_and_take
from ..patch import Shim
from ..workers import Worker

_SemLock: Any = None
try:
    _SemLock = import_module("_multiprocessing").SemLock
except ImportError:
    pass

#: The kind of a recursive lock.
_RECURSIVE = 0

_acquire: Any = getattr(_SemLock, "acquire", None)
_release: Any = getattr(_SemLock, "release", None)
_is_mine: Any = getattr(_SemLock, "_is_mine", None)

#: The workers that hold recursive locks, by the id of the lock.
_owners: dict[int, Worker] = {}


def acquire(self: Any, block: Any = True, timeout: Any = None) -> bool:
    worker = getcurrent()
    if type(worker) is not Worker:
        if _owners and id(self) in _owners:
            return _acquire_elsewhere(self, block, timeout)
        return _acquire(self, block, timeout)  # type: ignore[no-any-return]
    if _take(worker, self):
        return True
    if not block:
        return False
    until = None if timeout is None else monotonic() + max(timeout, 0)
    return poll_and_take(worker, "acquire", self, lambda: _take(worker, self), until)


def _take(worker: Worker, lock: Any) -> bool:
    if lock.kind != _RECURSIVE:
        return _acquire(lock, False)  # type: ignore[no-any-return]
    if _is_mine(lock) and _owners.get(id(lock)) is not worker:
        return False  # another worker's of this thread, or the loop's own
    if not _acquire(lock, False):
        return False
    if _owners.get(id(lock)) is not worker:
        _owners[id(lock)] = worker
        worker.owned += 1
    return True


def _acquire_elsewhere(lock: Any, block: Any, timeout: Any) -> bool:
    """Acquire a recursive lock that a worker holds, or held. C would let any code of that worker's thread have it."""
    if _is_mine(lock):
        if not block:
            return False
        raise RuntimeError(
            f"{lock!r} is held by a handler of this event loop, and the loop would wait for it for ever: take it in a "
            f"def handler or in run_blocking()"
        )
    taken: bool = _acquire(lock, block, timeout)
    if taken:
        _owners.pop(id(lock), None)  # of an earlier lock with the same id
    return taken


def release(self: Any) -> None:
    if _owners and id(self) in _owners and _is_mine(self):
        owner = _owners[id(self)]
        if owner is not getcurrent():
            raise AssertionError("attempt to release recursive lock not owned by thread")  # as the original's
        _release(self)
        if not _is_mine(self):
            del _owners[id(self)]
            owner.owned -= 1
    else:
        _release(self)


def __enter__(self: Any) -> bool:  # noqa: N807
    return acquire(self)


def __exit__(self: Any, kind: Any = None, error: Any = None, trace: Any = None, /) -> None:  # noqa: N807
    release(self)


def is_mine(self: Any) -> bool:
    owner = _owners.get(id(self)) if _owners else None
    return _is_mine(self) and (owner is None or owner is getcurrent())


def settle() -> None:
    """After the install or the uninstall, renew the C methods that existing objects of multiprocessing keep."""
    synchronize = sys.modules.get("multiprocessing.synchronize")
    if synchronize is None:
        return
    shared = getattr(sys.modules.get("multiprocessing.sharedctypes"), "SynchronizedBase", ())
    there = gc.get_objects()
    for kind in (synchronize.SemLock, synchronize.Condition, shared):  # each kind takes the methods of the kind before
        for one in there:
            if issubclass(type(one), kind) and "acquire" in vars(one):
                lock = vars(one).get("_semlock") or vars(one)["_lock"]
                one.acquire, one.release = lock.acquire, lock.release


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_owners.clear)

ROWS: tuple[Shim, ...] = () if _SemLock is None else (
    Shim("_multiprocessing:SemLock", "acquire", acquire),
    Shim("_multiprocessing:SemLock", "release", release),
    Shim("_multiprocessing:SemLock", "__enter__", __enter__),
    Shim("_multiprocessing:SemLock", "__exit__", __exit__),
    Shim("_multiprocessing:SemLock", "_is_mine", is_mine),
)  # fmt: skip
