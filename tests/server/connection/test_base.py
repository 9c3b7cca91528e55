"""What both stories stand on: streams that are no sockets, clients that leave between two steps, internal errors."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Server, testing
from coserver.lifecycle import events as ev
from coserver.protocol.framing import FRAMINGS
from coserver.server.connection.base import Connection
from coserver.server.handler.endpoint import Endpoint
from coserver.server.http.http1 import HttpConnection
from coserver.server.tcp import tcp_connection_factory

from ..clients import answers, connect, get, post, talking, until
from ..pipes import Pipe


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.post("/echo")
    async def echo(request: Any) -> bytes:
        return request.body  # type: ignore[no-any-return]

    @app.get("/large")
    async def large() -> bytes:
        return b"x" * 200_000

    @app.get("/wait")
    async def wait() -> None:
        await anyio.sleep(60)

    return app


@asynccontextmanager
async def piped(
    app: App, pipe: Pipe, make: Any = HttpConnection, **options: Any
) -> AsyncIterator[tuple[Server, Connection]]:
    async with testing.serving(app, **options) as server:
        await until(lambda: server._services[0]._tasks)
        yield server, server._services[0].begin(make, pipe, "memory")
        await until(lambda: not server.connections)
    pipe.let_go()


async def test_http_over_any_byte_stream(app: App, codec: str) -> None:
    pipe = Pipe()
    async with piped(app, pipe, codec=codec) as (_, connection):
        assert connection.peer == "memory"
        pipe.say(get() + post("/echo", b"hello")[:-2])
        pipe.say(b"lo" + get("/large"))
        pipe.leave()
        await until(lambda: pipe.closed)
        raw = await pipe.all()
    found = answers(raw)
    assert [len(answer.body) for answer in found] == [2, 5, 200_000]
    assert connection.reason == "the client closed it"


async def test_a_refusal_over_any_byte_stream(app: App) -> None:
    pipe = Pipe()
    async with piped(app, pipe, limits=Limits(linger_timeout=0.1)):
        pipe.say(b"garbage\r\n\r\n")
        await until(lambda: pipe.closed)
        assert answers(await pipe.all())[0].status == 400


async def test_a_drain_over_any_byte_stream(app: App) -> None:
    pipe = Pipe()
    async with piped(app, pipe) as (server, connection):
        pipe.say(get())
        await until(lambda: connection.served)
        server.stop()
        await until(lambda: not server.connections)
    assert connection.reason == "the server stops"


async def test_a_stall_over_any_byte_stream(app: App) -> None:
    pipe = Pipe(room=0)
    async with piped(app, pipe, limits=Limits(write_timeout=0.1)) as (server, connection):
        pipe.say(get("/large"))
        await until(lambda: not server.connections)
    assert "write_timeout" in connection.reason


async def test_tcp_over_any_byte_stream(app: App) -> None:
    seen: list[Any] = []

    async def handler(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)
        with anyio.move_on_after(0.02):
            await connection.send(b"x")
            await connection.send(b"y")
        try:
            await connection.send(b"z")
        except anyio.BrokenResourceError as error:
            seen.append(error)

    make = tcp_connection_factory(Endpoint(handler, "connection", ()), FRAMINGS["lines"])
    pipe = Pipe(room=2)
    async with piped(app, pipe, make) as (server, _):
        pipe.say(b"hello\n")
        pipe.leave()
        await until(lambda: not server.connections)
    assert len(seen) == 1


class Broken(Pipe):
    """A stream that fails as no stream should."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        raise self.error


async def test_an_internal_error_ends_one_connection_only(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(app) as (server, client):
        pipe = Broken(ValueError("a bug"))
        connection = server._services[0].begin(HttpConnection, pipe, "memory")
        await until(lambda: server.connections == 1)
        assert connection.reason == "internal error"
        assert (await client.ask(get())).text == "ok"
        pipe.let_go()
    assert "a bug" in caplog.text


@pytest.mark.parametrize("error", [anyio.BrokenResourceError("reset"), anyio.ClosedResourceError()])
async def test_a_stream_that_breaks_is_no_error(app: App, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    pipe = Broken(error)
    async with piped(app, pipe) as (server, connection):
        await until(lambda: not server.connections)
    assert connection.reason.startswith("the client left (")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_protocol_must_define_run() -> None:
    async def main() -> None:
        async with App().serving() as server:
            pipe = Pipe()
            with pytest.raises(NotImplementedError):
                await Connection(server._services[0], pipe, "memory").run()
            pipe.let_go()

    anyio.run(main)


# Clients that leave between two steps.


@pytest.mark.parametrize("observed", [False, True])
async def test_a_client_that_left_just_before_its_answer(app: App, observed: bool) -> None:
    box: list[Any] = []
    names: list[str] = []

    @app.get("/late")
    async def late() -> str:
        await box[0].reset()
        await anyio.sleep(0.002)
        return "late"

    @app.get("/late/stream")
    async def stream() -> Any:
        await box[0].reset()
        await anyio.sleep(0.002)
        yield "late"

    if observed:
        app.emitter.add_observer(lambda event: names.append(type(event).__name__))
    for path in ("/late", "/late/stream"):
        async with app.serving() as server, connect(server.port) as client:
            box[:] = [client]
            await client.send(get(path))
            await until(lambda: server._services[0].accepted)
            await until(lambda: not server.connections)
        if observed:
            assert names[-3:] == ["ResponseStarted", "ResponseFailed", "ConnectionClosed"]


@pytest.mark.parametrize("how", ["reset", "stall"])
@pytest.mark.parametrize("observed", [False, True])
async def test_a_client_that_leaves_while_small_answers_wait(app: App, how: str, observed: bool) -> None:
    """Answers that go out in one write, to a socket that is full."""
    kinds: list[type[ev.Event]] = []

    @app.get("/small")
    async def small() -> bytes:
        return b"x" * 60_000

    @app.get("/fields")
    async def fields() -> Any:
        return b"x" * 60_000, 200, {"X-Own": "1"}

    if observed:
        app.emitter.add_observer(lambda event: kinds.append(type(event)))
    for path in ("/small", "/fields"):
        async with app.serving(limits=Limits(write_timeout=0.1)) as server, connect(server.port) as client:
            await client.send(get(path) * 400)
            await until(lambda: server.connections)
            await anyio.sleep(0.05)
            if how == "reset":
                await client.reset()
            await until(lambda: not server.connections)
        if observed:
            assert kinds[-2] in (ev.ResponseFailed, ev.ResponseCancelled)


async def test_small_answers_to_a_slow_reader(app: App) -> None:
    @app.get("/small")
    async def small() -> bytes:
        return b"x" * 60_000

    async with talking(app) as (_, client):
        await client.send(get("/small") * 200)
        await anyio.sleep(0.05)
        for _ in range(200):
            assert len((await client.answer()).body) == 60_000


# Contexts.

VAR: contextvars.ContextVar[Any] = contextvars.ContextVar("VAR")


async def test_context_values_that_cannot_be_compared(app: App) -> None:
    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    first = Array()

    @app.get("/set")
    async def set_var() -> str:
        before = VAR.get()
        VAR.set(Array())
        return "first" if before is first else "another request's"

    token = VAR.set(first)
    try:
        async with talking(app) as (_, client):
            for _ in range(3):
                assert (await client.ask(get("/set"))).text == "first"
    finally:
        VAR.reset(token)
