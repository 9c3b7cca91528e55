"""TCP: one handler runs for a whole connection, receives messages and sends messages.

Each received message opens an exchange, and the next ``receive`` closes it. The connection ends when the handler
returns, or when the client leaves.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream

from ..hooks.suspension import await_unseen
from ..hooks.workers import run_for, work_for
from ..lifecycle import events as ev
from ..lifecycle import phases
from ..lifecycle.emitter import Answered
from ..protocol.edits import as_bytes, check_names
from ..protocol.errors import LocalProtocolError, RemoteProtocolError
from ..protocol.framing import Framing
from ..transport.cancellation import is_cancellation
from ..transport.tls_info import TlsInfo
from ..upstream.parent import current_exchange
from .connection.base import Connection
from .connection.pace import patience
from .exchange import Exchange, next_exchange_id
from .handler.endpoint import DIRECT, WORKER, Endpoint
from .handler.errors import HandlerFailure, SetupError

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("coserver.server")

#: The parts of a held message that can be changed, by phase.
_EDITABLE = dict.fromkeys((phases.BODY, phases.HANDLER, phases.RESPONSE), ("body",))
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class TcpExchange(Exchange):
    """A message and the handler's work on it, until the handler asks for the next message."""

    phase = phases.HANDLER
    connection: TcpConnection
    answer: bytes | None = None  # the message that is about to be sent, while a gate may edit it

    def __init__(self, number: int, connection: TcpConnection, message: bytes, started: float) -> None:
        self.id = number
        self.connection = connection
        self.emitter = connection.emitter
        self.message = message
        self.started = self.since = started
        self.limits = connection.service.limits
        self.deadline = started + self.limits.handler_timeout

    def __repr__(self) -> str:
        return f"<Exchange {self.id} of {len(self.message)} bytes on {self.connection!r}>"

    @property
    def handler(self) -> str:
        return self.connection.handler

    def edit(self, phase: str, given: Mapping[str, Any]) -> None:
        """Change the message's bytes, or those of its answer. Raises ValueError."""
        check_names(phase, given, _EDITABLE.get(phase, ()))
        if "body" in given:
            body = self.make_answer(0, given["body"], None)
            if phase == phases.RESPONSE:
                self.answer = body
            else:
                self.message = body

    def make_answer(self, status: int, body: Any, headers: Any) -> bytes:
        """Make a message of ``body`` that the framing can carry. Raises ValueError."""
        if headers:
            raise ValueError("a TCP message has no headers; give its body alone")
        message = as_bytes(body)
        try:
            self.connection.framing.encode(message)
        except LocalProtocolError as error:
            raise ValueError(str(error)) from None
        return message


class TcpConnection(Connection):
    """One TCP connection, for the server and for an ``async def`` handler.

    A handler uses ``async for message in connection`` and ``await connection.send(message)``. It may also read ``id``
    and ``peer``. ``state`` is a dict for its own use.
    """

    __slots__ = ("_broken", "_buffer", "_cut_short", "_endpoint", "_lost", "_patience", "_sending", "framing", "state")
    protocol = "tcp"
    current: TcpExchange | None

    def __init__(self, service: Service, stream: ByteStream, peer: Any, endpoint: Endpoint, framing: Framing) -> None:
        super().__init__(service, stream, peer)
        self.deadline = math.inf  # a chat may be silent for hours; a message that has begun has a deadline
        self.state: dict[str, Any] = {}
        self._endpoint = endpoint
        self.framing = framing
        self._buffer = bytearray()
        self._broken: RemoteProtocolError | None = None
        self._cut_short = False
        self._lost = False  # ``receive`` or ``send`` has raised that the client is gone
        self._patience = service.limits.body_timeout  # seconds left for a message that has begun to come
        self._sending = anyio.Lock()

    @property
    def handler(self) -> str:
        """The handler's name."""
        return self._endpoint.name

    async def run(self) -> bool:
        """Run the handler, which receives and sends."""
        endpoint = self._endpoint
        self.running.add(self)  # until the first ``receive``: a handler that never receives must not outlive its client
        try:
            if endpoint.kind is WORKER:
                value = await run_for(self, self.service.waits, endpoint.call, BlockingTcpConnection(self), {})
                if type(value) is CoroutineType:  # a lambda or a decorator that hides an async def
                    value.close()
                    raise TypeError(f"{endpoint.name} is a def that returned a coroutine; make it an async def")
            else:
                await endpoint.call(self, {})
            self.end("the handler returned")
            await self._close_exchange()
            await self.linger(self.limits, owed=bool(self._buffer))
        except BaseException as error:
            self._handler_raised(error)
        return False

    def _handler_raised(self, error: BaseException) -> None:
        """Close the exchange after an exception of the handler. Log it, unless the client is at fault."""
        exchange = self.current
        if exchange is not None:
            exchange.close()
            if exchange.watched:
                fields = exchange.event_fields()
                cancelled = is_cancellation(error)
                self.emitter.tell(
                    ev.HandlerCancelled(**fields) if cancelled else ev.HandlerFailed(**fields, error=error)
                )
        self.current = None
        if is_cancellation(error):
            raise error
        if isinstance(error, RemoteProtocolError) and error is self._broken:
            return
        if isinstance(error, _GONE) and (self._lost or self.reason):  # else another stream has raised it
            self.end("the client left")
            return
        self.end(f"handler {self._endpoint.name} failed: {error!r:.80}")
        failure = HandlerFailure(self._endpoint.name, self, error)
        failure.log(log, "handler %s failed on %r, the connection is closed", self._endpoint.name, self)

    def parked(self, where: str) -> None:
        exchange = self.current
        if exchange is not None:
            exchange.close()
            if exchange.watched:
                self.emitter.tell(ev.HandlerCancelled(**exchange.event_fields()))
            exchange.phase = phases.CLOSED
        super().parked(where)

    # The handler's methods.

    async def receive(self) -> bytes:
        """Wait for the next whole message. Raises anyio.EndOfStream when the client sends no more.

        Raises coserver's RemoteProtocolError if the client breaks the framing. Then the connection ends.
        """
        while True:
            await self._close_exchange()
            self.running.discard(self)
            self.unwatch()
            if self._broken is not None:
                raise self._broken
            try:
                message = await self._next_message()
            except RemoteProtocolError as error:
                self._broken = error
                self.end(f"refused: {error.reason}")
                self.service.breaches.note(error.limit or "protocol", self.peer, "%r: refused: %s", self, error.reason)
                raise
            try:
                return await self._open_exchange(message)
            except Answered as given:  # by a gate: the handler never sees the message
                await self.send(given.answer)

    async def send(self, message: bytes | str) -> None:
        """Send one message in its frame. Several tasks may send at once: messages never mix.

        Raises anyio.BrokenResourceError if the client has left, LocalProtocolError for a message that the framing
        cannot carry.
        """
        data = self.framing.encode(message.encode() if isinstance(message, str) else message)
        exchange = self.current  # the exchange that it answers: the next one may begin before all is sent
        async with self._sending:
            if exchange is None or not exchange.watched:
                await self._send_whole(data)
                await anyio.lowlevel.checkpoint()
                return
            try:
                data = await self._hold_answer(exchange, message, data)
                await self._send_whole(data)
            except BaseException as error:
                exchange.tell_broken(error)
                raise
            if self.emitter.taps:
                self.emitter.pass_on(exchange, message.encode() if isinstance(message, str) else message, sent=True)
            self.emitter.tell(ev.ResponseFinished(**exchange.event_fields(), size=len(message)))

    async def _hold_answer(self, exchange: TcpExchange, message: bytes | str, data: bytes) -> bytes:
        """Tell that a message is about to be sent, wait while gates hold it, and return the bytes to send."""
        exchange.answer = before = message.encode() if isinstance(message, str) else message
        try:
            await exchange.tell_and_hold(ev.ResponseStarted(**exchange.event_fields(), status=0))
            after = exchange.answer
        except Answered as given:
            after = given.answer
        finally:
            exchange.answer = None
        return data if after is before else self.framing.encode(after)

    async def _send_whole(self, data: bytes) -> None:
        """Send ``data``. No message may follow one that was cut short: the client would take it for the rest."""
        if self._cut_short:
            self._lost = True
            raise anyio.BrokenResourceError("a message before this one was cut short")
        before = self._socket.sent if self._socket else -1
        try:
            await super().send(data)
        except BaseException as error:
            self._cut_short = self._socket is None or self._socket.sent > before
            self._lost = isinstance(error, _GONE)
            raise

    def __aiter__(self) -> TcpConnection:
        """Iterate over the messages, until the client sends no more."""
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Close the connection now. Messages that were sent before still arrive."""
        self.end("the handler closed it")
        await self.stream.aclose()

    # Steps of ``receive``.

    async def _next_message(self) -> bytes:
        if self._buffer:
            await self.service.loop.checkpoint()  # a flood of messages must not starve the others
        limits = self.limits
        while (message := self.framing.decode(self._buffer)) is None:
            begun = bool(self._buffer)
            if begun:
                self.phase = phases.BODY
                self.since = now = monotonic()
                self.deadline = now + self._patience
            try:
                data = await self.stream.receive()
            except anyio.EndOfStream:
                if self._buffer:
                    self.end("the client left in the middle of a message")
                    left = "%r: %s (%d bytes)"
                    self.service.breaches.note("protocol", self.peer, left, self, self.reason, len(self._buffer))
                self.end("the client closed it")
                raise
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._lost = True
                raise
            if self.scope.cancel_called:
                await anyio.lowlevel.checkpoint()
            if begun:
                waited = monotonic() - now
                self._patience = patience(self._patience, waited, len(data), limits.body_timeout, limits.body_rate)
            self._buffer += data
        self._patience = limits.body_timeout
        return message

    async def _open_exchange(self, message: bytes) -> bytes:
        """Open an exchange, and return its message for the handler: a gate may have changed it."""
        self.deadline = math.inf  # the exchange has a deadline of its own
        exchange = self.current = TcpExchange(next_exchange_id(), self, message, monotonic())
        current_exchange.set(exchange.id)
        self.running.add(exchange)
        if self.emitter.heard:
            if self.emitter.watched:
                await exchange.tell_and_hold(ev.RequestRead(**exchange.event_fields(), size=len(message)))
            exchange.watched = True
            await exchange.tell_and_hold(ev.HandlerStarted(**exchange.event_fields(), handler=self._endpoint.name))
        return exchange.message

    async def _close_exchange(self) -> None:
        exchange = self.current
        if exchange is None:
            return
        exchange.close()
        self.unwatch()
        self.served += 1
        now = monotonic()
        self.spent += now - exchange.started
        exchange.phase = self.phase = phases.RECYCLE
        exchange.since = self.since = now
        exchange.deadline = self.deadline = math.inf
        if exchange.watched:
            exchange.watched = False  # tell its end once, even if the hold below is cancelled
            self.emitter.tell(ev.HandlerFinished(**exchange.event_fields()))
            if self.emitter.watched:
                await exchange.tell_and_hold(ev.ConnectionRecycled(**exchange.event_fields()))
        self.current = None
        if self.service.draining:
            self.drain()


class BlockingTcpConnection:
    """A TCP connection for a ``def`` handler. It has the same methods; each suspends only this handler."""

    __slots__ = ("_connection",)

    def __init__(self, connection: TcpConnection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"<blocking {self._connection!r}>"

    @property
    def id(self) -> int:
        """The connection's number, as in snapshots and events."""
        return self._connection.id

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._connection.peer

    @property
    def tls(self) -> TlsInfo | None:
        """The agreed TLS version and cipher, and the client's certificate; None without TLS."""
        return self._connection.tls

    @property
    def state(self) -> dict[str, Any]:
        """A dict for the handler's own use."""
        return self._connection.state

    def receive(self) -> bytes:
        """Wait for the next whole message. Raises the errors of TcpConnection.receive."""
        connection = self._connection
        try:
            return await_unseen(connection.receive())
        finally:
            work_for(connection.current or connection)

    def send(self, message: bytes | str) -> None:
        """Send one message. Raises the errors of TcpConnection.send."""
        await_unseen(self._connection.send(message))

    def __iter__(self) -> BlockingTcpConnection:
        """Iterate over the messages, until the client sends no more."""
        return self

    def __next__(self) -> bytes:
        try:
            return self.receive()
        except anyio.EndOfStream:
            raise StopIteration from None

    def close(self) -> None:
        """Close the connection now. Messages that were sent before still arrive."""
        await_unseen(self._connection.aclose())


def tcp_connection_factory(endpoint: Endpoint, framing: Callable[[int], Framing]) -> Callable[..., TcpConnection]:
    """A function that makes the connections of a listener: with this handler, and a framing each. Raises SetupError."""
    if endpoint.kind is DIRECT or inspect.isgeneratorfunction(endpoint.handler):
        raise SetupError(f"{endpoint.name} is a generator; a TCP handler calls connection.send() instead of yield")

    def make(service: Service, stream: ByteStream, peer: Any) -> TcpConnection:
        return TcpConnection(service, stream, peer, endpoint, framing(service.limits.frame_size))

    return make
