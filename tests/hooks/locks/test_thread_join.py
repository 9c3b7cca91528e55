"""Threads and their pools, seen from workers."""

from __future__ import annotations

import _thread
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import anyio
import pytest

from coserver import run_blocking
from coserver.hooks import suspension
from coserver.hooks.locks import thread_join

from ..side_by_side import both, ticking

pytestmark = pytest.mark.usefixtures("hooked")


async def test_start_and_join() -> None:
    def starts() -> bool:
        one = threading.Thread(target=time.sleep, args=(0.03,))
        one.start()
        one.join(0.001)
        assert one.is_alive()
        one.join(0)
        one.join()
        one.join()
        one.join(timeout=-1)
        return one.is_alive()

    async with ticking() as turns:
        assert await both(starts, starts) == [False, False]
    assert len(turns) > 3


@pytest.mark.skipif(sys.version_info < (3, 13), reason="from Python 3.13 on threads have handles")
async def test_a_thread_that_never_starts_is_not_waited_for() -> None:
    handle = getattr(_thread, "_ThreadHandle")()  # noqa: B009

    def joins() -> None:
        with pytest.raises(RuntimeError, match="not started"):
            handle.join()

    with anyio.fail_after(10):
        await run_blocking(joins)


@pytest.mark.parametrize("seconds", [None, 0.1])
async def test_a_join_is_one_suspension(seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def suspend(worker: Any, kind: int, call: str, *rest: Any) -> Any:
        calls.append(call)
        return suspension.suspend(worker, kind, call, *rest)

    monkeypatch.setattr(thread_join, "suspend", suspend)
    go_on = threading.Event()

    def joins() -> bool:
        thread = threading.Thread(target=go_on.wait, args=(5,))
        thread.start()
        if seconds is None:
            threading.Timer(0.1, go_on.set).start()
        thread.join(seconds)
        alive = thread.is_alive()
        go_on.set()
        return alive

    assert await run_blocking(joins) is (seconds is not None)
    assert calls == ["join"]


async def test_join_goes_by_the_rules() -> None:
    def breaks_them() -> None:
        with pytest.raises(RuntimeError, match="before it is started"):
            threading.Thread().join()
        with pytest.raises(RuntimeError, match="current thread"):
            threading.current_thread().join()
        one = threading.Thread(target=time.sleep, args=(0.01,))
        one.start()
        with pytest.raises(TypeError):
            one.join("x")  # type: ignore[arg-type]
        with pytest.raises(OverflowError):
            one.join(1e300)
        one.join()

    await run_blocking(breaks_them)


async def test_a_pool_of_threads() -> None:
    def uses() -> list[int]:
        def square(number: int) -> int:
            time.sleep(0.005)
            return number * number

        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(square, number) for number in range(6)]
            assert futures[0].result(timeout=5) == 0
            assert sorted(one.result() for one in as_completed(futures, timeout=5)) == [0, 1, 4, 9, 16, 25]
            done, _ = wait(futures, timeout=5)
            assert len(done) == 6
            return list(pool.map(square, range(3)))

    async with ticking() as turns:
        assert await both(uses, uses) == [[0, 1, 4]] * 2
    assert len(turns) > 3


async def test_futures_between_workers() -> None:
    first: Future[str] = Future()
    second: Future[str] = Future()

    def waits() -> str:
        done, not_done = wait([first, second], return_when=FIRST_COMPLETED, timeout=5)
        assert done == {first}
        assert not_done == {second}
        with pytest.raises(TimeoutError):
            second.result(timeout=0.01)
        return first.result() + second.result(timeout=5)

    def sets() -> None:
        time.sleep(0.005)
        first.set_result("a")
        time.sleep(0.05)
        second.set_result("b")

    assert (await both(waits, sets))[0] == "ab"
