"""Reading a request's body: whole before the handler, piece by piece for a streaming one, or away."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ..lifecycle import phases
from ..protocol import responses
from ..protocol.errors import RemoteProtocolError
from .errors import ClientLeft
from .pace import patience
from .uploads import Spool

if TYPE_CHECKING:
    from .connection import HttpConnection
    from .exchange import Exchange


log = logging.getLogger("coserver.server")


async def read_body(connection: HttpConnection, exchange: Exchange) -> None:
    """Read the whole body into the request: in memory, and beyond ``Limits.body_buffer`` on disk.

    Raises ClientLeft, RemoteProtocolError.
    """
    first = await next_piece(connection, exchange)
    request = exchange.request
    if connection.reader.body_done:
        request.set_body(first)
        return
    pieces, size, buffer = [first], len(first), connection.limits.body_buffer
    while size <= buffer:
        piece = await next_piece(connection, exchange)
        if not piece:
            request.set_body(b"".join(pieces))
            return
        pieces.append(piece)
        size += len(piece)
    await _spool(connection, exchange, pieces)


async def _spool(connection: HttpConnection, exchange: Exchange, pieces: list[bytes]) -> None:
    """The rest goes to a temporary file. Its writes are a thread's: a slow disk must not stop the loop.

    Nor must the parsing of a large form, which is done on the same trip.
    """
    from .forms import reader_for

    limits = connection.limits
    while pieces:
        try:
            if exchange.spooled is None:
                exchange.spooled = Spool(reader_for(exchange.request.headers, limits))
            await anyio.to_thread.run_sync(exchange.spooled.write, pieces)
        except OSError as error:
            log.error("%r: its body cannot be kept: %s", exchange, error)
            raise RemoteProtocolError("The server has no room for this body", 507) from error
        pieces, size = [], 0
        # 1 MiB a trip: a thread's 100 µs are then nothing beside the writing.
        while size < 1 << 20 and (piece := await next_piece(connection, exchange)):
            pieces.append(piece)
            size += len(piece)
    assert exchange.spooled is not None
    exchange.request.set_spool(exchange.spooled)


async def next_piece(connection: HttpConnection, exchange: Exchange) -> bytes:
    """The body's next bytes, empty at its end. Reads from the connection only when asked: this is the back-pressure.

    Raises ClientLeft, RemoteProtocolError.
    """
    reader = connection.reader
    while not reader.body_done:
        if exchange.broken:
            raise ClientLeft("the rest of this body cannot be read")
        try:
            data = reader.read_body()
        except RemoteProtocolError:
            exchange.broken = True
            raise
        exchange.body_size += len(data)
        if reader.body_done:
            await _finish(connection, exchange)
        if data:
            return data
        if not reader.body_done:
            await _receive(connection, exchange)
    return b""


async def _finish(connection: HttpConnection, exchange: Exchange) -> None:
    if connection.reader.trailers:
        exchange.request.trailers_raw = connection.reader.trailers
    if exchange.endpoint is not None and exchange.endpoint.stream and connection.service.emitter.watched:
        await connection.request_read(exchange)


async def _receive(connection: HttpConnection, exchange: Exchange) -> None:
    """Wait for more of the body; the 100 Continue goes out now, when it is certain that the body is wanted."""
    if exchange.head.expect_continue and not exchange.continued:
        exchange.continued = True
        if connection.service.heads is not None:
            connection.service.heads(connection, exchange, responses.CONTINUE)
        await connection.send(responses.CONTINUE)
    phase, since, deadline = connection.phase, connection.since, connection.deadline
    limits = connection.limits
    left = limits.body_timeout if exchange.patience is None else exchange.patience
    connection.phase = phases.BODY
    connection.since = now = monotonic()
    connection.deadline = now + left
    try:
        data = await connection.stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        exchange.broken = True
        connection.phase, connection.since, connection.deadline = phase, since, deadline  # the handler may go on
        raise ClientLeft("the client left in the middle of a body") from error
    if connection.scope.cancel_called:
        await anyio.lowlevel.checkpoint()
    exchange.patience = patience(left, monotonic() - now, len(data), limits.body_timeout, limits.body_rate)
    connection.phase, connection.since, connection.deadline = phase, since, deadline
    connection.reader.receive(data)


async def discard_body(connection: HttpConnection, exchange: Exchange) -> bool:
    """Read away what the handler left, up to ``Limits.drain_size``; False if there is more: then close instead."""
    left = connection.limits.drain_size
    exchange.continued = True  # the final status has been sent: no 100 may follow it
    while left >= 0 and not connection.reader.body_done:
        left -= len(await next_piece(connection, exchange))
    return connection.reader.body_done


def may_go_on(connection: HttpConnection, exchange: Exchange) -> bool:
    """Whether the connection may live on: both sides want it, and the unread rest of the body can be read away."""
    head, service = exchange.head, connection.service
    if exchange.broken or not head.keep_alive or service.draining:
        return False
    if service.closing and service.room.takes(connection):
        return False
    if connection.reader.body_done:
        return True
    if head.expect_continue and not exchange.continued:
        return False  # the client may send the body now or not: nobody knows what comes next (RFC 9110 §10.1.1)
    return head.length is None or head.length <= connection.limits.drain_size
