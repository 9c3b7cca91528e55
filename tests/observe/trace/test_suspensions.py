"""Blocking calls in traces and snapshots: which, on what, and where in the user's code."""

from __future__ import annotations

import time

import anyio
import anyio.lowlevel
import pytest

from coserver import App, run_blocking, testing
from coserver.hooks.suspension import await_
from coserver.hooks.workers import close_idle, parked
from coserver.observe.snapshot.rows import WorkersState
from coserver.observe.trace import recorder

from ...server.clients import connect, get, talking, until

pytestmark = pytest.mark.usefixtures("company")


async def test_a_blocking_handler_shows_where_it_waits() -> None:
    close_idle()  # those of earlier tests
    app = App(name="shop")
    go_on = anyio.Event()

    @app.get("/")
    def index() -> str:
        await_(go_on.wait())
        return "ok"

    async with testing.serving(app, record=True) as server, connect(server.port) as client:
        await client.send(get("/"))
        await until(lambda: server.snapshot().filter("~at suspend"))
        (exchange,) = server.snapshot().exchanges
        assert exchange.suspended is not None
        assert exchange.suspended.call == "await_"
        assert "test_suspensions.py:" in exchange.suspended.place
        assert exchange.suspended.place.endswith(" in index")
        assert 0 <= exchange.suspended.seconds <= exchange.seconds
        snapshot = server.snapshot()
        again = type(snapshot).from_json(snapshot.to_json())
        assert again.exchanges[0].suspended is not None
        assert again.workers == snapshot.workers == WorkersState(suspended=1, idle=0, parked=len(parked))
        go_on.set()
        await client.answer()
        assert server.snapshot().workers == WorkersState(idle=1, parked=len(parked))
        (trace,) = server.traces
        (wait,) = [span for span in trace.spans if span.kind == "suspend"]
        handler = next(span for span in trace.spans if span.kind == "handler")
        assert wait.name.startswith("await_ ")
        assert wait.detail.endswith(" in index")
        assert handler.start <= wait.start <= wait.end <= handler.end
        assert wait.outcome == "ok"


async def test_run_blocking_shows_where_it_waits() -> None:
    """In an ``async def`` too: the suspension is the exchange's. In a task of no exchange it is nobody's."""
    app = App(name="shop")
    go_on = anyio.Event()

    def look_up() -> str:
        await_(go_on.wait())
        return "ok"

    @app.get("/")
    async def index() -> str:
        return await run_blocking(look_up)

    async with testing.serving(app, record=True) as server, connect(server.port) as client:
        await client.send(get("/"))
        await until(lambda: server.snapshot().filter("~at suspend"))
        (exchange,) = server.snapshot().exchanges
        assert exchange.suspended is not None
        assert exchange.suspended.place.endswith(" in look_up")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, look_up)  # of this test's own task
            await anyio.sleep(0.01)
            (exchange,) = server.snapshot().exchanges
            assert exchange.suspended is not None
            go_on.set()
        await client.answer()
        (trace,) = server.traces
        (wait,) = [span for span in trace.spans if span.kind == "suspend"]
        handler = next(span for span in trace.spans if span.kind == "handler")
        assert wait.detail.endswith(" in look_up")
        assert handler.start <= wait.start <= wait.end <= handler.end


async def test_several_run_blocking_of_one_handler() -> None:
    app = App(name="shop")
    running: list[str] = []

    @app.get("/")
    async def index() -> str:
        async with anyio.create_task_group() as tasks:
            for seconds in (0.03, 0.01):
                tasks.start_soon(run_blocking, time.sleep, seconds)
            await anyio.sleep(0.02)
            (connection,) = server._services[0].connections.values()
            running.append(connection.phase)
        running.append(connection.phase)
        return "ok"

    async with testing.serving(app, record=True) as server, connect(server.port) as client:
        assert (await client.ask(get("/"))).text == "ok"
        (trace,) = server.traces
        # Those that overlap are one track of events: the first is told.
        assert [span.kind for span in trace.spans].count("suspend") == 1
        assert running[1] == "handler"


async def test_a_great_many_are_counted_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(recorder, "MARKS_MAX", 20)
    app = App()

    @app.get("/")
    def index() -> str:
        for _ in range(100):
            await_(anyio.lowlevel.checkpoint())
        return "ok"

    async with talking(app, record=True) as (server, client):
        await client.ask(get("/"))
        (trace,) = server.traces
        waits = [span for span in trace.spans if span.kind == "suspend"]
        assert 5 < len(waits) < 20
        assert len(waits) + trace.skipped == 100
        assert [span.outcome for span in trace.spans] == ["ok"] * len(trace.spans)
        assert trace.spans[-1].kind == "response"
