"""Writing the response: at once where it is whole and small, else in steps that a gate may hold and a client delay.

Which bytes those are is ``wire``'s to say, a stream's pieces are ``streaming``'s, a file's are ``files``'s.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...lifecycle import events as ev
from ...lifecycle.emitter import Answered
from ...lifecycle.phases import RESPONSE
from ..handler.bodies import FileBody, FilePart
from ..handler.errors import HTTPException
from ..handler.eventbody import EventBody
from ..handler.response import TEXT, Response, error_response
from . import response_head as wire
from .exchange import Exchange
from .request_body import may_go_on
from .send_stream import close_body, send_stream
from .telling import tell_begun, tell_held_back, tell_served

if TYPE_CHECKING:
    from .http1 import HttpConnection

log = logging.getLogger("coserver.server")


def respond_at_once(connection: HttpConnection, exchange: Exchange, answer: Response | bytes) -> bytes | None:
    """Write the usual response, whole and small, and recycle, without waiting; what the socket did not take of it.

    None for any other kind, and for one that a gate might hold: nothing has been done then.
    """
    head, emitter, service = exchange.head, connection.emitter, connection.service
    if emitter.gates or service.closing or head.method == "HEAD" or exchange.after:
        return None
    if not (head.keep_alive and head.minor and connection.reader.body_done):
        return None
    usual = wire.usual_start(answer) or _usual_file(exchange, answer)
    if usual is None:
        return None
    status, start, body = usual
    connection.since = now = monotonic()
    if now >= service.date_until:
        service.date(now)
    data = b"%bcontent-length: %d\r\n%b%b" % (start, len(body), service.head_end, body)
    connection.phase = RESPONSE
    exchange.keep_alive = True
    exchange.status = status
    if emitter.heard:
        exchange.answer_head = data
        if emitter.prompt:
            tell_begun(connection, exchange)
    try:
        taken = connection.send_now(data)
    except Exception as error:
        tell_held_back(connection, exchange, now)
        connection.tell_broken(error)
        raise
    exchange.size = len(body)
    if service.heads is not None:
        service.heads(connection, exchange, data)
    if taken < len(data):
        tell_held_back(connection, exchange, now)
        exchange.answer_head = data
        return data[taken:]
    if emitter.heard:
        tell_served(connection, exchange)
    if service.access is not None:
        exchange.answer_head = data
        service.access(connection, exchange)
    if not connection.hang_up_watched and exchange.spooled is None and exchange.children is None:
        connection.running.discard(connection)
        connection.make_ready(now)
        if emitter.watched:
            emitter.tell(ev.ConnectionRecycled(**connection.facts()))
        connection.exchange = None
    return b""


def _usual_file(exchange: Exchange, answer: Response | bytes) -> tuple[int, bytes, bytes] | None:
    if isinstance(answer, bytes) or type(answer.body) is not FileBody:
        return None
    from .send_file import usual_file  # loaded with the first file that is served: many an API has none

    return usual_file(exchange, answer)


async def send_rest(connection: HttpConnection, exchange: Exchange, rest: bytes) -> None:
    """Wait until the socket takes the rest of a usual response."""
    try:
        await connection.send(rest)
    except BaseException as error:
        connection.tell_broken(error)
        raise
    _finished(connection, exchange)


async def respond(connection: HttpConnection, exchange: Exchange, answer: Response | bytes) -> None:
    """Write any response, and be held at its start if a gate says so.

    Raises NothingSent when a stream failed before its first piece: another answer can still be given.
    """
    response = Response(answer, content_type=TEXT) if isinstance(answer, bytes) else answer
    if type(response.body) is FileBody:
        from .send_file import settle

        response = settle(exchange, response)
    connection.since = now = monotonic()
    tell_held_back(connection, exchange, now)
    exchange.keep_alive = may_go_on(connection, exchange)
    try:
        head, framing = wire.encode_head(exchange, response, connection.service.date(now))
    except Exception as error:  # a handler's fields may be anything, numbers and None among them
        response = await _cannot_be_sent(connection, exchange, response, error)
        head, framing = wire.encode_head(exchange, response, connection.service.date(now))
    connection.phase = RESPONSE
    connection.deadline = math.inf
    exchange.size = 0
    exchange.answer_head = head
    try:
        if connection.emitter.heard:
            held = await _be_held(connection, exchange, response)
            if held is not response:
                response = held
                head, framing = wire.encode_head(exchange, response, connection.service.date(now))
                exchange.answer_head = head
        exchange.status = response.status
        await _send(connection, exchange, response, head, framing)
    except BaseException as error:
        connection.tell_broken(error)
        raise
    _finished(connection, exchange)


async def _be_held(connection: HttpConnection, exchange: Exchange, response: Response) -> Response:
    """Say that the response starts, and wait where a gate holds it; what is to be sent then.

    What is then never sent is closed.
    """
    exchange.answer = response
    try:
        await connection.reach(ev.ResponseStarted(**connection.facts(), status=response.status))
        answer = exchange.answer
    except Answered as given:
        answer = given.answer
    except BaseException:
        await _close(connection, response.body)
        raise
    finally:
        exchange.answer = None
    if answer.body is not response.body:
        await _close(connection, response.body)
    return answer


async def _send(connection: HttpConnection, exchange: Exchange, response: Response, head: bytes, framing: int) -> None:
    """Send head and body, each kind of body its own way; whoever sends a body also closes it."""
    body = response.body
    if connection.service.heads is not None and type(body) in (bytes, FilePart):  # a stream's goes with its first
        connection.service.heads(connection, exchange, head)
    if type(body) is bytes:
        await _send_whole(connection, exchange, head, body if framing > 0 else b"")
    elif type(body) is FilePart:
        from .send_file import send_file

        await send_file(connection, exchange, body, head, framing)
    elif type(body) is EventBody:
        from .send_events import send_events

        await send_events(connection, exchange, body, head, framing)
    else:
        await send_stream(connection, exchange, response, head, framing)


async def _send_whole(connection: HttpConnection, exchange: Exchange, head: bytes, body: bytes) -> None:
    """A body in memory: with its head in one write, unless it is so large that the copy would cost more."""
    before, exchange.size = connection.sent, len(body)
    if connection.emitter.taps and body:
        connection.emitter.pass_on(exchange, body, sent=True)
    try:
        if len(body) <= wire.ONE_WRITE:
            await connection.send(head + body if body else head)
        else:
            await connection.send(head)
            await connection.send(body)
    except BaseException:
        exchange.size = min(max(connection.sent - before - len(head), 0), len(body))
        raise


def _finished(connection: HttpConnection, exchange: Exchange) -> None:
    """The response has been sent to its end."""
    if connection.emitter.heard:
        tell_served(connection, exchange)
    if connection.service.access is not None:
        connection.service.access(connection, exchange)


async def _cannot_be_sent(
    connection: HttpConnection, exchange: Exchange, response: Response, error: Exception
) -> Response:
    log.error("handler %s: a response that cannot be sent: %r, request id %s", exchange.endpoint_name, error,
              exchange.request.request_id, extra=exchange.marks)  # fmt: skip
    await _close(connection, response.body)
    return error_response(HTTPException(500))


async def _close(connection: HttpConnection, body: Any) -> None:
    """Let go of a body that is not going to be sent."""
    if type(body) is FilePart:
        body.close()
    else:
        await close_body(connection, body.pieces if isinstance(body, EventBody) else body)
