"""A client that offers another protocol: WebSocket is refused with a hint, every other offer is ignored."""

from __future__ import annotations

import logging

import pytest

from coserver import App, HTTPException, Request, testing
from coserver.protocol.head import RequestHead

from ..clients import get, talking

HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def chat() -> App:
    app = App("chat")

    @app.get("/chat")
    @app.post("/chat")
    async def talk(request: Request) -> str:
        return f"{request.method} plain"

    @app.get("/def")
    def blocking() -> str:
        return "plain"

    return app


async def test_a_websocket_handshake(codec: str, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(chat(), codec=codec) as (_, client):
        for path in ("/chat", "/def"):
            answer = await client.ask(get(path, *HANDSHAKE))
            assert answer.status == 501
            assert answer.text.startswith("501 Not Implemented\nWebSocket is not supported")
            assert "Response.events" in answer.text
            assert "upgrade" not in answer.headers
        assert (await client.ask(get("/chat"))).text == "GET plain"  # the connection lives on
        assert (await client.ask(get("/nowhere", *HANDSHAKE))).status == 404
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "offer",
    [
        ("Upgrade: WebSocket", "Connection: keep-alive, Upgrade"),
        ("upgrade: h2c, websocket", "connection: UPGRADE"),
        ("Upgrade: h2c", "Upgrade: websocket", "Connection: keep-alive", "Connection: upgrade"),
    ],
)
async def test_other_spellings(codec: str, offer: tuple[str, ...]) -> None:
    async with talking(chat(), codec=codec) as (_, client):
        assert (await client.ask(get("/chat", *offer))).status == 501


@pytest.mark.parametrize(
    "offer",
    [
        ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Upgrade: TLS/1.0", "Connection: Upgrade"),
        ("Upgrade: websocket",),  # RFC 9110 §7.8: it counts only if Connection names it
        ("Upgrade: websocket", "Connection: keep-alive"),
        ("Upgrade: websocketx", "Connection: upgrade"),
        ("Connection: upgrade",),  # nginx with proxy_set_header Connection "upgrade"
    ],
)
async def test_offers_that_are_ignored(codec: str, offer: tuple[str, ...]) -> None:
    async with talking(chat(), codec=codec) as (_, client):
        assert (await client.ask(get("/chat", *offer))).text == "GET plain"
        assert (await client.ask(get("/chat", *offer))).text == "GET plain"


async def test_not_in_http_1_0_and_not_for_a_post(codec: str) -> None:
    async with talking(chat(), codec=codec) as (_, client):
        old = get("/chat", *HANDSHAKE).replace(b"Connection: Upgrade", b"Connection: Upgrade, keep-alive")
        assert (await client.ask(old.replace(b"HTTP/1.1", b"HTTP/1.0"))).text == "GET plain"
        assert (await client.ask(get("/chat", *HANDSHAKE, method="POST"), "POST")).text == "POST plain"


async def test_an_error_handler_may_answer() -> None:
    app = chat()

    @app.error(501)
    def refused(error: HTTPException) -> dict[str, str]:
        return {"why": error.detail[:9]}

    async with testing.client(app) as client:
        answer = await client.get("/chat", headers={"upgrade": "websocket", "connection": "upgrade"})
        assert (answer.status, answer.json()) == (501, {"why": "WebSocket"})


def test_heads() -> None:
    def upgrade(*fields: tuple[bytes, bytes], minor: int = 1) -> bytes:
        return RequestHead("GET", b"/", minor, [(b"host", b"x"), *fields]).upgrade

    named = (b"connection", b"Upgrade")
    assert upgrade() == b""
    assert upgrade((b"upgrade", b"a")) == b""
    assert upgrade(named) == b""
    assert upgrade((b"upgrade", b"a"), named) == b"a"
    assert upgrade((b"upgrade", b"a"), (b"upgrade", b"b/2"), named) == b"a,b/2"
    assert upgrade((b"upgrade", b"a"), named, minor=0) == b""
