"""The import system's locks: a module belongs to the worker that imports it, not to the thread.

Or the second worker of a loop would be let in while the first is suspended in the midst of an import, and see the
module half made. What importlib does is kept as it is, its way out of circular imports too: its own code runs here,
with another idea of who calls.
"""

from __future__ import annotations

import _thread
import importlib._bootstrap as bootstrap
import sys
from collections.abc import Iterator
from threading import get_ident
from types import SimpleNamespace
from typing import Any, NoReturn

from ..callers import asking, worker_here
from ..describe import place_of
from ..patch import Shim
from ..workers import Worker, frame_of

_ModuleLock: Any = bootstrap._ModuleLock  # type: ignore[attr-defined]
_acquire, _release, _has_deadlock = _ModuleLock.acquire, _ModuleLock.release, _ModuleLock.has_deadlock


class _Importer:
    """A worker that imports. ``depth``: how many modules' locks it has."""

    __slots__ = ("depth", "thread", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.thread = get_ident()
        self.depth = 0


#: By the worker's id, which stands for it where importlib has a thread's number; no thread has that.
_importers: dict[int, _Importer] = {}


def _caller() -> int:
    """The number of whoever calls: of the worker or of the thread."""
    worker = worker_here()
    return get_ident() if worker is None else id(worker)


#: What importlib's code has for ``_thread``.
_threads = SimpleNamespace(**{**vars(_thread), "get_ident": _caller})
_acquire_here, _release_here = asking(_acquire, _thread=_threads), asking(_release, _thread=_threads)
_has_deadlock_here = asking(_has_deadlock, _thread=_threads)


def acquire(self: Any) -> Any:
    worker = worker_here()
    thread = get_ident()
    if worker is None:
        if _importers:
            _look_out(self, thread)
        return _acquire(self)
    if self.owner == thread:  # taken before the install, or by loop code that has this loop run in an import
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


def _look_out(lock: Any, thread: int) -> None:
    """Loop code must not wait for a suspended worker of its thread, nor for a thread that waits for one."""
    for owner in _owners(lock):
        importer = _importers.get(owner)
        if importer is not None and importer.thread == thread:
            _refuse(lock, importer.worker)


def _owners(lock: Any) -> Iterator[int]:
    """Who has it, whom that one waits for, and so on."""
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
    there = place_of(frame_of(worker)) or "in a call that has ended"
    here = place_of(sys._getframe(3))
    raise RuntimeError(
        f"module {lock.name!r} is being imported by a handler that is suspended ({there}), and the event loop would "
        f"wait for it for ever, at {here}: import it before the server starts, or in a def handler or run_blocking(), "
        f"where a wait suspends only the caller"
    )


def settle() -> None:
    """After an uninstall: what workers are importing belongs to their threads, as the originals will have it."""
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
