"""Five calls of a library at once, in workers of one loop, while a heartbeat looks how long the loop stands still.

That they wait side by side is seen by structure: on one thread, all five are inside the call at once. The times are
what a user would see. A busy machine spoils a run, so there are some tries for the figures that count, and what fails
is five times as much.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel

from coserver import run_blocking

#: Seconds: how long each call waits, what five at once may take, how long the loop may stand still.
WAIT, TAKE_MAX, STALL_MAX = 0.2, 0.4, 0.05
_TRIES, _MARGIN = 4, 5


@dataclass
class Run:
    """One try: the results in order, how long it took, the longest stall, and how many were inside at once."""

    results: list[Any]
    took: float = 0.0
    stall: float = 0.0
    inside: int = 0
    peak: int = 0
    threads: set[int] = field(default_factory=set)

    def call(self, function: Callable[[int], Any], number: int) -> None:
        self.threads.add(threading.get_native_id())
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            self.results[number] = function(number)
        finally:
            self.inside -= 1


@asynccontextmanager
async def _heartbeat(run: Run) -> AsyncIterator[None]:
    async def beat() -> None:
        last = monotonic()
        while True:
            await anyio.sleep(0.002)
            now = monotonic()
            run.stall = max(run.stall, now - last)
            last = now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat)
        await anyio.lowlevel.checkpoint()
        yield
        await anyio.sleep(0.002)  # a beat after the last of them
        tasks.cancel_scope.cancel()


async def side_by_side(function: Callable[[int], Any], count: int) -> Run:
    """``function(number)`` for each number below ``count``, all at once."""
    run = Run([None] * count)
    begun = monotonic()
    with anyio.fail_after(20):
        async with _heartbeat(run), anyio.create_task_group() as calls:
            begun = monotonic()
            for number in range(count):
                calls.start_soon(run_blocking, run.call, function, number)
        run.took = monotonic() - begun
    assert run.peak == count, f"only {run.peak} of {count} waited at the same time"
    assert run.threads == {threading.get_native_id()}
    return run


async def five(name: str, function: Callable[[int], Any], *, take_max: float = TAKE_MAX) -> list[Any]:
    """What five calls at once return. They must wait side by side, and leave the loop alone."""
    for _ in range(_TRIES):
        run = await side_by_side(function, 5)
        print(f"five x {name}: {run.took:.3f} s, longest stall {run.stall * 1000:.1f} ms")
        if run.took < take_max and run.stall < STALL_MAX:
            break
    assert run.took >= WAIT * 0.9, "nobody waited"
    assert run.took < _MARGIN * take_max
    assert run.stall < _MARGIN * STALL_MAX
    return run.results
