"""Blocking calls in traces and snapshots: which, on what, and where in the user's code."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from coserver import App, testing
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
