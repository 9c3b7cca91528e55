"""Bodies that come and go piece by piece, with back-pressure both ways; requests that are passed through."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import (
    App,
    ClientLeft,
    Request,
    Response,
    Subrequest,
    SubrequestCancelled,
    Upstream,
    UpstreamLimits,
    UpstreamProtocolError,
    UpstreamTimeout,
    run_blocking,
)

from ...server.clients import chunked, connect, get, post, until
from ..peers import Peer, faulty, serving

CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def back_app() -> App:
    app = App()

    @app.get("/count")
    async def count() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%03d," % number

    @app.post("/digest", stream=True)
    async def digest(request: Request) -> Any:
        found, size = hashlib.sha256(), 0
        async for piece in request.stream():
            found.update(piece)
            size += len(piece)
        return {"sha256": found.hexdigest(), "size": size, "length": request.headers.get("content-length")}

    @app.route("/fields", methods=["GET", "POST"])
    async def fields(request: Request) -> Any:
        return {name: request.headers[name] for name in request.headers}

    @app.get("/teapot")
    async def teapot() -> Any:
        return Response("short and stout", 418, {"x-kind": "tea"})

    @app.get("/trailed")
    async def trailed() -> Response:
        trailers: dict[str, str] = {}

        async def pieces() -> AsyncIterator[bytes]:
            yield b"body"
            trailers["x-sum"] = "4"

        return Response(pieces(), trailers=trailers)

    return app


COUNT = b"".join(b"%03d," % number for number in range(100))


async def test_a_streamed_answer(codec: str) -> None:
    async with serving(back_app()) as back, Upstream(back.url, codec=codec) as users:
        answer = await users.get("/count", stream=True)
        assert (answer.status, answer.ok) == (200, True)
        assert b"".join([piece async for piece in answer.body]) == COUNT
        assert await (await users.get("/count", stream=True)).read() == COUNT
        trailed = await users.get("/trailed", stream=True)
        assert await trailed.read() == b"body"
        assert trailed.trailers["x-sum"] == "4"
        assert (await users.get("/trailed")).trailers["x-sum"] == "4"
        assert back.connections == 1  # it went back to the pool each time


async def test_a_streamed_answer_in_a_worker_and_in_a_thread() -> None:
    async with serving(back_app()) as back, Upstream(back.url) as users:

        def take() -> bytes:
            with users.get("/count", stream=True).result() as answer:
                return b"".join(answer.body)

        assert await run_blocking(take) == COUNT
        with anyio.fail_after(8):
            assert await anyio.to_thread.run_sync(take) == COUNT


async def test_a_streamed_answer_left_early_closes_its_connection() -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED_HEAD)
        while True:
            await peer.send(b"4\r\nmore\r\n")

    async with faulty(endless) as server, Upstream(server.url) as users:
        async with await users.get("/", stream=True) as answer:
            assert (await anext(answer.body)).startswith(b"more")
        await until(lambda: not server.open)
        with pytest.raises(SubrequestCancelled):
            await answer.read()


async def test_a_reader_that_does_not_read_holds_the_member_up() -> None:
    sent = 0

    async def endless(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(CHUNKED_HEAD)
        while True:
            await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536

    async with faulty(endless) as server, Upstream(server.url, limits=UpstreamLimits(between_timeout=0.2)) as users:
        answer = await users.get("/", stream=True)
        before = -1
        while before != sent:
            before = sent
            await anyio.sleep(0.1)
        stuck = sent  # what the two socket buffers hold, and a piece
        await anyio.sleep(0.5)  # longer than between_timeout: it is not the member that is slow
        assert sent == stuck
        for _ in range(50):
            await anext(answer.body)
        await until(lambda: sent > stuck)
        answer.close()


async def test_a_body_that_nobody_takes_is_given_up() -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED_HEAD)
        while True:
            await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    async with faulty(endless) as server, Upstream(server.url, limits=UpstreamLimits(take_timeout=0.1)) as users:
        answer = await users.get("/", stream=True)
        await until(lambda: server.accepted and not server.open)
        await anext(answer.body)  # what had come
        with pytest.raises(UpstreamTimeout) as raised:
            await anext(answer.body)
        assert raised.value.phase == "take"


async def test_a_member_that_dies_in_the_middle_of_a_stream() -> None:
    async def dies(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(CHUNKED_HEAD + b"4\r\nsome\r\n")
        if b"/stalls" in request:
            await anyio.sleep(60)

    async with faulty(dies) as server, Upstream(server.url, limits=UpstreamLimits(between_timeout=0.1)) as users:
        answer = await users.get("/", stream=True)
        with pytest.raises(UpstreamProtocolError, match="after 4 bytes of a body"):
            await answer.read()
        answer = await users.get("/stalls", stream=True)
        assert await anext(answer.body) == b"some"
        with pytest.raises(UpstreamTimeout) as raised:
            await anext(answer.body)
        assert raised.value.phase == "body"


async def test_bodies_that_are_given_piece_by_piece(codec: str) -> None:
    pieces = [b"%05d" % number for number in range(2000)]
    whole = hashlib.sha256(b"".join(pieces)).hexdigest()

    async def later() -> AsyncIterator[bytes]:
        for number, piece in enumerate(pieces):
            if number % 500 == 0:
                await anyio.lowlevel.checkpoint()
            yield piece

    def now() -> Iterator[bytes]:
        yield from pieces

    async with serving(back_app()) as back, Upstream(back.url, codec=codec) as users:
        for content in (later(), now(), pieces):
            answer = (await users.post("/digest", content=content)).json()
            assert answer == {"sha256": whole, "size": 10_000, "length": None}
        answer = (await users.post("/digest", content=later(), headers={"Content-Length": "10000"})).json()
        assert answer == {"sha256": whole, "size": 10_000, "length": "10000"}
        large = b"y" * 8_000_000
        answer = (await users.post("/digest", content=large)).json()
        assert answer["sha256"] == hashlib.sha256(large).hexdigest()
        assert back.connections == 1


@pytest.mark.parametrize(
    ("content", "length", "match"),
    [([b"abc"], "2", "yields more"), ([b"a"], "2", "yields 1 bytes"), ([1], None, "yields bytes or str")],
)
async def test_a_body_that_cannot_be_sent_is_its_givers_fault(content: Any, length: str | None, match: str) -> None:
    async with serving(back_app()) as back, Upstream(back.url) as users:
        headers = {"Content-Length": length} if length else None
        with pytest.raises((ValueError, TypeError), match=match):
            await users.post("/digest", content=content, headers=headers)

        async def breaks() -> AsyncIterator[bytes]:
            yield b"some"
            raise LookupError("nothing more")

        with pytest.raises(LookupError, match="nothing more"):
            await users.post("/digest", content=breaks())


async def test_an_answer_before_the_body_is_sent_ends_it() -> None:
    closed: list[bool] = []

    async def refuses(peer: Peer) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await peer.stream.receive()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await anyio.sleep(60)

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.append(True)

    async with faulty(refuses) as server, Upstream(server.url) as users:
        assert (await users.post("/", content=endless())).status == 413
        await until(lambda: closed)


def front_app(url: str, **options: Any) -> App:
    app = App()
    backs = app.upstream("backs", url)

    @app.route("/{path:path}", methods=["GET", "POST", "HEAD"], stream=True)
    async def proxy(request: Request, path: str) -> Any:
        return backs.forward(request, **options)

    return app


async def test_a_request_is_passed_through() -> None:
    async with serving(back_app()) as back, serving(front_app(back.url)) as front, connect(front.port) as client:
        answer = await client.ask(get("/teapot?x=1"))
        assert (answer.status, answer.text, answer.headers["x-kind"]) == (418, "short and stout", "tea")
        assert (await client.ask(get("/count"))).body == COUNT
        body = b"z" * 300_000
        answer = await client.ask(post("/digest", body))
        assert f'"sha256":"{hashlib.sha256(body).hexdigest()}","size":300000,"length":"300000"' in answer.text
        answer = await client.ask(chunked("/digest", b"ab", b"c"))
        assert hashlib.sha256(b"abc").hexdigest() in answer.text
        answer = await client.ask(get("/count", method="HEAD"))
        assert (answer.status, answer.body) == (200, b"")
        assert (await client.ask(get("/none"))).status == 404
        trailed = await client.ask(get("/trailed"))
        assert (trailed.body, trailed.trailers) == (b"body", {"x-sum": "4"})


async def test_an_answers_fields_of_one_hop_stay_there() -> None:
    async def talk(peer: Peer) -> None:
        await peer.answer(
            b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nKeep-Alive: timeout=9\r\n"
            b"Content-Length: 2\r\n\r\nok"
        )

    async with faulty(talk) as back, serving(front_app(back.url)) as front, connect(front.port) as client:
        answer = await client.ask(get("/"))
        assert (answer.body, answer.headers["x-end"]) == (b"ok", "2")
        assert not {"x-hop", "connection", "keep-alive"} & set(answer.headers)


async def test_fields_of_one_hop_stay_there_and_the_forwarded_ones_are_set() -> None:
    async with serving(back_app()) as back:
        fields = ("Connection: X-Mine", "X-Mine: 1", "Proxy-Authorization: x", "X-Forwarded-For: 6.6.6.6",
                  "Via: 1.0 fred", "Forwarded: for=6.6.6.6", "Cookie: a=b")  # fmt: skip
        async with serving(front_app(back.url, headers={"x-more": "1"})) as front, connect(front.port) as client:
            text = (await client.ask(get("/fields", *fields))).text
            assert '"x-forwarded-for":"127.0.0.1"' in text
            assert '"x-forwarded-host":"t.example"' in text
            assert '"x-forwarded-proto":"http"' in text
            assert '"via":"1.0 fred, 1.1 coserver"' in text
            assert '"cookie":"a=b"' in text
            assert '"x-more":"1"' in text
            assert f'"host":"127.0.0.1:{back.port}"' in text
            assert "x-mine" not in text
            assert "proxy-authorization" not in text
            assert "6.6.6.6" not in text
        front_of_trusted = front_app(back.url, keep_host=True, target="/fields")
        async with serving(front_of_trusted, trusted_peers=["127.0.0.1"]) as front, connect(front.port) as client:
            text = (await client.ask(get("/anything", *fields))).text
            assert '"x-forwarded-for":"6.6.6.6, 127.0.0.1"' in text
            assert '"forwarded":"for=6.6.6.6, for=127.0.0.1"' in text
            assert '"host":"t.example"' in text


async def test_a_client_that_leaves_takes_the_forwarded_request_along() -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED_HEAD)
        while True:
            await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    async with faulty(endless) as back, serving(front_app(back.url)) as front:
        async with connect(front.port) as client:
            await client.send(get("/"))
            await client.stream.receive()
            assert back.open == 1
        await until(lambda: not back.open)


async def test_a_client_that_leaves_while_it_sends() -> None:
    subs: list[Subrequest] = []
    met: list[BaseException] = []
    async with serving(back_app()) as back:
        app = App()
        backs = app.upstream("backs", back.url)

        @app.post("/digest", stream=True)
        async def proxy(request: Request) -> Any:
            subs.append(backs.forward(request))
            try:
                return await subs[0]
            except BaseException as error:
                met.append(error)
                raise

        async with serving(app) as front:
            async with connect(front.port) as client:
                await client.send(get("/digest", "Content-Length: 1000000", method="POST") + b"some")
                await until(lambda: subs)
            await until(lambda: met)
            await until(lambda: not back.exchanges)
        assert isinstance(met[0], ClientLeft) or not isinstance(met[0], Exception)


async def test_an_early_answer_to_a_forwarded_upload() -> None:
    async def refuses(peer: Peer) -> None:
        await peer.stream.receive()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await anyio.sleep(60)

    async with faulty(refuses) as back, serving(front_app(back.url)) as front, connect(front.port) as client:
        await client.send(get("/", "Content-Length: 50000000", method="POST") + b"x" * 100_000)
        answer = await client.answer("POST")
        assert (answer.status, answer.text) == (413, "big")


async def test_an_upstream_that_fails_is_a_bad_gateway_or_a_broken_answer() -> None:
    async def dies(peer: Peer) -> None:
        request = await peer.request()
        if b"/head" in request:
            await peer.send(CHUNKED_HEAD + b"4\r\nsome\r\n")

    async with faulty(dies) as back, serving(front_app(back.url)) as front:
        async with connect(front.port) as client:
            assert (await client.ask(get("/nothing"))).status == 502
        async with connect(front.port) as client:
            await client.send(get("/head"))
            assert (await client.gone()).endswith(b"some\r\n")


async def test_an_answer_is_returned_as_it_is() -> None:
    async with serving(back_app()) as back:
        app = App()
        backs = app.upstream("backs", back.url)

        @app.get("/awaited")
        async def awaited() -> Any:
            return await backs.get("/teapot")

        @app.get("/returned")
        def returned() -> Any:
            return backs.get("/teapot")

        async with serving(app) as front, connect(front.port) as client:
            for path in ("/awaited", "/returned"):
                answer = await client.ask(get(path))
                assert (answer.status, answer.text, answer.headers["x-kind"]) == (418, "short and stout", "tea")


async def test_a_unix_member(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with serving(back_app(), uds=path), Upstream(f"http+unix:{path}", name="u") as users:
        assert (await users.get("/fields")).json()["host"] == "localhost"
        assert (await users.get("/count")).body == COUNT
    async with Upstream(f"unix:{path}") as users:
        with pytest.raises(Exception, match="cannot connect: No such file"):
            await users.get("/")


@pytest.mark.parametrize("framing", ["lines", "length", "coserver"])
async def test_tcp_members(framing: str) -> None:
    app = App()

    @app.tcp(framing=framing)
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(b"<" + message + b">")

    async with serving(app) as back, Upstream(f"tcp://127.0.0.1:{back.port}", framing=framing) as cache:
        assert await cache.send(b"one") == b"<one>"
        assert await cache.send("two") == b"<two>"
        assert back.connections == 1
        assert await run_blocking(lambda: cache.send("three").result()) == b"<three>"
        with pytest.raises(RuntimeError, match="speaks no HTTP"):
            cache.get("/")
    async with Upstream("http://127.0.0.1:1") as users:
        with pytest.raises(RuntimeError, match="send is for tcp"):
            users.send(b"x")


async def test_a_tcp_member_that_breaks_off() -> None:
    async def talk(peer: Peer) -> None:
        await peer.stream.receive()
        await peer.send(b"half a line")

    async with faulty(talk) as server, Upstream(f"tcp://127.0.0.1:{server.port}", framing="lines") as cache:
        with pytest.raises(UpstreamProtocolError, match="in the middle of a message"):
            await cache.send("x")
