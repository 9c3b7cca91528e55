"""Blocking code that runs a loop of its own for a moment may do so in a worker too, and holds nobody up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import unittest
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import asgiref.sync
import pytest
import trio
import uvloop

from coserver import run_blocking
from coserver.hooks.workers import in_worker

from ...conftest import BACKENDS
from ..side_by_side import both

asked: ContextVar[str] = ContextVar("asked")


async def answer() -> tuple[str, int]:
    await anyio.sleep(0.01)
    return asked.get("nothing"), threading.get_ident()


def by_a_loop() -> tuple[str, int]:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(answer())
    finally:
        loop.close()


def by_a_runner() -> tuple[str, int]:
    with asyncio.Runner() as runner:
        assert runner.get_loop()
        assert runner.run(asyncio.sleep(0, 3)) == 3
        return runner.run(answer())


def by_uvloop() -> tuple[str, int]:
    return uvloop.run(answer())


WAYS = {
    "asyncio.run": lambda: asyncio.run(answer()),
    "loop": by_a_loop,
    "Runner": by_a_runner,
    "uvloop.run": by_uvloop,
    "trio.run": lambda: trio.run(answer),
    "anyio.run": lambda: anyio.run(answer, backend="trio"),
    "async_to_sync": asgiref.sync.async_to_sync(answer),
}


@pytest.mark.usefixtures("hooked")
async def test_each_way_to_run_a_loop() -> None:
    asked.set("this request")

    def each() -> dict[str, tuple[str, int]]:
        return {name: way() for name, way in WAYS.items()}

    found = await run_blocking(each)
    assert {name: said for name, (said, _) in found.items()} == dict.fromkeys(WAYS, "this request")
    assert threading.get_ident() not in {thread for _, thread in found.values()}


@pytest.mark.usefixtures("hooked")
async def test_the_others_go_on_meanwhile() -> None:
    async def wait(for_it: threading.Event) -> bool:
        return await asyncio.to_thread(for_it.wait, 10)

    go_on = threading.Event()

    def release() -> None:
        time.sleep(0.01)
        go_on.set()

    waited, _ = await both(lambda: asyncio.run(wait(go_on)), release)
    assert waited is True


@pytest.mark.usefixtures("hooked")
async def test_what_is_raised_in_it_comes_out() -> None:
    async def fail() -> None:
        raise LookupError("in the loop")

    def caught() -> None:
        try:
            raise KeyError("before")
        except KeyError:
            with pytest.raises(LookupError, match="in the loop") as raised:
                asyncio.run(fail())
        assert isinstance(raised.value.__context__, KeyError)

    await run_blocking(caught)


@pytest.mark.usefixtures("hooked")
async def test_a_debugger_sees_what_runs_in_it() -> None:
    seen = []

    def trace(frame: Any, event: str, _: Any) -> None:
        if frame.f_code is answer.__code__:
            seen.append(event)

    def traced() -> None:
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            asyncio.run(answer())
        finally:
            sys.settrace(before)

    await run_blocking(traced)
    assert "call" in seen


@pytest.mark.usefixtures("hooked")
async def test_async_test_cases() -> None:
    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self) -> None:
            self.loop = asyncio.get_running_loop()

        async def test_it(self) -> None:
            await asyncio.sleep(0)
            assert self.loop is asyncio.get_running_loop()

    result = unittest.TestResult()
    await run_blocking(Case("test_it").run, result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors + result.failures


@pytest.mark.usefixtures("hooked")
@pytest.mark.parametrize("anyio_backend", BACKENDS[:1])
async def test_its_own_loop_and_async_code_are_told_as_ever(anyio_backend: object) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(RuntimeError, match="already running"):
        await run_blocking(loop.run_forever)
    work = answer()
    with pytest.raises(RuntimeError, match="running event loop"):
        asyncio.run(work)
    work.close()


LATE = """
import sys
from coserver import hooks, run_blocking
hooks.install()
assert not {"asyncio", "trio"} & set(sys.modules), "imported for the hooks"
import asyncio, trio, anyio
async def three(): return 3
async def main():
    assert await anyio.to_thread.run_sync(asyncio.run, three()) == 3
    assert await run_blocking(lambda: asyncio.run(three())) == 3
    assert await run_blocking(trio.run, three) == 3
trio.run(main)
asyncio.run(main())
hooks.uninstall()
assert "coserver" not in asyncio.run.__code__.co_filename + trio.run.__code__.co_filename, "not taken back"
assert "coserver" not in asyncio.Runner.run.__code__.co_filename
"""


def test_imported_later() -> None:
    subprocess.run([sys.executable, "-c", LATE], check=True, timeout=60)


# From a worker back to its loop, by the functions for threads.


@pytest.mark.usefixtures("hooked")
async def test_anyios_way_back_from_a_thread() -> None:
    task, here = anyio.get_current_task(), threading.get_native_id()
    token = anyio.lowlevel.current_token()
    inside: list[bool] = []

    async def on_the_loop(number: int) -> tuple[int, bool]:
        await anyio.sleep(0.005)
        inside.append(in_worker())
        return number, anyio.get_current_task() == task

    def at_once(text: str) -> tuple[str, int, bool]:
        inside.append(in_worker())
        return text, threading.get_native_id(), anyio.get_current_task() == task

    def fails() -> None:
        raise ZeroDivisionError

    async def fails_on_the_loop() -> None:
        fails()

    def handler() -> None:
        for keywords in ({}, {"token": token}):
            assert anyio.from_thread.run(on_the_loop, 3, **keywords) == (3, True)
            assert anyio.from_thread.run_sync(at_once, "a", **keywords) == ("a", here, True)
        with pytest.raises(ZeroDivisionError):
            anyio.from_thread.run_sync(fails)
        with pytest.raises(ZeroDivisionError):
            anyio.from_thread.run(fails_on_the_loop)

    await run_blocking(handler)
    assert inside == [False] * 4
    with pytest.raises((RuntimeError, anyio.NoEventLoopError)):  # elsewhere nothing changes
        anyio.from_thread.run(on_the_loop, 3)
    assert await anyio.to_thread.run_sync(anyio.from_thread.run_sync, threading.get_native_id) == here


@pytest.mark.usefixtures("hooked")
async def test_anyios_way_to_another_loop() -> None:
    def handler() -> None:
        with anyio.from_thread.start_blocking_portal() as portal:
            there = portal.call(threading.get_native_id)
            token = portal.call(anyio.lowlevel.current_token)
            assert anyio.from_thread.run_sync(threading.get_native_id, token=token) == there
            assert there != threading.get_native_id()

    await run_blocking(handler)


@pytest.mark.usefixtures("hooked")
async def test_trios_way_back_from_a_thread(anyio_backend_name: str) -> None:
    async def on_the_loop(number: int) -> int:
        await trio.sleep(0.005)
        return number

    def handler() -> None:
        if anyio_backend_name == "trio":
            assert trio.from_thread.run(on_the_loop, 3) == 3
            assert trio.from_thread.run_sync(in_worker) is False
        else:  # as in a thread that trio did not start
            with pytest.raises(RuntimeError, match="wasn't created by Trio"):
                trio.from_thread.run_sync(in_worker)

    await run_blocking(handler)


@pytest.mark.usefixtures("hooked")
async def test_two_of_them_side_by_side() -> None:
    def handler() -> None:
        anyio.from_thread.run(anyio.sleep, 0.05)

    begun = time.monotonic()
    await both(*[handler] * 10)
    assert time.monotonic() - begun < 0.45  # one after the other it takes 0.5
