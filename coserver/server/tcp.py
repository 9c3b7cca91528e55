"""The story of a TCP connection: receive a message, let the handler answer it, until either side has had enough.

Each received message opens an exchange, and the next ``receive`` closes it. One handler runs for the whole connection.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream

from ..hooks.workers import run_for
from ..lifecycle import events as ev
from ..lifecycle import phases
from ..lifecycle.emitter import Answered
from ..protocol.errors import RemoteProtocolError
from ..protocol.framing import Framing
from ..transport.cancellation import is_cancellation
from ..upstream.parent import current_exchange, end_children
from .blocking_tcp import BlockingTcpConnection
from .connection.base import Accepted
from .connection.linger import linger
from .connection.pace import patience
from .handler.endpoint import DIRECT, WORKER, Endpoint
from .handler.errors import HandlerFailure, SetupError
from .http.exchange import next_exchange_id
from .message import Message

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("coserver.server")

_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class TcpConnection(Accepted):
    """One TCP connection, as the server sees it and as an ``async def`` handler does.

    ``async for message in connection``, ``await connection.send(message)``; ``id``, ``peer`` and ``state``, a dict of
    the handler's own, are there too.
    """

    __slots__ = ("_broken", "_buffer", "_cut_short", "_endpoint", "_lost", "_patience", "_sending", "framing", "state")
    protocol = "tcp"
    exchange: Message | None

    def __init__(self, service: Service, stream: ByteStream, peer: str, endpoint: Endpoint, framing: Framing) -> None:
        super().__init__(service, stream, peer)
        self.deadline = math.inf  # a chat may be silent for hours; a message half sent may not
        self.state: dict[str, Any] = {}
        self._endpoint = endpoint
        self.framing = framing
        self._buffer = bytearray()
        self._broken: RemoteProtocolError | None = None
        self._cut_short = False
        self._lost = False  # receiving or sending has told that the client is gone
        self._patience = self.limits.body_timeout  # left with a message that has begun to come
        self._sending = anyio.Lock()

    @property
    def handler(self) -> str:
        """The handler's name."""
        return self._endpoint.name

    async def story(self) -> bool:
        """(receive → handle → send*)*, all of it inside the handler."""
        endpoint = self._endpoint
        self.running.add(self)  # until it receives: a handler that never does must not outlive its client
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
            await linger(self, self.limits, owed=bool(self._buffer))
        except BaseException as error:
            self._handler_raised(error)
        return False

    def _handler_raised(self, error: BaseException) -> None:
        """Close the exchange by what the handler raised; the client's own faults are no news."""
        if self.exchange is not None:
            end_children(self.exchange)
        if self.exchange is not None and self.exchange.watched:
            facts = self.facts()
            cancelled = is_cancellation(error)
            closing = ev.HandlerCancelled(**facts) if cancelled else ev.HandlerFailed(**facts, error=error)
            self.emitter.tell(closing)
        self.exchange = None
        if is_cancellation(error):
            raise error
        if isinstance(error, RemoteProtocolError) and error is self._broken:
            return
        if isinstance(error, _GONE) and (self._lost or self.reason):  # else it is of another stream
            self.end("the client left")
            return
        self.end(f"handler {self._endpoint.name} failed: {error!r:.80}")
        failure = HandlerFailure(self._endpoint.name, self, error)
        log.error("handler %s failed on %r, the connection is closed", self._endpoint.name, self, exc_info=error,
                  extra=failure.extra)  # fmt: skip

    def parked(self, where: str) -> None:
        if self.exchange is not None and self.exchange.watched:
            self.emitter.tell(ev.HandlerCancelled(**self.facts()))
        super().parked(where)

    # What a handler uses.

    async def receive(self) -> bytes:
        """The next whole message. Raises anyio.EndOfStream when the client has no more.

        A client that breaks the framing raises coserver's RemoteProtocolError here, and its connection ends.
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
            except Answered as given:  # by whoever held it: the handler never sees the message
                await self.send(given.answer)

    async def send(self, message: bytes | str) -> None:
        """Send one message, framed. Several tasks may send at once: messages never mix.

        Raises anyio.BrokenResourceError when the client has left, LocalProtocolError for what the framing cannot carry.
        """
        data = self.framing.encode(message.encode() if isinstance(message, str) else message)
        exchange = self.exchange  # the one it answers, though the next may have begun before all is sent
        async with self._sending:
            if exchange is None or not exchange.watched:
                await self._send_whole(data)
                await anyio.lowlevel.checkpoint()
                return
            try:
                data = await self._be_held(exchange, message, data)
                await self._send_whole(data)
            except BaseException as error:
                self.tell_broken(error, exchange)
                raise
            if self.emitter.taps:
                self.emitter.pass_on(exchange, message.encode() if isinstance(message, str) else message, sent=True)
            self.emitter.tell(ev.ResponseFinished(**self.facts(exchange), size=len(message)))

    async def _be_held(self, exchange: Message, message: bytes | str, data: bytes) -> bytes:
        """Say that a message is about to be sent, and wait where a gate holds it; what is to be sent then."""
        exchange.answer = before = message.encode() if isinstance(message, str) else message
        try:
            await self.reach(ev.ResponseStarted(**self.facts(exchange), status=0))
            after = exchange.answer
        except Answered as given:
            after = given.answer
        finally:
            exchange.answer = None
        return data if after is before else self.framing.encode(after)

    async def _send_whole(self, data: bytes) -> None:
        """After a message that was cut short no other may follow: it would be taken for the rest of the first."""
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
        """Messages until the client has no more."""
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """End the conversation now; what was sent before still arrives."""
        self.end("the handler closed it")
        await self.stream.aclose()

    # The steps in between.

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
        """The message as the handler is to see it: a gate may change it."""
        self.since = now = monotonic()
        self.phase = phases.HANDLER
        self.deadline = now + self.limits.handler_timeout
        exchange = self.exchange = Message(next_exchange_id(), self, message, now)
        current_exchange.set(exchange.id)
        self.running.add(self)
        if self.emitter.heard:
            if self.emitter.watched:
                await self.reach(ev.RequestRead(**self.facts(), size=len(message)))
            exchange.watched = True
            await self.reach(ev.HandlerStarted(**self.facts(), handler=self._endpoint.name))
        return exchange.message

    async def _close_exchange(self) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        service = self.service
        end_children(exchange)
        self.running.discard(self)
        self.unwatch()
        self.served += 1
        self.since = now = monotonic()
        self.spent += now - exchange.started
        self.phase = phases.RECYCLE
        self.deadline = math.inf
        if exchange.watched:
            exchange.watched = False  # its end is told once, even if the hold below is cancelled
            self.emitter.tell(ev.HandlerFinished(**self.facts()))
            if self.emitter.watched:
                await self.reach(ev.ConnectionRecycled(**self.facts()))
        self.exchange = None
        if service.draining:
            self.drain()


def tcp_story(endpoint: Endpoint, framing: Callable[[int], Framing]) -> Callable[..., TcpConnection]:
    """The story of one listener: this handler, with a framing of its own for each connection. Raises SetupError."""
    if endpoint.kind is DIRECT or inspect.isgeneratorfunction(endpoint.handler):
        raise SetupError(f"{endpoint.name} is a generator; a TCP handler calls connection.send() instead of yield")

    def story(service: Service, stream: ByteStream, peer: str) -> TcpConnection:
        return TcpConnection(service, stream, peer, endpoint, framing(service.limits.frame_size))

    return story
