"""Time that a stepper held an exchange is marked as such: no view counts it as the handler's or the server's."""

from __future__ import annotations

import time

import anyio
import pytest
from rich.console import Console

from coserver import App
from coserver.control.wire_format import read_trace, trace_dict
from coserver.observe.export.chrome import to_chrome
from coserver.observe.export.har import to_har
from coserver.observe.export.har_reader import read_har
from coserver.observe.trace.trace import HELD
from coserver.observe.trace.waterfall import rows_of
from coserver.views import waterfall
from coserver.views.svg.waterfall import waterfall_svg

from ...server.clients import get, post, talking, until

HOLD = 0.2


def make_app() -> App:
    app = App(name="shop")

    @app.post("/echo")
    async def echo() -> str:
        return "ok"

    @app.get("/boom")
    def boom() -> None:
        raise ValueError("no price")

    return app


@pytest.mark.parametrize("at", ["head", "body", "handler", "response"])
async def test_a_hold_is_no_work(at: str) -> None:
    async with talking(make_app(), record=True) as (server, client):
        with server.step("~u /echo", at=at) as step:
            await client.send(post("/echo", b"abc"))
            await until(lambda: step.waiting)
            before = server.snapshot().counters["spent_us"]
            await anyio.sleep(HOLD)
            assert server.snapshot().counters["spent_us"] == before  # it is not over
            step.resume()
            await client.answer("POST")
        await until(lambda: len(server.traces) == 1)
        await until(lambda: server.snapshot().counters["served"] == 1)
        trace = server.traces[0]
        assert 0 <= server.snapshot().counters["spent_us"] < HOLD * 1e6 / 2
        assert HOLD * 0.95 <= trace.held_seconds <= trace.seconds
        (held,) = [span for span in trace.spans if span.kind == HELD]
        assert held.name == at
        rows = rows_of(trace)
        assert sum(row.seconds for row in rows if row.kind != HELD) <= trace.seconds - trace.held_seconds + 1e-6
        assert [row.label for row in rows if row.kind == HELD] == [f"held at {at}"]
        (entry,) = to_har([trace])["log"]["entries"]
        timings = entry["timings"]
        assert entry["_held"] == pytest.approx(trace.held_seconds * 1e3)
        assert timings["send"] + timings["wait"] + timings["receive"] == pytest.approx(entry["time"])
        assert entry["time"] <= (trace.seconds - trace.held_seconds) * 1e3 + 0.01
        assert "a stepper held it" in timings["comment"]
        assert read_har(to_har([trace]))[0].held_seconds == pytest.approx(trace.held_seconds)
        assert read_trace(trace_dict(trace)).held_seconds == pytest.approx(trace.held_seconds)
        assert any(one.get("cat") == HELD for one in to_chrome([trace])["traceEvents"])
        assert "cw-held" in waterfall_svg(trace)
        console = Console(width=100, color_system=None)
        with console.capture() as captured:
            console.print(waterfall.render(trace))
        assert "‖‖‖" in captured.get()
        assert "held 2" in captured.get()


async def test_a_hold_that_the_client_ends() -> None:
    async with talking(make_app(), record=True) as (server, client):
        with server.step("~u /echo", at="handler") as step:
            await client.send(post("/echo", b"abc"))
            await until(lambda: step.waiting)
            await anyio.sleep(0.01)
            await client.stream.aclose()
            await until(lambda: len(server.traces) == 1)
        trace = server.traces[0]
        assert trace.phase == "handler"
        assert 0 < trace.held_seconds <= trace.seconds


async def test_a_failed_handler_has_its_traceback() -> None:
    async with talking(make_app(), record=True) as (server, client):
        began = time.monotonic()
        await client.ask(get("/boom"))
        await until(lambda: len(server.traces) == 1)
        trace = server.traces[0]
        assert trace.place.startswith("test_holds.py:")
        assert trace.place.endswith(" in boom")
        lines = trace.traceback.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert "test_holds.py" in lines[1]  # the user's frame is the first
        assert lines[-1] == trace.error == "ValueError: no price"
        assert read_trace(trace_dict(trace)).traceback == trace.traceback
        assert read_har(to_har([trace]))[0].place == trace.place
        assert time.monotonic() - began < 10
