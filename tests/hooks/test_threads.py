"""Threads and their pools, seen from workers; and loggers, whose locks the loop needs as well."""

from __future__ import annotations

import _thread
import logging
import logging.handlers
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import anyio
import pytest

from coserver import run_blocking
from coserver.hooks.locks import log_handlers, rlock

from .running import both, ticking

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


class Slow(logging.Handler):
    """Its emit suspends, as a SocketHandler's may."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.holds, self.free = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if not self.free.is_set():
            self.holds.set()
            self.free.wait(5)
        self.seen.append(record.getMessage())


@pytest.fixture
def slow() -> Iterator[tuple[logging.Logger, Slow]]:
    log, handler = logging.Logger("slow"), Slow()
    log.addHandler(handler)
    yield log, handler
    assert not rlock.after_release


def log_in_the_loop(log: logging.Logger, *texts: str) -> None:
    for text in texts:
        log.warning("%s", text)


async def is_held(handler: Slow) -> None:
    await run_blocking(handler.holds.wait, 5)


async def test_loop_code_logs_while_a_worker_does(slow: tuple[logging.Logger, Slow]) -> None:
    log, handler = slow
    handler.addFilter(lambda record: record.getMessage() != "hidden")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, log.warning, "worker")
        await is_held(handler)
        log_in_the_loop(log, "loop", "hidden", "again")
        assert not handler.seen
        handler.free.set()
    assert handler.seen == ["worker", "loop", "again"]
    assert await run_blocking(_says, log) == "said"


def _says(log: logging.Logger) -> str:
    log.warning("x")
    return "said"


async def test_too_many_records_are_counted(slow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log, handler = slow
    monkeypatch.setattr(log_handlers, "QUEUED_MAX", 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, log.warning, "worker")
        await is_held(handler)
        log_in_the_loop(log, *"abcde")
        handler.free.set()
    assert handler.seen[:3] == ["worker", "a", "b"]
    assert handler.seen[3].startswith("3 records were dropped here")


async def test_workers_log_side_by_side(slow: tuple[logging.Logger, Slow]) -> None:
    log, handler = slow

    def frees() -> None:
        handler.holds.wait(5)
        handler.free.set()

    await both(frees, *[lambda number=number: log.warning("%d", number) for number in range(5)])  # type: ignore[misc]
    assert sorted(handler.seen) == list("01234")


async def test_what_is_left_survives_an_error(slow: tuple[logging.Logger, Slow]) -> None:
    log, handler = slow

    def emit(record: logging.LogRecord) -> None:
        Slow.emit(handler, record)
        if record.getMessage() == "bad":
            raise ValueError("bad")

    handler.emit = emit  # type: ignore[method-assign]

    def worker() -> None:
        with pytest.raises(ValueError, match="bad"):
            log.warning("worker")
        log.warning("next")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, worker)
        await is_held(handler)
        log_in_the_loop(log, "bad", "good")
        handler.free.set()
    assert sorted(handler.seen) == ["bad", "good", "next", "worker"]
