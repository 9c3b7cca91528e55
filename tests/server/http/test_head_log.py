"""Each head as it passes, on the logger ``coserver.http``: whole, harmless for a terminal, and off unless asked for."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from coserver import App, Request, Response, testing

from ..clients import connect, get, talking, until


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/stream")
    async def stream() -> Any:
        return iter([b"1", b"2"])

    @app.get("/events")
    async def events() -> Response:
        return Response.events(["1", "2"])

    @app.get("/fails first")
    async def fails_first() -> Any:
        def pieces() -> Any:
            if pieces:
                raise KeyError
            yield b""

        return pieces()

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    return app


class Keep(logging.Filter):
    """The messages of ``coserver.http`` so far, a list of lines each."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "coserver.http":
            self.found.append(record.getMessage().split("\n"))
        return True


@pytest.fixture
def heads(caplog: pytest.LogCaptureFixture) -> list[list[str]]:
    caplog.set_level(logging.DEBUG, "coserver.http")
    keep = Keep()
    caplog.handler.addFilter(keep)
    return keep.found


async def test_request_and_response(app: App, heads: list[list[str]], codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        await client.send(get("/", "X-Mine: a\tb").replace(b"a\tb", b"a\tb\x9b\xe9"))
        await client.answer()
        request, response = heads
        who = re.fullmatch(r"request (\d+ on connection \d+), from 127\.0\.0\.1:\d+", request[0])
        assert who
        assert request[1:] == ["  > GET / HTTP/1.1", "  > host: t.example", "  > x-mine: a\tb\\x9b\\xe9"]
        assert response[0] == f"response {who[1]}"
        assert response[1:4] == [
            "  < HTTP/1.1 200 OK",
            "  < content-type: text/plain; charset=utf-8",
            "  < content-length: 2",
        ]
        assert response[4].startswith("  < date: ")
        assert len(response) == 5


@pytest.mark.parametrize(
    ("request_", "lines"),
    [
        (get("/stream"), ["GET /stream HTTP/1.1", "HTTP/1.1 200 OK"]),
        (get("/stream", method="HEAD"), ["HEAD /stream HTTP/1.1", "HTTP/1.1 200 OK"]),
        (get("/events"), ["GET /events HTTP/1.1", "HTTP/1.1 200 OK"]),
        (get("/events", method="HEAD"), ["HEAD /events HTTP/1.1", "HTTP/1.1 200 OK"]),
        (get("/nowhere"), ["GET /nowhere HTTP/1.1", "HTTP/1.1 404 Not Found"]),
        # What was never sent is not shown.
        (get("/fails%20first"), ["GET /fails%20first HTTP/1.1", "HTTP/1.1 500 Internal Server Error"]),
    ],
)
async def test_each_is_shown_once(app: App, heads: list[list[str]], request_: bytes, lines: list[str]) -> None:
    async with talking(app) as (_, client):
        await client.ask(request_)
        await until(lambda: len(heads) == 2)
    assert [head[1][4:] for head in heads] == lines


async def test_100_continue(app: App, heads: list[list[str]]) -> None:
    async with talking(app) as (_, client):
        await client.send(get("/echo", "Content-Length: 2", "Expect: 100-continue", method="POST"))
        await until(lambda: len(heads) == 2)
        await client.send(b"ok")
        assert (await client.answer()).interim == [100]
    assert [head[1] for head in heads] == [
        "  > POST /echo HTTP/1.1",
        "  < HTTP/1.1 100 Continue",
        "  < HTTP/1.1 200 OK",
    ]


async def test_what_is_refused(app: App, heads: list[list[str]], codec: str) -> None:
    async with testing.serving(app, codec=codec) as server:
        for sent in (b"NO SUCH\x1b[31m\r\nThing: 1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + bytes(40_000)):
            async with connect(server.port) as client:
                await client.send(sent)
                await client.gone()
    first, answer, second, _ = heads
    assert re.fullmatch(r"refused on connection \d+, from 127\.0\.0\.1:\d+", first[0])
    assert first[1:3] == ["  > NO SUCH\\x1b[31m", "  > Thing: 1"]
    assert answer[1] == "  < HTTP/1.1 400 Bad Request"
    assert re.fullmatch(r"  > \.\.\. and \d+ bytes more", second[-1])
    assert sum(map(len, second)) < 6000


async def test_only_a_level_of_its_own_turns_it_on(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sets everything to DEBUG has not asked for the secrets of his clients."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "coserver")
    keep = Keep()
    caplog.handler.addFilter(keep)
    async with talking(app) as (_, client):
        await client.ask(get("/"))
    assert keep.found == []
