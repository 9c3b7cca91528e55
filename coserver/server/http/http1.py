"""The story of an HTTP/1 connection, top to bottom: read request, dispatch, write response, recycle.

Each step ends by reaching a lifecycle phase; a gate may hold it there, and nothing else changes. What can go wrong is
told where it happens: a refusal by the protocol, an error of the handler, a client that leaves, a deadline.
"""

from __future__ import annotations

import logging
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream

from ...hooks.workers import run_for
from ...lifecycle import events as ev
from ...lifecycle.emitter import Answered
from ...lifecycle.phases import ACCEPT, BODY, HANDLER, HEAD, RECYCLE, RESPONSE
from ...protocol.errors import RemoteProtocolError
from ...protocol.http1 import Http1Reader
from ...transport.cancellation import is_cancellation
from ...upstream import parent
from ...upstream.parent import end_forwarding
from ...upstream.subrequest import Subrequest
from ..afterwork import begin_work, work_after
from ..connection.base import Accepted
from ..connection.linger import linger
from ..handler.endpoint import AWAIT, WORKER
from ..handler.error_handlers import plain_answer
from ..handler.errors import ClientLeft, HTTPException
from ..handler.response import Response, to_response
from ..limits import limits_of
from .endings import last_words, refuse
from .exchange import Exchange, next_exchange_id
from .failing import endpoint_for
from .request_body import discard_body, next_piece, read_body
from .response_writer import respond, respond_at_once, send_rest
from .send_stream import BrokenOff, NothingSent
from .telling import handler_started, tell_handled, tell_started

if TYPE_CHECKING:
    from ..service import Service

log = logging.getLogger("coserver.server")

#: Seconds in which a client that means to ask something has begun to; browsers also connect ahead of time.
_SILENT = 1.0


class HttpConnection(Accepted):
    """One HTTP/1.0 or 1.1 connection; ``exchange`` is the request being served, None between two."""

    __slots__ = ("last_served", "reader")
    protocol = "http/1.1"
    exchange: Exchange | None

    def __init__(self, service: Service, stream: ByteStream, peer: str) -> None:
        super().__init__(service, stream, peer)
        self.reader = Http1Reader(service.parsers, service.limits.head)
        self.last_served = service.last_served  # the exchange after so many is the last one

    def close(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.close()
            if exchange.until_close and self._socket is not None:
                self._socket.reset()
            if exchange.after and exchange.status:  # its handler did what it was asked, though the client left
                begin_work(self.service, exchange.after, exchange.id)
            if self.service.access is not None and not exchange.logged:
                self.service.access(self, exchange, self.reason or "cancelled by the server")
        super().close()

    def parked(self, where: str) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.watched and self.phase is not RESPONSE:
            if exchange.untold:
                tell_started(self, exchange)
            self.emitter.tell(ev.HandlerCancelled(**self.facts()))
        elif exchange is not None and self.phase is RESPONSE and self.emitter.heard:
            self.emitter.tell(ev.ResponseCancelled(**self.facts()))
        super().parked(where)

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
                data = None  # type: ignore[assignment]  # a body's beginning may be in it, 64 KB for as long as it takes
                if self.served >= self.last_served:
                    head.keep_alive = False  # Limits.requests_per_connection
                self.phase = HEAD
                self.since = now = monotonic()
                exchange = self.exchange = Exchange(next_exchange_id(), self, head, now)
                if parent.opened:
                    self.tell_tasks(exchange.id)
                if self.service.heads is not None:
                    self.service.heads(self, exchange)
                try:
                    if self.emitter.watched:
                        await self.reach(ev.RequestHead(**self.facts(), method=head.method, target=head.target))
                    refusal = self._route(exchange)
                    if refusal is None and not reader.body_done:
                        await self._read_body(exchange)
                    if (self.emitter.watched or (exchange.body_size and self.emitter.heard)) and reader.body_done:
                        await self.request_read(exchange)
                    if refusal is None:
                        answer = await self._run(exchange)
                    else:
                        answer = await self.answer_error(exchange, refusal)
                except Answered as given:
                    answer = given.answer
                rest = respond_at_once(self, exchange, answer)
                if rest is None:
                    await self.respond(exchange, answer)
                elif rest:
                    await send_rest(self, exchange, rest)
                if self.exchange is not None and not await self._recycle(exchange):
                    return False
                if self.context_changed():
                    return True
                head = exchange = refusal = answer = rest = None  # type: ignore[assignment]  # 1 KB less idle
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

    def _route(self, exchange: Exchange) -> HTTPException | None:
        """Find the handler, and refuse what needs none of the body: 404, 405, 413. None if all is well."""
        head, reader = exchange.head, self.reader
        try:
            endpoint, params = self.service.router.find(head.method, head.path)
            exchange.endpoint = endpoint
            exchange.params = params
            if endpoint.limits:
                self.limits = limits_of(endpoint.limits, self.service.limits)
            if not reader.body_done:
                reader.limit_body(self.limits.body_size)
        except HTTPException as error:
            return error
        except RemoteProtocolError as error:
            self.service.breaches.note(error.limit, self.peer, "%r: %s (body_size)", self, error.reason)
            return HTTPException(error.status)
        return None

    async def _read_body(self, exchange: Exchange) -> None:
        """Read the body that the handler wants to have whole; a streaming one reads for itself."""
        if exchange.endpoint.stream:
            exchange.request.set_pieces(lambda: next_piece(self, exchange))
        else:
            await read_body(self, exchange)

    async def request_read(self, exchange: Exchange) -> None:
        """The request has been read to its end. It may have come with its head, or while its handler runs."""
        phase, self.phase = self.phase, BODY
        await self.reach(ev.RequestRead(**self.facts(), size=exchange.body_size))
        self.phase = phase

    async def _run(self, exchange: Exchange) -> Response | bytes:
        """Run the handler, on the loop or in a worker, and make a response of what it returns.

        Of a plain str it takes the bytes: the commonest answer needs no Response of its own.
        """
        endpoint, params = exchange.endpoint, exchange.params
        request = exchange.request if endpoint.takes_subject else None
        self.since = now = monotonic()
        self.phase = HANDLER
        self.deadline = now + self.limits.handler_timeout
        self.running.add(self)
        watched = exchange.watched = self.emitter.heard
        try:
            if watched:
                exchange.untold = now
                if self.emitter.gates:
                    await self.reach(handler_started(self, exchange))
                    params = exchange.params  # a gate may have changed them
                    request = exchange.request if endpoint.takes_subject else None
                elif self.emitter.prompt:
                    tell_started(self, exchange)
            if endpoint.kind is AWAIT:
                value = await endpoint.call(request, params)
            elif endpoint.kind is WORKER:
                value = await run_for(self, self.service.waits, endpoint.call, request, params)
                if type(value) is CoroutineType:  # a lambda or a decorator that hides an async def
                    value = await value
            else:
                value = endpoint.call(request, params)
            if type(value) is str:
                answer: Response | bytes = value.encode()
            else:
                if type(value) is Subrequest:  # return users.forward(request)
                    value = await value
                answer = to_response(value)
        except BaseException as error:
            return await self._handler_raised(exchange, error)
        if watched and not exchange.untold:
            tell_handled(self, exchange, monotonic())
        return answer

    async def _handler_raised(self, exchange: Exchange, error: BaseException) -> Response | bytes:
        """An answer for what a handler raised; a cancellation of the connection goes on its way."""
        if exchange.untold:
            tell_started(self, exchange)
        if not isinstance(error, Exception) and is_cancellation(error):
            if exchange.watched:
                self.emitter.tell(ev.HandlerCancelled(**self.facts()))
            raise error
        if isinstance(error, Answered):
            self.emitter.tell(ev.HandlerFinished(**self.facts()))
            answer: Response = error.answer
            return answer
        if exchange.watched:
            self.emitter.tell(ev.HandlerFailed(**self.facts(), error=error))
        if isinstance(error, ClientLeft | RemoteProtocolError):
            raise error
        return await self.answer_error(exchange, error)

    async def answer_error(self, exchange: Exchange, error: BaseException) -> Response | bytes:
        """The answer to an error: by the app's own handler for it, else the status in words.

        What an error handler raises is answered in words.
        """
        exchange.after = None
        endpoint = endpoint_for(self, exchange, error)
        if endpoint is None:
            return plain_answer(error)
        exchange.failed = True
        exchange.endpoint, exchange.params = endpoint, {"error": error}
        if not self.reader.body_done:
            await self._read_body(exchange)
        return await self._run(exchange)

    def make_ready(self, now: float) -> None:
        """Nothing is left of the exchange; the next request may come, within ``Limits.idle_timeout``."""
        self.served += 1
        self.spent += now - self.exchange.started  # type: ignore[union-attr]  # it ends just now
        self.limits = self.service.limits
        self.phase = RECYCLE
        self.since = now
        self.deadline = now + self.limits.idle_timeout

    async def respond(self, exchange: Exchange, answer: Response | bytes) -> None:
        """Write the response; a stream that fails before its first piece is answered like a handler that does."""
        while True:
            try:
                await respond(self, exchange, answer)
                return
            except NothingSent as failure:
                answer = await self.answer_error(exchange, failure.error)

    async def _recycle(self, exchange: Exchange) -> bool:
        """Make ready for the next request; False if there is to be none."""
        service, reader = self.service, self.reader
        if exchange.after:
            await work_after(self, exchange)
        self.running.discard(self)
        self.unwatch()
        if exchange.children is not None and not reader.body_done:
            await end_forwarding(exchange)
        if not exchange.keep_alive or (not reader.body_done and not await discard_body(self, exchange)):
            self.served += 1
            self.spent += monotonic() - exchange.started
            self.end("the response said close")
            await linger(self, self.limits, owed=bool(reader.buffer) or not reader.body_done)
            return False
        exchange.close()
        self.make_ready(monotonic())
        if self.emitter.watched:
            await self.reach(ev.ConnectionRecycled(**self.facts()))
        self.exchange = None
        if service.draining:
            self.drain()
        return True

    def idle(self, now: float) -> bool:
        """It waits for its next request, or has been silent from the first for longer than clients need."""
        if self.exchange is not None or self.reason:
            return False
        return self.phase is RECYCLE or (self.phase is ACCEPT and now - self.since > _SILENT)

    def give_way(self) -> None:
        self.last_served = 0  # a request that has just arrived is answered, with close
        super().give_way()

    def drain(self) -> None:
        if self.exchange is not None and self.exchange.endless is not None:
            self.exchange.endless.cancel()  # clients of such a stream come again by themselves
        super().drain()

    async def last_words(self) -> None:
        await last_words(self)
