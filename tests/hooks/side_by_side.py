"""Blocking functions side by side in workers, and a look at whether the loop goes on meanwhile."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any

import anyio

from coserver import run_blocking


async def both(*functions: Callable[[], Any]) -> list[Any]:
    """What they return, in order; within ten seconds."""
    results: list[Any] = [None] * len(functions)

    async def run(number: int, function: Callable[[], Any]) -> None:
        results[number] = await run_blocking(function)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number, function in enumerate(functions):
                tasks.start_soon(run, number, function)
    return results


@asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """The loop's turns while the block runs, as monotonic seconds; one every two milliseconds if nothing stops it."""
    turns: list[float] = []

    async def tick() -> None:
        while True:
            turns.append(monotonic())
            await anyio.sleep(0.002)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        yield turns
        tasks.cancel_scope.cancel()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends. The test may close them itself; the number of one may belong to another file then."""
    reads, writes = os.pipe()
    own = os.fstat(reads).st_ino
    try:
        yield reads, writes
    finally:
        for fd in (reads, writes):
            try:
                if os.fstat(fd).st_ino == own:
                    os.close(fd)
            except OSError:
                pass
