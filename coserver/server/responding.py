"""Writing the response: at once where it is whole and small, else in steps that a gate may hold and a client delay.

Which bytes those are is ``wire``'s to say, a stream's pieces are ``streaming``'s, a file's are ``files``'s.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import TYPE_CHECKING

from ..lifecycle import events as ev
from ..lifecycle.phases import RESPONSE
from . import wire
from .bodies import may_go_on
from .errors import HTTPException
from .eventbody import EventBody
from .exchange import Exchange
from .filebody import FileBody, FilePart
from .response import TEXT, Response, error_response
from .streaming import close_body, send_stream

if TYPE_CHECKING:
    from .connection import HttpConnection

log = logging.getLogger("coserver.server")


def respond_at_once(connection: HttpConnection, exchange: Exchange, answer: Response | bytes) -> bytes | None:
    """Write the usual response, whole and small, and recycle, without waiting; what the socket did not take of it.

    None for any other kind, and for one that a gate might hold: nothing has been done then.
    """
    head, emitter, service = exchange.head, connection.emitter, connection.service
    if emitter.gates or service.draining or head.method == "HEAD" or exchange.after:
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
    if emitter.watched:
        emitter.tell(ev.ResponseStarted(**connection.facts(), status=status))
    try:
        taken = connection.send_now(data)
    except Exception as error:
        connection.tell_broken(error)
        raise
    exchange.size = len(body)
    if service.heads is not None:
        service.heads(connection, exchange, data)
    if taken < len(data):
        exchange.answer_head = data
        return data[taken:]
    if emitter.watched:
        emitter.tell(ev.ResponseFinished(**connection.facts(), size=len(body)))
    if service.access is not None:
        exchange.answer_head = data
        service.access(connection, exchange)
    if not connection.hang_up_watched and exchange.spooled is None:
        connection.running.discard(connection)
        connection.make_ready(now)
        if emitter.watched:
            emitter.tell(ev.ConnectionRecycled(**connection.facts()))
        connection.exchange = None
    return b""


def _usual_file(exchange: Exchange, answer: Response | bytes) -> tuple[int, bytes, bytes] | None:
    if isinstance(answer, bytes) or type(answer.body) is not FileBody:
        return None
    from .files import usual_file  # loaded with the first file that is served: many an API has none

    return usual_file(exchange, answer)


async def send_rest(connection: HttpConnection, exchange: Exchange, rest: bytes) -> None:
    """Wait until the socket takes the rest of a usual response."""
    try:
        await connection.send(rest)
    except BaseException as error:
        connection.tell_broken(error)
        raise
    if connection.emitter.watched:
        connection.emitter.tell(ev.ResponseFinished(**connection.facts(), size=exchange.size))
    if connection.service.access is not None:
        connection.service.access(connection, exchange)


async def respond(connection: HttpConnection, exchange: Exchange, answer: Response | bytes) -> None:
    """Write any response, and be held at its start if a gate says so.

    Raises NothingSent when a stream failed before its first piece: another answer can still be given.
    """
    response = Response(answer, content_type=TEXT) if isinstance(answer, bytes) else answer
    if type(response.body) is FileBody:
        from .files import settle

        response = settle(exchange, response)
    connection.since = now = monotonic()
    exchange.keep_alive = not connection.service.draining and may_go_on(connection, exchange)
    try:
        head, framing = wire.encode_head(exchange, response, connection.service.date(now))
    except Exception as error:  # a handler's fields may be anything, numbers and None among them
        response = await _cannot_be_sent(connection, exchange, response, error)
        head, framing = wire.encode_head(exchange, response, connection.service.date(now))
    connection.phase = RESPONSE
    connection.deadline = math.inf
    exchange.size = 0
    exchange.answer_head = head
    body = response.body
    sent = connection.sent
    watched = connection.emitter.watched
    try:
        if watched:
            await connection.reach(ev.ResponseStarted(**connection.facts(), status=response.status))
        exchange.status = response.status
        if connection.service.heads is not None and type(body) in (bytes, FilePart):  # a stream's goes with its first
            connection.service.heads(connection, exchange, head)
        if type(body) is FilePart:
            from .files import send_file

            await send_file(connection, exchange, body, head, framing)
        elif type(body) is EventBody:
            from .event_stream import send_events

            await send_events(connection, exchange, body, head, framing)
        elif type(body) is not bytes:
            await send_stream(connection, exchange, response, head, framing)
        else:
            exchange.size = size = max(framing, 0)
            await connection.send(head if not size or size > wire.ONE_WRITE else head + body)
            if size > wire.ONE_WRITE:
                await connection.send(body)
    except BaseException as error:
        if type(body) is bytes:
            exchange.size = min(max(connection.sent - sent - len(head), 0), exchange.size)
        connection.tell_broken(error)
        raise
    finally:
        if type(body) is FilePart:
            body.close()
    if watched:
        connection.emitter.tell(ev.ResponseFinished(**connection.facts(), size=exchange.size))
    if connection.service.access is not None:
        connection.service.access(connection, exchange)


async def _cannot_be_sent(
    connection: HttpConnection, exchange: Exchange, response: Response, error: Exception
) -> Response:
    log.error("handler %s: a response that cannot be sent: %r, request id %s", exchange.endpoint_name, error,
              exchange.request.request_id, extra=exchange.marks)  # fmt: skip
    body = response.body
    await close_body(connection, body.pieces if isinstance(body, EventBody) else body)
    return error_response(HTTPException(500))
