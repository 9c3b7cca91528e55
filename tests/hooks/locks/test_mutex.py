"""Locks in workers: who waits, who is woken, by whom, and what loop code gets that would wait for ever."""

from __future__ import annotations

import _thread
import gc
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from coserver import RequestCancelled, hooks, run_blocking
from coserver.hooks.cancellation import Waits
from coserver.hooks.locks import rlock, waiters
from coserver.hooks.locks.owners import holders
from coserver.hooks.locks.waiters import choose_mutex
from coserver.hooks.workers import close_idle, run_for

from ..side_by_side import both, ticking

_early = threading.Condition()  # made before any install

KINDS = [threading.Lock, threading.RLock]
REENTRANT = [threading.RLock, threading._PyRLock]  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def clean(hooked: object) -> Iterator[None]:
    yield
    assert not waiters.waiting
    assert not rlock.owners
    assert not rlock.after_release
    close_idle()


@pytest.fixture(params=["wake", "retry"])
def mutex(request: pytest.FixtureRequest) -> Iterator[str]:
    choose_mutex(request.param)
    yield request.param
    choose_mutex("wake")


@pytest.mark.usefixtures("mutex")
@pytest.mark.parametrize("make", KINDS)
async def test_one_holds_it_and_suspends_the_other_waits(make: Callable[[], Any]) -> None:
    lock, order, held = make(), [], threading.Event()

    def first() -> None:
        with lock:
            order.append("first in")
            held.set()
            while order.count("second asks") < 2:
                time.sleep(0.001)
            time.sleep(0.01)
            order.append("first out")

    def second() -> None:
        held.wait(5)
        order.append("second asks")
        assert lock.acquire() is True
        order.append("second in")
        lock.release()

    async with ticking() as turns:
        await both(first, second, second)
    assert order == ["first in", "second asks", "second asks", "first out", "second in", "second in"]
    assert len(turns) > 2


@pytest.mark.usefixtures("mutex")
@pytest.mark.parametrize("make", KINDS)
async def test_a_thread_holds_it(make: Callable[[], Any]) -> None:
    lock, let_go, held = make(), threading.Event(), threading.Event()

    def thread() -> None:
        with lock:
            held.set()
            let_go.wait(5)

    one = threading.Thread(target=thread)
    one.start()
    assert held.wait(5)

    def wants() -> bool:
        with lock:
            return True

    def frees() -> None:
        time.sleep(0.01)
        let_go.set()

    assert (await both(wants, wants, frees))[:2] == [True, True]
    one.join()


@pytest.mark.parametrize("make", KINDS)
async def test_a_thread_waits_for_a_worker(make: Callable[[], Any]) -> None:
    lock, asks = make(), threading.Event()
    got: list[str] = []

    def thread() -> None:
        asks.set()
        with lock:
            got.append("thread")

    def holds() -> None:
        with lock:
            one = threading.Thread(target=thread)
            one.start()
            asks.wait()
            time.sleep(0.02)
            got.append("worker")
        one.join()

    await both(holds)
    assert got == ["worker", "thread"]


async def test_code_in_c_releases_it() -> None:
    lock = threading.Lock()
    lock.acquire()
    release = _Original.release

    def wants() -> bool:
        with lock:
            return True

    def frees() -> None:
        time.sleep(0.01)
        release(lock)  # unseen by those who wait

    assert await both(wants, frees) == [True, None]


class _Original:
    """Taken when this module was imported."""

    release = staticmethod(_thread.LockType.__dict__["release"])


@pytest.mark.parametrize("make", KINDS)
async def test_timeouts(make: Callable[[], Any]) -> None:
    lock, done, held = make(), threading.Event(), threading.Event()

    def holds() -> None:
        with lock:
            held.set()
            done.wait()

    def wants() -> list[bool]:
        held.wait(5)
        started = time.monotonic()
        try:
            found = [lock.acquire(timeout=0.03), lock.acquire(False), lock.acquire(True, 0), lock.acquire(timeout=-0.0)]
        finally:
            done.set()
        assert 0.03 <= time.monotonic() - started < 1
        found.append(lock.acquire(timeout=5))
        lock.release()
        return found

    assert (await both(holds, wants))[1] == [False, False, False, False, True]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "given",
    [(False, 1), (True, -2), (True, 1e300), (True, None), (True, "a"), ("",), (None,), (True, float("nan")), (1, 2, 3)],
)
async def test_errors_are_the_originals(make: Callable[[], Any], given: tuple[Any, ...]) -> None:
    def message() -> str:
        lock = make()
        try:
            taken = lock.acquire(*given)
            if taken:
                lock.release()  # Python 3.13 takes anything for a truth value
            return repr(taken)
        except (TypeError, ValueError, OverflowError) as error:
            return repr(error)

    def release() -> str:
        with pytest.raises(RuntimeError) as caught:
            make().release()
        return str(caught.value)

    assert await run_blocking(message) == message()
    assert await run_blocking(release) == release()


@pytest.mark.parametrize("make", [*KINDS, *REENTRANT[1:]])
async def test_loop_code_that_would_wait_for_ever_gets_an_error(make: Callable[[], Any]) -> None:
    lock, done = make(), anyio.Event()

    def holds() -> None:
        with lock:
            time.sleep(0.05)
        done_too.append(True)

    done_too: list[bool] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, holds)
        await anyio.sleep(0.01)
        for ask in (lock.acquire, lock.__enter__, lambda: lock.acquire(timeout=3)):
            with pytest.raises(RuntimeError) as caught:
                ask()
            text = str(caught.value)
            assert "lock" in text.lower()
            assert "in holds" in text
            assert "would_wait_for_ever" in text or "<lambda>" in text
        assert lock.acquire(False) is False
        with pytest.raises(ValueError, match="timeout"):
            lock.acquire(timeout=-3)
        await anyio.to_thread.run_sync(_with, lock)  # a thread simply waits
        done.set()
    assert done_too
    _with(lock)


def _with(lock: Any) -> None:
    with lock:
        pass


@pytest.mark.parametrize("make", REENTRANT)
async def test_an_rlock_belongs_to_one_worker(make: Callable[[], Any]) -> None:
    lock = make()
    inside: list[int] = []

    def nested(number: int) -> None:
        with lock:
            assert not inside
            inside.append(number)
            with lock:
                time.sleep(0.005)
            assert lock._is_owned()
            inside.clear()
        assert not lock._is_owned()

    def releases_what_is_not_its() -> None:
        time.sleep(0.001)
        with pytest.raises(RuntimeError, match="un-acquired"):
            lock.release()

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(run_blocking, nested, number)
        tasks.start_soon(run_blocking, releases_what_is_not_its)
        await anyio.sleep(0.003)
        with pytest.raises(RuntimeError, match="un-acquired"):
            lock.release()


@pytest.mark.parametrize("make", REENTRANT)
async def test_an_rlock_of_loop_code(make: Callable[[], Any]) -> None:
    lock, order = make(), []

    def wants() -> None:
        assert not lock.acquire(False)
        with pytest.raises(RuntimeError, match="un-acquired"):
            lock.release()
        with lock:
            order.append("worker")

    async with anyio.create_task_group() as tasks:
        with lock:
            tasks.start_soon(run_blocking, wants)
            await anyio.sleep(0.01)
            order.append("loop")
    assert order == ["loop", "worker"]


async def test_who_ends_with_an_rlock_is_not_used_again() -> None:
    lock = threading.RLock()
    await run_blocking(lock.acquire)
    assert not await run_blocking(lock.acquire, False)
    owner = rlock.owners[id(lock)]
    assert owner.worker.dead
    rlock.owners.clear()
    lock.release()


async def test_the_rlock_in_python() -> None:
    lock = threading._PyRLock()  # type: ignore[attr-defined]
    await run_blocking(lock.acquire)
    assert not await run_blocking(lock.acquire, False)  # the worker that has it is not used again
    assert lock._owner.dead
    lock._owner = threading.get_ident()
    lock.release()
    changed, order = threading.Condition(lock), []

    def depth() -> int:
        counted = lock._count if lock._is_owned() else 0
        if hasattr(lock, "_recursion_count"):  # Debian 12's Python, 3.11.2, has none yet
            assert lock._recursion_count() == counted
        return int(counted)

    def waits() -> None:
        with changed, changed:
            changed.wait_for(lambda: order)
            assert depth() == 2
        assert depth() == 0

    def notifies() -> None:
        time.sleep(0.005)
        with changed:
            order.append(1)
            changed.notify()

    await both(waits, notifies)
    await both(waits, waits)

    def outlives() -> None:
        with lock:
            hooks.uninstall()
            with lock:
                pass
        hooks.install()

    await run_blocking(outlives)
    assert not lock._is_owned()


@pytest.mark.parametrize("make", KINDS)
async def test_a_cancellation_does_not_break_a_wait(make: Callable[[], Any]) -> None:
    lock, got = make(), []

    def holds() -> None:
        with lock:
            time.sleep(0.05)

    def wants() -> None:
        with lock:
            got.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, holds)
        await anyio.sleep(0.005)
        with anyio.move_on_after(0.01) as scope:
            await run_blocking(wants)
        assert scope.cancelled_caught
    assert got


@pytest.mark.parametrize("make", KINDS)
async def test_the_end_of_the_grace_breaks_it_and_the_next_one_is_woken(make: Callable[[], Any]) -> None:
    lock, free, waits = make(), threading.Event(), Waits()
    broken: list[bool] = []

    def holds() -> None:
        with lock:
            free.wait()

    def wants() -> None:
        try:
            lock.acquire()
        except RequestCancelled:
            broken.append(True)
            raise

    async def cancelled(scope: anyio.CancelScope) -> None:
        with scope:
            await run_for(None, waits, wants)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, holds)
            await anyio.sleep(0.005)
            scope = anyio.CancelScope()
            tasks.start_soon(cancelled, scope)
            await anyio.sleep(0.005)
            tasks.start_soon(run_blocking, _with, lock)
            await anyio.sleep(0.005)
            # Woken and cancelled in one turn of the loop: the wake goes to the next.
            free.set()
            waits.break_waits()
            scope.cancel()
    assert len(broken) <= 1
    _with(lock)


async def test_conditions_and_what_is_made_of_them() -> None:
    condition, event, barrier = threading.Condition(), threading.Event(), threading.Barrier(3)
    semaphore, order = threading.BoundedSemaphore(2), []

    def waits() -> None:
        with condition:
            assert condition.wait_for(lambda: "told" in order, 5)
            order.append("heard")
        barrier.wait(5)
        assert event.wait(5)

    def tells() -> None:
        time.sleep(0.005)
        with condition:
            order.append("told")
            condition.notify_all()
        barrier.wait(5)
        assert not event.wait(0.001)
        event.set()

    def limited() -> None:
        with semaphore:
            order.append("in")
            assert order.count("in") - order.count("out") <= 2
            time.sleep(0.002)
            order.append("out")

    await both(waits, waits, tells, *[limited] * 6)
    assert order.count("heard") == 2
    assert order.count("out") == 6


async def test_a_condition_made_before_the_install() -> None:
    order: list[str] = []
    waiting: list[bool] = []

    def waits() -> None:
        _early.acquire()
        _early.acquire()
        waiting.append(True)
        assert _early.wait(5)
        order.append("heard")
        _early.release()
        _early.release()

    def tells() -> None:
        while not waiting:
            time.sleep(0.001)
        with _early:
            _early.notify()
            time.sleep(0.01)
            order.append("told")

    await both(waits, tells)
    assert order == ["told", "heard"]
    hooks.uninstall()
    assert "built-in" in repr(_early.acquire)


async def test_an_event_set_by_a_thread_wakes_at_once() -> None:
    event = threading.Event()
    took: list[float] = []

    def waits() -> float:
        assert event.wait(5)
        return time.monotonic()

    def thread() -> None:
        time.sleep(0.02)
        took.append(time.monotonic())
        event.set()

    one = threading.Thread(target=thread)
    one.start()
    woken = (await both(waits))[0]
    one.join()
    assert woken - took[0] < 0.25


@pytest.mark.usefixtures("mutex")
async def test_many_workers_and_threads() -> None:
    locks: list[Any] = [threading.Lock(), threading.RLock(), threading.Condition(threading.Lock())]
    inside, counts = [0] * 3, [0] * 3

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(6):
            which = dice.randrange(3)
            with locks[which]:
                assert not inside[which]
                inside[which] += 1
                time.sleep(dice.choice((0, 0.0005)))
                counts[which] += 1
                inside[which] -= 1

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for one in threads:
        one.start()
    await both(*[lambda seed=seed: work(seed) for seed in range(100, 150)])
    await anyio.to_thread.run_sync(lambda: [one.join() for one in threads])
    assert sum(counts) == 54 * 6


async def test_nothing_is_kept_of_a_lock() -> None:
    class Mine(threading.Condition):
        pass

    def waits() -> weakref.ref[Any]:
        one = Mine()
        with one:
            one.wait(0.001)
        return weakref.ref(one)

    gone = await run_blocking(waits)
    gc.collect()
    assert gone() is None
    assert not holders


def test_taken_back() -> None:
    hooks.uninstall()
    for cls in (_thread.LockType, _thread.RLock):
        for name, value in vars(cls).items():
            assert not hasattr(value, "__code__"), name
    lock = threading.Lock()
    with lock:
        assert lock.locked()
    hooks.install()
    assert "acquire" in str(_thread.LockType.acquire)
    assert hasattr(_thread.LockType.acquire, "__code__")


def test_wrong_ways_to_wait() -> None:
    with pytest.raises(ValueError, match="mutex must be one of 'wake', 'retry'; got 'spin'"):
        hooks.install(mutex="spin")
    with pytest.raises(ValueError, match="mutex_period"):
        hooks.install(mutex="retry", period=0)


def test_a_queue_that_was_removed_while_somebody_entered() -> None:
    class Waiter(waiters.LockWaiter):
        def __init__(self) -> None:
            self.gone = self.woken = False

        def wake(self) -> bool:
            self.woken = True
            return True

    first, second = Waiter(), Waiter()

    class Queue(waiters.deque[Any]):
        def remove(self, waiter: Any) -> None:
            super().remove(waiter)
            assert not self  # and now another thread, before it is taken away:
            waiters.deque.append(self, second)
            self.__class__ = Late

    class Late(waiters.deque[Any]):
        def __bool__(self) -> bool:
            self.__class__ = Queue
            return False  # as it was when it was looked at

    waiters.waiting[1] = Queue([first])
    waiters._leave(1, first)
    assert second.woken
    waiters._leave(1, second)
    assert 1 not in waiters.waiting or not waiters.waiting.pop(1)
