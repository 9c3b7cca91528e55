"""Interim responses (1xx) that a member sends to a forwarded request."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from coserver import App, LocalProtocolError, Request

from ..server.clients import connect, get, until
from .peers import Peer, faulty, serving

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </%d.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def front(url: str) -> App:
    app = App()
    backs = app.upstream("backs", url)

    @app.get("/async")
    async def passed(request: Request) -> Any:
        return backs.forward(request)

    @app.get("/awaited")
    async def awaited(request: Request) -> Any:
        sub = backs.forward(request)
        await until(lambda: sub.done)
        return await sub

    @app.get("/worker")
    def worker(request: Request) -> Any:
        return backs.forward(request).result(5)

    @app.get("/own")
    async def own(request: Request) -> Any:
        await request.send_early_hints({"Link": "</own.css>"})
        with pytest.raises(LocalProtocolError):
            await request.send_early_hints({"bad name": "x"})
        return "ok"

    @app.get("/own-worker")
    def own_in_a_worker(request: Request) -> Any:
        request.send_early_hints([("Link", "</own.css>")])
        return "ok"

    return app


@pytest.mark.parametrize("path", ["/async", "/awaited", "/worker"])
async def test_interim_responses_are_passed_on(path: str) -> None:
    async def hints(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(HINT % 1 + HINT % 2 + OK)

    async with faulty(hints) as back, serving(front(back.url)) as server, connect(server.port) as client:
        for _ in range(2):
            answer = await client.ask(get(path))
            assert (answer.interim, answer.status, answer.text) == ([103, 103], 200, "ok")
        await client.send(get(path))
        raw = await client.stream.receive()
        assert raw.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </1.css>\r\n\r\n")
        assert b"x-hop" not in raw.lower()
    async with faulty(hints) as back, serving(front(back.url)) as server, connect(server.port) as client:
        await client.send(get(path, minor=0))
        assert (await client.gone()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/async", "/worker"])
async def test_they_are_passed_on_as_they_come(path: str) -> None:
    seen = [anyio.Event(), anyio.Event()]

    async def slow(peer: Peer) -> None:
        await peer.request()
        for number, event in enumerate(seen):
            await peer.send(HINT % number)
            await event.wait()
        await peer.send(OK)

    async with faulty(slow) as back, serving(front(back.url)) as server, connect(server.port) as client:
        await client.send(get(path))
        for number, event in enumerate(seen):
            with anyio.fail_after(5):
                assert b"</%d.css>" % number in await client.stream.receive()
            event.set()
        assert (await client.answer()).text == "ok"


@pytest.mark.parametrize("first", [HINT % 1 * 100, b"HTTP/1.1 103 x\r\nLink: %b\r\n\r\n" % (b"x" * 30_000) * 3])
async def test_a_flood_of_them_is_a_bad_gateway(first: bytes) -> None:
    async def floods(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        await anyio.sleep(60)

    async with faulty(floods) as back, serving(front(back.url)) as server, connect(server.port) as client:
        assert (await client.ask(get("/async"))).status == 502


async def test_100_is_passed_on_and_101_is_refused() -> None:
    async def talks(peer: Peer) -> None:
        while request := await peer.request():
            status = b"101 Switching Protocols" if b"upgrades" in request else b"100 Continue"
            await peer.send(b"HTTP/1.1 %b\r\n\r\n" % status + OK)

    async with faulty(talks) as back, serving(front(back.url)) as server, connect(server.port) as client:
        answer = await client.ask(get("/async"))
        assert (answer.interim, answer.status) == ([100], 200)
        answer = await client.ask(get("/async?upgrades"))
        assert (answer.interim, answer.status) == ([], 502)


async def test_a_handlers_own_hints() -> None:
    async with serving(front("http://127.0.0.1:9")) as server, connect(server.port) as client:
        for path in ("/own", "/own-worker"):
            answer = await client.ask(get(path))
            assert (answer.interim, answer.text) == ([103], "ok")


async def test_max_forwards() -> None:
    async def echo(peer: Peer) -> None:
        while request := await peer.request():
            found = [line for line in request.split(b"\r\n") if line.lower().startswith(b"max-forwards")]
            body = b"|".join(found) + b"."
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    app = App()
    async with faulty(echo) as back:
        backs = app.upstream("backs", back.url)

        @app.route("/{path:path}", methods=["GET", "OPTIONS", "TRACE"])
        async def passed(request: Request, path: str) -> Any:
            return backs.forward(request)

        @app.route("/read", methods=["OPTIONS"])
        def read(request: Request) -> Any:
            with backs.forward(request).result() as answer:
                return b"".join(answer.body), answer.status, {"allow": answer.headers["allow"]}

        async with serving(app) as server, connect(server.port) as client:
            for method in ("OPTIONS", "TRACE"):
                for value, sent in (("1", "0"), ("10", "9"), ("007", "6"), ("x", "x"), ("-1", "-1"), ("1, 2", "1, 2"),
                                    ("9" * 5000, "999999999")):  # fmt: skip
                    answer = await client.ask(get("/", f"Max-Forwards: {value}", method=method))
                    assert answer.text == f"max-forwards: {sent}."
            answer = await client.ask(get("/", "Max-Forwards: 0"))
            assert answer.text == "max-forwards: 0."
            asked = back.accepted
            answer = await client.ask(get("/x", "Max-Forwards: 0", method="OPTIONS"))
            assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, TRACE")
            assert (await client.ask(get("/read", "Max-Forwards: 0", method="OPTIONS"))).status == 204
            fields = ("Max-Forwards: 00", "Cookie: a=secret", "Authorization: Basic secret", "X-A: 1")
            answer = await client.ask(get("/x%2F?y", *fields, method="TRACE"))
            assert (answer.status, answer.headers["content-type"]) == (200, "message/http")
            assert answer.text.startswith("TRACE /x%2F?y HTTP/1.1\r\n")
            assert answer.text.endswith("x-a: 1\r\n\r\n")
            assert "secret" not in answer.text
            assert back.accepted == asked
