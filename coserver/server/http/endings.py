"""How an HTTP connection ends when it does not end well: a refusal, a deadline, a client that is still sending."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from ...lifecycle import events as ev
from ...protocol.errors import RemoteProtocolError
from ..connection.linger import linger
from ..handler.errors import ClientLeft, HTTPException
from ..handler.response import error_response
from .exchange import Exchange, next_exchange_id
from .send_stream import BrokenOff

if TYPE_CHECKING:
    from .http1 import HttpConnection


async def refuse(connection: HttpConnection, error: RemoteProtocolError) -> None:
    """The client broke the protocol: answer, and read no request from it again."""
    connection.end(f"refused: {error.reason}")
    _note(connection, error)
    if connection.service.heads is not None and connection.exchange is None:
        connection.service.heads(connection, None, refused=connection.reader.buffer)
    exchange = _broken_exchange(connection)
    if connection.emitter.heard:
        refused = ev.RequestRefused(**connection.facts(), status=error.status, reason=error.reason)
        connection.emitter.tell(refused)
    if exchange.status or await _told(connection, exchange, HTTPException(error.status, error.reason)):
        await linger(connection, connection.limits, owed=True)


def _note(connection: HttpConnection, error: RemoteProtocolError) -> None:
    reason, level = error.reason, logging.WARNING
    if isinstance(error.__cause__, OSError):  # it was the server that could not: a full disk
        reason, level = f"{reason}: {error.__cause__}", logging.ERROR
    note, told = connection.service.breaches.note, "%r: refused with %d: %s"
    note(error.limit or "protocol", connection.peer, told, connection, error.status, reason, level=level)


async def _told(connection: HttpConnection, exchange: Exchange, error: HTTPException) -> bool:
    """Answer, by the app's own handler for it if the head was sound; false if that broke its response off."""
    try:
        if exchange.endpoint is not None and not exchange.failed:
            await connection.respond(exchange, await connection.answer_error(exchange, error))
            return True
    except (ClientLeft, RemoteProtocolError, BrokenOff):  # it asked for the rest of the body, or its stream failed
        if exchange.status:
            return False
    await connection.respond(exchange, error_response(error))
    return True


async def last_words(connection: HttpConnection) -> None:
    """A deadline ended the exchange before its response began: 408 or 503, under a deadline of its own."""
    status, exchange = connection.ended_by
    # Its handler may have answered after all: a second answer would be taken for the next request's.
    if not status or exchange is not connection.exchange or (exchange is not None and exchange.status):
        return
    limits = connection.limits
    with anyio.move_on_after(limits.linger_timeout):
        await connection.respond(_broken_exchange(connection), error_response(HTTPException(status)))
        await linger(connection, limits, owed=True)


def _broken_exchange(connection: HttpConnection) -> Exchange:
    """The exchange that can only be answered and ended; a new one if the request had no sound head."""
    exchange = connection.exchange
    if exchange is None:
        exchange = connection.exchange = Exchange(next_exchange_id(), connection, None, connection.since)
    exchange.broken = True
    return exchange
