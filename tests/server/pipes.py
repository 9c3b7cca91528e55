"""A connection that is no socket: a byte stream in memory, and a server that is given one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import ByteStream

from coserver import App, Server, testing
from coserver.server.http.http1 import HttpConnection

from .clients import until


class Pipe(ByteStream):
    """A byte stream in memory: what the server reads is put in, what it writes is taken out."""

    def __init__(self, room: float = 1000) -> None:
        self._put, self._incoming = anyio.create_memory_object_stream[bytes](1000)
        self._outgoing, self._take = anyio.create_memory_object_stream[bytes](room)
        self.closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._incoming.receive()

    async def send(self, item: Any) -> None:
        await self._outgoing.send(bytes(item))

    async def send_eof(self) -> None:
        self._outgoing.close()

    async def aclose(self) -> None:
        self.closed = True
        self._outgoing.close()
        self._incoming.close()

    # The client's end.

    def say(self, data: bytes) -> None:
        self._put.send_nowait(data)

    def leave(self) -> None:
        self._put.close()

    async def all(self) -> bytes:
        with anyio.fail_after(5):
            return b"".join([piece async for piece in self._take])

    def let_go(self) -> None:
        for end in (self._put, self._incoming, self._outgoing, self._take):
            end.close()


@asynccontextmanager
async def piped(app: App, pipe: Pipe, **options: Any) -> AsyncIterator[Server]:
    """``app``, with ``pipe`` as a client's connection; ends when that is closed."""
    async with testing.serving(app, **options) as server:
        service = server._services[0]
        await until(lambda: service._tasks)
        service.begin(HttpConnection, pipe, "memory")
        yield server
        await until(lambda: not server.connections)
    pipe.let_go()
