"""The story of an HTTP/1 connection, top to bottom: read request, dispatch, write response, recycle.

Each step ends by reaching a lifecycle phase; a gate may hold it there, and nothing else changes. What can go wrong is
told where it happens: a refusal by the protocol, an error of the handler, a client that leaves, a deadline.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream

from ..hooks.workers import run_blocking
from ..lifecycle import events as ev
from ..lifecycle.phases import HANDLER, HEAD, RECYCLE, RESPONSE
from ..protocol.errors import RemoteProtocolError
from ..protocol.http1 import Http1Reader
from . import wire
from .accepted import Accepted, is_cancellation
from .bodies import discard_body, may_go_on, next_piece, read_body
from .endings import last_words, linger, refuse
from .endpoint import AWAIT, WORKER
from .errors import ClientLeft, HTTPException
from .exchange import Exchange, next_exchange_id
from .response import TEXT, Response, error_response, to_response
from .streaming import BrokenOff, NothingSent, close_body, send_stream

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("coserver.server")


class HttpConnection(Accepted):
    """One HTTP/1.0 or 1.1 connection; ``exchange`` is the request being served, None between two."""

    __slots__ = ("reader",)
    protocol = "http/1.1"
    exchange: Exchange | None

    def __init__(self, service: Service, stream: ByteStream, peer: str) -> None:
        super().__init__(service, stream, peer)
        self.reader = Http1Reader(service.parsers, service.limits.head)

    def close(self) -> None:
        if self.exchange is not None:
            self.exchange.close()
            if self.exchange.until_close and self._socket is not None:
                self._socket.reset()
        super().close()

    async def story(self) -> bool:
        """accept → (read head → route → read body → run the handler → respond → recycle)*."""
        reader = self.reader
        try:
            while True:
                head = None
                if reader.buffer:
                    await self.service.loop.checkpoint()  # a flood of pipelined requests must not starve the others
                    head = reader.read_head()
                while head is None:
                    if reader.buffer:
                        self._await_head()
                    data = await self.stream.receive()
                    if self.scope.cancel_called:
                        await anyio.lowlevel.checkpoint()  # data and a deadline in one tick: the deadline came first
                    head = reader.read_head(data)
                self.phase = HEAD
                self.since = now = monotonic()
                exchange = self.exchange = Exchange(next_exchange_id(), self, head, now)
                if self.emitter.watched:
                    await self.reach(ev.RequestHead(**self.facts(), method=head.method, target=head.target))
                answer = self._route(exchange)
                if answer is None and not reader.body_done:
                    await self._read_body(exchange)
                if self.emitter.watched and reader.body_done:
                    await self.request_read(exchange)
                if answer is None:
                    answer = await self._run(exchange)
                rest = self._respond_at_once(exchange, answer)
                if rest is None:
                    await self.respond(exchange, answer)
                elif rest:
                    await self._send_rest(rest, exchange)
                if self.exchange is not None and not await self._recycle(exchange):
                    return False
                if self.context_changed():
                    return True
                data = head = exchange = answer = rest = None  # type: ignore[assignment]  # 1 KB less idle
        except anyio.EndOfStream:
            self.end("the client left in the middle of a head" if reader.buffer else "the client closed it")
        except RemoteProtocolError as error:
            await refuse(self, error)
        except (ClientLeft, BrokenOff) as error:
            self.end(str(error))
        return False

    def _await_head(self) -> None:
        """A head has begun to come: from now on it has ``Limits.head_timeout``, however it trickles."""
        if self.phase is not HEAD:
            self.since = monotonic()
            self.deadline = self.since + self.service.limits.head_timeout
            self.phase = HEAD

    def _route(self, exchange: Exchange) -> Response | bytes | None:
        """Find the handler, and refuse what needs none of the body: 404, 405, 413. None if all is well."""
        head, reader = exchange.head, self.reader
        try:
            endpoint, params = self.service.router.find(head.method, head.path)
            exchange.endpoint = endpoint
            exchange.params = params
            if not reader.body_done:
                reader.limit_body(self.service.limits.body_size)
        except HTTPException as error:
            return error_response(error)
        except RemoteProtocolError as error:
            log.warning("%r: %s (body_size)", self, error.reason)
            return error_response(HTTPException(error.status))
        return None

    async def _read_body(self, exchange: Exchange) -> None:
        """Read the body that the handler wants to have whole; a streaming one reads for itself."""
        if exchange.endpoint.stream:
            exchange.request.set_pieces(lambda: next_piece(self, exchange))
        else:
            await read_body(self, exchange)

    async def request_read(self, exchange: Exchange) -> None:
        """The request has been read to its end."""
        await self.reach(ev.RequestRead(**self.facts(), size=exchange.body_size))

    async def _run(self, exchange: Exchange) -> Response | bytes:
        """Run the handler, on the loop or in a worker, and make a response of what it returns.

        Of a plain str it takes the bytes: the commonest answer needs no Response of its own.
        """
        endpoint, params = exchange.endpoint, exchange.params
        request = exchange.request if endpoint.takes_subject else None
        self.since = now = monotonic()
        self.phase = HANDLER
        self.deadline = now + self.service.limits.handler_timeout
        self.running.add(self)
        watched = exchange.watched = self.emitter.watched
        try:
            if watched:
                await self.reach(ev.HandlerStarted(**self.facts(), handler=endpoint.name))
            if endpoint.kind is AWAIT:
                value = await endpoint.call(request, params)
            elif endpoint.kind is WORKER:
                value = await run_blocking(endpoint.call, request, params)
                if type(value) is CoroutineType:  # a lambda or a decorator that hides an async def
                    value = await value
            else:
                value = endpoint.call(request, params)
            answer = value.encode() if type(value) is str else to_response(value)
        except BaseException as error:
            return self._handler_raised(exchange, error)
        if watched:
            self.emitter.tell(ev.HandlerFinished(**self.facts()))
        return answer

    def _handler_raised(self, exchange: Exchange, error: BaseException) -> Response:
        """An answer for what a handler raised; a cancellation of the connection goes on its way."""
        emitter = self.emitter
        if is_cancellation(error):
            if exchange.watched:
                emitter.tell(ev.HandlerCancelled(**self.facts()))
            raise error
        if exchange.watched:
            emitter.tell(ev.HandlerFailed(**self.facts(), error=error))
        if isinstance(error, HTTPException):
            return error_response(error)
        if isinstance(error, ClientLeft | RemoteProtocolError):
            raise error
        log.error("handler %s failed on %r", exchange.endpoint_name, exchange, exc_info=error)
        return error_response(HTTPException(500))

    def _respond_at_once(self, exchange: Exchange, answer: Response | bytes) -> bytes | None:
        """Write the usual response, whole and small, and recycle, without waiting; what the socket did not take of it.

        None for any other kind, and for one that a gate might hold: nothing has been done then.
        """
        head, emitter, service = exchange.head, self.emitter, self.service
        usual = wire.usual_start(answer)
        if usual is None or emitter.gates or service.draining or head.method == "HEAD":
            return None
        if not (head.keep_alive and head.minor and self.reader.body_done):
            return None
        status, start, body = usual
        self.since = now = monotonic()
        if now >= service.date_until:
            service.date(now)
        data = b"%bcontent-length: %d\r\n%b%b" % (start, len(body), service.head_end, body)
        self.phase = RESPONSE
        exchange.keep_alive = True
        exchange.status = status
        if emitter.watched:
            emitter.tell(ev.ResponseStarted(**self.facts(), status=status))
        try:
            taken = self.send_now(data)
        except Exception as error:
            self.tell_broken(error)
            raise
        exchange.size = len(body)
        if taken < len(data):
            return data[taken:]
        if emitter.watched:
            emitter.tell(ev.ResponseFinished(**self.facts(), size=len(body)))
        if not self._watched and exchange.spooled is None:
            self.running.discard(self)
            self._make_ready(now)
            if emitter.watched:
                emitter.tell(ev.ConnectionRecycled(**self.facts()))
            self.exchange = None
        return b""

    async def _send_rest(self, rest: bytes, exchange: Exchange) -> None:
        """Wait until the socket takes the rest of a usual response."""
        try:
            await self.send(rest)
        except BaseException as error:
            self.tell_broken(error)
            raise
        if self.emitter.watched:
            self.emitter.tell(ev.ResponseFinished(**self.facts(), size=exchange.size))

    def _make_ready(self, now: float) -> None:
        """Nothing is left of the exchange; the next request may come, within ``Limits.idle_timeout``."""
        self.served += 1
        self.phase = RECYCLE
        self.since = now
        self.deadline = now + self.service.limits.idle_timeout

    async def respond(self, exchange: Exchange, answer: Response | bytes) -> None:
        """Write any response, and be held at its start if a gate says so."""
        response = Response(answer, content_type=TEXT) if isinstance(answer, bytes) else answer
        self.since = now = monotonic()
        exchange.keep_alive = not self.service.draining and may_go_on(self, exchange)
        try:
            head, framing = wire.encode_head(exchange, response, self.service.date(now))
        except Exception as error:  # a handler's fields may be anything, numbers and None among them
            response = await self._cannot_be_sent(exchange, response, error)
            head, framing = wire.encode_head(exchange, response, self.service.date(now))
        self.phase = RESPONSE
        self.deadline = math.inf
        body = response.body
        watched = self.emitter.watched
        try:
            if watched:
                await self.reach(ev.ResponseStarted(**self.facts(), status=response.status))
            exchange.status = response.status
            if type(body) is not bytes:
                size = await send_stream(self, exchange, response, head, framing)
            else:
                size = max(framing, 0)
                await self.send(head if not size or size > wire.ONE_WRITE else head + body)
                if size > wire.ONE_WRITE:
                    await self.send(body)
        except BaseException as error:
            self.tell_broken(error)
            if isinstance(error, NothingSent):
                await self.respond(exchange, error.instead)
                return
            raise
        if watched:
            self.emitter.tell(ev.ResponseFinished(**self.facts(), size=size))

    async def _cannot_be_sent(self, exchange: Exchange, response: Response, error: Exception) -> Response:
        log.error("handler %s: a response that cannot be sent: %r", exchange.endpoint_name, error)
        await close_body(self, response.body)
        return error_response(HTTPException(500))

    async def _recycle(self, exchange: Exchange) -> bool:
        """Make ready for the next request; False if there is to be none."""
        service, reader = self.service, self.reader
        self.running.discard(self)
        self.unwatch()
        if not exchange.keep_alive or (not reader.body_done and not await discard_body(self, exchange)):
            self.end("the response said close")
            await linger(self, service.limits, owed=bool(reader.buffer) or not reader.body_done)
            return False
        exchange.close()
        self._make_ready(monotonic())
        if self.emitter.watched:
            await self.reach(ev.ConnectionRecycled(**self.facts()))
        self.exchange = None
        if service.draining:
            self.drain()
        return True

    async def last_words(self) -> None:
        await last_words(self)
