"""Several exchanges at once on one connection: held, stepped, expired, cancelled and recorded apart from each other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, Limits, Request, Response, Server, Upstream, testing
from coserver.lifecycle import events as ev
from coserver.testing import Streams

from ..clients import until


@pytest.fixture
def app() -> App:
    app = App(name="shop")
    app.state.ended = []

    @app.get("/page/{number:int}")
    async def page(number: int) -> str:
        return f"page {number}"

    @app.get("/waits/{name}")
    async def waits(name: str) -> str:
        try:
            await anyio.sleep(60)
        finally:
            app.state.ended.append(name)
        return "late"

    @app.get("/sleeps")
    def sleeps() -> str:
        time.sleep(0.2)
        return "slept"

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> AsyncIterator[bytes]:
        async for piece in request.stream():
            yield piece.upper()

    @app.get("/large")
    async def large() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    @app.get("/slow", limits={"handler_timeout": 0.1})
    async def slow() -> None:
        await anyio.sleep(60)

    @app.get("/breaks")
    async def breaks() -> AsyncIterator[bytes]:
        yield b"some"
        raise RuntimeError("in the middle")

    return app


@asynccontextmanager
async def connected(app: App, **options: Any) -> AsyncIterator[tuple[Server, Streams]]:
    async with testing.serving(app, **options) as server, testing.streams(server) as client:
        yield server, client


async def test_two_are_answered_side_by_side(app: App) -> None:
    async with connected(app) as (_, client):
        waits, page = client.request("GET", "/waits/a"), client.request("GET", "/page/7")
        status, headers, body = await page.answer()
        assert (status, headers["content-length"], body) == (200, "6", b"page 7")
        assert [one.id for one in client.connection.exchanges] == [waits.exchange.id]
        assert client.connection.current is None
        assert client.connection.find_exchange(waits.exchange.id) is waits.exchange


async def test_each_has_its_own_phase_and_limits(app: App) -> None:
    async with connected(app) as (server, client):
        first = client.request("GET", "/sleeps")
        second = client.request("POST", "/echo", body=None)
        third = client.request("GET", "/slow")
        await until(lambda: first.exchange.phase == "suspend")
        await until(lambda: second.exchange.phase == "body")
        assert third.exchange.limits.handler_timeout == 0.1
        assert first.exchange.limits.handler_timeout == Limits().handler_timeout
        (row,) = server.snapshot().connections
        assert [one.phase for one in row.exchanges] == ["suspend", "body", "handler"]
        assert row.exchanges[0].suspended is not None
        assert row.exchanges[1].suspended is None
        assert len(server.snapshot().exchanges) == 3
        assert (await first.answer())[2] == b"slept"
        second.send(b"a")
        second.send(b"b")
        second.end()
        assert (await second.answer())[2] == b"ab"


async def test_each_expires_alone(app: App) -> None:
    async with connected(app) as (server, client):
        waits = client.request("GET", "/waits/a")
        slow = client.request("GET", "/slow")
        body = client.request("POST", "/echo", body=None)
        body.exchange.patience = 0.1
        assert (await slow.answer())[0] == 503
        assert (await body.answer())[0] == 408
        assert waits.exchange.phase == "handler"
        assert not client.connection.reason
        assert not app.state.ended
        assert server.breaches == {"handler_timeout": 1, "body_rate": 1}


async def test_each_is_cancelled_alone(app: App) -> None:
    seen: list[ev.Event] = []
    with app.emitter.observing(seen.append):
        async with connected(app) as (_, client):
            first, second = client.request("GET", "/waits/a"), client.request("GET", "/waits/b")
            await until(lambda: [one.phase for one in client.connection.exchanges] == ["handler", "handler"])
            first.leave()
            await until(lambda: app.state.ended == ["a"])
            with pytest.raises(ConnectionResetError, match="the client left"):
                await first.answer()
            assert second.exchange.phase == "handler"
            assert (await client.request("GET", "/page/1").answer())[0] == 200
        assert app.state.ended == ["a", "b"]
    resets = [(event.exchange, event.reason) for event in seen if isinstance(event, ev.ExchangeReset)]
    assert resets == [(first.exchange.id, "the client left"), (second.exchange.id, "the client left")]
    assert [event.exchange for event in seen if isinstance(event, ev.ConnectionClosed)] == [None]


async def test_each_is_held_and_stepped_alone(app: App) -> None:
    async with connected(app) as (server, client):
        with server.step("~u /page/", at="handler") as step:
            first, second = client.request("GET", "/page/1"), client.request("GET", "/page/2")
            third = client.request("POST", "/echo", body=b"not held")
            await until(lambda: len(step.waiting) == 2)
            assert (await third.answer())[2] == b"not held"
            assert [first.exchange.held, second.exchange.held, client.connection.held] == [True, True, True]
            (row,) = server.snapshot().connections
            assert [one.held for one in row.exchanges] == [True, True]
            one, two = sorted(step.waiting, key=lambda held: held.exchange.id)
            assert (one.exchange.id, two.exchange.id) == (first.exchange.id, second.exchange.id)
            step.edit(two, target="/page/22")
            step.resume(two)
            assert (await second.answer())[2] == b"page 22"
            assert first.exchange.held
            step.until("response", one)
            held = await step.wait_async(2)
            assert (held.exchange.id, held.phase) == (first.exchange.id, "response")
            step.edit(held, status=201)
            step.next(held)
            assert (await first.answer())[0] == 201
        assert not client.connection.held


async def test_one_is_aborted_while_another_is_held(app: App) -> None:
    async with connected(app) as (server, client):
        with server.step("~u /page/", at="handler") as step:
            first, second = client.request("GET", "/page/1"), client.request("GET", "/page/2")
            await until(lambda: len(step.waiting) == 2)
            step.abort(next(one for one in step.waiting if one.exchange.id == first.exchange.id))
            with pytest.raises(ConnectionResetError, match="aborted while held"):
                await first.answer()
            assert second.exchange.held
            step.respond(418, b"short", which=step.waiting[0])
            assert (await second.answer())[::2] == (418, b"short")


async def test_no_deadline_runs_while_one_is_held(app: App) -> None:
    async with connected(app) as (server, client):
        with server.step("~u /slow", at="handler") as step:
            held, waits = client.request("GET", "/slow"), client.request("GET", "/waits/a")
            await until(lambda: bool(step.waiting))
            await anyio.sleep(0.3)
            assert held.exchange.held
            step.resume()
            assert (await held.answer())[0] == 503
            assert waits.exchange.phase == "handler"


async def test_each_is_recorded_alone(app: App) -> None:
    async with connected(app) as (server, client):
        server.traces.start()
        first, second = client.request("GET", "/waits/a"), client.request("GET", "/page/2")
        third, fourth = client.request("GET", "/sleeps"), client.request("GET", "/breaks")
        assert (await second.answer())[0] == 200
        assert (await third.answer())[2] == b"slept"
        assert await fourth.status() == 200
        with pytest.raises(ConnectionResetError):
            await fourth.answer()
        first.leave()
        await until(lambda: len(server.traces) == 4)
        found = {trace.target: trace for trace in server.traces}
        assert {trace.connection for trace in found.values()} == {client.connection.id}
        assert found["/page/2"].status == 200
        assert found["/sleeps"].seconds > found["/page/2"].seconds
        assert [span.kind for span in found["/sleeps"].spans].count("suspend") == 1
        assert not [span for span in found["/page/2"].spans if span.kind == "suspend"]
        assert found["/waits/a"].status == 0
        assert found["/waits/a"].phase == "handler"
        assert "in the middle" in found["/breaks"].error


async def test_a_reader_that_is_slow_stops_its_own_handler_only(app: App) -> None:
    async with connected(app, limits=Limits(write_timeout=0.3)) as (_, client):
        large, left = client.request("GET", "/large"), client.request("GET", "/large")
        assert await large.status() == 200
        assert (await client.request("GET", "/page/1").answer())[0] == 200
        size = 0
        while piece := await large.receive():
            size += len(piece)
        assert size == 1_000_000
        await until(lambda: left.exchange not in client.connection.exchanges)
        assert "write_timeout" in left.was_reset


async def test_a_body_streams_while_another_waits(app: App) -> None:
    async with connected(app) as (_, client):
        one, two = (client.request("POST", "/stream", body=None) for _ in range(2))
        one.send(b"a")
        two.send(b"b")
        assert await one.receive() == b"A"
        assert await two.receive() == b"B"
        two.end()
        assert await two.receive() == b""
        one.send(b"c")
        one.end()
        assert await one.receive() == b"C"
        assert await one.receive() == b""


async def test_too_large_a_body_refuses_its_own_exchange_only(app: App) -> None:
    async with connected(app, limits=Limits(body_size=10)) as (_, client):
        large = client.request("POST", "/echo", body=b"x" * 11)
        small = client.request("POST", "/echo", body=b"y")
        pieces = client.request("POST", "/echo", body=None)
        pieces.send(b"x" * 6)
        pieces.send(b"x" * 6)
        assert (await large.answer())[0] == 413
        assert (await pieces.answer())[0] == 413
        assert (await small.answer())[2] == b"y"


async def test_subrequests_belong_to_their_own_exchange(app: App) -> None:
    """Each child knows its parent; a parent that is reset ends its own children and no others."""
    front = App(name="front")

    @front.get("/via/{path:path}")
    async def via(path: str) -> Any:
        return (await front.state.upstream.get(f"/{path}")).body

    async with connected(front) as (server, client), testing.serving(app) as members:  # noqa: SIM117
        async with Upstream(f"http://127.0.0.1:{members.port}", name="self") as front.state.upstream:
            first, second = client.request("GET", "/via/waits/a"), client.request("GET", "/via/waits/b")
            await until(lambda: [one.phase for one in client.connection.exchanges] == ["subrequest", "subrequest"])
            await until(lambda: [one.phase for one in members.snapshot().exchanges] == ["handler", "handler"])
            (row,) = server.snapshot().connections
            assert [[sub.target for sub in one.subrequests] for one in row.exchanges] == [["/waits/a"], ["/waits/b"]]
            first.leave()
            await until(lambda: app.state.ended == ["a"])
            assert second.exchange.phase == "subrequest"
            assert (await client.request("GET", "/via/page/3").answer())[2] == b"page 3"
            second.leave()
            await until(lambda: app.state.ended == ["a", "b"])


async def test_a_drain_lets_each_end(app: App) -> None:
    async with testing.serving(app) as server, testing.streams(server) as client:
        sleeps = client.request("GET", "/sleeps")
        await until(lambda: sleeps.exchange.phase == "suspend")
        server.stop()
        await anyio.lowlevel.checkpoint()
        assert (await sleeps.answer())[2] == b"slept"
        with pytest.raises(RuntimeError, match="is closed"):
            client.request("GET", "/page/1")


async def test_work_after_a_response_is_done(app: App) -> None:
    done: list[str] = []

    @app.get("/after/{name}")
    async def after(request: Request, name: str) -> Response:
        request.after(done.append, name)
        return Response("ok")

    async with connected(app) as (_, client):
        answers = [client.request("GET", f"/after/{name}") for name in "ab"]
        for one in answers:
            assert (await one.answer())[2] == b"ok"
        await until(lambda: sorted(done) == ["a", "b"])


async def test_contextvars_of_one_are_not_seen_by_another(app: App) -> None:
    from contextvars import ContextVar

    var: ContextVar[str] = ContextVar("var", default="none")

    @app.get("/set/{value}")
    async def set_it(value: str) -> str:
        before = var.get()
        var.set(value)
        await anyio.sleep(0.01)
        return f"{before} {var.get()}"

    async with connected(app) as (_, client):
        both = [client.request("GET", f"/set/{value}") for value in "ab"]
        assert [(await one.answer())[2] for one in both] == [b"none a", b"none b"]
        assert (await client.request("GET", "/set/c").answer())[2] == b"none c"


# Each kind of response and of end, apart from its connection's.


async def test_responses_of_each_kind_come_whole(app: App, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1200
    (tmp_path / "large.bin").write_bytes(content)

    @app.get("/file")
    async def file() -> Response:
        return Response.file(tmp_path / "large.bin")

    @app.get("/none")
    async def none() -> Response:
        return Response(iter(["never sent"]), 204)

    @app.get("/one-piece")
    async def one_piece() -> AsyncIterator[bytes]:
        yield content

    async with connected(app) as (_, client):
        with anyio.fail_after(5):
            assert (await client.request("GET", "/file").answer())[2] == content
            assert (await client.request("GET", "/one-piece").answer())[2] == content
            parts = {"Range": "bytes=0-99999,200000-299999"}
            status, _, body = await client.request("GET", "/file", parts).answer()
            assert (status, content[:100_000] in body, content[200_000:300_000] in body) == (206, True, True)
            assert (await client.request("GET", "/file", {"Range": "bytes=1-99999"}).answer())[2] == content[1:100_000]
            status, headers, body = await client.request("HEAD", "/file").answer()
            assert (status, headers["content-length"], body) == (200, str(len(content)), b"")
            assert (await client.request("HEAD", "/large").answer())[2] == b""
            status, _, body = await client.request("GET", "/none").answer()
            assert (status, body) == (204, b"")


async def test_a_connection_has_no_deadline_of_its_own(app: App) -> None:
    async with connected(app, limits=Limits(head_timeout=0.1, idle_timeout=0.1)) as (server, client):
        sleeps = client.request("GET", "/sleeps")
        assert (await sleeps.answer())[2] == b"slept"
        await anyio.sleep(0.3)
        assert (await client.request("GET", "/page/1").answer())[2] == b"page 1"
        assert server.breaches == {}


async def test_an_empty_piece_does_not_end_a_body(app: App) -> None:
    async with connected(app) as (_, client):
        for path, answer in ("/echo", b"ab"), ("/stream", b"AB"):
            one = client.request("POST", path, body=None)
            for piece in b"a", b"", b"b":
                one.send(piece)
                await anyio.sleep(0.01)
            one.end()
            assert (await one.answer())[2] == answer


async def test_a_body_that_is_too_long_is_refused_once(app: App) -> None:
    @app.post("/streamed", stream=True)
    async def streamed(request: Request) -> bytes:
        return b"".join([piece async for piece in request.stream()])

    @app.error(413)
    async def large(request: Request, error: Exception) -> Response:
        return Response(b"".join([piece async for piece in request.stream()]), 413)  # there is no more to read

    async with connected(app, limits=Limits(body_size=10)) as (server, client):
        for path in "/echo", "/streamed":
            one = client.request("POST", path, body=None)
            one.send(b"12345678")
            one.send(b"12345678")
            with anyio.fail_after(5):
                status, _, body = await one.answer()
            assert (status, body[:4], body[-10:]) == (413, b"413 ", b" 10 bytes\n")
        assert server.breaches == {"body_size": 2}


async def test_a_drain_ends_a_stream_that_has_no_end(app: App) -> None:
    async def source() -> AsyncIterator[str]:
        while True:
            yield "tick"
            await anyio.sleep(60)

    @app.get("/events")
    async def events() -> Response:
        return Response.events(source())

    async with testing.serving(app) as server, testing.streams(server) as client:
        one = client.request("GET", "/events")
        assert await one.receive() == b"data: tick\n\n"
        server.stop()
        with anyio.fail_after(5):
            assert await one.receive() == b""


async def test_a_connection_that_has_closed_takes_no_request(app: App) -> None:
    async with connected(app) as (_, client):
        waits = client.request("GET", "/waits/a")
        await until(lambda: waits.exchange.phase == "handler")
        client.connection.abort("it must go")
        await client.connection.closed.wait()
        assert (waits.was_reset, app.state.ended) == ("it must go", ["a"])
        with pytest.raises(RuntimeError, match="is closed"):
            client.request("GET", "/page/1")
        assert client.connection.exchanges == []
