"""What cannot be asked to wait differently, because it waits in C, is called in a thread; the worker waits for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread
from anyio.lowlevel import RunVar

from .suspension import IO, suspend
from .workers import Worker

T = TypeVar("T")

#: Threads of one loop that hooked calls may use at once; anyio's own limit is the same, and shared with other things.
THREADS_MAX = 40

_limiters: RunVar[anyio.CapacityLimiter] = RunVar("coserver_hook_threads")


def in_thread(worker: Worker, call: str, on: Any, function: Callable[[], T]) -> T:
    """Call ``function()`` in a thread, with this context's variables; suspend until it is done.

    A cancellation leaves it behind: it goes on, and nobody looks at what it comes to.
    """
    return suspend(worker, IO, call, on, _run, function)


async def _run(function: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=_limiter())


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _limiters.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS_MAX)
        _limiters.set(limiter)
        return limiter
