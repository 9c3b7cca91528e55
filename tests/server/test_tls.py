"""TLS before the story of a connection: both kinds of it, every way that a handshake can go wrong, and the ends."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.streams.tls import TLSStream

from coserver import App, Request, Tls, testing

from ..certificates import client_context, write
from .clients import Client, get, post


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """What most servers here are made with."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = write(folder)
    return Tls(certfile=certificate, keyfile=key)


def make() -> App:
    app = App()

    @app.get("/")
    async def index(request: Request) -> dict[str, Any]:
        tls = request.tls
        assert tls is not None
        return {
            "scheme": request.scheme, "version": tls.version, "alpn": tls.alpn, "name": tls.server_name,
            "peer": tls.peer_name, "names": tls.peer_names, "resumed": tls.resumed,
        }  # fmt: skip

    @app.get("/big/{size}")
    async def big(size: int) -> bytes:
        return b"x" * size

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    @app.post("/unread", stream=True)
    async def unread(request: Request) -> str:
        return "enough"

    return app


@asynccontextmanager
async def secured(port: int, context: ssl.SSLContext | None = None, name: str = "localhost") -> AsyncIterator[Client]:
    """A client's connection, its handshake done. It closes as most do: at once, without a close-notify."""
    async with await anyio.connect_tcp("127.0.0.1", port) as plain:
        stream = await TLSStream.wrap(
            plain, hostname=name, ssl_context=context or client_context(), standard_compatible=False
        )
        yield Client(stream)  # type: ignore[arg-type]


async def test_there_and_back(tls: Tls, codec: str) -> None:
    async with testing.serving(make(), tls=tls, codec=codec) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        async with secured(server.port) as client:
            for _ in range(3):
                answer = await client.ask(get("/"))
                assert answer.status == 200
                assert '"scheme":"https"' in answer.text
                assert '"version":"TLSv1.3"' in answer.text
            assert (await client.ask(post("/echo", b"e" * 200_000))).body == b"e" * 200_000
            assert (await client.ask(get("/big/3000000"))).body == b"x" * 3_000_000
