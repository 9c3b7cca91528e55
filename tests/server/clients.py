"""Clients for the tests: a socket that says exactly the given bytes, and h11 as the judge of what comes back."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import h11
from anyio.abc import SocketAttribute, SocketStream

from coserver import App, Server, testing

GET = b"GET / HTTP/1.1\r\nHost: t.example\r\n\r\n"
#: Long enough for any machine, short enough that a hung test says where.
PATIENCE = 8


def get(path: str = "/", *fields: str, method: str = "GET", minor: int = 1) -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/1.{minor}", "Host: t.example", *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def post(path: str, body: bytes, *fields: str, method: str = "POST") -> bytes:
    """A request with a body of known length."""
    return get(path, f"Content-Length: {len(body)}", *fields, method=method) + body


def chunked(path: str, *chunks: bytes, trailers: bytes = b"", fields: Sequence[str] = ()) -> bytes:
    """A request with a chunked body."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return get(path, "Transfer-Encoding: chunked", *fields, method="POST") + body + b"0\r\n" + trailers + b"\r\n"


@dataclass
class Answer:
    """One final response, and the interim ones before it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body.decode()


def _fields(headers: Any) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in headers}


class Parser:
    """Reads one response after another out of bytes that come in pieces."""

    def __init__(self) -> None:
        self.buffer = b""
        self._judge: h11.Connection | None = None
        self._answer: Answer | None = None
        self._body = bytearray()  # megabytes come in hundreds of pieces
        self._interim: list[int] = []

    def _begin(self, method: str) -> h11.Connection:
        judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        judge.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        judge.send(h11.EndOfMessage())
        if self.buffer:  # nothing means the end of the stream to it
            judge.receive_data(self.buffer)
            self.buffer = b""
        return judge

    def feed(self, data: bytes) -> None:
        """Bytes from the server; empty at the end of the stream."""
        if self._judge is None:
            self.buffer += data
            assert data, "the server closed the connection instead of answering"
        else:
            self._judge.receive_data(data)

    def next(self, method: str = "GET") -> Answer | None:
        """The next whole answer; None if it needs more. Raises h11.RemoteProtocolError for what is none."""
        if self._judge is None:
            self._judge = self._begin(method)
        while True:
            event = self._judge.next_event()
            if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return None
            if isinstance(event, h11.InformationalResponse):
                self._interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                self._answer = Answer(event.status_code, _fields(event.headers), interim=self._interim)
                self._interim = []
            elif isinstance(event, h11.Data):
                self._body += event.data
            else:
                assert isinstance(event, h11.EndOfMessage), event
                answer, self._answer = self._answer, None
                assert answer is not None
                answer.body = bytes(self._body)
                self._body.clear()
                answer.trailers = _fields(event.headers)
                self.buffer = self._judge.trailing_data[0]
                self._judge = None
                return answer


def answers(raw: bytes, method: str = "GET") -> list[Answer]:
    """All answers in ``raw``; ``method`` is the first request's. What is left over and no answer fails the test."""
    parser, found = Parser(), []
    parser.feed(raw)
    while parser.buffer:
        answer = parser.next(method)
        if answer is None:
            parser.feed(b"")
            answer = parser.next()
            assert answer is not None, f"a part of an answer: {raw[-200:]!r}"
            return [*found, answer]
        found.append(answer)
        method = "GET"
    return found


class Client:
    """One connection to a server."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._parser = Parser()
        self.ended = False

    @property
    def socket(self) -> socket.socket:
        return self.stream.extra(SocketAttribute.raw_socket)

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def answer(self, method: str = "GET") -> Answer:
        """The next final answer. Raises AssertionError if the server closes before it is whole."""
        with anyio.fail_after(PATIENCE):
            while (answer := self._next(method)) is None:
                assert not self.ended, "the server closed the connection before the answer was whole"
                try:
                    self._parser.feed(await self.stream.receive())
                except anyio.EndOfStream:
                    self.ended = True
                    self._parser.feed(b"")
        return answer

    def _next(self, method: str) -> Answer | None:
        try:
            return self._parser.next(method)
        except h11.RemoteProtocolError as error:
            if self.ended:
                raise AssertionError("the server closed the connection before the answer was whole") from error
            raise

    async def ask(self, request: bytes, method: str | None = None) -> Answer:
        await self.send(request)
        return await self.answer(method or request.split(b" ", 1)[0].decode())

    async def rest(self) -> bytes:
        """Everything until the server closes, by a FIN: a reset raises BrokenResourceError."""
        data = self._parser.buffer
        with anyio.fail_after(PATIENCE):
            try:
                while True:
                    data += await self.stream.receive()
            except anyio.EndOfStream:
                return data

    async def closed(self) -> None:
        """The server closes, and has nothing more to say."""
        rest = await self.rest()
        assert not rest, rest[:200]

    async def gone(self) -> bytes:
        """Everything until the server closes or resets."""
        data = self._parser.buffer
        with anyio.fail_after(PATIENCE):
            try:
                while True:
                    data += await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return data

    async def reset(self) -> None:
        """Leave with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Client]:
    """``async with connect(server.port) as client:``"""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield Client(stream)


@asynccontextmanager
async def talking(app: App, **options: Any) -> AsyncIterator[tuple[Server, Client]]:
    """A server under both checks, and one client of it."""
    async with testing.serving(app, **options) as server, connect(server.port) as client:
        yield server, client


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something is true; fails the test if it never is."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)
