"""``threading.RLock``: it belongs to the worker, not to the thread, or two handlers of one loop would both own it.

The C lock is taken by the worker's thread, as often as the worker takes it; beside it stands who that worker is. So
other threads see a lock that is taken, and after an uninstall it is still right.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from threading import get_ident
from typing import Any

from greenlet import getcurrent

from ..patch import Shim
from ..workers import Worker
from .owners import refuse, within
from .waiters import take, until_of, waiting, wake_next

_RLock = _thread.RLock
_acquire, _release, _is_owned = _RLock.acquire, _RLock.release, _RLock._is_owned  # type: ignore[attr-defined]
_release_save, _acquire_restore = _RLock._release_save, _RLock._acquire_restore  # type: ignore[attr-defined]
_recursion_count = getattr(_RLock, "_recursion_count", None)
_at_fork_reinit = _RLock._at_fork_reinit  # type: ignore[attr-defined]

_NOT_HELD = "cannot release un-acquired lock"


class Owner:
    """The worker that has an RLock, and how often. The lock is kept alive: its id is the key."""

    __slots__ = ("depth", "lock", "thread", "worker")

    def __init__(self, worker: Worker, lock: Any) -> None:
        self.worker = worker
        self.lock = lock
        self.depth = 1
        self.thread = get_ident()


#: By the lock's id: those that a worker has.
owners: dict[int, Owner] = {}
#: By the lock's id: what to do when its worker has released it; see ``leftovers``.
left: dict[int, Callable[[], None]] = {}


def suspended_owner(lock: Any) -> Owner | None:
    """Whose it is, if that is a worker of this thread, but not the caller's."""
    owner = owners.get(id(lock))
    return owner if owner is not None and owner.thread == get_ident() and not within(owner.worker) else None


def _attempt(worker: Worker, lock: Any) -> bool:
    owner = owners.get(id(lock))
    if owner is not None:
        if owner.worker is not worker:
            return False
        _acquire(lock)
        owner.depth += 1
        return True
    if _is_owned(lock) or not _acquire(lock, False):  # owned: by the loop code of this thread
        return False
    owners[id(lock)] = Owner(worker, lock)
    worker.owned += 1
    return True


def acquire(self: Any, blocking: Any = True, timeout: Any = -1) -> bool:
    worker = getcurrent()
    if type(worker) is not Worker:
        if owners and id(self) in owners:
            return _acquire_elsewhere(self, blocking, timeout)
        return _acquire(self, blocking, timeout)
    until = None
    if blocking is not True or timeout != -1:
        _acquire(_RLock(), blocking, timeout)  # which says what is wrong with them
        if not blocking:
            return _attempt(worker, self)
        until = until_of(timeout)
    return _attempt(worker, self) or take(worker, "acquire", self, lambda: _attempt(worker, self), until)


def __enter__(self: Any) -> bool:  # noqa: N807
    if type(getcurrent()) is Worker or (owners and id(self) in owners):
        return acquire(self)
    return _acquire(self)


def _acquire_elsewhere(self: Any, blocking: Any, timeout: Any) -> bool:
    """Outside of workers, while one has it. C would let any code of the worker's thread in."""
    owner = suspended_owner(self)
    if owner is not None:
        _acquire(_RLock(), blocking, timeout)
        if not blocking:
            return False
        refuse(self, owner.worker)
    taken: bool = _acquire(self, blocking, timeout)
    owner = owners.get(id(self))
    if taken and owner is not None and owner.thread == get_ident():
        owner.depth += 1  # a greenlet made in the worker, or the worker after a fork
    return taken


def release(self: Any, /) -> None:
    if type(getcurrent()) is Worker or (owners and id(self) in owners):
        return _release_owned(self)
    _release(self)
    if waiting:
        wake_next(id(self))
    return None


def __exit__(self: Any, kind: Any = None, error: Any = None, trace: Any = None, /) -> None:  # noqa: N807
    if type(getcurrent()) is Worker or (owners and id(self) in owners):
        return _release_owned(self)
    _release(self)
    if waiting:
        wake_next(id(self))
    return None


def _release_owned(self: Any) -> None:
    key = id(self)
    owner = owners.get(key)
    if owner is None or owner.thread != get_ident():
        if type(getcurrent()) is Worker:
            raise RuntimeError(_NOT_HELD)
        _release(self)
    else:
        if not within(owner.worker):
            raise RuntimeError(_NOT_HELD)
        owner.depth -= 1
        if owner.depth:
            _release(self)
            return
        _disown(key, owner)
        _release(self)
    if waiting:
        wake_next(key)
    if owner is not None and key in left:
        left.pop(key)()


def _disown(key: int, owner: Owner) -> None:
    owners.pop(key, None)
    owner.worker.owned -= 1


def is_owned(self: Any, /) -> bool:
    owner = owners.get(id(self)) if owners else None
    if owner is not None:
        return within(owner.worker)
    return type(getcurrent()) is not Worker and _is_owned(self)


def recursion_count(self: Any, /) -> int:
    return _recursion_count(self) if is_owned(self) else 0  # type: ignore[misc]


def release_save(self: Any, /) -> Any:
    """For Condition.wait: release it whole."""
    if not is_owned(self):
        raise RuntimeError(_NOT_HELD)
    key = id(self)
    owner = owners.get(key)
    if owner is not None:
        _disown(key, owner)
    state = _release_save(self)
    if waiting:
        wake_next(key)
    if owner is not None and key in left:
        left.pop(key)()
    return state


def acquire_restore(self: Any, state: Any, /) -> None:
    if type(getcurrent()) is not Worker:
        owner = suspended_owner(self) if owners else None
        if owner is not None:
            refuse(self, owner.worker)
        _acquire_restore(self, state)
        return
    acquire(self)
    for _ in range(state[0] - 1):
        acquire(self)


def at_fork_reinit(self: Any, /) -> None:
    owner = owners.get(id(self))
    if owner is not None:
        _disown(id(self), owner)
    _at_fork_reinit(self)


ROWS = (
    Shim("_thread:RLock", "acquire", acquire),
    Shim("_thread:RLock", "release", release),
    Shim("_thread:RLock", "__enter__", __enter__),
    Shim("_thread:RLock", "__exit__", __exit__),
    Shim("_thread:RLock", "_is_owned", is_owned),
    Shim("_thread:RLock", "_recursion_count", recursion_count),
    Shim("_thread:RLock", "_release_save", release_save),
    Shim("_thread:RLock", "_acquire_restore", acquire_restore),
    Shim("_thread:RLock", "_at_fork_reinit", at_fork_reinit),
)
