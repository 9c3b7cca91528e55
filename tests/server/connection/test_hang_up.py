"""Clients that leave while their request is being served: noticed without reading, on every backend."""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, Limits, await_, testing
from coserver.server.connection.base import Connection
from coserver.transport import loop
from coserver.transport.loop import Loop
from coserver.transport.poller import PeekPoller

from ..clients import Client, connect, get, post, talking, until


class Waiting:
    """An app whose handlers wait, and tell when they start and end."""

    def __init__(self, seconds: float = 60) -> None:
        self.app = App()
        self.events: list[str] = []
        self.seconds = seconds
        self.app.get("/async")(self.wait)
        self.app.get("/def")(self.wait_def)
        self.app.post("/async")(self.wait)
        self.app.get("/")(self.quick)

    async def quick(self) -> str:
        return "ok"

    async def wait(self) -> str:
        self.events.append("started")
        try:
            await anyio.sleep(self.seconds)
            self.events.append("done")
        finally:
            self.events.append("finally")
        return "waited"

    def wait_def(self) -> str:
        self.events.append("started")
        try:
            await_(anyio.sleep(self.seconds))
            self.events.append("done")
        finally:
            self.events.append("finally")
        return "waited"


@pytest.fixture(params=["poll", "peek"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The platform's poller, and the fallback of those that have none."""
    if request.param == "peek":
        monkeypatch.setattr(loop, "has_epoll", lambda: False)
    return str(request.param)


async def leave(client: Client, how: str) -> None:
    if how == "reset":
        await client.reset()
    elif how == "close":
        await client.stream.aclose()
    else:
        await client.stream.send_eof()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_noticed_and_cancelled(poller: str, kind: str, how: str) -> None:
    waiting = Waiting()
    async with talking(waiting.app) as (server, client):
        assert isinstance(Loop.current().poller, PeekPoller) == (poller == "peek")
        await client.send(get(f"/{kind}"))
        await until(lambda: waiting.events)
        started = time.monotonic()
        await leave(client, how)
        await until(lambda: len(waiting.events) == 2)
        assert time.monotonic() - started < 0.5
        assert waiting.events == ["started", "finally"]
        await until(lambda: not server.connections)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_after_the_handler_has_run_for_a_while(poller: str, how: str) -> None:
    waiting = Waiting()
    async with talking(waiting.app) as (_, client):
        await client.send(get("/async"))
        await anyio.sleep(0.1)
        await leave(client, how)
        await until(lambda: waiting.events == ["started", "finally"], 1)


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_half_closed_client_may_wait_for_its_answer(poller: str, kind: str) -> None:
    waiting = Waiting(0.3)
    async with talking(waiting.app, limits=Limits(on_half_close="answer")) as (_, client):
        await client.send(get(f"/{kind}"))
        await until(lambda: waiting.events)
        await client.stream.send_eof()
        assert (await client.answer()).text == "waited"
        await client.closed()


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_reset_cancels_even_then(poller: str, kind: str) -> None:
    waiting = Waiting()
    async with talking(waiting.app, limits=Limits(on_half_close="answer")) as (_, client):
        await client.send(get(f"/{kind}"))
        await until(lambda: waiting.events)
        await client.stream.send_eof()
        await anyio.sleep(0.1)
        assert waiting.events == ["started"]
        await client.reset()
        await until(lambda: waiting.events == ["started", "finally"], 1)


async def test_a_quick_answer_to_a_half_closed_client() -> None:
    waiting = Waiting()
    async with talking(waiting.app) as (_, client):
        await client.send(get() * 3)
        await client.stream.send_eof()
        for _ in range(3):
            assert (await client.answer()).text == "ok"
        await client.closed()


async def test_quick_handlers_are_never_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(0.2)
    watched: list[int] = []
    async with talking(waiting.app) as (_, client):
        poller = Loop.current().poller
        watch, forget = poller.watch, poller.forget
        forgotten: list[int] = []
        monkeypatch.setattr(poller, "watch", lambda fd, call, **how: (watched.append(fd), watch(fd, call, **how)))
        monkeypatch.setattr(poller, "forget", lambda fd: (forgotten.append(fd), forget(fd)))
        for _ in range(300):
            await client.ask(get())
        assert not watched
        for _ in range(2):
            assert (await client.ask(get("/async"))).text == "waited"
        # Once for each request that lasts, and not a moment longer.
        assert len(watched) == 2
        assert forgotten == watched
        assert "watching 0" in repr(poller)
        assert (await client.ask(get())).text == "ok"


async def test_pipelined_bytes_are_no_hang_up(poller: str) -> None:
    waiting = Waiting(0.15)
    async with talking(waiting.app) as (_, client):
        await client.send(get("/async"))
        await until(lambda: waiting.events)
        await client.send(get() * 10)
        assert (await client.answer()).text == "waited"
        for _ in range(10):
            assert (await client.answer()).text == "ok"


async def test_a_client_that_leaves_pipelined_requests_behind() -> None:
    waiting = Waiting()
    async with talking(waiting.app) as (server, client):
        await client.send(get("/async"))
        await until(lambda: waiting.events)
        await client.send(get("/async") * 10)
        await client.stream.aclose()
        await until(lambda: not server.connections)
        assert waiting.events == ["started", "finally"]


async def test_many_at_once(poller: str) -> None:
    waiting = Waiting()
    async with testing.serving(waiting.app) as server:
        async with anyio.create_task_group() as tasks:

            async def one(how: str) -> None:
                async with connect(server.port) as client:
                    await client.send(get("/async"))
                    await anyio.sleep(0.1)
                    await leave(client, how)
                    await anyio.lowlevel.checkpoint()

            for n in range(60):
                tasks.start_soon(one, ("close", "reset", "half-close")[n % 3])
        await until(lambda: waiting.events.count("finally") == 60, 5)
        async with connect(server.port) as client:
            assert (await client.ask(get())).text == "ok"


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_handler_that_ignores_its_cancellation(kind: str) -> None:
    """It may end in its own time; nothing more is served on the connection."""
    app, events = App(), []

    @app.get("/async")
    async def stubborn() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.3)
        events.append("done")
        return "late"

    @app.get("/def")
    def stubborn_def() -> str:
        try:
            await_(anyio.sleep(60))
        except BaseException:
            events.append("done")
        return "late"

    async with talking(app) as (server, client):
        await client.send(get(f"/{kind}") + get("/never"))
        await anyio.sleep(0.05)
        await client.stream.aclose()
        await until(lambda: events)
        await until(lambda: not server.connections)


async def test_hang_up_while_the_body_is_read_by_its_handler() -> None:
    app, events = App(), []

    @app.post("/", stream=True)
    async def slow(request: Any) -> None:
        try:
            async for _ in request.stream():
                await anyio.sleep(60)
        finally:
            events.append("finally")

    async with talking(app) as (server, client):
        await client.send(post("/", b"x" * 1000))
        await anyio.sleep(0.05)
        await client.reset()
        await until(lambda: events)
        await until(lambda: not server.connections)


class Sources:
    """Handlers that wait in other places than before their response."""

    def __init__(self, app: App) -> None:
        self.events: list[str] = []
        app.get("/stream")(self.stream)
        app.get("/stream-def")(self.stream_def)
        app.post("/unread", stream=True)(self.unread)
        app.tcp(name="talk", framing="lines")(self.talk)

    async def wait(self) -> None:
        self.events.append("started")
        try:
            await anyio.sleep(60)
        finally:
            self.events.append("finally")

    async def stream(self) -> Any:
        yield "first"
        await self.wait()

    def stream_def(self) -> Any:
        yield "first"
        await_(self.wait())

    async def unread(self, request: Any) -> None:
        await self.wait()

    async def talk(self, connection: Any) -> None:
        async for _ in connection:
            await self.wait()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("kind", ["/stream", "/stream-def", "/unread", "talk"])
async def test_wherever_it_waits(poller: str, kind: str, how: str) -> None:
    if (poller, kind, how) == ("peek", "/unread", "close"):
        return  # a FIN behind bytes that nobody reads is not seen by peeking
    app = App()
    sources = Sources(app)
    async with testing.serving(app) as server:
        async with connect(server.port_of("talk") if kind == "talk" else server.port) as client:
            part = post("/unread", b"x" * 1000)[:-500]
            await client.send({"/unread": part, "talk": b"hello\n"}.get(kind) or get(kind))
            await until(lambda: sources.events)
            began = time.monotonic()
            await leave(client, how)
            await until(lambda: sources.events == ["started", "finally"])
            assert time.monotonic() - began < 0.5
        await until(lambda: not server.connections)


@pytest.mark.parametrize("kind", ["/large", "/stream", "/stream-def"])
async def test_a_reset_in_the_middle_of_a_response_is_one_quiet_line(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()

    @app.get("/large")
    async def large() -> bytes:
        return bytes(30_000_000)

    @app.get("/stream")
    async def stream() -> Any:
        for _ in range(1000):
            yield bytes(50_000)

    @app.get("/stream-def")
    def stream_def() -> Any:
        for _ in range(1000):
            yield bytes(50_000)

    caplog.set_level(logging.DEBUG, "coserver")
    async with talking(app) as (server, client):
        await client.send(get(kind))
        await client.stream.receive()
        await client.reset()
        await until(lambda: not server.connections)
    records = [record for record in caplog.records if record.name.startswith("coserver.server")]
    assert [(record.levelname, "the client left" in record.getMessage()) for record in records] == [("DEBUG", True)]


async def test_a_half_closed_client_gets_its_whole_stream(poller: str) -> None:
    app = App(limits=Limits(on_half_close="answer"))

    @app.get("/")
    async def stream() -> Any:
        for number in range(4):
            await anyio.sleep(0.08)
            yield str(number)

    async with talking(app) as (_, client):
        await client.send(get())
        await client.stream.send_eof()
        assert (await client.answer()).text == "0123"
        await client.closed()


async def test_a_storm_does_not_keep_the_loop_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hang-up is told once, though its handler goes on: 500 here, 10,000 by hand."""
    app, release, told, begun = App(), anyio.Event(), [], []

    @app.get("/")
    async def stubborn() -> str:
        begun.append(1)
        with anyio.CancelScope(shield=True):
            await release.wait()
        return "late"

    hung_up = Connection.hung_up
    monkeypatch.setattr(Connection, "hung_up", lambda self: (told.append(1), hung_up(self)))
    async with testing.serving(app) as server:
        try:
            async with AsyncExitStack() as stack:
                for _ in range(500):
                    client = await stack.enter_async_context(connect(server.port))
                    await client.send(get())
                await until(lambda: len(begun) == 500)
            await until(lambda: len(told) == 500)
            began = time.process_time()
            await anyio.sleep(0.5)
            assert time.process_time() - began < 0.3
            assert len(told) == 500
        finally:
            release.set()
        await until(lambda: not server.connections)


async def test_what_the_hang_up_is_called() -> None:
    waiting, reasons = Waiting(), []
    waiting.app.emitter.add_observer(lambda event: reasons.append(getattr(event, "reason", "")))
    async with talking(waiting.app) as (server, client):
        await client.send(get("/async"))
        await until(lambda: waiting.events)
        await client.stream.aclose()
        await until(lambda: not server.connections)
    assert reasons[-1] == "the client left"
