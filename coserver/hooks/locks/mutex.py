"""Family "locks": ``threading.Lock``, and all that is made of it: Condition, Event, Semaphore, Barrier, Queue, Future.

A worker that finds a lock taken suspends until it is released, by any thread (see ``waiters``). Loop code must never
wait for a lock that a suspended worker of its own thread holds, or the loop would stand still for ever. It gets an
error that names the holder (see ``owners``). ``ROWS`` holds the shims of the whole family.
"""

from __future__ import annotations

import _thread
import gc
from threading import Condition
from typing import Any

from greenlet import getcurrent

from ..patch import Shim
from ..workers import Worker
from . import import_lock, log_handlers, rlock, simple_queue, thread_join
from .owners import hold, holders, refuse, suspended_holder
from .waiters import take, until_of, waiting, wake_next

_Lock = _thread.LockType
_allocate = _thread.allocate_lock
_acquire, _release = _Lock.acquire, _Lock.release


def acquire(self: Any, blocking: Any = True, timeout: Any = -1) -> bool:
    worker = getcurrent()
    if type(worker) is not Worker:
        if holders and id(self) in holders:
            return _acquire_elsewhere(self, blocking, timeout)
        return _acquire(self, blocking, timeout)
    if blocking is not True or timeout != -1:
        _acquire(_allocate(), blocking, timeout)  # raises if they are wrong
        if not blocking:
            if not _acquire(self, False):
                return False
            hold(worker, self)
            return True
    return _take(worker, self, timeout)


def __enter__(self: Any) -> bool:  # noqa: N807
    worker = getcurrent()
    if type(worker) is not Worker:
        if holders and id(self) in holders:
            return _acquire_elsewhere(self, True, -1)
        return _acquire(self)
    return _take(worker, self, -1)


def _take(worker: Worker, lock: Any, timeout: Any) -> bool:
    if not _acquire(lock, False):
        until = until_of(timeout)
        if not take(worker, "acquire", lock, lambda: _acquire(lock, False), until):
            return False
    hold(worker, lock)
    return True


def _acquire_elsewhere(self: Any, blocking: Any, timeout: Any) -> bool:
    """Acquire outside of workers, while a worker holds the lock, or held it until code in C released it."""
    if suspended_holder(self) is None or not blocking:
        taken = _acquire(self, blocking, timeout)
    else:
        _acquire(_allocate(), blocking, timeout)  # raises if they are wrong
        taken = _acquire(self, False)
        if not taken:
            holder = suspended_holder(self)
            if holder is not None:
                refuse(self, holder)
            taken = _acquire(self, blocking, timeout)
    if taken:
        holders.pop(id(self), None)  # of the worker that held it before, if code in C released it
    return taken


def release(self: Any, /) -> None:
    if holders and id(self) in holders:
        holders.pop(id(self), None)
    _release(self)
    if waiting:
        wake_next(id(self))


def __exit__(self: Any, kind: Any = None, error: Any = None, trace: Any = None, /) -> None:  # noqa: N807
    if holders and id(self) in holders:
        holders.pop(id(self), None)
    _release(self)
    if waiting:
        wake_next(id(self))


def settle() -> None:
    """After the install or the uninstall, renew the methods of their locks that existing Conditions keep."""
    import_lock.settle()
    rlock.settle()
    for one in gc.get_objects():
        if issubclass(type(one), Condition):
            own = vars(one)
            for name in ("acquire", "release", "_is_owned", "_release_save", "_acquire_restore"):
                if name in own and getattr(own[name], "__self__", None) is own.get("_lock", one):
                    own[name] = getattr(own["_lock"], name)


ROWS = (
    Shim("_thread:LockType", "acquire_lock", acquire),
    Shim("_thread:LockType", "acquire", acquire),
    Shim("_thread:LockType", "release_lock", release),
    Shim("_thread:LockType", "release", release),
    Shim("_thread:LockType", "__enter__", __enter__),
    Shim("_thread:LockType", "__exit__", __exit__),
    *rlock.ROWS,
    *simple_queue.ROWS,
    *thread_join.ROWS,
    *log_handlers.ROWS,
    *import_lock.ROWS,
)
