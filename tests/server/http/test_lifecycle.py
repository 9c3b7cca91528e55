"""What is told of an exchange, in which order, and what a gate may hold without holding anybody else."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from coserver import App, HTTPException, Limits, Request, Response, testing
from coserver.lifecycle import events as ev
from coserver.lifecycle.order import HOLDABLE

from ..clients import Client, chunked, connect, get, post, talking, until


class Record:
    """An observer that keeps what it is told."""

    def __init__(self, app: App) -> None:
        self.events: list[ev.Event] = []
        app.emitter.add_observer(self.events.append)

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def of(self, kind: type[ev.Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


OPENED, RECYCLED, CLOSED = "ConnectionOpened", "ConnectionRecycled", "ConnectionClosed"
HANDLER = ["HandlerStarted", "HandlerFinished"]
RESPONSE = ["ResponseStarted", "ResponseFinished"]
REQUEST = ["RequestHead", "RequestRead"]


def make_app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/def")
    def index_def() -> str:
        return "ok"

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> str:
        return str(sum([len(piece) async for piece in request.stream()]))

    @app.post("/unread", stream=True)
    async def unread() -> str:
        return "unread"

    @app.get("/fail")
    async def fail() -> None:
        raise ValueError("secret")

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418)

    @app.get("/wait")
    async def wait() -> None:
        await anyio.sleep(60)

    @app.get("/pieces")
    async def pieces() -> Any:
        yield "one"
        yield "two"

    @app.get("/broken")
    async def broken() -> Any:
        yield "one"
        raise ValueError("too late")

    @app.get("/early")
    async def early() -> Any:
        raise ValueError("too early")
        yield "never"

    @app.get("/unsendable")
    async def unsendable() -> Response:
        return Response("x", headers={"bad name": "x"})

    return app


@pytest.fixture
def app() -> App:
    return make_app()


# Exact sequences.


@pytest.mark.parametrize(
    ("request_", "middle"),
    [
        (get(), [*REQUEST, *HANDLER, *RESPONSE]),
        (get("/def"), [*REQUEST, *HANDLER, *RESPONSE]),
        (post("/echo", b"hello"), [*REQUEST, *HANDLER, *RESPONSE]),
        (chunked("/echo", b"hello"), [*REQUEST, *HANDLER, *RESPONSE]),
        (post("/stream", b"hello"), ["RequestHead", "HandlerStarted", "RequestRead", "HandlerFinished", *RESPONSE]),
        (post("/stream", b""), [*REQUEST, *HANDLER, *RESPONSE]),
        (post("/unread", b"hello"), ["RequestHead", *HANDLER, *RESPONSE, "RequestRead"]),
        (get("/fail"), [*REQUEST, "HandlerStarted", "HandlerFailed", *RESPONSE]),
        (get("/teapot"), [*REQUEST, "HandlerStarted", "HandlerFailed", *RESPONSE]),
        (get("/pieces"), [*REQUEST, *HANDLER, *RESPONSE]),
        (get("/early"), [*REQUEST, *HANDLER, "ResponseStarted", "ResponseFailed", *RESPONSE]),
        (get("/unsendable"), [*REQUEST, *HANDLER, *RESPONSE]),
        (get("/none"), [*REQUEST, *RESPONSE]),
        (get(method="BREW"), [*REQUEST, *RESPONSE]),
        (post("/none", b"unread"), ["RequestHead", *RESPONSE]),
        (get(method="OPTIONS"), [*REQUEST, *HANDLER, *RESPONSE]),
    ],
)
async def test_an_exchange_that_lives_on(app: App, codec: str, request_: bytes, middle: list[str]) -> None:
    record = Record(app)
    async with talking(app, codec=codec) as (server, client):
        await client.ask(request_)
        await client.stream.aclose()
        await until(lambda: not server.connections)
    assert record.names == [OPENED, *middle, RECYCLED, CLOSED]
    assert record.of(ev.ConnectionClosed)[0].reason == "the client closed it"
    exchanges = {event.exchange for event in record.events if event.exchange is not None}
    assert len(exchanges) == 1
    assert record.events == sorted(record.events, key=lambda event: event.at)


async def test_what_events_say(app: App) -> None:
    record = Record(app)
    async with talking(app) as (_, client):
        await client.ask(post("/echo?a=b", b"hello"))
        await client.ask(get("/fail"))
    opened, head, read = record.of(ev.ConnectionOpened)[0], record.of(ev.RequestHead)[0], record.of(ev.RequestRead)[0]
    assert opened.peer.startswith("127.0.0.1:")
    assert opened.protocol == "http/1.1"
    assert (head.method, head.target, read.size) == ("POST", "/echo?a=b", 5)
    assert head.source.head.method == "POST"
    assert record.of(ev.HandlerStarted)[0].handler.endswith("echo")
    assert record.of(ev.ResponseStarted)[0].status == 200
    assert [event.size for event in record.of(ev.ResponseFinished)] == [5, 26]
    assert isinstance(record.of(ev.HandlerFailed)[0].error, ValueError)


async def test_refused(app: App, codec: str) -> None:
    record = Record(app)
    async with talking(app, codec=codec) as (_, client):
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        await client.stream.send_eof()
        await client.gone()
    assert record.names == [OPENED, "RequestRefused", *RESPONSE, CLOSED]
    assert record.of(ev.RequestRefused)[0].status == 400
    assert record.of(ev.ConnectionClosed)[0].reason.startswith("refused: a request must have one Host")


async def test_refused_in_the_body(app: App, codec: str) -> None:
    for path, handler in (("/echo", []), ("/stream", ["HandlerStarted", "HandlerFailed"])):
        app = make_app()
        record = Record(app)
        async with talking(app, codec=codec) as (_, client):
            await client.send(get(path, "Transfer-Encoding: chunked", method="POST") + b"zz\r\n")
            await client.stream.send_eof()
            await client.gone()
        assert record.names == [OPENED, "RequestHead", *handler, "RequestRefused", *RESPONSE, CLOSED]


async def test_too_long(app: App) -> None:
    record = Record(app)
    async with talking(app, limits=Limits(body_size=10)) as (_, client):
        await client.ask(post("/echo", b"x" * 11))
    assert record.names == [OPENED, "RequestHead", *RESPONSE, RECYCLED, CLOSED]


async def test_a_client_that_says_nothing(app: App) -> None:
    record = Record(app)
    async with talking(app) as (server, client):
        await until(lambda: server.connections)
        await client.stream.aclose()
    assert record.names == [OPENED, CLOSED]


async def test_a_client_that_leaves_in_a_head(app: App) -> None:
    record = Record(app)
    async with talking(app) as (_, client):
        await client.send(get()[:10])
        await client.stream.send_eof()
        await client.closed()
    assert record.names == [OPENED, CLOSED]
    assert "middle of a head" in record.events[-1].reason  # type: ignore[attr-defined]


async def test_a_client_that_leaves_in_a_body(app: App) -> None:
    record = Record(app)
    async with talking(app) as (_, client):
        await client.send(post("/echo", b"hello")[:-1])
        await client.stream.send_eof()
        await client.closed()
    assert record.names == [OPENED, "RequestHead", CLOSED]


async def test_cancelled_by_a_hang_up(app: App) -> None:
    record = Record(app)
    async with talking(app) as (server, client):
        await client.send(get("/wait"))
        await until(lambda: record.of(ev.HandlerStarted))
        await client.stream.aclose()
        await until(lambda: not server.connections)
    assert record.names == [OPENED, *REQUEST, "HandlerStarted", "HandlerCancelled", CLOSED]


async def test_cancelled_by_a_deadline(app: App) -> None:
    record = Record(app)
    async with talking(app, limits=Limits(handler_timeout=0.1)) as (_, client):
        assert (await client.ask(get("/wait"))).status == 503
        await client.closed()
    assert record.names == [OPENED, *REQUEST, "HandlerStarted", "HandlerCancelled", *RESPONSE, CLOSED]


async def test_deadline_of_a_head(app: App) -> None:
    record = Record(app)
    async with talking(app, limits=Limits(head_timeout=0.1)) as (_, client):
        await client.send(b"GET")
        assert (await client.answer()).status == 408
        await client.closed()
    assert record.names == [OPENED, *RESPONSE, CLOSED]


async def test_broken_off(app: App) -> None:
    record = Record(app)
    async with talking(app) as (_, client):
        await client.send(get("/broken"))
        await client.gone()
    assert record.names == [OPENED, *REQUEST, *HANDLER, "ResponseStarted", "ResponseFailed", CLOSED]
    assert "broke off its response" in record.events[-1].reason  # type: ignore[attr-defined]


async def test_response_cancelled(app: App) -> None:
    @app.get("/large")
    async def large() -> bytes:
        return b"x" * 30_000_000

    record = Record(app)
    async with talking(app, limits=Limits(write_timeout=0.1)) as (_, client):
        await client.send(get("/large"))
        await until(lambda: record.of(ev.ConnectionClosed))
        await client.gone()
    assert record.names == [OPENED, *REQUEST, *HANDLER, "ResponseStarted", "ResponseCancelled", CLOSED]


async def test_response_to_a_client_that_left(app: App) -> None:
    release = anyio.Event()

    @app.get("/large")
    async def large() -> bytes:
        with anyio.CancelScope(shield=True):
            await release.wait()
        return b"x" * 30_000_000

    record = Record(app)
    async with talking(app, limits=Limits(on_half_close="answer")) as (_, client):
        await client.send(get("/large"))
        await until(lambda: record.of(ev.HandlerStarted))
        await client.stream.aclose()
        release.set()
        await until(lambda: record.of(ev.ConnectionClosed))
    assert record.names[-3:-1] in (["ResponseStarted", "ResponseFailed"], ["ResponseStarted", "ResponseCancelled"])


def make_tcp(kind: str = "async") -> App:
    app = App()
    if kind == "async":

        @app.tcp(framing="lines")
        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

    else:

        @app.tcp(framing="lines")
        def echo_def(connection: Any) -> None:
            for message in connection:
                connection.send(message)

    return app


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_tcp(kind: str) -> None:
    app = make_tcp(kind)
    record = Record(app)
    async with talking(app) as (_, client):
        for _ in range(2):
            await client.send(b"hello\n")
            assert await client.stream.receive() == b"hello\n"
        await client.stream.aclose()
    one = ["RequestRead", "HandlerStarted", *RESPONSE, "HandlerFinished", RECYCLED]
    assert record.names == [OPENED, *one, *one, CLOSED]
    assert record.of(ev.ConnectionOpened)[0].protocol == "tcp"
    assert record.of(ev.RequestRead)[0].size == 5
    assert record.of(ev.ResponseFinished)[0].size == 5
    assert len({event.exchange for event in record.events}) == 3


async def test_tcp_fails(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.tcp(framing="lines")
    async def fail(connection: Any) -> None:
        await connection.receive()
        raise ValueError("secret")

    record = Record(app)
    async with talking(app) as (_, client):
        await client.send(b"x\n")
        await client.gone()
    assert record.names == [OPENED, "RequestRead", "HandlerStarted", "HandlerFailed", CLOSED]


# Observers and gates that come and go.


async def test_a_raising_observer_is_logged_and_removed(app: App, caplog: pytest.LogCaptureFixture) -> None:
    seen = 0

    def bad(event: ev.Event) -> None:
        nonlocal seen
        seen += 1
        raise ValueError("a bad observer")

    app.emitter.add_observer(bad)
    async with talking(app) as (_, client):
        for _ in range(3):
            assert (await client.ask(get())).body == b"ok"
    assert seen == 1
    assert "was removed" in caplog.text


@pytest.mark.parametrize("when", ["called", "awaited"])
async def test_a_raising_gate(app: App, caplog: pytest.LogCaptureFixture, when: str) -> None:
    calls = 0

    async def fail() -> None:
        raise ValueError("a bad gate")

    def bad(event: ev.Event) -> Any:
        nonlocal calls
        if not isinstance(event, ev.HandlerStarted):
            return None
        calls += 1
        if when == "called":
            raise ValueError("a bad gate")
        return fail()

    app.emitter.add_gate(bad)
    async with talking(app) as (_, client):
        for _ in range(3):
            assert (await client.ask(get())).body == b"ok"
    assert calls == (1 if when == "called" else 3)
    assert "a bad gate" in caplog.text


async def test_an_observer_that_comes_in_the_middle(app: App) -> None:
    """It hears whole pairs only: what was opened unseen is closed unseen."""
    go_on, late = anyio.Event(), []

    @app.get("/go")
    async def go() -> str:
        await go_on.wait()
        return "gone"

    async with app.serving() as server, connect(server.port) as client:
        await client.send(get("/go"))
        await until(lambda: server._services[0].loop.sweeper.running)
        app.emitter.add_observer(late.append)
        go_on.set()
        await client.answer()
        await client.stream.aclose()
        await until(lambda: not server.connections)
    assert [type(event).__name__ for event in late] == [*RESPONSE, RECYCLED, CLOSED]


async def test_an_observer_that_leaves_in_the_middle(app: App) -> None:
    seen: list[str] = []

    def once(event: ev.Event) -> None:
        seen.append(type(event).__name__)
        if isinstance(event, ev.HandlerStarted):
            app.emitter.remove_observer(once)

    app.emitter.add_observer(once)
    async with app.serving() as server, connect(server.port) as client:
        assert (await client.ask(get())).body == b"ok"
    assert seen == [OPENED, *REQUEST, "HandlerStarted"]


# Holding.


class Hold:
    """A gate that holds the first exchange which reaches ``kind``, and no other."""

    def __init__(self, app: App, kind: type[ev.Event]) -> None:
        self.kind = kind
        self.release = anyio.Event()
        self.held: ev.Event | None = None
        app.emitter.add_gate(self)

    def __call__(self, event: ev.Event) -> Awaitable[None] | None:
        if self.held is None and type(event) is self.kind:
            self.held = event
            return self.release.wait()
        return None

    async def reached(self) -> Any:
        await until(lambda: self.held)
        assert self.held is not None
        return self.held.source


#: Subrequests are another layer's tests.
PLACES = {phase: kind for phase, kind in HOLDABLE.items() if phase != "subrequest"}
HOLDS = pytest.mark.parametrize("kind", PLACES.values(), ids=list(PLACES))
#: Far shorter than what a hold may last.
SHORT = Limits(head_timeout=0.15, body_timeout=0.15, handler_timeout=0.15, idle_timeout=0.15, write_timeout=0.15)


@HOLDS
async def test_http_is_held_while_others_are_served(app: App, kind: type[ev.Event]) -> None:
    hold = Hold(app, kind)
    async with talking(app, limits=SHORT) as (server, client):
        await client.send(get())
        source = await hold.reached()
        connection = getattr(source, "connection", source)
        assert connection.held
        async with connect(server.port) as other:
            for _ in range(5):
                # Longer than any deadline in all: none runs while it is held.
                await anyio.sleep(0.06)
                assert (await other.ask(get())).body == b"ok"
        assert connection.held
        hold.release.set()
        assert (await client.answer()).body == b"ok"
        if kind is not ev.ConnectionRecycled:
            assert (await client.ask(get())).body == b"ok"
        await until(lambda: not connection.held)


@HOLDS
async def test_tcp_is_held_while_others_are_served(kind: type[ev.Event]) -> None:
    if kind is ev.RequestHead:
        return  # a message has no head
    app = make_tcp()
    hold = Hold(app, kind)
    async with talking(app, limits=SHORT) as (server, client):
        await client.send(b"hello\n" * 2)
        source = await hold.reached()
        connection = getattr(source, "connection", source)
        assert connection.held
        async with connect(server.port) as other:
            for _ in range(5):
                await anyio.sleep(0.06)
                await other.send(b"x\n")
                assert await other.stream.receive() == b"x\n"
        hold.release.set()
        data = b""
        while len(data) < 12:
            data += await client.stream.receive()
        await until(lambda: not connection.held)


async def leave(client: Client, how: str) -> None:
    if how == "reset":
        await client.reset()
    else:
        await client.stream.aclose()


@HOLDS
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("make", [make_app, make_tcp], ids=["http", "tcp"])
async def test_a_client_that_leaves_ends_the_hold(kind: type[ev.Event], how: str, make: Callable[[], App]) -> None:
    if make is make_tcp and kind is ev.RequestHead:
        return
    app = make()
    hold = Hold(app, kind)
    async with talking(app) as (server, client):
        await client.send(get() if make is make_app else b"hello\n")
        await hold.reached()
        await anyio.sleep(0.06)
        await leave(client, how)
        await until(lambda: not server.connections, 2)


@HOLDS
@pytest.mark.parametrize("make", [make_app, make_tcp], ids=["http", "tcp"])
@pytest.mark.parametrize("grace", [0, 0.1])
async def test_a_stop_during_the_hold(kind: type[ev.Event], make: Callable[[], App], grace: float) -> None:
    if make is make_tcp and kind is ev.RequestHead:
        return
    app = make()
    hold = Hold(app, kind)
    async with talking(app) as (server, client):
        await client.send(get() if make is make_app else b"hello\n")
        await hold.reached()
        server.stop(grace)
        await client.gone()
        await until(lambda: not server.running, 3)


@HOLDS
async def test_a_drain_releases_what_is_held(app: App, kind: type[ev.Event]) -> None:
    """All of it, whatever it reaches next; and the client has its answer."""
    holds = [Hold(app, kind), Hold(app, kind)]
    async with talking(app) as (server, client):
        await client.send(get())
        await holds[0].reached()
        server.stop()
        assert (await client.answer()).body == b"ok"
        await client.closed()
        await until(lambda: not server.running, 3)


async def test_held_with_a_streamed_body(app: App, codec: str) -> None:
    hold = Hold(app, ev.RequestRead)
    async with talking(app, codec=codec, limits=SHORT) as (_, client):
        await client.send(post("/stream", b"hello"))
        await hold.reached()
        await anyio.sleep(0.3)
        hold.release.set()
        assert (await client.answer()).text == "5"


async def test_a_gate_may_look_inside_and_change_the_request(app: App) -> None:
    def change(event: ev.Event) -> None:
        if isinstance(event, ev.HandlerStarted):
            event.source.request.set_body(b"changed")

    app.emitter.add_gate(change)
    async with talking(app) as (_, client):
        assert (await client.ask(post("/echo", b"hello"))).body == b"changed"


async def test_two_gates_hold_one_after_the_other(app: App) -> None:
    first, second = Hold(app, ev.HandlerStarted), Hold(app, ev.HandlerStarted)
    async with talking(app) as (_, client):
        await client.send(get())
        await first.reached()
        assert second.held is None
        first.release.set()
        await second.reached()
        second.release.set()
        assert (await client.answer()).body == b"ok"


async def test_no_event_is_built_while_nobody_observes(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("built")

    for kind in (ev.ConnectionOpened, ev.RequestHead, ev.HandlerStarted, ev.ResponseFinished, ev.ConnectionClosed):
        monkeypatch.setattr(kind, "__init__", never)
    async with app.serving() as server, connect(server.port) as client:
        assert (await client.ask(get())).body == b"ok"


async def test_cancellation_of_everything_during_a_hold(app: App, caplog: pytest.LogCaptureFixture) -> None:
    for kind in PLACES.values():
        app = make_app()
        hold = Hold(app, kind)
        with anyio.CancelScope() as scope:
            async with testing.serving(app) as server, connect(server.port) as client:
                await client.send(get())
                await hold.reached()
                scope.cancel()
                await anyio.sleep(60)
        assert scope.cancelled_caught
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_stream_that_is_held_and_never_sent_is_closed(app: App) -> None:
    """The client leaves while a gate holds the response: its iterator is let go of, as one that was begun would be."""
    closed: list[str] = []

    class Pieces:
        def __iter__(self) -> Pieces:
            return self

        def __next__(self) -> str:
            return "piece"

        def close(self) -> None:
            closed.append("closed")

    app.get("/pieces")(Pieces)
    hold = Hold(app, ev.ResponseStarted)
    async with talking(app) as (server, client):
        async with connect(server.port) as other:
            await other.send(get("/pieces"))
            await hold.reached()
            await other.reset()
            await until(lambda: closed)
        hold.release.set()
        assert closed == ["closed"]
        assert (await client.ask(get())).status == 200
