"""Blocking functions in greenlets: results, errors, contextvars, cancellation, and nothing left alive."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import greenlet
import pytest

from coserver import await_, run_blocking
from coserver.hooks import workers
from coserver.hooks.workers import close_idle, in_worker

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


@pytest.fixture(autouse=True)
def empty_pool() -> Iterator[None]:
    close_idle()
    yield
    close_idle()


async def test_results_and_arguments() -> None:
    assert await run_blocking(lambda: 5) == 5
    assert await run_blocking(lambda a, b: (a, b), 1, 2) == (1, 2)
    assert await run_blocking(lambda: None) is None


async def test_await_inside() -> None:
    async def later(value: int) -> int:
        await anyio.sleep(0.001)
        return value

    def blocking() -> int:
        assert in_worker()
        return await_(later(1)) + await_(later(2))

    assert await run_blocking(blocking) == 3
    assert not in_worker()


async def test_only_the_worker_waits() -> None:
    order: list[str] = []
    event = anyio.Event()

    def blocking() -> None:
        order.append("before")
        await_(event.wait())
        order.append("after")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, blocking)
        tasks.start_soon(run_blocking, blocking)
        await anyio.sleep(0.01)
        order.append("meanwhile")
        event.set()
    assert order == ["before", "before", "meanwhile", "after", "after"]


async def test_a_hundred_at_once() -> None:
    def blocking(n: int) -> int:
        for _ in range(5):
            await_(anyio.sleep(0.001))
        results.append(n)
        return n

    results: list[int] = []
    async with anyio.create_task_group() as tasks:
        for n in range(100):
            tasks.start_soon(run_blocking, blocking, n)
    assert sorted(results) == list(range(100))


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyError(), StopAsyncIteration(), GeneratorExit()])
async def test_errors(error: BaseException) -> None:
    def blocking() -> None:
        raise error

    def after_a_wait() -> None:
        await_(anyio.lowlevel.checkpoint())
        raise error

    for function in (blocking, after_a_wait):
        with pytest.raises(type(error)) as caught:
            await run_blocking(function)
        assert caught.value is error
        assert await run_blocking(lambda: "the worker lives on") == "the worker lives on"


async def test_stop_iteration_becomes_an_error() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await run_blocking(lambda: next(iter([])))


async def test_errors_of_what_is_awaited() -> None:
    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("inside")

    def blocking() -> str:
        try:
            await_(fail())
        except ValueError as error:
            return f"caught {error}"
        return "not raised"

    assert await run_blocking(blocking) == "caught inside"
    with pytest.raises(ValueError, match="inside"):
        await run_blocking(lambda: await_(fail()))


async def test_what_cannot_be_awaited() -> None:
    with pytest.raises(TypeError):
        await run_blocking(lambda: await_(5))  # type: ignore[arg-type]


async def test_contextvars_flow_both_ways() -> None:
    async def inner() -> str:
        seen = VAR.get()
        VAR.set("inner")
        return seen

    def blocking() -> list[str]:
        seen = [VAR.get()]
        VAR.set("blocking")
        seen.append(await_(inner()))
        seen.append(VAR.get())
        return seen

    VAR.set("outer")
    assert await run_blocking(blocking) == ["outer", "blocking", "inner"]
    assert VAR.get() == "inner"


async def test_contextvars_of_side_by_side_workers_do_not_mix() -> None:
    def blocking(name: str) -> None:
        VAR.set(name)
        for _ in range(5):
            await_(anyio.lowlevel.checkpoint())
            assert VAR.get() == name

    async with anyio.create_task_group() as tasks:
        for n in range(20):
            tasks.start_soon(run_blocking, blocking, str(n))
    assert VAR.get() == "unset"


async def test_cancellation() -> None:
    events: list[str] = []

    def blocking() -> None:
        try:
            await_(anyio.sleep(60))
        except anyio.get_cancelled_exc_class():
            events.append("cancelled")
            raise
        finally:
            events.append("finally")

    with anyio.move_on_after(0.02) as scope:
        await run_blocking(blocking)
    assert scope.cancelled_caught
    assert events == ["cancelled", "finally"]
    assert await run_blocking(lambda: "the worker lives on") == "the worker lives on"


async def test_a_cancellation_may_be_caught_and_the_rest_shielded() -> None:
    async def clean_up() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
        return "clean"

    def blocking() -> str:
        try:
            await_(anyio.sleep(60))
        except BaseException:
            events.append(await_(clean_up()))
            raise
        return "never"

    events: list[str] = []
    with anyio.move_on_after(0.02):
        await run_blocking(blocking)
    assert events == ["clean"]


async def test_cancel_scopes_inside_a_worker() -> None:
    def blocking() -> str:
        with anyio.move_on_after(0.01) as scope:  # noqa: ASYNC100
            await_(anyio.sleep(60))
        return "timed out" if scope.cancelled_caught else "no"

    assert await run_blocking(blocking) == "timed out"


async def test_nested() -> None:
    def innermost() -> str:
        await_(anyio.lowlevel.checkpoint())
        return "innermost"

    def inner() -> str:
        return f"inner {await_(run_blocking(innermost))}"

    def outer() -> str:
        return f"outer {await_(run_blocking(inner))} {await_(run_blocking(innermost))}"

    assert await run_blocking(outer) == "outer inner innermost innermost"


async def test_tasks_started_from_a_worker() -> None:
    async def parallel() -> list[int]:
        found: list[int] = []

        async def child(n: int) -> None:
            found.append(await run_blocking(lambda: n))

        async with anyio.create_task_group() as tasks:
            for n in range(3):
                tasks.start_soon(child, n)
        return sorted(found)

    assert await run_blocking(lambda: await_(parallel())) == [0, 1, 2]


async def test_a_generator_in_one_worker() -> None:
    def numbers() -> Iterator[int]:
        for n in range(3):
            await_(anyio.lowlevel.checkpoint())
            yield n

    assert await run_blocking(lambda: [*numbers()]) == [0, 1, 2]


async def test_a_generator_resumed_from_another_task() -> None:
    """What resumes the task may be another greenlet than the one that started it."""

    async def agen() -> Any:
        for n in range(3):
            yield await run_blocking(lambda n=n: (await_(anyio.lowlevel.checkpoint()), n)[1])

    stream = agen()

    def drive() -> list[int]:
        return [await_(anext(stream)) for _ in range(2)]

    assert await run_blocking(drive) == [0, 1]
    assert await anext(stream) == 2
    await stream.aclose()


def test_outside_of_everything() -> None:
    async def never() -> None:
        raise AssertionError("must not run")

    with pytest.raises(RuntimeError, match="works only in a def handler"):
        await_(never())

    class Awaitable:
        def __await__(self) -> Any:
            yield

    with pytest.raises(RuntimeError, match="run_blocking"):
        await_(Awaitable())
    assert not in_worker()


async def test_on_the_loop_and_in_a_foreign_thread() -> None:
    with pytest.raises(RuntimeError, match="use 'await'"):
        await_(anyio.lowlevel.checkpoint())
    caught: list[BaseException] = []

    def thread() -> None:
        try:
            await_(anyio.lowlevel.checkpoint())
        except RuntimeError as error:
            caught.append(error)

    await anyio.to_thread.run_sync(thread)
    assert len(caught) == 1


async def test_in_a_greenlet_of_somebody_else() -> None:
    found: list[object] = []

    def body() -> None:
        try:
            await_(anyio.lowlevel.checkpoint())
        except RuntimeError as error:
            found.append(error)

    greenlet.greenlet(body).switch()
    assert len(found) == 1


async def test_nothing_of_the_last_call_stays_alive() -> None:
    class Thing:
        pass

    class Failure(Exception):
        pass

    thing, result = Thing(), Thing()
    error = Failure("x")
    refs = [weakref.ref(thing), weakref.ref(result), weakref.ref(error)]

    def returns(argument: Thing) -> Thing:
        await_(anyio.lowlevel.checkpoint())
        return result

    def raises(argument: Thing) -> None:
        VAR.set(argument)  # type: ignore[arg-type]
        raise error

    gc.disable()  # by counting alone: no cycle may hold them
    try:
        # In a task of its own, whose context ends with it.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, returns, thing)
        try:
            await run_blocking(raises, Thing())
        except Failure:
            pass
        VAR.set("unset")
        thing = result = returns = raises = error = None  # type: ignore[assignment]
        await anyio.sleep(0.01)
        assert [ref() for ref in refs[:2]] == [None, None]
    finally:
        gc.enable()
    assert workers._idle.workers
    for worker in workers._idle.workers:
        assert worker.gr_context is None
        assert worker.result is None
        assert worker.failure is None


async def test_workers_are_used_again_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE_MAX", 5)
    for _ in range(20):
        await run_blocking(lambda: None)
    assert len(workers._idle.workers) == 1
    event = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(run_blocking, lambda: await_(event.wait()))
        await anyio.sleep(0.01)
        event.set()
    assert len(workers._idle.workers) == 5
    close_idle()
    assert not workers._idle.workers


def test_each_thread_has_its_own() -> None:
    async def main() -> None:
        await run_blocking(lambda: await_(anyio.lowlevel.checkpoint()))
        counts.append(len(workers._idle.workers))
        close_idle()

    counts: list[int] = []
    threads = [threading.Thread(target=anyio.run, args=(main,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1, 1, 1]
    assert not workers._idle.workers
