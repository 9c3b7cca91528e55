"""time.sleep in workers: who waits, for how long, and what is left to Python itself."""

from __future__ import annotations

import threading
import time
from time import sleep as bound_before
from typing import Any

import anyio
import pytest

from coserver import RequestCancelled, hooks, run_blocking
from coserver.hooks.cancellation import Waits
from coserver.hooks.shims import sleep as shim
from coserver.hooks.workers import run_for

pytestmark = pytest.mark.usefixtures("hooked")


async def test_only_the_worker_sleeps() -> None:
    order: list[str] = []

    def blocking(name: str, seconds: float) -> None:
        time.sleep(seconds)
        order.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, blocking, "second", 0.06)
        tasks.start_soon(run_blocking, blocking, "first", 0.02)
        await anyio.lowlevel.checkpoint()
        order.append("meanwhile")
    assert order == ["meanwhile", "first", "second"]


async def test_a_hundred_at_once() -> None:
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(run_blocking, time.sleep, 0.1)
    assert 0.1 <= time.monotonic() - started < 2


@pytest.mark.parametrize("seconds", [0.0011, 0.0104, 0.02])
async def test_never_too_short(seconds: float) -> None:
    def blocking() -> float:
        started = time.monotonic()
        time.sleep(seconds)
        return time.monotonic() - started

    for _ in range(5):
        assert await run_blocking(blocking) >= seconds


async def test_bound_before_the_install() -> None:
    assert bound_before is time.sleep
    assert bound_before.__name__ == "sleep"
    assert _as_default.__defaults__ == (time.sleep,)
    assert Keeps().own is time.sleep
    done: list[int] = []

    def blocking() -> None:
        bound_before(0.01)
        _as_default()
        Keeps().own(0.01)
        done.append(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, blocking)
        await anyio.lowlevel.checkpoint()
        assert not done
    assert done


def _as_default(sleep: Any = time.sleep) -> None:
    sleep(0.01)


class Keeps:
    own = time.sleep


def test_taken_back_everywhere() -> None:
    hooks.uninstall()
    assert type(time.sleep).__name__ == "builtin_function_or_method"
    assert bound_before is time.sleep
    assert _as_default.__defaults__ == (time.sleep,)
    assert Keeps().own is time.sleep
    Keeps().own(0)
    hooks.install(["sleep"])
    assert bound_before is time.sleep
    assert hooks.installed() == ("sleep",)


async def test_zero_gives_way() -> None:
    order: list[str] = []

    def blocking(name: str) -> None:
        for _ in range(3):
            order.append(name)
            time.sleep(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, blocking, "a")
        tasks.start_soon(run_blocking, blocking, "b")
    assert order != sorted(order)


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (1e300, OverflowError), ("1", TypeError), (None, TypeError)],
)
async def test_errors_are_the_originals(seconds: Any, error: type[Exception]) -> None:
    def message() -> str:
        with pytest.raises(error) as caught:
            time.sleep(seconds)
        return str(caught.value)

    assert await run_blocking(message) == message()


@pytest.mark.parametrize("seconds", [2e9, threading.TIMEOUT_MAX])
async def test_as_good_as_for_ever(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def original(seconds: float) -> None:
        raise AssertionError("the loop would stand still")

    monkeypatch.setattr(shim, "_sleep", original)
    waits = Waits()
    waits.break_waits()
    with anyio.move_on_after(0.01) as scope:
        await run_for(None, waits, time.sleep, seconds)
    assert scope.cancelled_caught


async def test_true_and_other_integers() -> None:
    class Two:
        def __index__(self) -> int:
            return 0

    await run_blocking(time.sleep, False)
    await run_blocking(time.sleep, Two())
    with pytest.raises(TypeError):
        await run_blocking(time.sleep)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        time.sleep(secs=1)  # type: ignore[call-arg]  # noqa: ASYNC251


async def test_a_foreign_thread_really_sleeps() -> None:
    took: list[float] = []

    def thread() -> None:
        started = time.monotonic()
        time.sleep(0.02)
        took.append(time.monotonic() - started)

    one = threading.Thread(target=thread)
    one.start()
    one.join()
    assert took[0] >= 0.02


async def test_a_cancellation_does_not_break_it() -> None:
    slept: list[str] = []

    def blocking() -> None:
        time.sleep(0.1)
        slept.append("out")

    with anyio.move_on_after(0.02) as scope:
        await run_blocking(blocking)
    assert scope.cancelled_caught
    assert slept == ["out"]
    assert await run_blocking(lambda: "the worker lives on") == "the worker lives on"


async def test_a_cancellation_in_a_task_group() -> None:
    slept: list[str] = []

    def blocking() -> None:
        time.sleep(0.05)
        time.sleep(0.05)
        slept.append("out")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, blocking)
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert slept == ["out"]


def test_request_cancelled_is_no_exception() -> None:
    assert issubclass(RequestCancelled, BaseException)
    assert not issubclass(RequestCancelled, Exception)
