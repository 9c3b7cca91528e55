"""One HTTP exchange: route, read the body, run the handler, respond. The methods stand in this order.

Each step enters a lifecycle phase, in which a gate may hold the exchange. Each failure is handled where it happens: a
refusal by the router, an error of the handler, a client that leaves, a deadline. The carrier (``carrier``) reads and
writes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from ...hooks.workers import run_for
from ...lifecycle import events as ev
from ...lifecycle.emitter import Answered
from ...lifecycle.phases import BODY, CLOSED, HANDLER, HEAD, RESPONSE
from ...protocol.errors import RemoteProtocolError
from ...protocol.fields import RawFields
from ...protocol.head import RequestHead
from ...transport.cancellation import is_cancellation
from ...upstream.errors import UpstreamError
from ...upstream.subrequest import Subrequest
from ..connection.pace import patience
from ..exchange import Exchange
from ..handler.bodies import EventBody, FileBody, FilePart
from ..handler.endpoint import AWAIT, HOSTED, WORKER, Endpoint
from ..handler.error_handlers import find_handler, plain_answer
from ..handler.errors import ClientLeft, HandlerFailure, HTTPException
from ..handler.request import Request
from ..handler.response import TEXT, Response, error_response, to_response
from ..limits import Limits, limits_of
from ..router import RouteError
from .carrier import NONE, PART, Sent
from .request_body import read_body
from .send_stream import BrokenOff, NothingSent, close_body, send_stream

if TYPE_CHECKING:
    from ..connection.base import Connection
    from ..handler.error_handlers import ErrorHandlers
    from ..handler.uploads import Spool
    from .carrier import Carrier

log = logging.getLogger("coserver.server")


class Hosted(Protocol):
    """The run of a hosted application, for one exchange."""

    @property
    def name(self) -> str:
        """The handler, as the application's framework knows it."""
        ...

    @property
    def route(self) -> str:
        """The pattern of its route; "" if there is none."""
        ...

    def client_left(self) -> bool:
        """The client has left. True if the application hears of it and goes on, false if it is to be cancelled."""
        ...


class HttpExchange(Exchange):
    """A request and its response. ``head`` is None for a request that was refused before it had a sound one."""

    # Defaults of the class, not set one by one: most exchanges never change them.
    phase = HEAD
    endpoint: Endpoint = None  # type: ignore[assignment]  # None until a route is found, which comes first
    params: Mapping[str, Any] = {}
    _request: Request | None = None
    status = 0  # until the response begins
    body_size = 0  # bytes of the request's body read so far
    patience: float | None = None  # seconds left for sending the body; None: all of ``body_timeout``
    size = 0  # bytes of the response's body
    framing = 0  # the length of the response's body, or one of ``carrier.NO_BODY``, MARKED, UNTIL_CLOSE
    keep_alive = False
    last = False  # the connection closes after it, to give its place to a client that waits
    continued = False  # 100 Continue was sent, or must not be sent any more
    broken = False  # nothing more can be read from the client: answer, then close
    handler_started_at = 0.0  # monotonic seconds; set while somebody observes
    events_deferred = False  # HandlerStarted and HandlerFinished wait for the end of the exchange, see ``Emitter``
    unsent = b""  # the rest of a usual answer, which the socket did not take
    until_close = False  # the close ends the body that is being sent: if it is cut short, reset
    spooled: Spool | None = None  # the body's temporary file
    after: list[Callable[[], Any]] | None = None  # the calls that ``request.after`` asked for
    answer_head = b""  # the response's bytes from its head on, if the access log or an observer reads them
    logged = False  # the access log has its record
    drain_scope: anyio.CancelScope | None = None  # around a stream of events: a drain cancels it
    answer: Response | None = None  # the response that is about to be sent, while a gate may edit it
    failed = False  # an error handler of the app has been called
    hosted: Hosted | None = None  # the run of a hosted application

    _carrier: Carrier | None = None  # its own, if its connection carries several exchanges

    def __init__(
        self, number: int, connection: Connection, head: RequestHead | None, limits: Limits, body_done: bool
    ) -> None:
        self.id = number
        self.connection = connection
        self.emitter = connection.emitter
        self.head: RequestHead = head  # type: ignore[assignment]  # None only on the way to a refusal
        self.limits = limits
        #: Whether the request's body has been read to its end. The carrier keeps it up to date.
        self.body_done = body_done
        self.started = self.since = monotonic()

    def __repr__(self) -> str:
        what = f"{self.head.method} {self.head.target}" if self.head else "no request"
        return f"<Exchange {self.id} {what} {self.status or 'unanswered'}>"

    @property
    def carrier(self) -> Carrier:
        """The carrier that reads its request and writes its response: its own, or the HTTP/1 connection."""
        carrier: Any = self._carrier or self.connection
        return carrier  # type: ignore[no-any-return]

    @property
    def handler(self) -> str:
        if self.hosted is not None:
            return self.hosted.name
        return self.endpoint.name if self.endpoint else ""

    @property
    def endpoint_name(self) -> str:
        """The handler's name for the log."""
        return self.handler or "none"

    @property
    def route(self) -> str:
        if self.hosted is not None:
            return self.hosted.route
        return self.endpoint.route if self.endpoint else ""

    @property
    def request(self) -> Request:
        """The request as the handler sees it. It is made at its first use."""
        request = self._request
        if request is None:
            request = self._request = Request(self.head, self.id, None, self.params, self.connection)
        return request

    @property
    def content(self) -> bytes:
        """The part of the request's body that is in memory. Any thread may read it."""
        return self._request.content if self._request is not None else b""

    @property
    def log_extra(self) -> dict[str, Any]:
        """The attributes of a log record about this exchange, as ``extra=``."""
        return {"request_id": self.request.request_id, "exchange": self.id, "connection": self.connection.id}

    @property
    def received(self) -> RawFields:
        return self.head.fields if self.head else []

    # The steps, in their order.

    async def run(self) -> None:
        """Make the answer and send it.

        Raises ClientLeft, BrokenOff, RemoteProtocolError, and anyio.BrokenResourceError or ClosedResourceError if the
        client leaves.
        """
        try:
            answer = await self.handle()
        except Answered as given:
            answer = given.answer
        if isinstance(answer, Sent):
            return
        sent = self.carrier.respond_at_once(self, answer)
        if sent is NONE:
            await self.respond(answer)
        elif sent is PART:
            await self.send_unsent()

    async def handle(self, error: BaseException | None = None) -> Response | bytes | Sent:
        """Route, read the body, run the handler, and make a response of the value that it returns.

        With ``error``, run the app's error handler for it, or make a plain answer. A str becomes bytes: the commonest
        answer needs no Response object. A hosted application sends its answer itself. Raises Answered if a gate answers
        the exchange.
        """
        connection = self.connection
        emitter = self.emitter
        if error is None:
            if emitter.watched:
                fields = self.event_fields()
                await self.tell_and_hold(ev.RequestHead(**fields, method=self.head.method, target=self.head.target))
            error = self._route()
            if self.body_done:
                if emitter.watched:
                    await self._tell_request_read()
            elif error is None:
                await self._read_body()
                if self.body_done and (emitter.watched or (self.body_size and emitter.heard)):
                    await self._tell_request_read()
        if error is not None:
            if not self._take_error_handler(error):
                return self._plain_answer(error)
            if not self.body_done:
                await self._read_body()
        endpoint, params = self.endpoint, self.params
        request = self.request if endpoint.takes_subject else None
        self.since = now = monotonic()
        self.phase = HANDLER
        self.deadline = now + self.limits.handler_timeout
        connection.running.add(self)
        watched = emitter.heard
        try:
            if watched:
                self.watched = self.events_deferred = True
                self.handler_started_at = now
                if emitter.gates:
                    await self.tell_and_hold(self._handler_started())
                    params = self.params  # a gate may have changed them
                    request = self.request if endpoint.takes_subject else None
                elif emitter.prompt:
                    emitter.tell(self._handler_started())
            if endpoint.kind is AWAIT:
                bare = endpoint.bare
                value = await (bare() if bare is not None else endpoint.call(request, params))
            elif endpoint.kind is WORKER:
                value = await run_for(self, connection.service.waits, endpoint.call, request, params)
                if type(value) is CoroutineType:  # a lambda or a decorator that hides an async def
                    value = await value
            elif endpoint.kind is HOSTED:
                sent: Sent = await endpoint.call(self, params)
                return sent
            else:
                value = endpoint.call(request, params)
            if type(value) is str:
                answer: Response | bytes = value.encode()
            else:
                if isinstance(value, Subrequest):  # return users.forward(request)
                    value = await value
                answer = to_response(value)
        except BaseException as raised:
            return await self._handler_raised(raised)
        if watched and not self.events_deferred:
            self._tell_handler_finished(monotonic())
        return answer

    def _route(self) -> HTTPException | None:
        """Find the handler. Returns an error if the request is refused before its body: 404, 405, 413, 501."""
        head, service = self.head, self.connection.service
        try:
            endpoint, self.params = service.router.find(head.method, head.path)
            self.endpoint = endpoint
            if head.upgrade:
                self._refuse_upgrade(head.upgrade)
            if endpoint.limits:
                self.limits = limits_of(endpoint.limits, service.limits)
            if not self.body_done:
                self.carrier.limit_body(self.limits.body_size)
        except HTTPException as error:
            return error
        except RemoteProtocolError as error:
            connection = self.connection
            service.breaches.note(error.limit, connection.peer, "%r: %s (body_size)", connection, error.reason)
            return HTTPException(error.status)
        return None

    def _refuse_upgrade(self, protocols: bytes) -> None:
        """Refuse a WebSocket handshake (RFC 6455 §4.2), which no handler answers yet. Raises HTTPException (501).

        Other protocols are ignored, as they may be (RFC 9110 §7.8): the request is served by HTTP/1.1.
        """
        asked = [one.strip(b" \t").lower() for one in protocols.split(b",")]
        if self.head.method == "GET" and b"websocket" in asked:
            raise HTTPException(
                501,
                "WebSocket is not supported: this route answers plain HTTP. To send events to a browser, return "
                "Response.events here, and use new EventSource(url) there",
            )

    async def _read_body(self) -> None:
        """Read the whole body, unless the handler reads it as a stream. For a gate it is read: it may be changed."""
        if self.endpoint.kind is HOSTED and not self.emitter.gates:
            return
        if self.endpoint.stream:
            self.request.set_pieces(self.next_piece)
        else:
            await read_body(self)

    async def next_piece(self) -> bytes:
        """The body's next bytes, empty at its end. Raises ClientLeft, RemoteProtocolError."""
        return await self.carrier.read_piece(self)

    async def await_body(self, receive: Callable[[], Awaitable[bytes]]) -> bytes:
        """Wait for more of the body by ``receive``, within ``Limits.body_timeout`` and ``body_rate``.

        Raises ClientLeft.
        """
        sweeper, limits = self.connection.service.loop.sweeper, self.limits
        phase, since, deadline = self.phase, self.since, self.deadline
        left = limits.body_timeout if self.patience is None else self.patience
        self.phase = BODY
        self.since = now = monotonic()
        self.deadline = now + left
        sweeper.add(self)
        try:
            data = await receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            self.broken = True
            self.phase, self.since, self.deadline = phase, since, deadline  # the handler may go on
            raise ClientLeft("the client left in the middle of a body") from error
        except BaseException:
            if not self.scope.cancel_called:  # the handler itself waits no longer, and goes on
                self.patience = left - (monotonic() - now)
                self.phase, self.since, self.deadline = phase, since, deadline
            raise
        finally:
            sweeper.subjects.discard(self)
        if self.scope.cancel_called:
            await anyio.lowlevel.checkpoint()  # if data and a deadline come in one tick, the deadline counts
        self.patience = patience(left, monotonic() - now, len(data), limits.body_timeout, limits.body_rate)
        self.phase, self.since, self.deadline = phase, since, deadline
        return data

    async def take_piece(self, data: bytes) -> None:
        """Count a piece of the body that the carrier has read. For a streaming handler, show it, and tell the end."""
        emitter = self.emitter
        self.body_size += len(data)
        if not emitter.heard and not emitter.taps:
            return
        streamed = self.endpoint is not None and (self.endpoint.stream or self.hosted is not None)
        if streamed and data and emitter.taps:
            emitter.pass_on(self, data, sent=False)  # it is kept nowhere else
        if streamed and self.body_done and emitter.heard:
            await self._tell_request_read()

    async def _tell_request_read(self) -> None:
        """Tell that the request has been read to its end: together with its head, or while the handler runs."""
        phase, self.phase = self.phase, BODY
        await self.tell_and_hold(ev.RequestRead(**self.event_fields(), size=self.body_size))
        self.phase = phase

    # What goes wrong.

    async def _handler_raised(self, error: BaseException) -> Response | bytes | Sent:
        """Make an answer to an exception of the handler. Raises a cancellation, ClientLeft, RemoteProtocolError."""
        emitter = self.emitter
        if self.events_deferred:
            emitter.tell(self._handler_started())
        if not isinstance(error, Exception) and is_cancellation(error):
            if self.watched:
                emitter.tell(ev.HandlerCancelled(**self.event_fields()))
            raise error
        if isinstance(error, Answered):
            emitter.tell(ev.HandlerFinished(**self.event_fields()))
            answer: Response = error.answer
            return answer
        if self.watched:
            cause = error.__cause__ if isinstance(error, BrokenOff) and error.__cause__ else error
            emitter.tell(ev.HandlerFailed(**self.event_fields(), error=cause))
        if isinstance(error, ClientLeft | RemoteProtocolError | BrokenOff):
            raise error
        return await self.handle(error)

    def _take_error_handler(self, error: BaseException) -> bool:
        """Make the app's error handler for ``error`` the endpoint; false if there is none. Log an unexpected error."""
        self.after = None
        endpoint, expected = self._error_endpoint(error)
        self._log_error(error, expected)
        if endpoint is None:
            return False
        self.failed = True
        self.watched = False  # nobody has been told of this handler yet
        self.endpoint, self.params = endpoint, {"error": error}
        return True

    def _plain_answer(self, error: BaseException) -> Response:
        """The answer to an error without an error handler. Under debug, a 404 of the router lists the routes."""
        show = self.connection.service.no_route
        if show is not None and isinstance(error, RouteError) and error.status == 404:
            return show(self.request)
        return plain_answer(error)

    def _error_endpoint(self, error: BaseException) -> tuple[Endpoint | None, bool]:
        """Find the app's error handler for ``error``, and whether the app expects the error.

        There is none for the failure of an error handler.
        """
        if self.failed or not isinstance(error, Exception):
            return None, False
        tables: tuple[ErrorHandlers, ...] = self.endpoint.errors if self.endpoint else ()
        if isinstance(error, RouteError):
            tables = error.tables
        endpoint, expected = find_handler(error, tables)
        if endpoint is None and not isinstance(error, HTTPException | UpstreamError):
            return self.connection.service.last_resort, False
        return endpoint, expected

    def _log_error(self, error: BaseException, expected: bool) -> None:
        """Log an error that the app did not expect; count the limit that the request broke."""
        if isinstance(error, UpstreamError):  # its message says where it failed; a traceback would not
            if not expected:
                log.warning("handler %s, %r, request id %s: %s", self.endpoint_name, self, self.request.request_id,
                            error, extra=self.log_extra)  # fmt: skip
        elif not expected and not isinstance(error, HTTPException):
            if isinstance(error, TypeError | AttributeError):
                from ..handler.other_frameworks import explain

                explain(error)
            failure = HandlerFailure(self.endpoint_name, self, error)
            failure.log(log, "handler %s failed on %r, request id %s", self.endpoint_name, self,
                        self.request.request_id, extra=self.log_extra)  # fmt: skip
        if isinstance(error, HTTPException) and error.limit:
            connection = self.connection
            note = connection.service.breaches.note
            note(error.limit, connection.peer, "%r: %s (%s)", connection, error.detail, error.limit)

    async def refuse(self, error: RemoteProtocolError) -> bool:
        """Answer a client that broke the protocol, and read nothing more from it.

        The app's error handler answers if the head was sound. Returns false if the response was broken off.
        """
        self.broken = True
        emitter = self.emitter
        if emitter.heard:
            emitter.tell(ev.RequestRefused(**self.event_fields(), status=error.status, reason=error.reason))
        if self.status:
            return True
        refusal = HTTPException(error.status, error.reason)
        try:
            if self.endpoint is not None and not self.failed:
                answer = await self.handle(refusal)
                assert not isinstance(answer, Sent)  # an error handler is not hosted
                await self.respond(answer)
                return True
        except (ClientLeft, RemoteProtocolError, BrokenOff):  # it read the rest of the body, or its stream failed
            if self.status:
                return False
        await self.respond(error_response(refusal))
        return True

    async def answer_deadline(self) -> None:
        """Answer 408 or 503, after a deadline that passed before the response began."""
        self.broken = True
        await self.respond(error_response(HTTPException(self.late_status)))

    # The response.

    async def respond(self, answer: Response | bytes) -> None:
        """Write a response of any kind. A gate may hold its start.

        A stream that fails before its first piece is answered like a handler that fails.
        """
        while True:
            try:
                await self._respond(answer)
                return
            except NothingSent as failure:
                other = await self.handle(failure.error)
                assert not isinstance(other, Sent)  # an error handler is not hosted
                answer = other

    async def _respond(self, answer: Response | bytes) -> None:
        """Write one response. Raises NothingSent if a stream fails before its first piece: another can be sent."""
        response = Response(answer, content_type=TEXT) if isinstance(answer, bytes) else answer
        if type(response.body) is FileBody:
            from .send_file import settle

            response = settle(self, response)
        response, head = await self.begin_response(response)
        try:
            await self._send(response, head)
        except BaseException as error:
            self.tell_broken(error)
            raise
        self.response_sent()

    async def begin_response(self, response: Response) -> tuple[Response, bytes]:
        """Begin to respond: encode the head, wait while a gate holds it. Returns the response to send, and its head.

        They may be others than those given: a gate may change the answer.
        """
        carrier, service = self.carrier, self.connection.service
        self.since = now = monotonic()
        self.tell_deferred(now)
        self.keep_alive = carrier.decide_keep_alive(self)
        try:
            head = carrier.encode_head(self, response, service.date(now))
        except Exception as error:  # a handler may give any object as a field, a number or None too
            response = await self._cannot_be_sent(response, error)
            head = carrier.encode_head(self, response, service.date(now))
        self.phase = RESPONSE
        self.deadline = math.inf
        self.size = 0
        self.answer_head = head
        try:
            if self.emitter.heard:
                held = await self._hold_response(response)
                if held is not response:
                    response = held
                    head = self.answer_head = carrier.encode_head(self, response, service.date(now))
        except BaseException as error:
            self.tell_broken(error)
            raise
        self.status = response.status
        return response, head

    async def _hold_response(self, response: Response) -> Response:
        """Tell that the response starts, wait while gates hold it, and return the response to send.

        Closes a body that is not going to be sent.
        """
        self.answer = response
        try:
            await self.tell_and_hold(ev.ResponseStarted(**self.event_fields(), status=response.status))
            answer = self.answer
        except Answered as given:
            answer = given.answer
        except BaseException:
            await self._close_body(response.body)
            raise
        finally:
            self.answer = None
        if answer.body is not response.body:
            await self._close_body(response.body)
        return answer

    async def _send(self, response: Response, head: bytes) -> None:
        """Send head and body, each kind of body by its sender. The sender also closes the body."""
        body = response.body
        if type(body) is bytes:
            self.show_head(head)
            if self.emitter.taps and body and self.framing > 0:
                self.emitter.pass_on(self, body, sent=True)
            await self.carrier.send_whole(self, head, body if self.framing > 0 else b"")
        elif type(body) is FilePart:
            from .send_file import send_file

            self.show_head(head)
            await send_file(self, body, head)
        elif type(body) is EventBody:
            from .send_events import send_events

            await send_events(self, body, head)
        else:
            await send_stream(self, response, head)

    async def send_unsent(self) -> None:
        """Send the rest of a usual answer."""
        unsent, self.unsent = self.unsent, b""
        try:
            await self.connection.send(unsent)
        except BaseException as error:
            self.tell_broken(error)
            raise
        self.response_sent()

    def show_head(self, head: bytes) -> None:
        """Log the response's head, if heads are logged."""
        heads = self.connection.service.heads
        if heads is not None:
            heads(self, head)

    def response_sent(self) -> None:
        """Tell and log that the whole response has been sent."""
        if self.emitter.heard:
            self.tell_served()
        if self.connection.service.access is not None:
            self.connection.service.access(self)

    async def _cannot_be_sent(self, response: Response, error: Exception) -> Response:
        log.error("handler %s: a response that cannot be sent: %r, request id %s", self.endpoint_name, error,
                  self.request.request_id, extra=self.log_extra)  # fmt: skip
        await self._close_body(response.body)
        return error_response(HTTPException(500))

    async def _close_body(self, body: Any) -> None:
        """Close a body that is not going to be sent."""
        if type(body) is FilePart:
            body.close()
        else:
            await close_body(self, body.pieces if isinstance(body, EventBody) else body)

    # Events of a handler and its usual response: told at once, or at the end of the exchange (see ``Emitter``).

    def _handler_started(self) -> ev.Event:
        """Make the deferred HandlerStarted."""
        self.events_deferred = False
        return ev.make_handler_started(
            at=self.handler_started_at,
            connection=self.connection.id,
            exchange=self.id,
            source=self,
            handler=self.endpoint_name,
        )

    def _tell_handler_finished(self, at: float) -> None:
        self.emitter.tell(
            ev.make_handler_finished(at=at, connection=self.connection.id, exchange=self.id, source=self)
        )

    def handler_answers(self) -> None:
        """A hosted application begins its answer. For the events this is the end of its handler."""
        if self.watched:
            self.watched = False
            if not self.events_deferred:
                self._tell_handler_finished(monotonic())

    def set_apart(self) -> bool:
        """Leave the connection to another task: the answer is sent, and the application goes on in this one.

        False if that cannot be: the connection carries several exchanges, or too much work goes on already.
        """
        return self._scope is None and self.carrier.set_apart(self)

    def tell_deferred(self, at: float) -> None:
        """Emit the deferred HandlerStarted and HandlerFinished, if there are any. The handler returned at ``at``."""
        if self.events_deferred:
            self.emitter.tell(self._handler_started())
            self._tell_handler_finished(at)

    def tell_response_started(self) -> None:
        """Tell that the usual response is about to be sent, for observers that want events at once."""
        self.tell_deferred(self.since)
        emitter = self.emitter
        if emitter.watched:
            emitter.tell(ev.ResponseStarted(**self.event_fields(), status=self.status))

    def tell_served(self) -> None:
        """Tell that the whole response has been sent."""
        emitter = self.emitter
        if self.events_deferred:
            emitter.tell_served(self, monotonic())
            self.events_deferred = False
        else:
            emitter.tell(
                ev.make_response_finished(
                    at=monotonic(), connection=self.connection.id, exchange=self.id, source=self, size=self.size
                )
            )

    def tell_parked(self) -> None:
        """Tell that the handler was cancelled: it swallows every cancellation, so the server gives it up."""
        emitter = self.emitter
        if self.phase is RESPONSE:
            if emitter.heard:
                emitter.tell(ev.ResponseCancelled(**self.event_fields()))
        elif self.watched:
            if self.events_deferred:
                emitter.tell(self._handler_started())
            emitter.tell(ev.HandlerCancelled(**self.event_fields()))

    def client_left(self) -> None:
        if self.hosted is None or not self.hosted.client_left():
            super().client_left()

    def drain(self) -> None:
        """End a stream of events, and release a gate's hold: the server stops."""
        if self.drain_scope is not None:
            self.drain_scope.cancel()  # clients of an event stream reconnect by themselves
        super().drain()

    # For a gate that holds the exchange; see ``edit``.

    def edit(self, phase: str, given: Mapping[str, Any]) -> None:
        from .edit import edit_exchange  # few are ever changed

        edit_exchange(self, phase, given)

    def make_answer(self, status: int, body: Any, headers: Any) -> Response:
        from .edit import make_answer

        return make_answer(status, body, headers)

    def close(self) -> None:
        """Cancel its running subrequests, and close the body's temporary file."""
        super().close()
        if self.spooled is not None:
            self.spooled.close()

    def cut_short(self, reason: str) -> None:
        """End before the response was sent whole. The work after the response is done, and the exchange is logged."""
        self.close()
        self.phase = CLOSED
        service = self.connection.service
        if self.after and self.status:  # the handler has succeeded, though the client left
            service.run_after(self)
        if service.access is not None and not self.logged:
            service.access(self, reason or "cancelled by the server")
