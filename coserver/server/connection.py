"""The story of an HTTP/1 connection, top to bottom: read request, dispatch, write response, recycle.

Each step ends by reaching a lifecycle phase; a gate may hold it there, and nothing else changes. What can go wrong is
told where it happens: a refusal by the protocol, an error of the handler, a client that leaves, a deadline.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream

from ..hooks.workers import run_blocking
from ..lifecycle import events as ev
from ..lifecycle import phases
from ..protocol.errors import LocalProtocolError, RemoteProtocolError
from ..protocol.http1 import Http1Reader
from . import wire
from .accepted import Accepted, is_cancellation
from .bodies import discard_body, next_piece, read_body
from .endpoint import AWAIT, WORKER, Endpoint
from .errors import ClientLeft, HTTPException
from .exchange import Exchange
from .request import Request
from .response import Response, error_response, to_response
from .streaming import NothingSent, close_body, send_stream

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
        self.reader = Http1Reader(service.codec, service.limits.head)

    def close(self) -> None:
        if self.exchange is not None:
            self.exchange.close()
        super().close()

    async def story(self) -> bool:
        """accept → (read request → dispatch → write response → recycle)*."""
        try:
            while exchange := await self._read_head():
                response = await self._dispatch(exchange)
                await self._respond(exchange, response)
                if not await self._recycle(exchange):
                    return False
                if self.context_changed():
                    return True
        except RemoteProtocolError as error:
            await self._refuse(error)
        except ClientLeft as error:
            self.end(str(error))
        return False

    async def _read_head(self) -> Exchange | None:
        """The next request, as far as its head; None when the client has no more."""
        reader = self.reader
        while (head := reader.read_head()) is None:
            if self.phase is not phases.HEAD and reader.buffered:
                self.since = monotonic()
                self.deadline = self.since + self.service.limits.head_timeout
                self.phase = phases.HEAD
            try:
                data = await self.stream.receive()
            except anyio.EndOfStream:
                self.end("the client left in the middle of a head" if reader.buffered else "the client closed it")
                return None
            if self.scope.cancel_called:
                await anyio.lowlevel.checkpoint()  # data and a deadline in one tick: the deadline came first
            reader.receive(data)
        service = self.service
        self.phase = phases.HEAD
        exchange = self.exchange = Exchange(next(service.exchange_ids), self, head)
        if service.emitter.watched:
            await self.reach(ev.RequestHead(**self.facts(), method=head.method, target=head.target))
        return exchange

    async def _dispatch(self, exchange: Exchange) -> Response:
        """Find the handler, read the body that it wants, run it. Whatever goes wrong in it becomes a response."""
        head, service = exchange.head, self.service
        try:
            endpoint, params = service.router.find(head.method, head.path)
            exchange.endpoint = endpoint
            request = exchange.request = Request(head, exchange.id, self.peer, params)
            if not self.reader.body_done:
                self._check_body(exchange)
                if endpoint.stream:
                    request.set_pieces(lambda: next_piece(self, exchange))
                else:
                    await read_body(self, exchange)
            if service.emitter.watched and self.reader.body_done:
                await self.request_read(exchange)
            return await self._run(exchange, endpoint, request, params)
        except HTTPException as error:
            return error_response(error)

    def _check_body(self, exchange: Exchange) -> None:
        """A body that is too long is refused before the client has sent it, and with it the 100 Continue."""
        try:
            self.reader.limit_body(self.service.limits.body_size)
        except RemoteProtocolError as error:
            log.warning("%r: %s (body_size)", self, error.reason)
            raise HTTPException(error.status) from error

    async def request_read(self, exchange: Exchange) -> None:
        """The request has been read to its end."""
        await self.reach(ev.RequestRead(**self.facts(), size=exchange.body_size))

    async def _run(self, exchange: Exchange, endpoint: Endpoint, request: Request, params: dict[str, Any]) -> Response:
        """Run the handler, on the loop or in a worker, and make a response of what it returns."""
        service = self.service
        self.since = now = monotonic()
        self.phase = phases.HANDLER
        self.deadline = now + service.limits.handler_timeout
        service.loop.sweeper.running.add(self)
        exchange.watched = service.emitter.watched
        try:
            if exchange.watched:
                await self.reach(ev.HandlerStarted(**self.facts(), handler=endpoint.name))
            if endpoint.kind is AWAIT:
                value = await endpoint.call(request, params)
            elif endpoint.kind is WORKER:
                value = await run_blocking(endpoint.call, request, params)
                if type(value) is CoroutineType:  # a lambda or a decorator that hides an async def
                    value = await value
            else:
                value = endpoint.call(request, params)
            response = to_response(value)
        except BaseException as error:
            return self._handler_raised(exchange, error)
        if exchange.watched:
            service.emitter.tell(ev.HandlerFinished(**self.facts()))
        return response

    def _handler_raised(self, exchange: Exchange, error: BaseException) -> Response:
        """An answer for what a handler raised; a cancellation of the connection goes on its way."""
        emitter = self.service.emitter
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

    async def _respond(self, exchange: Exchange, response: Response) -> None:
        """Write the response: in one go when it is small and whole."""
        service = self.service
        exchange.keep_alive = not service.draining and self._may_go_on(exchange)
        try:
            head, framing = wire.encode_head(exchange, response, service.date())
        except LocalProtocolError as error:
            log.error("handler %s: %s", exchange.endpoint_name, error)
            await close_body(self, response.body)
            response = error_response(HTTPException(500))
            head, framing = wire.encode_head(exchange, response, service.date())
        self.phase = phases.RESPONSE
        self.deadline = math.inf
        body = response.body
        watched = service.emitter.watched
        try:
            if watched:
                await self.reach(ev.ResponseStarted(**self.facts(), status=response.status))
            exchange.status = response.status
            if type(body) is not bytes:
                size = await send_stream(self, exchange, response, head, framing)
            elif framing > wire.ONE_WRITE:
                size = framing
                await self.send(head)
                await self.send(body)
            else:
                size = max(framing, 0)
                await self.send(head + body if framing > 0 else head)
        except BaseException as error:
            if watched:
                self._tell_broken(error)
            if isinstance(error, NothingSent):
                await self._respond(exchange, error.instead)
                return
            raise
        if watched:
            service.emitter.tell(ev.ResponseFinished(**self.facts(), size=size))

    def _tell_broken(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self.service.emitter.tell(ev.ResponseFailed(**self.facts(), error=error))
        else:
            self.service.emitter.tell(ev.ResponseCancelled(**self.facts()))

    def _may_go_on(self, exchange: Exchange) -> bool:
        """Whether the connection may live on: the client wants it, and the unread rest of the body can be read away."""
        head = exchange.head
        if exchange.broken or not head.keep_alive:
            return False
        if self.reader.body_done:
            return True
        if head.expect_continue and not exchange.continued:
            return False  # the client may send the body now or not: nobody knows what comes next (RFC 9110 §10.1.1)
        return head.length is None or head.length <= self.service.limits.drain_size

    async def _recycle(self, exchange: Exchange) -> bool:
        """Make ready for the next request; False if there is to be none."""
        service, reader = self.service, self.reader
        service.loop.sweeper.running.discard(self)
        if self._watched:
            self.unwatch()
        if not exchange.keep_alive or (not reader.body_done and not await discard_body(self, exchange)):
            self.end("the response said close")
            if reader.buffered or not reader.body_done:
                await self._linger()
            return False
        self.served += 1
        exchange.close()
        self.since = now = monotonic()
        self.deadline = now + service.limits.idle_timeout
        self.phase = phases.RECYCLE
        if service.emitter.watched:
            await self.reach(ev.ConnectionRecycled(**self.facts()))
        self.exchange = None
        if service.draining and not reader.buffered:
            self.end("the server stops")
            return False
        return True

    async def _refuse(self, error: RemoteProtocolError) -> None:
        """The client broke the protocol: answer, and read no request from it again."""
        self.end(f"refused: {error.reason}")
        log.warning("%r: refused with %d: %s", self, error.status, error.reason)
        service = self.service
        exchange = self._broken_exchange()
        if service.emitter.watched:
            service.emitter.tell(ev.RequestRefused(**self.facts(), status=error.status, reason=error.reason))
        if not exchange.status:
            await self._respond(exchange, error_response(HTTPException(error.status, error.reason)))
        await self._linger()

    def _broken_exchange(self) -> Exchange:
        """The exchange that can only be answered and ended; a new one if the request had no sound head."""
        exchange = self.exchange = self.exchange or Exchange(next(self.service.exchange_ids), self, None)
        exchange.broken = True
        return exchange

    async def last_words(self) -> None:
        """A deadline ended the exchange before its response began: 408 or 503, under a deadline of its own."""
        exchange = self.exchange
        if not self.ended_by or (exchange is not None and exchange.status):
            return
        status, self.ended_by = self.ended_by, 0
        with anyio.move_on_after(self.service.limits.linger_timeout):
            await self._respond(self._broken_exchange(), error_response(HTTPException(status)))
            await self._linger()

    async def _linger(self) -> None:
        """Let the client read the answer before the close: unread bytes would make the close a reset (RFC 9112 §9.6)."""
        with anyio.move_on_after(self.service.limits.linger_timeout):
            try:
                if self._socket is not None:
                    await self._socket.send_eof()
                while True:
                    await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
