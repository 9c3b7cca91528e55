"""Which worker holds which lock: loop code that would wait for a suspended one gets an error instead of a frozen loop.

A lock that is let go without a release, as a Condition's are, takes its entry along.
"""

from __future__ import annotations

import os
import sys
from threading import get_ident
from typing import Any, NoReturn
from weakref import ref

from greenlet import getcurrent

from ..describe import place_of
from ..workers import Worker, frame_of, idles


class Holding(ref[Any]):
    """A worker's lock. ``thread`` is the worker's."""

    __slots__ = ("key", "thread", "worker")
    key: int
    thread: int
    worker: Worker


#: By the lock's id.
holders: dict[int, Holding] = {}


def hold(worker: Worker, lock: Any) -> None:
    """Note that ``worker`` has just taken it."""
    holding = Holding(lock, _gone)
    holding.key = id(lock)
    holding.thread = get_ident()
    holding.worker = worker
    holders[holding.key] = holding


def _gone(holding: Any) -> None:
    key = holding.key
    if holders.get(key) is holding:
        holders.pop(key, None)


def suspended_holder(lock: Any) -> Worker | None:
    """The worker of this thread that holds it and is suspended; None if there is none."""
    holding = holders.get(id(lock))
    if holding is None or holding.thread != get_ident() or idles(holding.worker) or within(holding.worker):
        return None
    return holding.worker


def within(worker: Worker) -> bool:
    """Whether the caller runs in it, or in a greenlet made there."""
    current: Any = getcurrent()
    while current is not None:
        if current is worker:
            return True
        current = current.parent
    return False


def refuse(lock: Any, holder: Worker) -> NoReturn:
    """Raise what loop code gets that would wait for a suspended worker's lock."""
    there = place_of(frame_of(holder)) or "in a call that has ended"
    here = place_of(sys._getframe(2))
    raise RuntimeError(
        f"{lock!r} is held by a handler that is suspended ({there}), and the event loop would wait for it for ever, "
        f"at {here}: take it in a def handler or in run_blocking(), where a wait suspends only the caller"
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=holders.clear)
