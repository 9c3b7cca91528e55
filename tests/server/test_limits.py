"""Limits: their validation, and what happens at each of them."""

from __future__ import annotations

import math
import pickle
import time
from dataclasses import fields
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, Limits, Response, await_, testing
from coserver.server.limits import RouteLimits, limits_of
from coserver.transport.loop import Loop

from .clients import connect, get, post, talking, until


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/large")
    async def large() -> bytes:
        return b"x" * 30_000_000

    return app


# The dataclass.


def test_the_limits_of_a_route_are_made_once() -> None:
    """However many routes have some, and on two listeners."""
    routes = [RouteLimits({"body_size": size}) for size in range(1, 1001)]
    listeners = Limits(), Limits(head_size=2048)
    made = [[limits_of(route, listener) for listener in listeners] for route in routes]
    assert [(first.body_size, second.head_size) for first, second in made[:2]] == [(1, 2048), (2, 2048)]
    for route, each in zip(routes, made, strict=True):
        assert [limits_of(route, listener) for listener in listeners] == each
        assert all(limits_of(route, listener) is one for listener, one in zip(listeners, each, strict=True))
    again = pickle.loads(pickle.dumps(routes[4]))
    assert limits_of(again, listeners[1]) == made[4][1]


def test_the_limits_of_listeners_that_ended_are_forgotten() -> None:
    route = RouteLimits({"body_size": 5})
    for size in range(1, 1000):
        assert limits_of(route, Limits(head_fields=size)).head_fields == size
    assert len(route._made) <= 64


def test_every_field_is_explained() -> None:
    for field in fields(Limits):
        assert field.metadata["why"]
        assert "unit" in field.metadata


@pytest.mark.parametrize("name", ["head_size", "head_fields", "target_size", "max_connections"])
def test_some_must_not_be_zero(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize("name", ["body_size", "drain_size", "grace", "idle_timeout"])
def test_others_may_be(name: str) -> None:
    assert getattr(Limits(**{name: 0}), name) == 0
    with pytest.raises(ValueError, match=f"{name} must be at least 0; got -1"):
        Limits(**{name: -1})


def test_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="nan"):
        Limits(grace=math.nan)
    for value in ("5", None, True):
        with pytest.raises(TypeError, match="head_timeout must be a number of seconds"):
            Limits(head_timeout=value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'cancel' or 'answer'; got 'maybe'"):
        Limits(on_half_close="maybe")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Limits(5)  # type: ignore[misc]


# The head.


async def test_a_head_that_trickles(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=Limits(head_timeout=0.2)) as (server, client):
        with anyio.fail_after(3):
            for byte in get():
                await client.send(bytes([byte]))
                await anyio.sleep(0.03)
                if not server.connections:
                    break
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        await client.closed()


async def test_a_head_that_stops(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=Limits(head_timeout=0.1)) as (_, client):
        assert (await client.ask(get())).status == 200
        await client.send(get()[:-2])
        assert (await client.answer()).status == 408
        await client.stream.send_eof()
        await client.closed()


async def test_a_client_that_says_nothing_is_told_nothing(app: App) -> None:
    async with talking(app, limits=Limits(head_timeout=0.1)) as (_, client):
        await client.closed()


async def test_an_idle_connection_is_closed_silently(app: App) -> None:
    async with talking(app, limits=Limits(idle_timeout=0.1)) as (_, client):
        assert (await client.ask(get())).status == 200
        await client.closed()


async def test_a_busy_connection_is_not_idle(app: App) -> None:
    async with talking(app, limits=Limits(idle_timeout=0.5, head_timeout=0.5)) as (_, client):
        for _ in range(8):
            await anyio.sleep(0.1)
            assert (await client.ask(get())).status == 200


async def test_header_size(app: App, codec: str) -> None:
    async with testing.serving(app, codec=codec, limits=Limits(head_size=1000)) as server:
        async with connect(server.port) as client:
            request = get("/", "X-A: ")
            fits = get("/", "X-A: " + "a" * (1000 - len(request)))
            assert len(fits) == 1000
            assert (await client.ask(fits)).status == 200
            assert (await client.ask(get("/", "X-A: " + "a" * (1001 - len(request))))).status == 431
        async with connect(server.port) as client:  # refused before it ends
            await client.send(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1100)
            assert (await client.answer()).status == 431


async def test_header_count(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=Limits(head_fields=10)) as (_, client):
        assert (await client.ask(get("/", *(f"X-{n}: a" for n in range(9))))).status == 200
        assert (await client.ask(get("/", *(f"X-{n}: a" for n in range(10))))).status == 431


async def test_target_length(app: App, codec: str) -> None:
    async with testing.serving(app, codec=codec, limits=Limits(target_size=200)) as server:
        async with connect(server.port) as client:
            assert (await client.ask(get("/?" + "a" * 198))).status == 200
            assert (await client.ask(get("/?" + "a" * 300))).status == 414
        async with connect(server.port) as client:
            await client.send(b"GET /" + b"a" * 400)
            assert (await client.answer()).status == 414


async def test_trailer_size(app: App, codec: str) -> None:
    @app.post("/")
    async def take() -> str:
        return "taken"

    async with talking(app, codec=codec, limits=Limits(trailer_size=100)) as (_, client):
        body = b"1\r\nx\r\n0\r\nX-A: " + b"a" * 200 + b"\r\n\r\n"
        assert (await client.ask(get("/", "Transfer-Encoding: chunked", method="POST") + body)).status == 431


# The handler.


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_handler_that_takes_too_long(app: App, codec: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []

    @app.get("/async")
    async def slow() -> str:
        try:
            await anyio.sleep(60)
        finally:
            events.append("finally")
        return "never"

    @app.get("/def")
    def slow_def() -> str:
        try:
            await_(anyio.sleep(60))
        finally:
            events.append("finally")
        return "never"

    async with talking(app, codec=codec, limits=Limits(handler_timeout=0.1)) as (_, client):
        answer = await client.ask(get(f"/{kind}"))
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert events == ["finally"]
        await client.closed()
    assert "handler_timeout" in caplog.text


@pytest.mark.parametrize("answer", ["late", "stream", None])
async def test_a_handler_that_ends_as_its_deadline_strikes(app: App, answer: Any) -> None:
    """Its answer goes out, and no second one after it: the client would take that for the next request's."""

    @app.get("/late")
    async def late() -> Any:
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            pass
        return iter(["late"]) if answer == "stream" else answer

    async with talking(app, limits=Limits(handler_timeout=0.1)) as (_, client):
        await client.send(get("/late"))
        raw = await client.gone()
        assert raw.count(b"HTTP/1.1") <= 1


async def test_the_deadline_strikes_in_the_tick_of_the_return(app: App) -> None:
    """Planted: the sweeper finds the handler late in the same turn in which it returns."""
    box: list[Any] = []

    @app.get("/tick")
    async def tick() -> str:
        (connection,) = box[0]._services[0].connections.values()
        connection.current.expire(time.monotonic())
        return "in time"

    async with talking(app) as (server, client):
        box.append(server)
        await client.send(get("/tick"))
        raw = await client.gone()
        assert raw.endswith(b"in time")
        assert raw.count(b"HTTP/1.1") == 1


async def test_data_and_a_deadline_in_one_tick(app: App) -> None:
    """The deadline came first: the request that arrived with it is not begun and then cut."""
    served: list[str] = []

    @app.get("/served")
    async def handler() -> str:
        served.append("served")
        await anyio.lowlevel.checkpoint()
        return "served"

    async with talking(app) as (server, client):
        await client.ask(get())
        (connection,) = server._services[0].connections.values()
        await client.send(get("/served"))
        (connection.current or connection).expire(time.monotonic())
        raw = await client.gone()
        assert bool(raw) == bool(served)


async def test_deadline_while_a_response_is_prepared(app: App) -> None:
    @app.get("/stream")
    async def stream() -> Any:
        await anyio.sleep(0.3)
        yield "the response's time is not the handler's"

    async with talking(app, limits=Limits(handler_timeout=0.1)) as (_, client):
        assert (await client.ask(get("/stream"))).status == 200


# Writing.


async def test_a_reader_that_stalls_is_cut(app: App) -> None:
    reasons: list[str] = []
    app.emitter.add_observer(lambda event: reasons.append(getattr(event, "reason", "")))
    async with talking(app, limits=Limits(write_timeout=0.2)) as (server, client):
        await client.send(get("/large"))
        await until(lambda: server.connections)
        await until(lambda: not server.connections)
        raw = await client.gone()
        assert len(raw) < 30_000_000
    assert reasons[-1] == "the client read nothing for 0.2 s (write_timeout)"


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_stalled_stream_is_cut_and_closed(app: App, kind: str) -> None:
    events: list[str] = []

    @app.get("/async")
    async def pieces() -> Any:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            events.append("finally")

    @app.get("/def")
    def pieces_def() -> Any:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            events.append("finally")

    async with talking(app, limits=Limits(write_timeout=0.2)) as (server, client):
        await client.send(get(f"/{kind}"))
        await until(lambda: events)
        await until(lambda: not server.connections)


async def test_a_refused_client_that_does_not_read(app: App) -> None:
    @app.get("/refused")
    async def refused() -> Response:
        return Response("x" * 20_000_000, 400)

    async with talking(app, limits=Limits(write_timeout=0.1)) as (server, client):
        await client.send(get("/refused"))
        await until(lambda: server.connections)
        await until(lambda: not server.connections)


# Connections.


async def test_beyond_the_limit_clients_wait_and_are_served(app: App) -> None:
    async with testing.serving(app, limits=Limits(max_connections=2)) as server:
        async with connect(server.port) as first, connect(server.port) as second:
            await first.ask(get())
            await second.ask(get())
            async with connect(server.port) as third:
                await third.send(get())
                await anyio.sleep(0.1)
                assert server.connections == 2
                await first.stream.aclose()
                assert (await third.answer()).status == 200
                assert server.connections == 2
        await until(lambda: not server.connections)
        async with connect(server.port) as last:
            assert (await last.ask(get())).status == 200


async def test_a_crowd_before_a_narrow_door(app: App) -> None:
    async with testing.serving(app, limits=Limits(max_connections=3)) as server:
        most = 0

        async def one() -> None:
            nonlocal most
            async with connect(server.port) as client:
                assert (await client.ask(get())).status == 200
                most = max(most, server.connections)

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(one)
        assert most == 3


async def test_two_listeners_share_the_limit(app: App) -> None:
    """Both wait for a place: a connection that ends wakes both, and neither sleeps for ever."""

    @app.tcp(framing="lines", name="echo")
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with testing.serving(app, limits=Limits(max_connections=1)) as server:
        for _ in range(3):
            async with connect(server.port) as first:
                await first.ask(get())
                async with connect(server.port) as http, connect(server.port_of("echo")) as tcp:
                    await http.send(get())
                    await tcp.send(b"hello\n")
                    await anyio.sleep(0.03)
                    await first.stream.aclose()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(_answered, http)
                        tasks.start_soon(_echoed, tcp)


async def _answered(client: Any) -> None:
    assert (await client.answer()).status == 200
    await client.stream.aclose()


async def _echoed(client: Any) -> None:
    assert await client.stream.receive() == b"hello\n"
    await client.stream.aclose()


async def test_stop_while_full(app: App) -> None:
    async with testing.serving(app, limits=Limits(max_connections=1)) as server:  # noqa: SIM117
        async with connect(server.port) as first, connect(server.port) as second:
            await first.ask(get())
            await second.send(get())
            await anyio.sleep(0.03)
            server.stop()
            # It waited in the backlog: it is served before the end, not reset.
            assert (await second.answer()).status == 200
            await first.closed()


async def test_deadlines_leave_nothing_in_the_sweeper(app: App) -> None:
    async with talking(app) as (server, client):
        sweeper = Loop.current().sweeper
        await client.ask(get())
        assert len(sweeper.subjects | sweeper.patient) == 1
        assert not sweeper.running
        await client.send(get("/large"))
        await anyio.sleep(0.05)
        await client.stream.aclose()
        await until(lambda: not server.connections)
        assert not sweeper.subjects | sweeper.patient
        assert not sweeper.running


async def test_body_deadline_does_not_become_the_handlers(app: App) -> None:
    @app.post("/slow")
    async def slow() -> str:
        await anyio.sleep(0.4)
        return "slow"

    async with talking(app, limits=Limits(body_timeout=0.15)) as (_, client):
        request = post("/slow", b"ab")
        await client.send(request[:-1])
        await anyio.sleep(0.02)
        await client.send(request[-1:])
        assert (await client.answer()).text == "slow"
