"""What blocks a loop is told, once for each place: by the thread in real time, and look by look in another."""

from __future__ import annotations

import _thread
import ctypes
import functools
import gc
import logging
import os
import re
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import anyio
import pytest

from coserver import App, hooks, run_blocking, testing
from coserver.hooks import watchdog
from coserver.hooks.watchdog import TICK, Watchdog

from ..server.clients import connect, get

libc = ctypes.CDLL(None)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [one.getMessage() for one in caplog.records if one.name == "coserver.hooks"]


# In real time.


def driver() -> None:
    libc.usleep(120_000)


def compute() -> None:
    until = time.monotonic() + 0.15
    while time.monotonic() < until:
        re.sub("a", "b", "a")


async def test_each_place_once(told: Callable[[], list[str]]) -> None:
    app = App()
    app.get("/driver")(driver)
    app.get("/compute")(compute)

    @app.get("/async")
    async def slow() -> None:
        time.sleep(0.12)  # noqa: ASYNC251

    functions = {"/driver": "driver", "/compute": "compute", "/async": "test_each_place_once.<locals>.slow"}
    async with testing.serving(app, debug=True) as server, connect(server.port) as client:
        for path, function in functions.items():
            for _ in range(20):  # a machine that is busy with other things may hide one
                await client.ask(get(path))
                if any(f" in {function} has blocked" in one for one in told()):
                    break
            await client.ask(get(path))
    for path, function in functions.items():
        (message,) = [one for one in told() if f" in {function} has blocked" in one]
        assert message.startswith(__file__)
        assert 50 <= int(re.search(r"loop for (\d+) ms", message)[1]) < 5000  # type: ignore[index]
        assert ("await run_blocking(" if path == "/async" else "offload(function)") in message
        assert f'It stood here:\n  File "{__file__}"' in message


def watchdogs() -> int:
    return sum(thread.name == "coserver watchdog" for thread in threading.enumerate())


async def test_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    app, other = App(name="one"), App(name="other")
    async with testing.serving(app):
        assert not watchdogs()
    async with testing.serving(app, debug=True):
        async with testing.serving(other, debug=True):
            assert watchdogs() == 1  # they share the loop
        assert watchdogs() == 1
        with app.start(debug=True, backend="asyncio"):
            assert watchdogs() == 2
    assert not watchdogs()
    monkeypatch.setattr(logging.getLogger("coserver.hooks"), "level", logging.DEBUG)
    async with testing.serving(app):
        assert watchdogs() == 1
    assert not watchdogs()
    with hooks.watching():
        await anyio.sleep(0.02)
    assert not watchdogs()


def test_a_loop_that_ends_without_a_word() -> None:
    found: list[Watchdog] = []

    async def main() -> None:
        found.append(Watchdog())
        found[0].start()

    anyio.run(main)
    found[0]._thread.join(5)
    assert not watchdogs()
    gc.callbacks.remove(found[0]._collections.note)


# Look by look.


class Looks:
    """A watchdog without its thread: its time is ``now``, and it looks when it is told to."""

    def __init__(self) -> None:
        self.watchdog = Watchdog()
        self.now = time.monotonic()

    def look(self, times: int = 1, since_last: float = TICK, used: float = 0.0) -> None:
        """From a thread, as the loop stands still meanwhile: blocks the caller."""

        done = []

        def looks() -> None:
            try:
                for _ in range(times):
                    self.now += since_last
                    self.watchdog.look(self.now, since_last, used)
            finally:
                done.append(True)

        _thread.start_new_thread(looks, ())
        while not done:
            libc.usleep(500)  # unhooked, as is what starts the thread: in a worker these must not suspend

    def meanwhile(self, function: str, then: Callable[[], object]) -> None:
        """Six looks from when on the caller's thread is in this function; ``then`` is to bring it back."""
        ident = threading.get_ident()

        def looks() -> None:
            while sys._current_frames()[ident].f_code.co_name != function:
                time.sleep(0.0005)
            for _ in range(6):
                self.now += TICK
                self.watchdog.look(self.now, TICK, 0.0)
            then()

        threading.Thread(target=looks).start()

    async def turn(self) -> None:
        """Have the loop give its sign of life."""
        await anyio.wait_all_tasks_blocked()
        await anyio.sleep(0.001)
        assert self.watchdog._ping.answered is not None
        self.watchdog._ping.answered = self.now


@asynccontextmanager
async def looking() -> AsyncIterator[Looks]:
    looks = Looks()
    looks.watchdog._reach.post(looks.watchdog._learn)
    await looks.turn()
    assert looks.watchdog._loop
    looks.look()
    yield looks
    await looks.turn()
    looks.look()  # whatever stood there has ended


async def test_at_the_threshold(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        looks.look(4)
    assert not told()
    async with looking() as looks:
        looks.look(5)
    assert len(told()) == 1


async def test_a_turn_of_the_loop_between(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        for _ in range(3):
            looks.look(4)
            await looks.turn()
            looks.look()
    assert not told()


async def test_many_short_ones(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:

        async def short() -> None:
            looks.look(2)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(short)  # all in one turn, as asyncio counts them
        assert not told()


async def test_an_endless_one_is_told_while_it_goes_on(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        looks.look(99)
        assert not told()
        looks.look(5)
        # At the first look after one second: the 100th or, as the clock's sums are rounded, the 101st.
        assert re.search(r"has blocked the event loop for 10[01]0 ms so far", told()[0])
        looks.look(500)
    assert len(told()) == 1


async def test_a_stopped_process(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        looks.look(4)
        looks.look(since_last=60.0)
        looks.look(4)
    assert not told()


async def test_what_keeps_the_interpreter(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        await looks.turn()
        looks.look(since_last=0.2, used=0.19)
    assert "for 200 ms" in told()[0]
    async with looking() as looks:
        looks.look(since_last=0.3, used=0.29)  # ... and has not answered
    assert len(told()) == 2


async def test_a_busy_machine(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        looks.look(3, since_last=0.04)  # somebody else had the interpreter
    assert not told()


async def test_a_debugger(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        debugger = types.FunctionType((lambda: looks.look(1000)).__code__, {"__name__": "pdb"}, closure=_cell(looks))
        debugger()
    assert not told()


def _cell(value: Any) -> tuple[types.CellType]:
    return (types.CellType(value),)


#: Where a loop waits for events; with trio, anyio's runner of tests has its own way.
_WAITS = ("epoll_poll", "select", "get_events", "run", "run_until_complete", "run_forever", "run_test", "acquire")


async def test_a_loop_that_waits_for_events(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        await looks.turn()
        reach, looks.watchdog._reach = looks.watchdog._reach, mock.Mock()  # it shall not answer
        looks.look()

        ident = threading.get_ident()

        def from_outside() -> None:
            until = time.monotonic() + 2
            while sys._current_frames()[ident].f_code.co_name not in _WAITS and time.monotonic() < until:
                time.sleep(0.001)
            for _ in range(20):
                looks.now += TICK
                looks.watchdog.look(looks.now, TICK, 0.0)

        await anyio.to_thread.run_sync(from_outside)
        looks.watchdog._reach = reach
        looks.watchdog._ping.answer()
    assert not told()


async def test_the_garbage_collector(told: Callable[[], list[str]]) -> None:
    async with looking() as looks:
        collecting = looks.watchdog._collections
        collecting._started, collecting._ended = looks.now, looks.now + 0.05
        looks.look(6)
    assert "garbage collector has blocked the event loop for 50 ms" in told()[0]


async def test_a_function_in_c_and_one_of_the_standard_library(told: Callable[[], list[str]]) -> None:
    reads, writes = os.pipe()
    byte = ctypes.create_string_buffer(1)
    async with looking() as looks:
        await looks.turn()
        looks.meanwhile("_live", lambda: libc.write(writes, byte, 1))
        await run_blocking(libc.read, reads, byte, 1)
        await looks.turn()
    assert re.match(re.escape(__file__) + r":\d+ in test_a_function_in_c", told()[0])
    assert "offload(function)" in told()[0]
    async with looking() as looks:
        await looks.turn()
        looks.meanwhile("wrapper", lambda: libc.write(writes, byte, 1))
        await run_blocking(functools.singledispatch(libc.read), reads, byte, 1)
        await looks.turn()
    assert re.match(re.escape(__file__) + r":\d+ in test_a_function_in_c", told()[1])
    os.close(reads)
    os.close(writes)


async def test_a_worker_names_its_exchange(told: Callable[[], list[str]]) -> None:
    app = App()
    async with looking() as looks:
        app.get("/")(lambda: looks.look(6))
        async with testing.serving(app) as server, connect(server.port) as client:
            await client.ask(get())
    assert ", for <Exchange " in told()[0]


async def test_nothing_of_what_was_seen_is_kept() -> None:
    async with looking() as looks:
        looks.look(6)
        await looks.turn()
        looks.look()
        await looks.turn()
        assert not looks.watchdog._rubbish
        assert not looks.watchdog._ping.rubbish
        assert watchdog._running.get() is None
