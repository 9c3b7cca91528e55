"""Traces as Chrome trace events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import anyio.to_thread

from coserver import App, Request
from coserver.observe.export.chrome import to_chrome
from coserver.views.samples import all_samples, page

from ...server.clients import chunked, get, talking, until


def test_chrome_trace_events() -> None:
    found = json.loads(json.dumps(to_chrome(all_samples())))
    events = found["traceEvents"]
    for event in events:
        assert event["ph"] in ("X", "M", "b", "e")
        assert {"name", "pid", "tid"} <= set(event)
        if event["ph"] != "M":
            assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
    opened = [(event["id"], event["name"]) for event in events if event["ph"] == "b"]
    closed = [(event["id"], event["name"]) for event in events if event["ph"] == "e"]
    assert sorted(opened) == sorted(closed)
    assert "users GET /u/7" in [name for _, name in opened]
    assert _misplaced(events) == []
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names == ["shop"]
    assert "geheim" not in json.dumps(found)


def _misplaced(events: list[dict[str, Any]]) -> list[str]:
    """Slices of one thread that overlap and do not lie within each other: Perfetto drops their ends."""
    wrong: list[str] = []
    open_: dict[tuple[int, int], list[float]] = {}
    for event in sorted((one for one in events if one["ph"] == "X"), key=lambda one: (one["ts"], -one["dur"])):
        ends = open_.setdefault((event["pid"], event["tid"]), [])
        start, end = round(event["ts"] * 1e3), round((event["ts"] + event["dur"]) * 1e3)
        while ends and ends[-1] <= start:
            ends.pop()
        if ends and end > ends[-1]:
            wrong.append(event["name"])
        ends.append(end)
    return wrong


async def test_chrome_slices_lie_within_each_other() -> None:
    """A request read while its answer is sent, others behind each other at once, and a browser's, side by side."""
    app = App(name="shop")

    @app.post("/echo", stream=True)
    async def echo(request: Request) -> Any:
        async def each() -> AsyncIterator[bytes]:
            async for piece in request.stream():
                yield piece

        return each()

    @app.get("/x")
    async def plain() -> str:
        await anyio.sleep(0.001)
        return "x"

    async with talking(app, record=True) as (server, client):
        await client.send(chunked("/echo", b"a", b"b")[:-5])
        await until(lambda: server.snapshot().filter("~s"))
        await client.send(b"0\r\n\r\n")
        await client.answer("POST")
        await client.send(get("/x") * 20)
        for _ in range(20):
            await client.answer()
        found = list(server.traces)
    http2 = [replace(page(), id=number, at=page().at + number / 1e3) for number in range(5)]
    events = to_chrome([*found, *http2])["traceEvents"]
    assert len([event for event in events if event.get("cat") == "exchange"]) == 26
    assert _misplaced(events) == []
    threads = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert len(threads) == len(set(threads)) == 6
