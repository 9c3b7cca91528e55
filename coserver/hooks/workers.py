"""Runs blocking functions in pooled greenlets: ``await_`` inside one suspends only it, its task awaits meanwhile.

A worker is no thread. It runs on the loop's own thread, inside the task that called ``run_blocking``, and shares that
task's contextvars. A pooled one costs 1–2 µs a call, a new one ten times that, hence the pool.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple

from greenlet import GreenletExit, getcurrent, greenlet

T = TypeVar("T")
Args = TypeVarTuple("Args")

#: Idle workers kept for each thread. An idle one holds about 1 KB; bursts beyond this pay for new ones.
IDLE_MAX = 256

_DONE = object()  # what a worker switches out with when its function has ended


class Worker(greenlet):
    """A greenlet that runs one function after another."""

    __slots__ = ("failure", "result")
    result: Any
    failure: BaseException | None


class _Idle(threading.local):
    """A greenlet belongs to the thread that made it, so the pool does too."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []


_idle = _Idle()


def _live() -> None:
    """The life of a worker: wait for a function, run it, hand over the outcome."""
    worker = getcurrent()
    assert isinstance(worker, Worker)
    while True:
        parent = worker.parent
        assert parent is not None
        function, args = parent.switch(_DONE)
        try:
            worker.result = function(*args)
        except BaseException as error:
            worker.failure = error
        # Nothing of the last call may stay alive while the worker idles.
        del function, args


def _new() -> Worker:
    """A worker that waits for its first function: what a greenlet is started with it would keep for all its life."""
    worker = Worker(_live)
    worker.switch()
    return worker


def in_worker() -> bool:
    """Whether the caller runs in a worker, where ``await_`` works."""
    return type(getcurrent()) is Worker


def await_(awaitable: Awaitable[T]) -> T:
    """Await from blocking code: suspends this worker, and nothing else, until ``awaitable`` is done.

    Raises RuntimeError outside a worker, and whatever ``awaitable`` raises; a cancellation of the task too.
    """
    worker = getcurrent()
    if type(worker) is not Worker:
        if hasattr(awaitable, "close"):
            awaitable.close()  # or Python warns, later and elsewhere, that it was never awaited
        raise RuntimeError(
            "await_() suspends a worker, and this is none: use 'await' here, or call this function by run_blocking()"
        )
    assert worker.parent is not None
    result: T = worker.parent.switch(awaitable)
    return result


async def run_blocking(function: Callable[[*Args], T], *args: *Args) -> T:
    """Run ``function(*args)`` in a worker; inside it ``await_`` is there. Any anyio task may call this.

    Contextvars are shared both ways. Raises what the function raises.
    """
    workers = _idle.workers
    worker = workers.pop() if workers else _new()
    owner = getcurrent()
    worker.parent = owner
    worker.gr_context = owner.gr_context
    worker.result = worker.failure = None
    outcome = worker.switch(function, args)
    while outcome is not _DONE:
        try:
            value = await outcome
        except BaseException as error:
            outcome = _enter(worker, worker.throw, error)
        else:
            outcome = _enter(worker, worker.switch, value)
    result: T = _take(worker, workers)
    return result


def _enter(worker: Worker, how: Callable[[Any], Any], value: Any) -> Any:
    # The task may have been resumed from another greenlet than the one that it was started from.
    worker.parent = getcurrent()
    return how(value)


def _take(worker: Worker, workers: list[Worker]) -> Any:
    """Take the outcome and give the worker back, with nothing of the request left in it."""
    result, error = worker.result, worker.failure
    worker.result = worker.failure = None
    worker.gr_context = None
    if len(workers) < IDLE_MAX:
        workers.append(worker)
    else:
        worker.throw(GreenletExit)
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # it holds this frame: a cycle that only the collector would undo


def close_idle() -> None:
    """End this thread's idle workers; at the end of a loop, so that nothing of it is left."""
    workers = _idle.workers
    while workers:
        worker = workers.pop()
        worker.parent = getcurrent()
        worker.throw(GreenletExit)
