"""Server-sent events: what goes out and when, the heart's beat, and every way in which such a stream ends."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from coserver import App, Limits, Request, Response, Server, ServerSentEvent, await_, testing
from coserver.lifecycle import events as ev
from coserver.server.connection.pace import Pace

from ..clients import PATIENCE, Client, answers, connect, get, talking, until
from ..pipes import Pipe, piped

Source = Callable[[], Any]


class Events:
    """``GET /`` answers with what ``source`` yields; ``closed`` counts sources whose ``finally`` has run."""

    def __init__(self, source: Source, heartbeat: float | None = 15.0) -> None:
        self.app = App()
        self.closed = 0
        self.go_on = anyio.Event()

        @self.app.get("/")
        async def index() -> Response:
            return Response.events(source(), heartbeat=heartbeat)

        @self.app.get("/other")
        async def other() -> str:
            return "other"


async def read_until(client: Client, end: bytes, seconds: float = PATIENCE) -> bytes:
    """What comes, up to and with ``end``, as it is on the wire."""
    data = b""
    with anyio.fail_after(seconds):
        while not data.endswith(end):
            data += await client.stream.receive()
    return data


async def silent() -> AsyncIterator[str]:
    await anyio.sleep_forever()
    yield "never"


# What goes out.


async def test_everything_that_can_be_yielded() -> None:
    async def source() -> AsyncIterator[Any]:
        yield "text"
        yield {"a": [1, "é"]}
        yield [1, 2]
        yield ServerSentEvent({"b": 2}, "tick", "7", 500)
        yield ServerSentEvent("two\nlines")
        yield ServerSentEvent(id="8")
        yield ""

    async with talking(Events(source).app) as (_, client):
        answer = await client.ask(get())
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
        assert answer.text == (
            'data: text\n\ndata: {"a":[1,"é"]}\n\ndata: [1,2]\n\n'
            'event: tick\nid: 7\nretry: 500\ndata: {"b":2}\n\n'
            "data: two\ndata: lines\n\nid: 8\n\ndata: \n\n"
        )
        assert (await client.ask(get("/other"))).text == "other"


def generator() -> Iterator[str]:
    yield "a"
    yield "b"


async def async_generator() -> AsyncIterator[str]:
    yield "a"
    yield "b"


class Iterable:
    def __iter__(self) -> Iterator[str]:
        return generator()


class AsyncIterable:
    def __aiter__(self) -> AsyncIterator[str]:
        return async_generator()


SOURCES: list[Source] = [
    generator,
    async_generator,
    Iterable,
    AsyncIterable,
    lambda: ["a", "b"],
    lambda: map(str, "ab"),
]


@pytest.mark.parametrize("source", SOURCES)
async def test_sources(source: Source) -> None:
    async with talking(Events(source).app) as (_, client):
        assert (await client.ask(get())).text == "data: a\n\ndata: b\n\n"


async def test_no_events_at_all() -> None:
    async with talking(Events(list).app) as (_, client):
        answer = await client.ask(get())
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("source", ["text", b"bytes", {"a": 1}, 7, None, generator])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(TypeError, match="events come from"):
        Response.events(source)


@pytest.mark.parametrize(("heartbeat", "error"), [(0, ValueError), (-1, ValueError), (math.nan, ValueError),
                                                  ("1", TypeError), (True, TypeError)])  # fmt: skip
def test_what_is_no_heartbeat(heartbeat: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="heartbeat"):
        Response.events([], heartbeat=heartbeat)


def test_fields_of_ones_own() -> None:
    response = Response.events([], headers={"Cache-Control": "no-cache", "x-a": "b"})
    assert response.fields == [("Cache-Control", "no-cache"), ("x-a", "b"), ("x-accel-buffering", "no")]
    assert repr(response) == "<Response 200 text/event-stream, a stream of events>"
    with pytest.raises(ValueError, match="Content-Length"):
        Response.events([], headers={"Content-Length": "7"})


async def test_head() -> None:
    closed = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "never"
        finally:
            closed.append(True)

    async with talking(Events(source).app) as (_, client):
        answer = await client.ask(get(method="HEAD"))
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert (await client.ask(get("/other"))).text == "other"
    assert not closed  # it had not begun


async def test_http_1_0() -> None:
    async with talking(Events(generator).app) as (_, client):
        await client.send(get(minor=0))
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"data: a\n\ndata: b\n\n"


async def test_each_event_goes_out_at_once() -> None:
    go_on = [anyio.Event() for _ in range(3)]

    async def source() -> AsyncIterator[str]:
        for number, event in enumerate(go_on):
            yield str(number)
            await event.wait()

    async with talking(Events(source).app) as (_, client):
        await client.send(get())
        for number, event in enumerate(go_on):
            await read_until(client, b"data: %d\n\n\r\n" % number, 2)
            event.set()
        await read_until(client, b"0\r\n\r\n", 2)


async def test_the_last_id_that_a_client_saw() -> None:
    app = App()

    @app.get("/")
    async def index(request: Request) -> Response:
        last = int(request.headers.get("last-event-id", "0"))
        return Response.events(ServerSentEvent(str(number), id=str(number)) for number in range(last + 1, last + 3))

    async with talking(app) as (_, client):
        assert (await client.ask(get())).text == "id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n"
        assert (await client.ask(get("/", "Last-Event-ID: 7"))).text == "id: 8\ndata: 8\n\nid: 9\ndata: 9\n\n"


IDS = ["é-1", "日本", "Ω \U0001f600", "plain", "Ã©", "a b"]


async def test_an_id_comes_back_as_it_went() -> None:
    """Browsers send Last-Event-ID in UTF-8 (HTML §9.2.4); other fields are ISO-8859-1 (RFC 9110 §5.5)."""
    app = App()

    @app.get("/")
    async def index(request: Request) -> Response:
        last = request.headers.get("last-event-id", "none")
        assert ("last-event-id", last) in request.headers.pairs() or last == "none"
        return Response.events([ServerSentEvent(last, id=request.query.get("id"))])

    async with talking(app) as (_, client):
        for id in IDS:
            first = await client.ask(get(f"/?id={quote(id)}"))
            sent = first.body.partition(b"id: ")[2].partition(b"\n")[0]
            again = await client.ask(get("/", "Last-Event-ID: @", "X: @").replace(b"@", sent))
            assert again.text == f"data: {id}\n\n"
        broken = get("/", "Last-Event-ID: @").replace(b"@", b"\xe9\xff")
        assert (await client.ask(broken)).text == "data: éÿ\n\n"  # what is no UTF-8 loses no byte


async def test_an_id_of_a_clients() -> None:
    """The same text through the testing client, a subrequest, a forward and back."""
    behind, app = App(), App()

    @behind.get("/")
    async def raw(request: Request) -> dict[str, str]:
        (sent,) = [value for name, value in request.head.fields if name == b"last-event-id"]
        return {"text": request.headers["last-event-id"], "sent": sent.decode("latin-1")}

    async with testing.serving(behind) as server:
        upstream = app.upstream("behind", server.url)

        @app.get("/ask")
        async def ask(request: Request) -> Any:
            return (await upstream.get("/", headers={"Last-Event-ID": request.headers["last-event-id"]})).json()

        @app.get("/pass")
        async def pass_on(request: Request) -> Any:
            return (await upstream.get("/", headers=request.headers)).json()

        @app.get("/forward")
        async def forward(request: Request) -> Any:
            return await upstream.forward(request, target="/")

        async with testing.client(app, checks=False) as client:  # the other server has connections
            for path in ("/ask", "/pass", "/forward"):
                for id in IDS:
                    answer = (await client.get(path, headers={"Last-Event-ID": id})).json()
                    assert answer == {"text": id, "sent": id.encode().decode("latin-1")}
        async with app.serving(port=0) as outer, connect(outer.port) as wire:
            broken = get("/forward", "Last-Event-ID: @").replace(b"@", b"\xe9\xff")
            assert json.loads((await wire.ask(broken)).body)["sent"] == "éÿ"  # byte for byte


# Silence.


@pytest.mark.parametrize("minor", [0, 1])
async def test_the_head_goes_out_though_the_source_is_silent(minor: int) -> None:
    async with talking(Events(silent).app) as (_, client):
        begun = time.monotonic()
        await client.send(get(minor=minor))
        await read_until(client, b"\r\n\r\n")
        assert time.monotonic() - begun < 1.25


@pytest.mark.parametrize("minor", [0, 1])
async def test_heartbeats(minor: int) -> None:
    finished: list[Any] = []
    go_on = anyio.Event()

    async def source() -> AsyncIterator[str]:
        yield "a"
        await go_on.wait()
        yield "b"

    events = Events(source, 0.1)
    events.app.emitter.add_observer(
        lambda event: finished.append(event) if type(event) is ev.ResponseFinished else None
    )
    async with talking(events.app) as (_, client):
        await client.send(get(minor=minor))
        beat, end = (b": \n\n", b"data: b\n\n") if minor == 0 else (b"4\r\n: \n\n\r\n", b"data: b\n\n\r\n0\r\n\r\n")
        data = await read_until(client, beat * 2)
        go_on.set()
        data += await read_until(client, end)
        body = answers(data)[0].body if minor else data.partition(b"\r\n\r\n")[2]
        assert body.replace(b": \n\n", b"") == b"data: a\n\ndata: b\n\n"
        assert body.count(b": \n\n") >= 2
        await until(lambda: finished)
        assert finished[0].size == len(body)
        if minor:
            assert (await client.ask(get("/other"))).text == "other"


async def test_no_heartbeat() -> None:
    async with talking(Events(silent, None).app) as (_, client):
        await client.send(get())
        await read_until(client, b"\r\n\r\n")
        with anyio.move_on_after(0.6):
            assert not await client.stream.receive()


async def test_a_source_that_speaks_needs_no_heartbeat() -> None:
    async def source() -> AsyncIterator[str]:
        for _ in range(20):
            yield "x"
            await anyio.sleep(0.05)

    async with talking(Events(source, 5.0).app) as (_, client):
        assert b": \n\n" not in (await client.ask(get())).body


async def test_many_silent_streams_have_no_task_but_their_connections() -> None:
    async with testing.serving(Events(silent, 0.1).app) as server, anyio.create_task_group() as tasks:
        before = len(anyio.get_running_tasks())

        async def listen() -> None:
            async with connect(server.port) as client:
                await client.send(get())
                await read_until(client, b"4\r\n: \n\n\r\n")
                await anyio.sleep_forever()

        for _ in range(20):
            tasks.start_soon(listen)
        await until(lambda: server.connections == 20)
        await anyio.sleep(0.5)
        assert len(anyio.get_running_tasks()) == before + 40  # the clients' own among them
        tasks.cancel_scope.cancel()


async def test_a_source_in_a_worker() -> None:
    def source() -> Iterator[str]:
        yield "a"
        await_(anyio.sleep(0.4))
        yield "b"

    async with talking(Events(source, 0.1).app) as (_, client):
        body = (await client.ask(get())).body
        assert body.replace(b": \n\n", b"") == b"data: a\n\ndata: b\n\n"
        assert b": \n\n" in body


# Failure.


async def fails_at_once() -> AsyncIterator[str]:
    raise RuntimeError("at once")
    yield "never"


async def yields_nonsense() -> AsyncIterator[Any]:
    yield 7


async def yields_what_json_cannot_say() -> AsyncIterator[Any]:
    yield {"a": object()}


def fails_at_once_in_a_def() -> Iterator[str]:
    raise RuntimeError("at once")
    yield "never"


@pytest.mark.parametrize(
    "source", [fails_at_once, fails_at_once_in_a_def, yields_nonsense, yields_what_json_cannot_say]
)
async def test_a_source_that_fails_at_once(source: Source) -> None:
    async with talking(Events(source).app) as (_, client):
        assert (await client.ask(get())).status == 500
        assert (await client.ask(get("/other"))).text == "other"


@pytest.mark.parametrize("wait", [0.0, 0.4])
async def test_a_source_that_fails_later(wait: float, caplog: pytest.LogCaptureFixture) -> None:
    """After its first event, or in silence when the head is out: no end is feigned."""

    async def source() -> AsyncIterator[str]:
        if wait:
            await anyio.sleep(wait)
        else:
            yield "a"
        raise RuntimeError("later")

    async with talking(Events(source).app) as (_, client):
        await client.send(get())
        assert not (await client.gone()).endswith(b"0\r\n\r\n")
    assert "broke off its response" in caplog.text


# The end.


@asynccontextmanager
async def listening(source: Callable[[Events], Any], **options: Any) -> AsyncIterator[tuple[Events, Server, Client]]:
    """One client that has read the head and an event."""
    events = Events(lambda: source(events), 0.2)
    async with testing.serving(events.app, **options) as server, connect(server.port) as client:
        await client.send(get())
        await read_until(client, b"data: first\n\n\r\n")
        yield events, server, client


async def one_and_silence(events: Events) -> AsyncIterator[str]:
    try:
        yield "first"
        await events.go_on.wait()
    finally:
        events.closed += 1


def one_and_silence_in_a_def(events: Events) -> Iterator[str]:
    try:
        yield "first"
        await_(events.go_on.wait())
    finally:
        events.closed += 1


ENDLESS = [one_and_silence, one_and_silence_in_a_def]


@pytest.mark.parametrize("source", ENDLESS)
@pytest.mark.parametrize("leave", ["reset", "close"])
async def test_a_client_that_leaves_ends_the_source(source: Any, leave: str) -> None:
    async with listening(source) as (events, _, client):
        await (client.reset() if leave == "reset" else client.stream.aclose())
        await until(lambda: events.closed)
    assert events.closed == 1


@pytest.mark.parametrize("source", ENDLESS)
async def test_a_drain_ends_it_at_once_and_properly(source: Any) -> None:
    async with listening(source) as (events, server, client):
        begun = time.monotonic()
        server.stop(grace=60)
        rest = await client.rest()
        assert rest.endswith(b"0\r\n\r\n")
        await until(lambda: not server.connections)
        assert time.monotonic() - begun < 5
        assert events.closed == 1


async def test_a_drain_before_the_first_event() -> None:
    async with talking(Events(silent).app) as (server, client):
        await client.send(get())
        await until(lambda: any(one.current for one in server._services[0].connections.values()))
        server.stop(grace=60)
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"")
        await client.closed()


async def test_a_stream_that_begins_during_the_drain() -> None:
    go_on = anyio.Event()
    app = App()

    @app.get("/")
    async def index() -> Response:
        await go_on.wait()
        return Response.events(silent())

    async with talking(app) as (server, client):
        await client.send(get())
        await until(lambda: any(one.current for one in server._services[0].connections.values()))
        server.stop(grace=60)
        go_on.set()
        answer = await client.answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"", "close")


async def flood(events: Events) -> AsyncIterator[str]:
    try:
        yield "first"
        await events.go_on.wait()
        while True:
            yield "x" * 100_000
    finally:
        events.closed += 1


async def test_a_client_that_does_not_read_a_flood() -> None:
    async with listening(flood, limits=Limits(write_timeout=0.3)) as (events, _, client):
        events.go_on.set()
        await until(lambda: events.closed)
        assert b"\r\n0\r\n\r\n" not in (await client.gone())[-100:]


async def test_a_drain_in_the_middle_of_an_event_feigns_no_end() -> None:
    async with listening(flood) as (events, server, client):
        events.go_on.set()
        sweeper = server._services[0].loop.sweeper
        await until(lambda: any(isinstance(subject, Pace) for subject in sweeper.subjects))
        server.stop(grace=60)
        assert not (await client.gone()).endswith(b"0\r\n\r\n")
        assert events.closed == 1


async def test_a_client_that_does_not_read_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is full when the source falls silent: the heart's writes have the deadline of all writes."""
    closed: list[Any] = []

    async def source(events: Events) -> AsyncIterator[str]:
        try:
            yield "first"
            await events.go_on.wait()
        finally:
            events.closed += 1

    async with listening(source, limits=Limits(write_timeout=0.5)) as (events, server, client):
        events.app.emitter.add_observer(
            lambda event: closed.append(event) if type(event) is ev.ConnectionClosed else None
        )
        connection = next(iter(server._services[0].connections.values()))
        taken: list[bytes] = []

        def full(data: bytes) -> int:
            taken.append(bytes(data))
            return 1 if len(taken) == 1 else 0

        monkeypatch.setattr(type(connection), "send_now", staticmethod(full))
        await until(lambda: closed)
        assert "write_timeout" in closed[0].reason
        assert taken[0] == b"4\r\n: \n\n\r\n"
        assert taken[1] == taken[0][1:]
        assert events.closed == 1
        await client.gone()


async def test_what_is_left_of_a_heartbeat_goes_before_the_next_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def source(events: Events) -> AsyncIterator[str]:
        yield "first"
        await events.go_on.wait()
        yield "second"

    async with listening(source) as (events, server, client):
        connection = next(iter(server._services[0].connections.values()))
        send_now = connection.send_now
        pieces = 0

        def piecemeal(data: bytes) -> int:
            nonlocal pieces
            pieces += 1
            return send_now(data[:1])

        monkeypatch.setattr(type(connection), "send_now", staticmethod(piecemeal))
        await until(lambda: pieces)
        monkeypatch.setattr(type(connection), "send_now", staticmethod(send_now))
        events.go_on.set()
        rest = await read_until(client, b"0\r\n\r\n")
        assert b"data: second\n\n" in answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + rest)[0].body


async def test_lifecycle_events() -> None:
    seen: list[ev.ServerSentEvent] = []
    events = Events(lambda: one_and_silence(events), 0.2)
    with events.app.emitter.observing(seen.append):
        async with testing.serving(events.app) as server:
            for leave in (True, False):
                async with connect(server.port) as client:
                    await client.send(get())
                    await read_until(client, b"data: first\n\n\r\n")
                    if leave:
                        await client.reset()
                        await until(lambda: events.closed)
                    else:
                        server.stop()
                        await client.rest()
    kinds = [type(event) for event in seen if event.exchange and type(event).__name__.startswith("Response")]
    assert kinds == [ev.ResponseStarted, ev.ResponseCancelled, ev.ResponseStarted, ev.ResponseFinished]


# A stream that is no socket: TLS is one, and so is what lives in memory.


async def take(pipe: Pipe, end: bytes) -> bytes:
    data = b""
    with anyio.fail_after(PATIENCE):
        while not data.endswith(end):
            data += await pipe._take.receive()
    return data


async def test_over_any_byte_stream() -> None:
    go_on = anyio.Event()

    async def source() -> AsyncIterator[str]:
        await go_on.wait()
        yield "a"

    pipe = Pipe()
    async with piped(Events(source, 0.1).app, pipe):
        pipe.say(get())
        data = await take(pipe, b"4\r\n: \n\n\r\n" * 2)
        go_on.set()
        data += await take(pipe, b"0\r\n\r\n")
        assert answers(data)[0].body.replace(b": \n\n", b"") == b"data: a\n\n"
        pipe.leave()


async def test_over_any_byte_stream_the_client_does_not_read() -> None:
    """A heartbeat's own task ends with its connection."""
    closed: list[Any] = []
    events = Events(lambda: one_and_silence(events), 0.1)
    events.app.emitter.add_observer(lambda event: closed.append(event) if type(event) is ev.ConnectionClosed else None)
    pipe = Pipe(room=1)
    async with piped(events.app, pipe, limits=Limits(write_timeout=0.4)):
        pipe.say(get())
        await until(lambda: closed)
        assert "write_timeout" in closed[0].reason
        assert events.closed == 1


async def test_over_any_byte_stream_a_drain_while_a_heartbeat_waits() -> None:
    events = Events(lambda: one_and_silence(events), 0.1)
    pipe = Pipe(room=1)
    async with piped(events.app, pipe) as server:
        pipe.say(get())
        await until(lambda: server._services[0].pending_work)
        server.stop(grace=0.3)
        await until(lambda: events.closed)


async def test_events_do_not_mix_with_heartbeats() -> None:
    """A slow stream, a source and a heart that are both in a hurry: each event is whole."""

    async def source() -> AsyncIterator[str]:
        for number in range(10):
            yield f"{number} " + "x" * 2000
            await anyio.sleep(0.11)

    class Slow(Pipe):
        async def send(self, item: Any) -> None:
            for start in range(0, len(item), 500):
                await anyio.sleep(0.02)
                await super().send(item[start : start + 500])

    pipe = Slow()
    async with piped(Events(source, 0.05).app, pipe):
        pipe.say(get())
        body = answers(await take(pipe, b"\r\n0\r\n\r\n"))[0].body
        expected = b"".join(b"data: %d %b\n\n" % (number, b"x" * 2000) for number in range(10))
        assert body.replace(b": \n\n", b"") == expected
        assert b": \n\n" in body
        pipe.leave()


async def test_a_full_socket_in_the_middle_of_events() -> None:
    async def source(events: Events) -> AsyncIterator[str]:
        yield "first"
        await events.go_on.wait()
        for number in range(60):
            yield f"{number} " + "x" * 100_000

    async with listening(source) as (events, _, client):
        events.go_on.set()
        await anyio.sleep(0.5)
        data = await read_until(client, b"\r\n0\r\n\r\n")
        body = answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data)[0].body
        expected = b"".join(b"data: %d %b\n\n" % (number, b"x" * 100_000) for number in range(60))
        assert body.replace(b": \n\n", b"") == expected


async def test_in_the_memory_of_the_test_client() -> None:
    events = Events(lambda: one_and_silence(events), 0.2)
    async with testing.client(events.app) as client, client.stream("GET", "/") as answer:
        body = b""
        async for piece in answer:
            body += piece
            if body.count(b": \n\n") == 2:
                break
    assert body.startswith(b"data: first\n\n: \n\n")
    assert events.closed == 1


async def test_a_heartbeat_that_went_out_whole_starts_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client has ``write_timeout`` from when it took nothing, however long ago it took the last one."""
    closed: list[Any] = []
    async with listening(one_and_silence, limits=Limits(write_timeout=1.0)) as (events, server, client):
        events.app.emitter.add_observer(
            lambda event: closed.append(event) if type(event) is ev.ConnectionClosed else None
        )
        connection = next(iter(server._services[0].connections.values()))
        await read_until(client, b"4\r\n: \n\n\r\n" * 4)  # 0.8 s and more
        monkeypatch.setattr(type(connection), "send_now", staticmethod(lambda _: 0))
        begun = time.monotonic()
        await until(lambda: closed)
        assert time.monotonic() - begun > 0.9
        await client.gone()


async def test_a_heartbeat_that_finds_the_client_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: bytes) -> int:
        raise anyio.BrokenResourceError("gone")

    async with listening(one_and_silence) as (events, server, client):
        connection = next(iter(server._services[0].connections.values()))
        monkeypatch.setattr(type(connection), "send_now", staticmethod(broken))
        await until(lambda: events.closed)
        await client.gone()
        assert connection.reason == "the client left (gone)"


async def test_over_any_byte_stream_a_heartbeat_that_finds_the_client_gone() -> None:
    class Broken(Pipe):
        async def send(self, item: Any) -> None:
            if item == b"4\r\n: \n\n\r\n":
                raise anyio.BrokenResourceError("gone")
            await super().send(item)

    events = Events(lambda: one_and_silence(events), 0.1)
    pipe = Broken()
    async with piped(events.app, pipe):
        pipe.say(get())
        await until(lambda: events.closed)


async def test_a_response_that_cannot_be_sent_closes_its_source() -> None:
    class Closing(Iterable):
        closed = False

        def __iter__(self) -> Iterator[str]:
            return self  # type: ignore[return-value]

        def __next__(self) -> str:
            return "never"

        def close(self) -> None:
            self.closed = True

    source = Closing()
    app = App()

    @app.get("/")
    async def index() -> Response:
        return Response.events(source, headers={"x-bad": "a\nb"})

    async with talking(app) as (_, client):
        assert (await client.ask(get())).status == 500
    assert source.closed
