"""Queues in workers: those in Python, which are made of locks, and SimpleQueue, which waits in C."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from coserver import RequestCancelled, run_blocking
from coserver.hooks.cancellation import Waits
from coserver.hooks.locks import waiters
from coserver.hooks.workers import run_for

from ..side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")

KINDS = [queue.SimpleQueue, queue.Queue]


@pytest.mark.parametrize("make", KINDS)
async def test_between_workers(make: Callable[[], Any]) -> None:
    one, got = make(), []

    def takes() -> None:
        got.extend(one.get() for _ in range(5))

    def gives() -> None:
        for number in range(10):
            one.put(number)
            time.sleep(0.001)

    await both(takes, takes, gives)
    assert sorted(got) == list(range(10))
    assert not waiters.waiting


@pytest.mark.parametrize("make", KINDS)
async def test_between_a_worker_and_threads(make: Callable[[], Any]) -> None:
    there, back = make(), make()

    def echo() -> None:
        while (item := there.get()) is not None:
            back.put(item + 1)

    threads = [threading.Thread(target=echo) for _ in range(2)]
    for one in threads:
        one.start()

    def asks() -> int:
        total = 0
        for number in range(20):
            there.put(number)
            total += back.get(timeout=5)
        return total

    assert sum(await both(asks, asks)) == 2 * sum(range(1, 21))
    for _ in threads:
        there.put(None)
    await anyio.to_thread.run_sync(lambda: [one.join() for one in threads])


async def test_a_bounded_queue() -> None:
    one: queue.Queue[int] = queue.Queue(maxsize=1)

    def gives() -> None:
        for number in range(5):
            one.put(number)
        with pytest.raises(queue.Full):
            one.put(5, timeout=0.01)
        one.join()

    def takes() -> list[int]:
        found = []
        for _ in range(4):
            time.sleep(0.002)
            found.append(one.get())
            one.task_done()
        time.sleep(0.05)
        found.append(one.get())
        one.task_done()
        return found

    assert (await both(gives, takes))[1] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("make", KINDS)
async def test_nothing_comes(make: Callable[[], Any]) -> None:
    def asks() -> None:
        for given in ({"block": False}, {"timeout": 0.02}, {"timeout": 0}):
            with pytest.raises(queue.Empty):
                make().get(**given)
        with pytest.raises(queue.Empty):
            make().get_nowait()
        with pytest.raises(ValueError, match="non-negative"):
            make().get(timeout=-1)

    await run_blocking(asks)
    asks()


@pytest.mark.parametrize("wrong", ["x", 1e300, float("nan")])
async def test_errors_are_the_originals(wrong: Any) -> None:
    def message() -> str:
        with pytest.raises((TypeError, ValueError, OverflowError)) as caught:
            queue.SimpleQueue[int]().get(timeout=wrong)
        return repr(caught.value)

    assert await run_blocking(message) == message()


async def test_who_is_cancelled_takes_no_item_along() -> None:
    one: queue.SimpleQueue[int] = queue.SimpleQueue()
    waits, got = Waits(), []

    def takes() -> None:
        got.append(one.get())

    def is_broken() -> None:
        with pytest.raises(RequestCancelled):
            one.get()
        one.put(0)  # it can still do what does not wait

    async def cancelled(scope: anyio.CancelScope) -> None:
        with scope:
            await run_for(None, waits, is_broken)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            tasks.start_soon(cancelled, scope)
            await anyio.sleep(0.005)
            tasks.start_soon(run_blocking, takes)
            tasks.start_soon(run_blocking, takes)
            await anyio.sleep(0.005)
            waits.break_waits()
            scope.cancel()
            await anyio.sleep(0.005)
            one.put(1)
    assert sorted(got) == [0, 1]
    assert not waiters.waiting


async def test_waits_are_not_broken_by_a_cancellation() -> None:
    one: queue.SimpleQueue[int] = queue.SimpleQueue()
    got: list[int] = []

    def later() -> None:
        time.sleep(0.03)
        one.put(7)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, later)
        with anyio.move_on_after(0.01) as scope:
            await run_blocking(lambda: got.append(one.get()))
    assert scope.cancelled_caught
    assert got == [7]
