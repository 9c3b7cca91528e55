"""``threading.RLock``, in C and in Python: it belongs to the worker, not to the thread. Otherwise two handlers of one
loop could both own it.

The lock in C is taken by the worker's thread, as often as the worker takes it; an entry beside it names the worker. So
other threads see a taken lock, and it is still right after an uninstall. The lock in Python (``threading._PyRLock``)
runs its own code, which notes the worker where it otherwise notes the thread's number. Its inner lock does the waiting.
"""

from __future__ import annotations

import _thread
import gc
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any

from greenlet import getcurrent

from ..patch import Shim
from ..workers import Worker
from .owners import holders, refuse, with_globals, within, worker_here
from .waiters import take, until_of, waiting, wake_next

_RLock = _thread.RLock
_acquire, _release, _is_owned = _RLock.acquire, _RLock.release, _RLock._is_owned  # type: ignore[attr-defined]
_release_save, _acquire_restore = _RLock._release_save, _RLock._acquire_restore  # type: ignore[attr-defined]
_recursion_count = getattr(_RLock, "_recursion_count", None)
_at_fork_reinit = _RLock._at_fork_reinit  # type: ignore[attr-defined]

_NOT_HELD = "cannot release un-acquired lock"


class Owner:
    """The worker that holds an RLock, and how often (``depth``). Keeps the lock alive, as its id is the key."""

    __slots__ = ("depth", "lock", "thread", "worker")

    def __init__(self, worker: Worker, lock: Any) -> None:
        self.worker = worker
        self.lock = lock
        self.depth = 1
        self.thread = get_ident()


#: The RLocks in C that workers hold, by the id of the lock.
owners: dict[int, Owner] = {}
#: Functions to call after the worker has released a lock, by the id of the lock; see ``log_handlers``.
after_release: dict[int, Callable[[], None]] = {}


def suspended_owner(lock: Any) -> Owner | None:
    """The lock's owner, if it is another worker of this thread."""
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
        _acquire(_RLock(), blocking, timeout)  # raises if they are wrong
        if not blocking:
            return _attempt(worker, self)
        until = until_of(timeout)
    return _attempt(worker, self) or take(worker, "acquire", self, lambda: _attempt(worker, self), until)


def __enter__(self: Any) -> bool:  # noqa: N807
    if type(getcurrent()) is Worker or (owners and id(self) in owners):
        return acquire(self)
    return _acquire(self)


def _acquire_elsewhere(self: Any, blocking: Any, timeout: Any) -> bool:
    """Acquire outside of workers, while a worker holds the lock. C would let any code of the worker's thread in."""
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
    if owner is not None and key in after_release:
        after_release.pop(key)()


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
    """Release the lock as often as it was taken, for Condition.wait."""
    if not is_owned(self):
        raise RuntimeError(_NOT_HELD)
    key = id(self)
    owner = owners.get(key)
    if owner is not None:
        _disown(key, owner)
    state = _release_save(self)
    if waiting:
        wake_next(key)
    if owner is not None and key in after_release:
        after_release.pop(key)()
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


# The RLock in Python.

_PyRLock: Any = threading._PyRLock  # type: ignore[attr-defined]
_py_acquire, _py_release = _PyRLock.acquire, _PyRLock.release
_py_release_save, _py_acquire_restore = _PyRLock._release_save, _PyRLock._acquire_restore


def _caller() -> Worker | int:
    return worker_here() or get_ident()


_py_acquire_here = with_globals(_py_acquire, get_ident=_caller)
_py_release_here = with_globals(_py_release, get_ident=_caller)


def py_acquire(self: Any, blocking: Any = True, timeout: Any = -1) -> Any:
    worker = worker_here()
    if worker is None or _PyRLock.acquire is not py_acquire:  # bound before an uninstall, as ``with`` binds __exit__
        return _py_acquire(self, blocking, timeout)
    taken = _py_acquire_here(self, blocking, timeout)
    if taken and self._count == 1:
        worker.owned += 1
    return taken


def py_release(self: Any) -> None:
    worker = worker_here()
    if worker is None or _PyRLock.release is not py_release:
        _py_release(self)
        return
    last = self._count == 1
    _py_release_here(self)
    if last:
        worker.owned -= 1


def py_exit(self: Any, kind: Any = None, error: Any = None, trace: Any = None) -> None:
    py_release(self)


def py_release_save(self: Any) -> Any:
    owner = self._owner
    state = _py_release_save(self)
    if isinstance(owner, Worker):
        owner.owned -= 1
    return state


def py_acquire_restore(self: Any, state: Any) -> None:
    _py_acquire_restore(self, state)
    if isinstance(state[1], Worker):
        state[1].owned += 1


def py_is_owned(self: Any) -> bool:
    return bool(self._owner == _caller())


def py_recursion_count(self: Any) -> Any:
    return self._count if self._owner == _caller() else 0


def settle() -> None:
    """After an uninstall, give the locks of workers to their threads, as the originals need it."""
    if _PyRLock.release is py_release:
        return
    for one in gc.get_objects():
        if type(one) is _PyRLock and isinstance(one._owner, Worker):
            ownership = holders.get(id(one._block))
            one._owner = get_ident() if ownership is None else ownership.thread


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
    Shim("threading:_PyRLock", "acquire", py_acquire),
    Shim("threading:_PyRLock", "__enter__", py_acquire),
    Shim("threading:_PyRLock", "release", py_release),
    Shim("threading:_PyRLock", "__exit__", py_exit),
    Shim("threading:_PyRLock", "_is_owned", py_is_owned),
    Shim("threading:_PyRLock", "_recursion_count", py_recursion_count),
    Shim("threading:_PyRLock", "_release_save", py_release_save),
    Shim("threading:_PyRLock", "_acquire_restore", py_acquire_restore),
)
