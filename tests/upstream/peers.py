"""Servers to ask: sound ones, and ones that misbehave, each connection handled by the test's own function."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Unpack

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSListener

from coserver import App, Server, testing
from coserver.app.config.settings import Options

Conversation = Callable[["Peer"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """One accepted connection; ``number`` counts them from 0."""

    def __init__(self, stream: SocketStream, number: int) -> None:
        self.stream = stream
        self.number = number

    async def request(self) -> bytes:
        """One whole request's head, and its body if it has a length. Raises anyio.EndOfStream."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.stream.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length:
            body += await self.stream.receive()
        return head + b"\r\n\r\n" + body

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def answer(self, data: bytes = OK) -> bytes:
        """Take a request and answer it; the request."""
        request = await self.request()
        await self.send(data)
        return request


class Faulty:
    """``url``, and how many connections came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.accepted = 0
        self.open = 0


@asynccontextmanager
async def faulty(conversation: Conversation, tls: ssl.SSLContext | None = None) -> AsyncIterator[Faulty]:
    """``async with faulty(talk) as server:``; its connections end with the block."""
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    server = Faulty(listener.extra(SocketAttribute.local_port))
    if tls is not None:
        listener = TLSListener(listener, tls, standard_compatible=False, handshake_timeout=5)
        server.url = f"https://localhost:{server.port}"

    async def handle(stream: Any) -> None:
        number = server.accepted
        server.accepted += 1
        server.open += 1
        async with stream:
            try:
                await conversation(Peer(stream, number))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            finally:
                server.open -= 1

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        try:
            yield server
        finally:
            tasks.cancel_scope.cancel()


async def answering(peer: Peer) -> None:
    """A sound server."""
    while True:
        await peer.answer()


@asynccontextmanager
async def serving(app: App, **options: Unpack[Options]) -> AsyncIterator[Server]:
    """A server under the order check. Leaks are looked for around the whole test: both ends are in one process."""
    with testing.order_check(app):
        async with app.serving(**options) as server:
            yield server
