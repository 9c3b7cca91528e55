"""multiprocessing's locks in workers: shared with another process, with the loop's code, and between two workers."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import pytest

from coserver import await_, hooks, run_blocking

from ...conftest import BACKENDS
from ..side_by_side import both, ticking

pytestmark = pytest.mark.usefixtures("hooked")
processes = multiprocessing.get_context("spawn")  # forked, a child would have this process's loop
fork = multiprocessing.get_context("fork")


def _let_go(lock: Any, order: list[str]) -> None:
    time.sleep(0.03)
    order.append("released")
    lock.release()


async def test_who_wants_a_lock_waits_alone() -> None:
    lock = processes.Lock()
    order: list[str] = []

    def take() -> None:
        assert not lock.acquire(block=False)
        assert not lock.acquire(timeout=0.005)
        assert not lock.acquire(True, -1)
        with lock:
            order.append("taken")

    assert await run_blocking(lock.acquire)
    await both(take, lambda: _let_go(lock, order))
    assert order == ["released", "taken"]
    assert lock.acquire(block=False)


async def test_a_semaphore_lets_as_many_in() -> None:
    semaphore = processes.BoundedSemaphore(2)
    inside: list[int] = []

    def enter() -> None:
        with semaphore:
            inside.append(1)
            assert len(inside) <= 2
            time.sleep(0.01)
            inside.pop()

    await both(*[enter] * 5)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()


async def test_an_rlock_belongs_to_one_worker() -> None:
    lock = processes.RLock()
    order: list[str] = []

    def twice(name: str) -> None:
        with lock:
            order.append(name)
            time.sleep(0.01)
            with lock:
                order.append(name)

    await both(lambda: twice("one"), lambda: twice("two"))
    assert order in (["one", "one", "two", "two"], ["two", "two", "one", "one"])
    with lock:  # the loop's code has it: a worker of the same thread has not
        assert not await run_blocking(lambda: lock.acquire(timeout=0.005))


def _answer(asked: Any, answered: Any) -> None:
    answered.put(asked.get() + 1)


async def test_a_queue_between_processes() -> None:
    asked, answered = processes.Queue(), processes.Queue()

    def ask() -> int:
        asked.put(20)
        answer: int = answered.get(timeout=30)
        return answer

    child = processes.Process(target=_answer, args=(asked, answered))
    await run_blocking(child.start)
    try:
        async with ticking() as turns:
            assert await run_blocking(ask) == 21
        assert len(turns) > 10  # the child has to start first
    finally:
        await run_blocking(child.join)
        child.close()
        for one in (asked, answered):
            one.close()
            await run_blocking(one.join_thread)


async def test_a_time_limit() -> None:
    lock = fork.Lock()
    lock.acquire()
    assert await run_blocking(lock.acquire, True, 0.02) is False
    assert await run_blocking(lock.acquire, False) is False
    lock.release()
    assert await run_blocking(lock.acquire, True, 0.02) is True
    lock.release()


async def test_the_recursive_kind_is_the_workers() -> None:
    lock = fork.RLock()

    def hold() -> None:
        with lock, lock:
            time.sleep(0.03)

    def others() -> None:
        time.sleep(0.01)
        assert lock.acquire(False) is False
        with pytest.raises(AssertionError, match="not owned"):
            lock.release()

    async def loop_code() -> None:
        assert lock.acquire(False) is False
        with pytest.raises(RuntimeError, match="held by a handler"):
            lock.acquire()

    await both(hold, others, lambda: (time.sleep(0.01), await_(loop_code())))
    with lock:  # free again, for loop code as well
        pass


@pytest.mark.parametrize("anyio_backend", BACKENDS[:1])
async def test_a_child_that_a_worker_forks_starts_anew(anyio_backend: object) -> None:
    lock = fork.RLock()

    def held() -> int:
        with lock:
            child = fork.Process(target=in_child)
            child.start()
            time.sleep(0.05)
        child.join(10)
        return child.exitcode if child.exitcode is not None else -1

    def in_child() -> None:
        with lock, lock:
            pass

    assert await run_blocking(held) == 0


@pytest.mark.parametrize("anyio_backend", BACKENDS[:1])
async def test_those_made_before(anyio_backend: object) -> None:
    hooks.uninstall()
    lock, condition, value = fork.Lock(), fork.Condition(), fork.Value("i")
    assert not hasattr(lock.acquire, "__code__")
    hooks.install()
    for one in (lock, condition, value):
        assert hasattr(one.acquire, "__code__"), one
    hooks.uninstall()
    for one in (lock, condition, value):
        assert not hasattr(one.acquire, "__code__"), one
    hooks.install()
