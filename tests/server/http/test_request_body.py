"""Request bodies: read whole in memory or on disk, streamed with back-pressure, or left unread."""

from __future__ import annotations

import io
import logging
import os
import tempfile
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, ClientLeft, HTTPException, Limits, Request, Response, testing
from coserver.protocol.errors import RemoteProtocolError

from ..clients import chunked, connect, get, post, talking, until

KiB = 1024


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.post("/size")
    async def size(request: Request) -> dict[str, Any]:
        body = request.body
        return {"size": len(body), "same": body == body[:1] * len(body), "file": type(request.body_file).__name__}

    @app.post("/size/def")
    def size_def(request: Request) -> dict[str, Any]:
        return {"size": len(request.body), "again": len(request.body), "file": len(request.body_file.read())}

    @app.post("/unread", stream=True)
    async def unread() -> str:
        return "unread"

    return app


# Whole bodies.


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000, 200_000])
async def test_sizes_around_the_buffer(app: App, codec: str, size: int) -> None:
    limits = Limits(body_buffer=1000)
    async with talking(app, codec=codec, limits=limits) as (_, client):
        body = b"x" * size
        for request in (
            post("/size", body),
            chunked("/size", body[: size // 2], body[size // 2 :]) if size > 1 else b"",
        ):
            if request:
                answer = await client.ask(request)
                assert f'"size":{size},"same":true' in answer.text
        answer = await client.ask(post("/size/def", body))
        assert answer.text == f'{{"size":{size},"again":{size},"file":{size}}}'


async def test_a_body_in_small_pieces(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=Limits(body_buffer=50)) as (_, client):
        request = post("/size", b"x" * 100)
        for at in range(0, len(request), 7):
            await client.send(request[at : at + 7])
            await anyio.lowlevel.checkpoint()
        assert '"size":100' in (await client.answer()).text


async def test_beyond_the_buffer_it_is_on_disk(app: App) -> None:
    files: list[Any] = []

    @app.post("/keep")
    async def keep(request: Request) -> str:
        file = request.body_file
        files.append(file)
        assert isinstance(file, io.BufferedRandom)  # not memory with the manners of a file
        return str(os.fstat(file.fileno()).st_size)

    async with talking(app, limits=Limits(body_buffer=1000)) as (_, client):
        await client.send(post("/keep", b"x" * 300_000) + post("/size", b"y"))
        assert (await client.answer()).text == "300000"
        assert '"size":1' in (await client.answer()).text
        assert files[0].closed


async def test_memory_is_not_taken_beyond_the_buffer(app: App) -> None:
    """Before the handler asks for ``body``, the temporary file is all there is."""
    sizes: list[int] = []

    @app.post("/kept")
    async def kept(request: Request) -> str:
        file = request.body_file
        sizes.append(os.fstat(file.fileno()).st_size)
        return str(sum(len(piece) for piece in iter(lambda: file.read(64 * KiB), b"")))

    async with talking(app, limits=Limits(body_buffer=64 * KiB)) as (_, client):
        assert (await client.ask(post("/kept", b"x" * 5_000_000))).text == "5000000"
    assert sizes == [5_000_000]


async def test_a_client_that_leaves_while_its_body_goes_to_disk(app: App) -> None:
    async with testing.serving(app, limits=Limits(body_buffer=1000)) as server:
        async with connect(server.port) as client:
            await client.send(get("/size", "Content-Length: 1000000", method="POST") + b"x" * 100_000)
            await anyio.sleep(0.03)
        await until(lambda: not server.connections)


async def test_a_full_disk(app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        def writelines(self, pieces: Any) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    async with talking(app, limits=Limits(body_buffer=10)) as (server, client):
        await client.send(get("/size", "Content-Length: 200000", method="POST") + b"x" * 100_000)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (507, "close")
        assert server.breaches == {"disk": 1}
    assert "No space left" in caplog.text


async def test_exactly_the_limit_and_one_more(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=Limits(body_size=1000)) as (_, client):
        assert (await client.ask(post("/size", b"x" * 1000))).status == 200
        assert (await client.ask(chunked("/size", b"x" * 500, b"x" * 500))).status == 200
        assert (await client.ask(post("/size", b"x" * 1001))).status == 413


async def test_no_body_at_all_is_allowed(app: App) -> None:
    async with talking(app, limits=Limits(body_size=0)) as (_, client):
        assert (await client.ask(post("/size", b""))).status == 200
        assert (await client.ask(post("/size", b"x"))).status == 413


async def test_a_chunked_body_is_refused_when_it_grows_too_long(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=Limits(body_size=1000)) as (_, client):
        answer = await client.ask(chunked("/size", b"x" * 600, b"y" * 401))
        assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_too_long_is_said_before_the_body_is_sent(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=Limits(body_size=1000)) as (_, client):
        await client.send(get("/size", "Content-Length: 1001", method="POST"))
        assert (await client.answer()).status == 413


async def test_a_client_that_uploads_without_reading_still_gets_the_413(app: App) -> None:
    async with talking(app, limits=Limits(body_size=1000)) as (server, client):
        await client.send(get("/size", "Content-Length: 20000000", method="POST"))
        for _ in range(20):
            await client.send(b"x" * 1_000_000)
        assert (await client.answer()).status == 413
        await client.stream.send_eof()
        await client.closed()
        await until(lambda: not server.connections)


async def test_lingering_has_an_end(app: App) -> None:
    async with talking(app, limits=Limits(body_size=1000, linger_timeout=0.1)) as (server, client):
        await client.send(get("/size", "Content-Length: 20000000", method="POST"))
        assert (await client.answer()).status == 413
        await until(lambda: not server.connections, 2)


# Trailers.


async def test_trailers(app: App, codec: str) -> None:
    @app.post("/trailers")
    async def trailers(request: Request) -> dict[str, Any]:
        return {"body": request.text(), **request.trailers}

    @app.post("/trailers/stream", stream=True)
    async def trailers_stream(request: Request) -> dict[str, Any]:
        before = dict(request.trailers)
        return {
            "before": before,
            "body": b"".join([piece async for piece in request.stream()]).decode(),
            **request.trailers,
        }

    async with talking(app, codec=codec) as (_, client):
        fields = b"X-Sum: 7\r\nX-Other: a\r\n"
        answer = await client.ask(chunked("/trailers", b"one", b"two", trailers=fields))
        assert answer.text == '{"body":"onetwo","x-sum":"7","x-other":"a"}'
        answer = await client.ask(chunked("/trailers/stream", b"one", b"two", trailers=fields))
        assert answer.text == '{"before":{},"body":"onetwo","x-sum":"7","x-other":"a"}'
        answer = await client.ask(chunked("/trailers", b"none"))
        assert answer.text == '{"body":"none"}'


# Streamed bodies.


@pytest.fixture
def streams(app: App) -> App:
    @app.post("/sum", stream=True)
    async def total(request: Request) -> str:
        return str(sum([len(piece) async for piece in request.stream()]))

    @app.post("/sum/def", stream=True)
    def total_def(request: Request) -> str:
        return str(sum(len(piece) for piece in request.stream()))

    return app


@pytest.mark.parametrize("path", ["/sum", "/sum/def"])
@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
async def test_stream(streams: App, codec: str, path: str, size: int) -> None:
    async with talking(streams, codec=codec, limits=Limits(body_buffer=10)) as (_, client):
        assert (await client.ask(post(path, b"x" * size))).text == str(size)
        if size:
            assert (await client.ask(chunked(path, b"x" * size))).text == str(size)
        assert (await client.ask(get())).body == b"ok"


async def test_pieces_come_as_they_are_sent(app: App, codec: str) -> None:
    seen: list[bytes] = []

    @app.post("/pieces", stream=True)
    async def pieces(request: Request) -> str:
        async for piece in request.stream():
            seen.append(piece)
        return "end"

    async with talking(app, codec=codec) as (_, client):
        await client.send(get("/pieces", "Content-Length: 6", method="POST"))
        for n, piece in enumerate([b"on", b"tw", b"th"], 1):
            await client.send(piece)
            await until(lambda n=n: len(seen) == n)  # type: ignore[misc]
        assert (await client.answer()).text == "end"
        assert seen == [b"on", b"tw", b"th"]


async def test_a_handler_that_does_not_read_holds_the_client_back(app: App) -> None:
    go_on = anyio.Event()

    @app.post("/later", stream=True)
    async def later(request: Request) -> str:
        await go_on.wait()
        return str(sum([len(piece) async for piece in request.stream()]))

    async with talking(app) as (server, client):
        size, sent = 50_000_000, 0
        await client.send(get("/later", f"Content-Length: {size}", method="POST"))
        with anyio.move_on_after(0.3):
            while sent < size:
                await client.send(b"x" * 100_000)
                sent += 100_000
        # What the two sockets' buffers take, and no more.
        assert sent < size / 2
        (connection,) = server._services[0].connections.values()
        assert connection.stream.received < 1_000_000  # type: ignore[attr-defined]
        go_on.set()
    # Cut in the middle of a send, the client cannot know what arrived: it just leaves.


@pytest.mark.parametrize("path", ["/sum", "/sum/def"])
async def test_an_ordinary_route_can_be_streamed_too(app: App, path: str) -> None:
    @app.post("/whole")
    async def whole(request: Request) -> list[int]:
        return [len(piece) async for piece in request.stream()]

    @app.post("/whole/def")
    def whole_def(request: Request) -> list[int]:
        return [len(piece) for piece in request.stream()]

    async with talking(app, limits=Limits(body_buffer=1000)) as (_, client):
        for route in ("/whole", "/whole/def"):
            assert (await client.ask(post(route, b""))).text == "[]"
            assert (await client.ask(post(route, b"x" * 100))).text == "[100]"
            assert (await client.ask(post(route, b"x" * 100_000))).text == "[65536,34464]"


async def test_body_is_not_there_in_a_streaming_route(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.post("/wrong", stream=True)
    async def wrong(request: Request) -> bytes:
        return request.body

    @app.post("/wrong/for", stream=True)
    async def wrong_for(request: Request) -> str:
        return str([*request.stream()])

    async with talking(app) as (_, client):
        assert (await client.ask(post("/wrong", b"x"))).status == 500
        assert "request.stream()" in caplog.text
        assert (await client.ask(post("/wrong/for", b"x"))).status == 500
        assert "run_blocking" in caplog.text
        assert (await client.ask(get())).body == b"ok"


async def test_a_body_read_in_part(app: App, codec: str) -> None:
    @app.post("/part", stream=True)
    async def part(request: Request) -> bytes:
        return await anext(request.stream())

    async with talking(app, codec=codec) as (_, client):
        await client.send(get("/part", "Content-Length: 10", method="POST") + b"12345")
        assert (await client.answer()).body == b"12345"
        await client.send(b"67890" + get())
        assert (await client.answer()).body == b"ok"


# Unread bodies are never read as the next request.


@pytest.mark.parametrize("path", ["/none", "/", "/unread"])
async def test_a_small_unread_body_is_drained(app: App, codec: str, path: str) -> None:
    inner = get("/SMUGGLED")
    async with talking(app, codec=codec) as (_, client):
        for request in (post(path, inner), chunked(path, inner), post(path, b"")):
            await client.send(request + get())
            assert (await client.answer()).status in (404, 405, 200)
            assert (await client.answer()).body == b"ok"


async def test_drained_while_it_comes(app: App) -> None:
    async with talking(app) as (_, client):
        await client.send(get("/none", "Content-Length: 1000", method="POST"))
        answer = await client.answer()
        assert answer.status == 404
        assert "connection" not in answer.headers
        for _ in range(10):
            await client.send(b"x" * 100)
            await anyio.lowlevel.checkpoint()
        assert (await client.ask(get())).body == b"ok"


@pytest.mark.parametrize("path", ["/none", "/unread"])
async def test_a_large_unread_body_closes(app: App, codec: str, path: str) -> None:
    async with talking(app, codec=codec, limits=Limits(drain_size=100, linger_timeout=0.3)) as (_, client):
        await client.send(post(path, b"x" * 101) + get())
        answer = await client.answer()
        assert answer.headers["connection"] == "close"
        await client.stream.send_eof()
        await client.closed()


async def test_a_chunked_body_longer_than_can_be_drained(app: App, codec: str) -> None:
    """Its length is not known when the answer goes out: it said nothing of a close, and closes."""
    async with talking(app, codec=codec, limits=Limits(drain_size=100, linger_timeout=0.3)) as (_, client):
        request = chunked("/none", b"x" * 60, b"x" * 60, b"x" * 60) + get()
        for piece in (request[:-160], request[-160:-110], request[-110:]):
            await client.send(piece)
            await anyio.sleep(0.02)
        assert (await client.answer()).status == 404
        await client.stream.send_eof()
        await client.closed()


async def test_a_client_that_leaves_while_it_is_drained(app: App) -> None:
    async with testing.serving(app) as server:
        async with connect(server.port) as client:
            await client.send(get("/none", "Content-Length: 100", method="POST") + b"x")
            assert (await client.answer()).status == 404
        await until(lambda: not server.connections)


async def test_a_body_that_breaks_the_protocol_while_it_is_drained(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        await client.send(get("/none", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n" + get())
        assert (await client.answer()).status == 404
        await client.stream.send_eof()
        await client.closed()


# Clients that leave, and broken framing.


@pytest.mark.parametrize("kind", ["whole", "stream", "def"])
@pytest.mark.parametrize("reset", [False, True])
async def test_the_client_leaves_in_the_middle(
    app: App, kind: str, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caught: list[BaseException] = []

    @app.post("/whole")
    async def whole() -> None:
        caught.append(AssertionError("the handler must not start"))

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> None:
        try:
            async for _ in request.stream():
                pass
        except BaseException as error:
            caught.append(error)
            raise

    @app.post("/def", stream=True)
    def stream_def(request: Request) -> None:
        try:
            for _ in request.stream():
                pass
        except BaseException as error:
            caught.append(error)
            raise

    async with testing.serving(app) as server:
        async with connect(server.port) as client:
            await client.send(get(f"/{kind}", "Content-Length: 100", method="POST") + b"x" * 50)
            await anyio.sleep(0.01)
            if reset:
                await client.reset()
        await until(lambda: not server.connections)
    assert [type(error) for error in caught] == ([] if kind == "whole" else [ClientLeft])
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("kind", ["whole", "stream", "def", "caught"])
async def test_chunks_that_break_the_protocol(app: App, codec: str, kind: str) -> None:
    caught: list[BaseException] = []

    @app.post("/whole")
    async def whole() -> None:
        caught.append(AssertionError("the handler must not start"))

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> str:
        return str([piece async for piece in request.stream()])

    @app.post("/def", stream=True)
    def stream_def(request: Request) -> str:
        return str([*request.stream()])

    @app.post("/caught", stream=True)
    async def stream_caught(request: Request) -> Any:
        try:
            return str([piece async for piece in request.stream()])
        except RemoteProtocolError as error:
            raise HTTPException(error.status, "caught") from error

    async with talking(app, codec=codec) as (_, client):
        head = get(f"/{kind}", "Transfer-Encoding: chunked", method="POST")
        await client.send(head + b"5\r\nhello\r\n")
        await anyio.sleep(0.01)
        await client.send(b"5\r\nhelloX\r\n0\r\n\r\n" + get("/SMUGGLED"))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        await client.stream.send_eof()
        await client.closed()
    assert not caught


async def test_a_handler_that_goes_on_after_its_client_left(app: App) -> None:
    """It may finish in peace, and the deadline for the body does not strike it any more."""
    done: list[str] = []

    @app.post("/on", stream=True)
    async def on(request: Request) -> str:
        try:
            async for _ in request.stream():
                pass
        except ClientLeft:
            await anyio.sleep(0.4)
            done.append("done")
        return "nobody hears it"

    limits = Limits(body_timeout=0.1, on_half_close="answer")
    async with talking(app, limits=limits) as (_, client):
        await client.send(get("/on", "Content-Length: 100", method="POST") + b"x")
        await client.stream.send_eof()
        await until(lambda: done)


async def test_a_broken_body_after_the_response_began(app: App, codec: str) -> None:
    @app.post("/echo", stream=True)
    async def echo(request: Request) -> Any:
        async def pieces() -> Any:
            yield b"begun "
            async for piece in request.stream():
                yield piece

        return pieces()

    async with talking(app, codec=codec) as (_, client):
        await client.send(get("/echo", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n")
        await anyio.sleep(0.02)
        await client.send(b"zz\r\n")
        raw = await client.gone()
        assert raw.count(b"HTTP/1.1") == 1
        assert not raw.endswith(b"0\r\n\r\n")


async def test_both_directions_at_once(app: App, codec: str) -> None:
    @app.post("/echo", stream=True)
    def echo(request: Request) -> Any:
        for piece in request.stream():
            yield piece.upper()

    async with talking(app, codec=codec) as (_, client):
        for request in (post("/echo", b"hello"), chunked("/echo", b"hel", b"lo")):
            assert (await client.ask(request)).body == b"HELLO"
        assert (await client.ask(get())).body == b"ok"


# Two requests whose bytes come together.


async def test_the_next_request_is_there_already(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=Limits(body_buffer=1000)) as (_, client):
        for body in (b"", b"a", b"b" * 70_000):
            await client.send(post("/size", body) + chunked("/size", body or b"-") + get())
            assert f'"size":{len(body)}' in (await client.answer()).text
            assert f'"size":{len(body) or 1}' in (await client.answer()).text
            assert (await client.answer()).body == b"ok"


async def test_deadline_of_a_body(app: App, streams: App) -> None:
    async with testing.serving(app, limits=Limits(body_timeout=0.1)) as server:
        for path in ("/size", "/sum", "/sum/def"):
            async with connect(server.port) as client:
                await client.send(get(path, "Content-Length: 100", method="POST") + b"x")
                answer = await client.answer()
                assert (answer.status, answer.headers["connection"]) == (408, "close")
                await client.stream.send_eof()
                await client.closed()


async def test_a_slow_body_that_keeps_coming_is_no_stall(app: App) -> None:
    async with talking(app, limits=Limits(body_timeout=0.3, body_rate=0)) as (_, client):
        await client.send(get("/size", "Content-Length: 10", method="POST"))
        for _ in range(10):
            await anyio.sleep(0.05)
            await client.send(b"x")
        assert '"size":10' in (await client.answer()).text


async def test_a_handler_that_waits_for_a_body_no_more_has_its_own_deadline(app: App, codec: str) -> None:
    @app.post("/gives-up", stream=True)
    async def gives_up(request: Request) -> str:
        with anyio.move_on_after(0.05):
            async for _ in request.stream():
                pass
        await anyio.sleep(0.5)
        return "gave up"

    @app.post("/again-and-again", stream=True)
    async def again_and_again(request: Request) -> str:
        while True:
            with anyio.move_on_after(0.05):
                async for _ in request.stream():
                    pass

    async with testing.serving(app, codec=codec, limits=Limits(body_timeout=0.2)) as server:
        async with connect(server.port) as client:
            await client.send(post("/gives-up", b"hello")[:-2])
            assert (await client.answer("POST")).text == "gave up"
        async with connect(server.port) as client:  # its patience is used up all the same
            await client.send(post("/again-and-again", b"hello")[:-2])
            assert (await client.answer("POST")).status == 408


async def test_deadline_while_the_rest_is_drained(app: App) -> None:
    """The answer has been given: there is no second one."""
    async with talking(app, limits=Limits(body_timeout=0.1)) as (_, client):
        await client.send(get("/none", "Content-Length: 100", method="POST") + b"x")
        assert (await client.answer()).status == 404
        await client.closed()


async def test_response_needs_no_body_read(app: App) -> None:
    @app.post("/close", stream=True)
    async def close() -> Response:
        return Response("closing", headers={"connection": "close"})

    async with talking(app, limits=Limits(linger_timeout=0.2)) as (_, client):
        await client.send(post("/close", b"x" * 1000))
        assert (await client.answer()).text == "closing"
        await client.closed()


async def test_unfinished_bodies_share_their_memory(app: App, codec: str) -> None:
    """Beyond it whatever comes goes to the disk; and when they are whole, nothing is held."""
    limits = Limits(body_memory=100_000, body_buffer=1_000_000)
    async with testing.serving(app, codec=codec, limits=limits) as server:
        service = server._services[0]
        request = get("/size", "Content-Length: 200000", method="POST")
        async with connect(server.port) as first, connect(server.port) as second:
            for client in (first, second):
                await client.send(request)
                for _ in range(6):
                    await client.send(b"x" * 30_000)
                    await anyio.sleep(0.01)
            await until(lambda: sum(bool(each.current) for each in service.connections.values()) == 2)
            exchanges = [each.current for each in service.connections.values()]
            await until(lambda: all(each.body_size == 180_000 for each in exchanges))
            assert all(each.spooled is not None for each in exchanges)
            assert service.body_memory_used <= 100_000 + 2 * 65536
            for client in (first, second):
                await client.send(b"x" * 20_000)
                assert '"size":200000' in (await client.answer()).text
        assert service.body_memory_used == 0


async def test_a_body_that_is_cut_short_holds_nothing(app: App) -> None:
    async with testing.serving(app) as server:
        service = server._services[0]
        async with connect(server.port) as client:
            await client.send(get("/size", "Content-Length: 200000", method="POST") + b"x" * 1000)
            await until(lambda: service.body_memory_used == 1000)
        await until(lambda: not server.connections)
        assert service.body_memory_used == 0
