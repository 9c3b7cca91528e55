"""Offloaded calls: in a thread, to the end, whatever becomes of the request; and whole drivers, sqlite3 as the one."""

from __future__ import annotations

import contextvars
import logging
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from coserver import App, RequestCancelled, SetupError, run_blocking
from coserver.hooks import OffloadFull, offload, offloaded, uninstall
from coserver.hooks.cancellation import Waits
from coserver.hooks.offload import choose_threads
from coserver.hooks.offload_drivers import DRIVERS
from coserver.hooks.workers import run_for
from coserver.lifecycle import events as ev

from ..server.clients import get, talking
from .side_by_side import both, ticking

#: Not hooked, whatever else is: what stands for a call in C.
_sleep = time.sleep
colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture
def few() -> Iterator[None]:
    """One thread, one that waits for it."""
    choose_threads(1, 1)
    yield
    choose_threads()


@pytest.fixture
def with_sqlite() -> Iterator[None]:
    offloaded("sqlite3")
    yield
    uninstall()


@offload
def slow(seconds: float = 0.05, *, then: Any = None) -> Any:
    """Waits."""
    _sleep(seconds)
    return then() if callable(then) else then


async def seen_by_the_loop(event: threading.Event) -> None:
    with anyio.fail_after(5):
        await anyio.to_thread.run_sync(event.wait, abandon_on_cancel=True)


async def test_only_the_worker_waits() -> None:
    async with ticking() as turns:
        assert await both(*[partial(slow, 0.06, then=number) for number in range(5)]) == list(range(5))
    assert turns[-1] - turns[0] < 0.3  # not one after the other
    assert len(turns) > 5


async def test_elsewhere_it_is_the_plain_call() -> None:
    assert slow(0, then=threading.get_ident) == threading.get_ident()  # on the loop
    assert await run_blocking(slow, 0) is None
    inside = await run_blocking(
        lambda: slow(0, then=lambda: slow(0, then=threading.get_ident) == threading.get_ident())
    )
    assert inside is True
    assert slow.__doc__ == "Waits."
    assert (await run_blocking(offload(partial(pow, 2)), 5), await run_blocking(offload(len), "ab")) == (32, 2)


async def test_contextvars_flow_in_and_out() -> None:
    def sets() -> str:
        before = colour.get()
        colour.set("red")
        return before

    def handler() -> tuple[str, str]:
        colour.set("blue")
        return offload(sets)(), colour.get()

    assert await run_blocking(handler) == ("blue", "red")


@pytest.mark.parametrize("error", [KeyError("x"), StopIteration(1), KeyboardInterrupt()])
async def test_exceptions_come_with_their_traceback(error: BaseException) -> None:
    def fails_in_a_thread() -> None:
        raise error

    def handler() -> str:
        with pytest.raises(type(error)) as caught:
            offload(fails_in_a_thread)()
        assert caught.value is error
        return "".join(traceback.format_tb(caught.value.__traceback__))

    assert "in fails_in_a_thread" in await run_blocking(handler)


async def test_a_cancellation_does_not_break_it_and_the_next_call_raises() -> None:
    began, done = threading.Event(), []

    def handler() -> None:
        began_and_waits = offload(lambda: (began.set(), _sleep(0.05), "whole")[2])
        done.append(began_and_waits())
        try:
            slow(0, then=lambda: done.append("begun all the same"))
        except RequestCancelled:
            done.append("told")
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, handler)
        await seen_by_the_loop(began)
        tasks.cancel_scope.cancel()
    assert done == ["whole", "told"]


async def test_struck_before_its_thread_began_it_still_runs_once() -> None:
    ran: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, partial(slow, 0, then=lambda: ran.append(1)))
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert len(ran) <= 1
    assert await run_blocking(partial(slow, 0, then="the line is not stuck")) == "the line is not stuck"


async def test_the_end_of_the_grace_leaves_it_behind(few: None, caplog: pytest.LogCaptureFixture) -> None:
    began, free, waits = threading.Event(), threading.Event(), Waits()
    ends: list[BaseException] = []

    def waits_on() -> None:
        began.set()
        free.wait(10)

    def handler() -> None:
        try:
            offload(waits_on)()
        except RequestCancelled as error:
            ends.append(error)
            raise

    with caplog.at_level(logging.WARNING, "coserver.hooks"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_for, None, waits, handler)
            await seen_by_the_loop(began)
            waits.break_waits()
            tasks.cancel_scope.cancel()
    assert len(ends) == 1
    assert "waits_on still runs in its thread" in caplog.text
    free.set()
    assert await run_blocking(slow, 0) is None  # its thread has come back


async def test_the_line_is_bounded_and_broken(few: None) -> None:
    began, free, seen = threading.Event(), threading.Event(), []

    def waits_on() -> None:
        began.set()
        free.wait(10)

    def queued() -> None:
        try:
            slow(0)
        except RequestCancelled:
            seen.append("broken")
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, offload(waits_on))
        await seen_by_the_loop(began)
        async with anyio.create_task_group() as others:
            others.start_soon(run_blocking, queued)
            await anyio.sleep(0.01)
            with pytest.raises(OffloadFull, match=r"all 1 threads .* are taken, and 1 calls wait .* offload_waiting"):
                await run_blocking(slow, 0)
            others.cancel_scope.cancel()
        assert seen == ["broken"]  # it had not begun
        free.set()
    assert await run_blocking(partial(slow, 0, then="next")) == "next"


def test_what_cannot_be_offloaded() -> None:
    async def waits() -> None: ...

    def makes() -> Iterator[int]:
        yield 1

    for wrong, text in ((3, "takes a function"), (waits, "is async: await it"), (makes, "goes through it")):
        with pytest.raises(TypeError, match=text):
            offload(wrong)  # type: ignore[arg-type]
    for threads, waiting in ((0, 1), (True, 1), (1, -1)):
        with pytest.raises(ValueError, match="must be"):
            choose_threads(threads, waiting)


async def test_it_is_told() -> None:
    app, told = App(), []

    @app.get("/")
    def handler() -> str:
        slow(0.01)
        return "done"

    app.emitter.add_observer(told.append)
    async with talking(app) as (_, client):
        await client.ask(get())
    suspended = [one for one in told if isinstance(one, ev.Suspended)]
    assert [(one.call, one.on) for one in suspended] == [("offload", f"{__name__}.slow")]
    assert "in handler" in suspended[0].where


# Drivers.


def test_names_of_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"unknown driver 'oracle'; there are sqlite3, psycopg2, .* @offload before a def"
    ):
        offloaded("oracle")
    monkeypatch.setitem(DRIVERS, "nowhere_at_all", (("nowhere_at_all", "connect"),))
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all is not installed"):
        offloaded("nowhere_at_all")
    for wrong in ("sqlite3", ["oracle"], ["nowhere_at_all"]):
        with pytest.raises(SetupError, match=r"list of drivers|unknown driver|not installed"):
            App(offloaded=wrong)


def test_sqlite_is_put_back() -> None:
    before = {name: vars(sqlite3.Cursor)[name] for name in ("execute", "__next__")}
    connect = sqlite3.connect
    offloaded("sqlite3")
    offloaded("sqlite3")
    assert sqlite3.connect is sqlite3.dbapi2.connect is not connect
    uninstall()
    assert sqlite3.connect is sqlite3.dbapi2.connect is connect
    assert {name: vars(sqlite3.Cursor)[name] for name in before} == before
    with closing(sqlite3.connect(":memory:")) as connection:
        assert list(connection.execute("select 1")) == [(1,)]


async def test_sqlite_everywhere_else_is_the_original(with_sqlite: None) -> None:
    connection = sqlite3.connect(":memory:")
    wrong = []

    def elsewhere() -> None:
        try:
            connection.execute("select 1")
        except sqlite3.ProgrammingError:
            wrong.append(1)

    other = threading.Thread(target=elsewhere)
    other.start()
    other.join()
    assert wrong  # check_same_thread is as it was
    connection.close()


class Own(sqlite3.Connection):
    """Somebody's subclass."""


async def test_sqlite_whole(with_sqlite: None, tmp_path: Path) -> None:
    def handler() -> list[Any]:
        threads = set()
        connection = sqlite3.connect(tmp_path / "shop", timeout=5, isolation_level="DEFERRED", factory=Own)
        assert type(connection) is Own
        connection.row_factory = sqlite3.Row
        connection.create_function("seen", 1, lambda value: threads.add(threading.get_native_id()) or value)
        with connection:
            connection.execute("create table items(id)")
            connection.executemany("insert into items values (?)", [(1,), (2,), (3,)])
        with pytest.raises(ZeroDivisionError), connection:
            connection.execute("delete from items").fetchone()[1 // 0]
        rows = [row["id"] for row in connection.execute("select seen(id) as id from items")]
        cursor = connection.execute("select id from items order by id")
        assert (cursor.fetchone()["id"], len(cursor.fetchmany(1)), len(cursor.fetchall())) == (1, 1, 1)
        assert threading.get_native_id() not in threads
        copy = sqlite3.connect(":memory:")
        connection.backup(copy)
        dumped = list(copy.iterdump())
        assert any("INSERT" in line for line in dumped)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            copy.executescript("select * from missing")
        copy.close()
        connection.close()
        return rows

    assert await run_blocking(handler) == [1, 2, 3]


@pytest.mark.parametrize("fetch", [list, lambda cursor: cursor.fetchall()], ids=["for", "fetchall"])
async def test_five_at_once_and_the_loop_goes_on(with_sqlite: None, fetch: Any) -> None:
    def handler() -> Any:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.create_function("slow", 1, lambda value: _sleep(0.1) or value)
            return fetch(connection.execute("select slow(1) union all select slow(2)"))

    started = time.monotonic()
    async with ticking() as turns:
        assert await both(*[handler] * 5) == [[(1,), (2,)]] * 5
    assert time.monotonic() - started < 0.9  # one after the other: 1.0
    assert max(b - a for a, b in pairwise(turns)) < 0.1


async def test_one_connection_for_two_handlers(with_sqlite: None, tmp_path: Path) -> None:
    connection = await run_blocking(partial(sqlite3.connect, tmp_path / "shared", isolation_level=None))
    await run_blocking(connection.execute, "create table t(n)")

    def insert(number: int) -> None:
        for _ in range(20):
            connection.execute("insert into t values (?)", (number,))

    await both(partial(insert, 1), partial(insert, 2))
    assert (await run_blocking(lambda: connection.execute("select count(*) from t").fetchone())) == (40,)
    connection.close()


def test_the_app_offloads() -> None:
    original, imported = sqlite3.connect, set(sys.modules)
    try:
        app = App(offloaded=["sqlite3"], hooks=False)
        assert sqlite3.connect is not original
        assert app.offload is offload
    finally:
        uninstall()
    assert sqlite3.connect is original
    assert not set(DRIVERS) & (set(sys.modules) - imported)  # only who is named is imported
