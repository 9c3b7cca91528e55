"""A connection that carries several exchanges at once, without bytes: requests go in and responses come out as objects.

It does for a test what HTTP/2 does on the wire: each exchange has a task, a scope and a flow of its own, and ends apart
from the others. Router, limits, gates and observers are the server's own.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any

import anyio
from anyio.abc import ByteStream

from ..app.server import Server
from ..lifecycle import events as ev
from ..lifecycle.phases import RECYCLE
from ..protocol.errors import RemoteProtocolError
from ..protocol.fields import Headers, encode_value
from ..protocol.head import RequestHead
from ..protocol.http1 import HeadLimits, Http1Reader
from ..protocol.response_head import ResponseHead
from ..server.connection.base import Connection
from ..server.exchange import Exchange, next_exchange_id
from ..server.handler.errors import ClientLeft
from ..server.handler.response import Response
from ..server.http.carrier import NONE, Usual
from ..server.http.exchange import HttpExchange
from ..server.http.response_head import encode_head
from ..server.http.send_stream import BrokenOff
from ..server.service import Service
from ..transport.cancellation import parkable
from ..upstream.parent import current_exchange
from .memory import stream_pair

log = logging.getLogger("coserver.testing")

#: Bytes of a response that wait to be read; then its handler waits. Small, so that a test meets back-pressure early.
WINDOW = 64 * 1024


class Streams:
    """The client's side of a connection that carries several exchanges at once. Made by ``streams``.

    ``connection`` is the server's record of it.
    """

    def __init__(self, connection: MemoryConnection) -> None:
        self.connection = connection

    def __repr__(self) -> str:
        return f"<Streams of {self.connection!r}>"

    def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = b""
    ) -> Stream:
        """Begin an exchange. With ``body`` None it comes by ``Stream.send`` and ``Stream.end``.

        Raises RuntimeError once the server drains, RemoteProtocolError for what is no request.
        """
        return Stream(self.connection.request(_head(method, target, headers or {}, body), body))


class Stream:
    """The client's side of one exchange. ``exchange`` is the server's record of it."""

    def __init__(self, carrier: MemoryCarrier) -> None:
        self._carrier = carrier
        self.exchange = carrier.exchange

    def __repr__(self) -> str:
        return f"<Stream of {self.exchange!r}>"

    @property
    def interim(self) -> list[tuple[int, list[tuple[str, str]]]]:
        """The interim responses so far, each a status with its fields."""
        return self._carrier.interim

    @property
    def was_reset(self) -> str:
        """Why the exchange was reset; "" while it was not."""
        return self._carrier.was_reset

    def send(self, piece: bytes) -> None:
        """Send a piece of the body; an empty one sends nothing."""
        if piece:
            self._carrier.pieces.append(piece)
        self._carrier.change()

    def end(self) -> None:
        """End the body of the request."""
        self._carrier.sent_all = True
        self._carrier.change()

    def leave(self) -> None:
        """Reset the exchange: its handler is cancelled, the others of the connection go on."""
        self._carrier.leave()

    async def status(self) -> int:
        """The response's status, once it has begun. Raises ConnectionResetError if it never does."""
        return (await self._response_head()).status

    async def receive(self) -> bytes:
        """The next bytes of the response's body, empty at its end. Raises ConnectionResetError."""
        carrier = self._carrier
        await anyio.lowlevel.checkpoint()  # a response without an end must not keep a timeout from striking
        await carrier.until(lambda: len(carrier.body) > 0 or carrier.complete)
        data = bytes(carrier.body)
        carrier.body.clear()
        carrier.change()
        return data

    async def answer(self) -> tuple[int, Headers, bytes]:
        """The whole response: status, fields, body. Raises ConnectionResetError if the exchange is reset."""
        head, body = await self._response_head(), b""
        while piece := await self.receive():
            body += piece
        return head.status, Headers(head.fields), body

    async def _response_head(self) -> ResponseHead:
        carrier = self._carrier
        await carrier.until(lambda: bool(carrier.head))
        return ResponseHead(carrier.head, self.exchange.head.method)


class MemoryConnection(Connection):
    """The server's side of a connection that carries any number of exchanges at once."""

    __slots__ = ("_carriers", "_closing", "_tasks", "closed")
    protocol = "memory"
    multiplexed = True

    def __init__(self, service: Service, stream: ByteStream, peer: Any) -> None:
        super().__init__(service, stream, peer)
        self.deadline = math.inf  # a test takes its time; each exchange has a deadline of its own
        self._carriers: dict[int, MemoryCarrier] = {}
        self._closing = anyio.Event()
        self.closed = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None

    @property
    def exchanges(self) -> Sequence[Exchange]:
        return [one.exchange for one in tuple(self._carriers.values())]

    def find_exchange(self, number: int) -> Exchange | None:
        carrier = self._carriers.get(number)
        return None if carrier is None else carrier.exchange

    def request(self, head: RequestHead, body: bytes | None) -> MemoryCarrier:
        """Begin an exchange, in a task of its own. Raises RuntimeError once it is closed."""
        if self._tasks is None or self._closing.is_set():
            raise RuntimeError(f"{self!r} is closed")
        carrier = MemoryCarrier(self, head, body)
        self._carriers[carrier.exchange.id] = carrier
        # In a context of the connection's: a handler must not see what the test has set in its own.
        assert self._context is not None
        context, start = self._context.copy(), self._tasks.start_soon
        context.run(current_exchange.set, carrier.exchange.id)
        context.run(partial(start, carrier.serve, name=f"coserver exchange {carrier.exchange.id}"))
        return carrier

    async def run(self) -> bool:
        async with anyio.create_task_group() as self._tasks:
            await self._closing.wait()
        self.end("the client closed it")
        return False

    def drain(self) -> None:
        """Take no more exchanges; those under way end."""
        super().drain()
        self._closing.set()

    def end_receiving(self) -> None:
        self._closing.set()

    def hung_up(self) -> None:
        """The client left: every exchange hears it."""
        self.end("the client left")
        for carrier in tuple(self._carriers.values()):
            carrier.leave()
        self._closing.set()

    def close(self) -> None:
        self._closing.set()
        super().close()
        self.closed.set()

    def close_exchange(self, carrier: MemoryCarrier) -> None:
        """The exchange is over."""
        exchange = carrier.exchange
        self.served += 1
        self.spent += monotonic() - exchange.started
        del self._carriers[exchange.id]


class MemoryCarrier:
    """Carries one exchange (see ``server.http.carrier``), and is the task that it runs in."""

    def __init__(self, connection: MemoryConnection, head: RequestHead, body: bytes | None) -> None:
        self.connection = connection
        self.exchange = HttpExchange(next_exchange_id(), connection, head, connection.service.limits, body == b"")
        self.exchange._carrier = self
        self.exchange._scope = anyio.CancelScope()
        #: Interim responses, each a status with its fields.
        self.interim: list[tuple[int, list[tuple[str, str]]]] = []
        #: Why the exchange was reset; "" while it was not.
        self.was_reset = ""
        self.pieces: deque[bytes] = deque([body] if body else [])
        self.sent_all = body is not None
        self._size_max: int | None = None
        self.head = b""
        self.body = bytearray()
        self.complete = False
        self.gone = False
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<MemoryCarrier of {self.exchange!r}>"

    async def until(self, there: Any) -> None:
        while not there():
            if self.was_reset:
                raise ConnectionResetError(f"{self.exchange!r} was reset: {self.was_reset}")
            await self._changed.wait()

    def change(self) -> None:
        """Wake both sides: what they wait for may be there."""
        self._changed.set()
        self._changed = anyio.Event()

    def leave(self) -> None:
        """The client has reset the exchange."""
        self.gone = True
        self.exchange.cancel("the client left")
        self.change()

    # The task of the exchange.

    async def serve(self) -> None:
        """Run the exchange's story; end it apart from the others of its connection."""
        exchange, service = self.exchange, self.connection.service
        scopes = exchange.scope, self.connection.scope

        def cancelled() -> bool:
            return service.cancelled or any(scope.cancel_called for scope in scopes)

        await parkable(self._live, exchange.scope, cancelled, self._parked)

    async def _live(self) -> None:
        exchange = self.exchange
        try:
            with exchange.scope:
                await self._serve(exchange)
            if exchange.late_status and not exchange.status and not self.gone:
                with anyio.move_on_after(exchange.limits.linger_timeout):
                    await exchange.answer_deadline()
        except (ClientLeft, BrokenOff, anyio.BrokenResourceError) as error:
            self.reset(exchange, str(error) or "the client left")
        except Exception as error:
            log.exception("%r: internal error, it is reset", exchange)
            self.reset(exchange, f"internal error: {error!r}")
        finally:
            self._finish()

    async def _serve(self, exchange: HttpExchange) -> None:
        try:
            await exchange.run()
            if exchange.after:
                await self.connection.service.run_after_in_turn(exchange)
        except RemoteProtocolError as error:
            note, told = self.connection.service.breaches.note, "%r: refused with %d: %s"
            note(error.limit or "protocol", self.connection.peer, told, exchange, error.status, error.reason)
            await exchange.refuse(error)

    def _parked(self, where: str) -> None:
        self.exchange.tell_parked()
        self._finish()

    def _finish(self) -> None:
        """The end of the exchange: a response that is not whole is a reset."""
        exchange = self.exchange
        if self.complete:
            exchange.close()
            exchange.phase = RECYCLE
        else:
            self.was_reset = self.was_reset or exchange.reason or "cancelled by the server"
            exchange.cut_short(self.was_reset)
            emitter = self.connection.emitter
            if emitter.heard:
                emitter.tell(ev.ExchangeReset(**exchange.event_fields(), reason=self.was_reset))
        self.connection.close_exchange(self)
        self.change()

    # The carrier.

    def limit_body(self, size: int) -> None:
        self._size_max = size
        length = self.exchange.head.length
        if length is not None and length > size:
            raise RemoteProtocolError(f"the body is {length} bytes long; at most {size} are taken", 413, "body_size")

    @property
    def peer_gone(self) -> bool:
        return self.gone

    async def read_piece(self, exchange: HttpExchange) -> bytes:
        if exchange.body_done:
            return b""
        if exchange.broken:
            raise ClientLeft("the rest of this body cannot be read")
        while not self.pieces and not self.sent_all:
            await exchange.await_body(self._more_of_the_body)
        data = self.pieces.popleft() if self.pieces else b""
        if self._size_max is not None and exchange.body_size + len(data) > self._size_max:
            exchange.broken = True
            raise RemoteProtocolError(f"the body has more than {self._size_max} bytes", 413, "body_size")
        exchange.body_done = self.sent_all and not self.pieces
        await exchange.take_piece(data)
        return data

    async def _more_of_the_body(self) -> bytes:
        while not self.pieces and not self.sent_all:
            await self._changed.wait()
        return self.pieces[0] if self.pieces else b""

    def decide_keep_alive(self, exchange: HttpExchange) -> bool:
        return True

    def respond_at_once(self, exchange: HttpExchange, answer: Response | bytes | Usual) -> int:
        return NONE  # one way is enough where speed is no aim

    def encode_head(self, exchange: HttpExchange, response: Response, date: bytes) -> bytes:
        return encode_head(exchange, response, date)

    async def send_interim(
        self, exchange: HttpExchange, status: int, fields: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.interim.append((status, list(fields)))

    async def send_whole(self, exchange: HttpExchange, head: bytes, body: bytes) -> None:
        exchange.size = len(body)
        await self.send_data(exchange, body, head)
        self.complete = True
        self.change()

    async def send_data(self, exchange: HttpExchange, data: bytes, prefix: bytes = b"") -> None:
        if prefix:
            self.head = prefix
            self.change()
        for at in range(0, len(data), WINDOW):
            while len(self.body) >= WINDOW:
                await self._await_reader(exchange)
            self.body += data[at : at + WINDOW]
            self.change()

    async def _await_reader(self, exchange: HttpExchange) -> None:
        """Wait until the client reads; one that does not is cut at ``Limits.write_timeout``."""
        timeout = exchange.limits.write_timeout
        with anyio.move_on_after(timeout) as scope:
            await self._changed.wait()
        if scope.cancelled_caught:
            exchange.cut("write_timeout", f"the client read nothing for {round(timeout, 3)} s (write_timeout)")
            await anyio.lowlevel.checkpoint()

    def send_data_now(self, exchange: HttpExchange, data: bytes, prefix: bytes = b"") -> bytes | None:
        return None

    async def send_file(self, exchange: HttpExchange, file: int, start: int, stop: int) -> int:
        return start

    async def send_end(self, exchange: HttpExchange, trailers: Any = None, prefix: bytes = b"") -> None:
        await self.send_data(exchange, b"", prefix)
        self.complete = True
        self.change()

    def reset(self, exchange: HttpExchange, reason: str) -> None:
        self.was_reset = self.was_reset or reason
        exchange.abort(reason)

    def set_apart(self, exchange: HttpExchange) -> bool:
        return False

    def hand_over(self, exchange: HttpExchange) -> tuple[ByteStream, bytes]:
        raise RuntimeError("an exchange in memory has no stream to hand over")


@asynccontextmanager
async def streams(server: Server, listener: int = 0) -> AsyncIterator[Streams]:
    """A connection to ``server``, which runs in this loop, for several exchanges at once.

    ``async with testing.streams(server) as connection: first = connection.request("GET", "/")``. The end of the block
    resets what is still under way.
    """
    service = server._services[listener]
    while service._tasks is None:  # its task has not had its first turn yet
        await anyio.lowlevel.checkpoint()
    ours, theirs = stream_pair(service.loop)
    # In a context of the server's own, as an accepted connection has it.
    made = copy_context().run(service.begin, MemoryConnection, theirs, "memory")
    assert isinstance(made, MemoryConnection)
    while made._tasks is None:
        await anyio.lowlevel.checkpoint()
    try:
        yield Streams(made)
    finally:
        made.hung_up()
        ours.close()
        with anyio.CancelScope(shield=True):
            await made.closed.wait()


def _head(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> RequestHead:
    """A head, read by the reader that reads every head. Raises RemoteProtocolError."""
    fields = {"Host": "memory", **headers}
    if body is None:
        fields.setdefault("Transfer-Encoding", "chunked")
    elif body:
        fields.setdefault("Content-Length", str(len(body)))
    raw = [(name.encode("ascii"), value) for name, value in fields.items()]
    lines = b"".join(b"%b: %b\r\n" % (name, encode_value(name.lower(), value)) for name, value in raw)
    reader = Http1Reader("h11", HeadLimits(1 << 30, 1 << 20, 1 << 30))
    head = reader.read_head(b"%b HTTP/1.1\r\n%b\r\n" % (f"{method} {target}".encode("latin-1"), lines))
    assert head is not None
    return head
