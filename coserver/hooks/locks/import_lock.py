"""The import system's locks: a module belongs to the worker that imports it, not to the thread.

Otherwise a second worker of the loop could go on while the first is suspended in an import, and would see a half-made
module. importlib's own code runs here, its way out of circular imports included, with the worker as the caller.
"""

from __future__ import annotations

import _thread
import importlib._bootstrap as bootstrap
from collections.abc import Iterator
from threading import get_ident
from types import SimpleNamespace
from typing import Any, NoReturn

from ..patch import Shim
from ..workers import Worker
from .owners import place_of_caller, place_of_worker, with_globals, worker_here

_ModuleLock: Any = bootstrap._ModuleLock  # type: ignore[attr-defined]
_acquire, _release, _has_deadlock = _ModuleLock.acquire, _ModuleLock.release, _ModuleLock.has_deadlock


class _Importer:
    """A worker that imports. ``depth`` is the number of module locks that it holds."""

    __slots__ = ("depth", "thread", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.thread = get_ident()
        self.depth = 0


#: By the worker's id, which importlib gets in place of a thread's number. No thread has that number.
_importers: dict[int, _Importer] = {}


def _caller() -> int:
    """The number of the caller: the id of its worker, or else its thread's number."""
    worker = worker_here()
    return get_ident() if worker is None else id(worker)


#: Stands for ``_thread`` in importlib's code.
_threads = SimpleNamespace(**{**vars(_thread), "get_ident": _caller})
_acquire_here = with_globals(_acquire, _thread=_threads)
_release_here = with_globals(_release, _thread=_threads)
_has_deadlock_here = with_globals(_has_deadlock, _thread=_threads)


def acquire(self: Any) -> Any:
    worker = worker_here()
    thread = get_ident()
    if worker is None:
        if _importers:
            _check_loop_code(self, thread)
        return _acquire(self)
    if self.owner == thread:  # taken before the install, or by loop code whose import runs this loop
        return _acquire(self)
    caller = id(worker)
    importer = _importers.get(caller)
    if importer is None:
        importer = _importers[caller] = _Importer(worker)
    importer.depth += 1
    taken = False
    try:
        taken = _acquire_here(self)
    finally:
        if not taken:
            _leave(caller, importer)
    if _ModuleLock.release is not release:  # uninstalled meanwhile
        self.owner = thread
    return taken


def release(self: Any) -> None:
    caller = _caller()
    if self.owner != caller or caller == get_ident():
        _release(self)
        return
    _release_here(self)
    _leave(caller, _importers[caller])


def has_deadlock(self: Any) -> Any:
    return (_has_deadlock if _caller() == get_ident() else _has_deadlock_here)(self)


def _leave(caller: int, importer: _Importer) -> None:
    importer.depth -= 1
    if not importer.depth:
        _importers.pop(caller, None)


def _check_loop_code(lock: Any, thread: int) -> None:
    """Raise RuntimeError if loop code would wait for a suspended worker of its thread, or for a thread that waits for
    such a worker."""
    for owner in _owners(lock):
        importer = _importers.get(owner)
        if importer is not None and importer.thread == thread:
            _refuse(lock, importer.worker)


def _owners(lock: Any) -> Iterator[int]:
    """The number of the lock's owner, of the owner of the lock that this one waits for, and so on."""
    blocking_on: Any = bootstrap._blocking_on  # type: ignore[attr-defined]
    seen: set[int] = set()
    locks = [lock]
    while locks:
        owner = locks.pop().owner
        if owner is not None and owner not in seen:
            seen.add(owner)
            yield owner
            on = blocking_on.get(owner)
            locks += on if isinstance(on, list) else [] if on is None else [on]  # a list from Python 3.12 on


def _refuse(lock: Any, worker: Worker) -> NoReturn:
    raise RuntimeError(
        f"module {lock.name!r} is being imported by a handler that is suspended ({place_of_worker(worker)}), and the "
        f"event loop would wait for it for ever, at {place_of_caller()}: import it before the server starts, or in a "
        f"def handler or run_blocking(), where a wait suspends only the caller"
    )


def settle() -> None:
    """After an uninstall, give the locks of workers to their threads, as the originals need it."""
    if _ModuleLock.release is release:
        return
    for one in list(bootstrap._module_locks.values()):  # type: ignore[attr-defined]
        lock = one()
        importer = None if lock is None else _importers.get(lock.owner)
        if importer is not None:
            lock.owner = importer.thread
    _importers.clear()


ROWS = (
    Shim("_frozen_importlib:_ModuleLock", "acquire", acquire),
    Shim("_frozen_importlib:_ModuleLock", "release", release),
    Shim("_frozen_importlib:_ModuleLock", "has_deadlock", has_deadlock),
)
