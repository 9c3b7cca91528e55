"""Streamed responses: pieces as they come, the client's pace, and what is left when either side breaks off."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, HTTPException, Limits, Response, await_, testing

from ..clients import Client, connect, get, talking, until

KINDS = ["async generator", "generator", "async iterator", "iterator", "returned"]


class Iterating:
    """An iterator that is no generator, in one world or the other."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces
        self.closed = 0


class Sync(Iterating):
    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self.pieces:
            raise StopIteration
        return self.pieces.pop(0)

    def close(self) -> None:
        self.closed += 1


class Async(Iterating):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self  # type: ignore[return-value]

    async def __anext__(self) -> Any:
        if not self.pieces:
            raise StopAsyncIteration
        await anyio.lowlevel.checkpoint()
        return self.pieces.pop(0)


class AsyncClosable(Async):
    async def aclose(self) -> None:
        self.closed += 1


class Bare:
    """Has ``__anext__`` and no ``__aiter__``: an async iterator all the same, to whoever drives it."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces

    async def __anext__(self) -> Any:
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop(0)


class BareSync:
    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces

    def __next__(self) -> Any:
        if not self.pieces:
            raise StopIteration
        return self.pieces.pop(0)


def serve(app: App, kind: str, pieces: list[Any], path: str = "/stream") -> Any:
    """Register a handler that streams ``pieces`` in this way."""
    made: Any = None

    async def agen() -> Any:
        for piece in pieces:
            await anyio.lowlevel.checkpoint()
            yield piece

    def gen() -> Any:
        for piece in pieces:
            await_(anyio.lowlevel.checkpoint())
            yield piece

    if kind == "async generator":
        app.get(path)(agen)
    elif kind == "generator":
        app.get(path)(gen)
    else:

        @app.get(path)
        async def handler() -> Any:
            if kind == "returned":
                return Response(agen(), 201, {"X-Kind": kind})
            return Async([*pieces]) if kind == "async iterator" else Sync([*pieces])

    return made


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    return app


@pytest.mark.parametrize("kind", KINDS)
async def test_kinds(app: App, codec: str, kind: str) -> None:
    serve(app, kind, ["one ", b"two ", bytearray(b"three "), memoryview(b"four")])
    async with talking(app, codec=codec) as (_, client):
        for _ in range(2):
            answer = await client.ask(get("/stream"))
            assert answer.body == b"one two three four"
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert (await client.ask(get())).body == b"ok"


@pytest.mark.parametrize("make", [Bare, BareSync])
async def test_half_an_iterator(app: App, make: Any) -> None:
    """What only has ``__next__`` or ``__anext__`` is streamed or refused, never taken for an empty one."""

    @app.get("/stream")
    async def handler() -> Any:
        return make(["one ", "two"])

    async with talking(app) as (_, client):
        answer = await client.ask(get("/stream"))
        assert (answer.status, answer.body) in ((200, b"one two"), (500, b"500 Internal Server Error\n"))


async def test_a_body_changed_into_text_is_not_lost(app: App) -> None:
    @app.get("/stream")
    async def handler() -> Response:
        response = Response(b"x")
        response.body = "text"  # type: ignore[assignment]
        return response

    async with talking(app) as (_, client):
        answer = await client.ask(get("/stream"))
        assert (answer.status, answer.body) in ((200, b"text"), (500, b"500 Internal Server Error\n"))


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_at_all_and_empty_pieces(app: App, codec: str, kind: str) -> None:
    serve(app, kind, [], "/empty")
    serve(app, kind, ["", b"", "x", "", "y", b""], "/gaps")
    async with talking(app, codec=codec) as (_, client):
        assert (await client.ask(get("/empty"))).body == b""
        assert (await client.ask(get("/gaps"))).body == b"xy"
        assert (await client.ask(get())).body == b"ok"


async def test_the_first_piece_arrives_before_the_second_is_made(app: App) -> None:
    go_on = anyio.Event()

    @app.get("/async")
    async def pieces() -> Any:
        yield "first"
        await go_on.wait()
        yield "second"

    @app.get("/def")
    def pieces_def() -> Any:
        yield "first"
        await_(go_on.wait())
        yield "second"

    async with testing.serving(app) as server:
        for path in ("/async", "/def"):
            go_on = anyio.Event()
            async with connect(server.port) as client:
                await client.send(get(path))
                raw = b""
                while b"first" not in raw:
                    raw += await client.stream.receive()
                go_on.set()
                while not raw.endswith(b"0\r\n\r\n"):
                    raw += await client.stream.receive()
                assert raw.endswith(b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n")


async def test_a_generator_keeps_its_contextvars(app: App) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)

    @app.get("/def")
    def pieces_def() -> Any:
        for n in range(3):
            var.set(var.get() + 1)
            await_(anyio.lowlevel.checkpoint())
            yield f"{n}{var.get()} "

    @app.get("/async")
    async def pieces() -> Any:
        for n in range(3):
            var.set(var.get() + 1)
            await anyio.lowlevel.checkpoint()
            yield f"{n}{var.get()} "

    async with talking(app) as (_, client):
        for path in ("/def", "/async", "/def", "/async"):
            assert (await client.ask(get(path))).text == "01 12 23 "


# The client leaves.


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_closed_when_the_client_leaves(app: App, kind: str, how: str) -> None:
    events: list[str] = []

    @app.get("/async")
    async def pieces() -> Any:
        try:
            yield "first"
            await anyio.sleep(60)
            yield "never"
        finally:
            events.append("finally")

    @app.get("/def")
    def pieces_def() -> Any:
        try:
            yield "first"
            await_(anyio.sleep(60))
            yield "never"
        finally:
            events.append("finally")

    async with talking(app) as (server, client):
        await client.send(get(f"/{kind}"))
        await client.stream.receive()
        if how == "reset":
            await client.reset()
        elif how == "close":
            await client.stream.aclose()
        else:
            await client.stream.send_eof()
        await until(lambda: events, 2)
        await until(lambda: not server.connections)


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_an_endless_stream_ends_with_its_client(app: App, kind: str) -> None:
    events: list[str] = []

    @app.get("/async")
    async def pieces() -> Any:
        try:
            while True:
                yield "x" * 1000
        finally:
            events.append("finally")

    @app.get("/def")
    def pieces_def() -> Any:
        try:
            while True:
                yield "x" * 1000
        finally:
            events.append("finally")

    async with talking(app) as (server, client):
        await client.send(get(f"/{kind}"))
        await client.stream.receive()
        async with connect(server.port) as other:  # while it runs, others are served
            assert (await other.ask(get())).body == b"ok"
        await client.stream.aclose()
        await until(lambda: events)


async def test_the_finally_of_a_stream_may_wait(app: App) -> None:
    events: list[str] = []

    @app.get("/async")
    async def pieces() -> Any:
        try:
            yield "first"
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            events.append("async")

    @app.get("/iterator")
    async def iterator() -> Any:
        return Slow(["first"])

    class Slow(Async):
        async def __anext__(self) -> Any:  # noqa: RET503
            if self.pieces:
                return self.pieces.pop(0)
            await anyio.sleep(60)

        async def aclose(self) -> None:
            await anyio.sleep(0.05)
            events.append("iterator")

    async with testing.serving(app) as server:
        for path in ("/async", "/iterator"):
            async with connect(server.port) as client:
                await client.send(get(path))
                await client.stream.receive()
        await until(lambda: len(events) == 2)


async def test_a_finally_that_never_ends_is_cut(app: App) -> None:
    @app.get("/stuck")
    async def stuck() -> Any:
        return Stuck(["first"])

    class Stuck(Async):
        async def aclose(self) -> None:
            await anyio.sleep(60)

    async with talking(app, limits=Limits(cleanup_timeout=0.1)) as (_, client):
        assert (await client.ask(get("/stuck"))).body == b"first"


async def test_closing_raises(app: App, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(AsyncClosable):
        async def aclose(self) -> None:
            raise ValueError("cannot close")

    @app.get("/broken")
    async def broken() -> Any:
        return Broken(["x"])

    async with talking(app) as (_, client):
        assert (await client.ask(get("/broken"))).body == b"x"
        assert (await client.ask(get())).body == b"ok"
    assert "cannot close" in caplog.text


async def test_every_iterator_is_closed_once_it_is_sent(app: App) -> None:
    made: list[Any] = []

    @app.get("/{kind}")
    async def handler(kind: str) -> Any:
        made.append(Sync(["x"]) if kind == "sync" else AsyncClosable(["x"]))
        return made[-1]

    async with talking(app) as (_, client):
        assert (await client.ask(get("/sync"))).body == b"x"
        assert (await client.ask(get("/async"))).body == b"x"
        assert (await client.ask(get("/sync", method="HEAD"))).body == b""
        assert (await client.ask(get("/async", method="HEAD"))).body == b""
    assert [one.closed for one in made] == [1, 1, 1, 1]


# What goes wrong.


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_failing_before_the_first_piece(
    app: App, codec: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/async")
    async def pieces() -> Any:
        await anyio.lowlevel.checkpoint()
        yield ""
        raise ValueError("too early")

    @app.get("/def")
    def pieces_def() -> Any:
        yield b""
        raise ValueError("too early")

    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get(f"/{kind}"))
        assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
        assert (await client.ask(get())).body == b"ok"
    assert len(errors(caplog)) == 1
    assert "too early" in caplog.text


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_http_exception_before_the_first_piece(app: App, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/async")
    async def pieces() -> Any:
        raise HTTPException(403, "not you")
        yield "never"

    @app.get("/def")
    def pieces_def() -> Any:
        raise HTTPException(403, "not you")
        yield "never"

    async with talking(app) as (_, client):
        answer = await client.ask(get(f"/{kind}"))
        assert (answer.status, answer.text) == (403, "403 Forbidden\nnot you\n")
        assert (await client.ask(get())).body == b"ok"
    assert not errors(caplog)


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("minor", [0, 1])
async def test_failing_later_is_visible(
    app: App, codec: str, kind: str, minor: int, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/async")
    async def pieces() -> Any:
        yield "first"
        raise ValueError("too late")

    @app.get("/def")
    def pieces_def() -> Any:
        yield "first"
        raise ValueError("too late")

    async with talking(app, codec=codec) as (_, client):
        await client.send(get(f"/{kind}", minor=minor) + (get() if minor else b""))
        if minor:
            raw = await client.gone()
            assert raw.endswith(b"5\r\nfirst\r\n")
        else:
            # Nothing but a reset tells an HTTP/1.0 client a broken stream from a whole one.
            with pytest.raises(anyio.BrokenResourceError):
                await client.rest()
    assert "too late" in caplog.text
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("piece", [None, 5, {"a": 1}, ["x"]])
async def test_wrong_pieces(app: App, caplog: pytest.LogCaptureFixture, piece: Any) -> None:
    @app.get("/first")
    async def first() -> Any:
        yield piece

    @app.get("/second")
    def second() -> Any:
        yield "good"
        yield piece

    async with talking(app) as (_, client):
        assert (await client.ask(get("/first"))).status == 500
        await client.send(get("/second"))
        assert (await client.gone()).endswith(b"4\r\ngood\r\n")
    assert f"yields str or bytes; got {type(piece).__name__}" in caplog.text


# Framing.


async def test_content_length(app: App, codec: str) -> None:
    @app.get("/given")
    async def given() -> Response:
        return Response(iter(["abc", "de"]), headers={"Content-Length": "5"})

    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get("/given"))
        assert (answer.body, answer.headers["content-length"]) == (b"abcde", "5")
        assert "transfer-encoding" not in answer.headers
        answer = await client.ask(get("/given", method="HEAD"))
        assert (answer.body, answer.headers["content-length"]) == (b"", "5")
        answer = await client.ask(get("/given", "Connection: keep-alive", minor=0))
        assert (answer.body, answer.headers["connection"]) == (b"abcde", "keep-alive")
        assert (await client.ask(get())).body == b"ok"


@pytest.mark.parametrize(("length", "pieces", "sent"), [(4, ["abc", "de"], b"abc"), (6, ["abc", "de"], b"abcde")])
async def test_another_length_than_said(
    app: App, caplog: pytest.LogCaptureFixture, length: int, pieces: list[str], sent: bytes
) -> None:
    @app.get("/given")
    async def given() -> Response:
        return Response(iter(pieces), headers={"Content-Length": str(length)})

    async with talking(app) as (_, client):
        await client.send(get("/given"))
        raw = await client.gone()
        assert raw.endswith(b"\r\n\r\n" + sent)
    assert f"Content-Length says {length}" in caplog.text


async def test_a_length_and_nothing_sent(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/given")
    async def given() -> Response:
        return Response(iter([]), headers={"Content-Length": "5"})

    @app.get("/more")
    async def more() -> Response:
        return Response(iter(["too much"]), headers={"Content-Length": "5"})

    async with talking(app) as (_, client):
        assert (await client.ask(get("/given"))).status == 500
        assert (await client.ask(get("/more"))).status == 500
        assert (await client.ask(get())).body == b"ok"


async def test_http10_until_the_close(app: App, codec: str) -> None:
    serve(app, "generator", ["one ", "two"])
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get("/stream", "Connection: keep-alive", minor=0))
        assert (answer.body, answer.headers["connection"]) == (b"one two", "close")
        assert "transfer-encoding" not in answer.headers
        await client.closed()


@pytest.mark.parametrize("kind", KINDS)
async def test_head_of_a_stream(app: App, codec: str, kind: str) -> None:
    serve(app, kind, ["never sent"])
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get("/stream", method="HEAD"))
        assert (answer.body, answer.headers["transfer-encoding"]) == (b"", "chunked")
        assert (await client.ask(get())).body == b"ok"


async def test_a_status_without_a_body_starts_no_stream(app: App) -> None:
    @app.get("/none")
    async def none() -> Response:
        return Response(iter(["never sent"]), 204)

    async with talking(app) as (_, client):
        answer = await client.ask(get("/none"))
        assert (answer.status, answer.body) == (204, b"")
        assert "transfer-encoding" not in answer.headers
        assert (await client.ask(get())).body == b"ok"


async def test_trailers(app: App, codec: str) -> None:
    @app.get("/trailers")
    async def handler() -> Response:
        trailers: dict[str, str] = {}

        async def pieces() -> Any:
            yield "abc"
            trailers["X-Sum"] = "3"

        return Response(pieces(), trailers=trailers)

    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get("/trailers"))
        assert (answer.body, answer.trailers) == (b"abc", {"x-sum": "3"})
        # Nowhere to put them, and nothing lost but them.
        assert (await client.ask(get("/trailers", method="HEAD"))).trailers == {}
        assert (await client.ask(get("/trailers", minor=0))).trailers == {}


async def test_trailers_that_may_not_be_sent(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/trailers")
    async def handler() -> Response:
        return Response(iter(["abc"]), trailers={"X-Bad": "a\r\nb: c"})

    async with talking(app) as (_, client):
        await client.send(get("/trailers"))
        assert (await client.gone()).endswith(b"3\r\nabc\r\n")
    assert "control characters" in caplog.text


async def test_wrong_trailers_that_have_no_place_break_nothing(app: App, codec: str) -> None:
    @app.get("/trailers")
    async def handler() -> Response:
        return Response(iter(["abc"]), trailers={"bad name": "x"})

    @app.get("/length")
    async def length() -> Response:
        return Response(iter(["abc"]), headers={"Content-Length": "3"}, trailers={"bad name": "x"})

    async with talking(app, codec=codec) as (_, client):
        assert (await client.ask(get("/length"))).body == b"abc"
        assert (await client.ask(get("/trailers", minor=0))).body == b"abc"


# The client's pace.


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_slow_reader_holds_the_generator_back(app: App, kind: str) -> None:
    made = 0

    @app.get("/async")
    async def pieces() -> Any:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield b"x" * 100_000

    @app.get("/def")
    def pieces_def() -> Any:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield b"x" * 100_000

    async with talking(app) as (server, client):
        await client.send(get(f"/{kind}"))
        await client.stream.receive()
        await anyio.sleep(0.1)
        held = made
        assert held < 500
        async with connect(server.port) as other:
            assert (await other.ask(get())).body == b"ok"
        for _ in range(200):
            await client.stream.receive()
        await until(lambda: made > held)


async def read_slowly(client: Client, pause: float) -> int:
    size = 0
    try:
        while True:
            size += len(await client.stream.receive(200_000))
            await anyio.sleep(pause)
    except anyio.EndOfStream:
        return size


async def test_slow_is_not_stalled(app: App) -> None:
    """A client that takes longer than the write timeout in all, but keeps taking, gets everything."""

    @app.get("/large")
    async def large() -> bytes:
        return b"x" * 12_000_000

    async with talking(app, limits=Limits(write_timeout=0.3)) as (_, client):
        await client.send(get("/large", "Connection: close"))
        assert await read_slowly(client, 0.01) > 12_000_000
