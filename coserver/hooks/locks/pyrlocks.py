"""``threading._PyRLock``, the RLock in Python: it belongs to the worker too. Its inner lock waits, and is told of.

In a worker its own code runs, which notes the worker itself where else it notes the thread's number.
"""

from __future__ import annotations

import gc
import threading
from threading import get_ident
from typing import Any

from ..callers import asking, worker_here
from ..patch import Shim
from ..workers import Worker
from .owners import holders

_PyRLock: Any = threading._PyRLock  # type: ignore[attr-defined]
_acquire, _release = _PyRLock.acquire, _PyRLock.release
_release_save, _acquire_restore = _PyRLock._release_save, _PyRLock._acquire_restore


def _caller() -> Worker | int:
    return worker_here() or get_ident()


_acquire_here, _release_here = asking(_acquire, get_ident=_caller), asking(_release, get_ident=_caller)


def acquire(self: Any, blocking: Any = True, timeout: Any = -1) -> Any:
    worker = worker_here()
    if worker is None or _PyRLock.acquire is not acquire:  # bound before an uninstall, as ``with`` binds __exit__
        return _acquire(self, blocking, timeout)
    taken = _acquire_here(self, blocking, timeout)
    if taken and self._count == 1:
        worker.owned += 1
    return taken


def release(self: Any) -> None:
    worker = worker_here()
    if worker is None or _PyRLock.release is not release:
        _release(self)
        return
    last = self._count == 1
    _release_here(self)
    if last:
        worker.owned -= 1


def __exit__(self: Any, kind: Any = None, error: Any = None, trace: Any = None) -> None:  # noqa: N807
    release(self)


def release_save(self: Any) -> Any:
    owner = self._owner
    state = _release_save(self)
    if isinstance(owner, Worker):
        owner.owned -= 1
    return state


def acquire_restore(self: Any, state: Any) -> None:
    _acquire_restore(self, state)
    if isinstance(state[1], Worker):
        state[1].owned += 1


def is_owned(self: Any) -> bool:
    return bool(self._owner == _caller())


def recursion_count(self: Any) -> Any:
    return self._count if self._owner == _caller() else 0


def settle() -> None:
    """After an uninstall: what workers have belongs to their threads, as the originals will have it."""
    if _PyRLock.release is release:
        return
    for one in gc.get_objects():
        if type(one) is _PyRLock and isinstance(one._owner, Worker):
            holding = holders.get(id(one._block))
            one._owner = get_ident() if holding is None else holding.thread


ROWS = (
    Shim("threading:_PyRLock", "acquire", acquire),
    Shim("threading:_PyRLock", "__enter__", acquire),
    Shim("threading:_PyRLock", "release", release),
    Shim("threading:_PyRLock", "__exit__", __exit__),
    Shim("threading:_PyRLock", "_is_owned", is_owned),
    Shim("threading:_PyRLock", "_recursion_count", recursion_count),
    Shim("threading:_PyRLock", "_release_save", release_save),
    Shim("threading:_PyRLock", "_acquire_restore", acquire_restore),
)
