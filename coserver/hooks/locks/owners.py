"""Who calls, and who holds which lock. Loop code that would wait for a suspended worker's lock gets an error, not a
frozen loop.

Code of the standard library that goes by the thread's number runs here with the worker as the caller.
"""

from __future__ import annotations

import os
import sys
from threading import get_ident
from types import FunctionType
from typing import Any, NoReturn
from weakref import ref

from greenlet import getcurrent

from ..describe import place_of
from ..workers import Worker, frame_of, idles


class Ownership(ref[Any]):
    """A lock that a worker holds. ``thread`` is the worker's thread.

    A weak reference: a lock that ends without a release, as the inner locks of a Condition do, ends its entry too.
    """

    __slots__ = ("key", "thread", "worker")
    key: int
    thread: int
    worker: Worker


#: By the lock's id.
holders: dict[int, Ownership] = {}


def hold(worker: Worker, lock: Any) -> None:
    """Note that ``worker`` has just taken ``lock``."""
    ownership = Ownership(lock, _gone)
    ownership.key = id(lock)
    ownership.thread = get_ident()
    ownership.worker = worker
    holders[ownership.key] = ownership


def _gone(ownership: Any) -> None:
    key = ownership.key
    if holders.get(key) is ownership:
        holders.pop(key, None)


def suspended_holder(lock: Any) -> Worker | None:
    """The suspended worker of this thread that holds ``lock``; None if there is none."""
    ownership = holders.get(id(lock))
    if ownership is None or ownership.thread != get_ident() or idles(ownership.worker) or within(ownership.worker):
        return None
    return ownership.worker


def refuse(lock: Any, holder: Worker) -> NoReturn:
    """Raise the error of loop code that would wait for a suspended worker's lock."""
    raise RuntimeError(
        f"{lock!r} is held by a handler that is suspended ({place_of_worker(holder)}), and the event loop would wait "
        f"for it for ever, at {place_of_caller()}: take it in a def handler or in run_blocking(), where a wait "
        f"suspends only the caller"
    )


def place_of_worker(worker: Worker) -> str:
    """Where a suspended worker stands in the user's code."""
    return place_of(frame_of(worker)) or "in a call that has ended"


def place_of_caller() -> str:
    """Where the user's code stands that runs now. coserver's own frames do not count, however many there are."""
    return place_of(sys._getframe())


# Who calls.


def within(worker: Worker) -> bool:
    """Whether the caller runs in this worker, or in a greenlet that was made there."""
    current: Any = getcurrent()
    while current is not None:
        if current is worker:
            return True
        current = current.parent
    return False


def worker_here() -> Worker | None:
    """The worker in which the caller runs, also if that is in a greenlet made there; None if there is none.

    In a child process, after a fork in a worker, it is still that worker.
    """
    current: Any = getcurrent()
    while current is not None:
        if isinstance(current, Worker):
            return current
        current = current.parent
    return None


def with_globals(function: Any, **globals_: Any) -> Any:
    """A copy of ``function`` that sees these objects in place of its module's globals of the same names."""
    ours = {**function.__globals__, **globals_}
    return FunctionType(function.__code__, ours, function.__name__, function.__defaults__, function.__closure__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=holders.clear)
