"""Reading a request's body: whole before the handler, piece by piece for a streaming one, or away."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ...lifecycle import phases
from ...protocol import responses
from ...protocol.errors import RemoteProtocolError
from ..connection.pace import patience
from ..handler.errors import ClientLeft
from ..handler.uploads import Spool

if TYPE_CHECKING:
    from ..limits import Limits
    from ..service import Service
    from .exchange import Exchange
    from .http1 import HttpConnection


class _Held:
    """The bytes of one body that wait in memory for the rest of it, as a part of what all bodies of a listener hold."""

    __slots__ = ("_service", "_size")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._size = 0

    def hold(self, size: int) -> None:
        self._size += size
        self._service.held += size

    def release(self) -> None:
        self._service.held -= self._size
        self._size = 0

    @property
    def too_much(self) -> bool:
        """Whether all bodies together hold more than ``Limits.body_memory``: what can go to the disk must."""
        return self._service.held > self._service.limits.body_memory


async def read_body(connection: HttpConnection, exchange: Exchange) -> None:
    """Read the whole body into the request: in memory, and beyond ``Limits.body_buffer`` on disk.

    Raises ClientLeft, RemoteProtocolError.
    """
    pieces = [await next_piece(connection, exchange)]
    if connection.reader.body_done:
        exchange.request.set_body(pieces[0])
        return
    held = _Held(connection.service)
    try:
        await _read_long(connection, exchange, pieces, held)
    finally:
        held.release()


async def _read_long(connection: HttpConnection, exchange: Exchange, pieces: list[bytes], held: _Held) -> None:
    """Nothing but the list keeps its pieces, and what has been written is taken out of it: a client may take hours."""
    size, buffer = len(pieces[0]), connection.limits.body_buffer
    held.hold(size)
    while size <= buffer and not held.too_much:
        pieces.append(await next_piece(connection, exchange))
        if not pieces[-1]:
            exchange.request.set_body(b"".join(pieces))
            return
        size += len(pieces[-1])
        held.hold(len(pieces[-1]))
    while pieces and pieces[-1]:
        await _spool(exchange, pieces, connection.limits)
        held.release()
        pieces.clear()
        size = 0
        # 1 MiB a trip: a thread's 100 µs are then nothing beside the writing.
        while size < 1 << 20 and not (size and held.too_much):
            pieces.append(await next_piece(connection, exchange))
            if not pieces[-1]:
                break
            size += len(pieces[-1])
            held.hold(len(pieces[-1]))
    if size:
        pieces.pop()  # the empty one, which is the end
        await _spool(exchange, pieces, connection.limits)
    assert exchange.spooled is not None
    exchange.request.set_spool(exchange.spooled)


async def _spool(exchange: Exchange, pieces: list[bytes], limits: Limits) -> None:
    """Write to the temporary file, in a thread: a slow disk must not stop the loop.

    Nor must the parsing of a large form, which is done on the same trip.
    """
    from ..handler.forms import reader_for

    try:
        if exchange.spooled is None:
            exchange.spooled = Spool(reader_for(exchange.request.headers, limits))
        await anyio.to_thread.run_sync(exchange.spooled.write, pieces)
    except OSError as error:
        raise RemoteProtocolError("The server has no room for this body", 507, "disk") from error


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
        if connection.emitter.taps and data and exchange.endpoint is not None and exchange.endpoint.stream:
            connection.emitter.pass_on(exchange, data, sent=False)  # nobody keeps it
        if reader.body_done:
            await _finish(connection, exchange)
        if data:
            if reader.buffer and not reader.body_done:  # many small chunks: others have their turn first
                await connection.service.loop.checkpoint()
            return data
        if not reader.body_done:
            await _receive(connection, exchange)
    return b""


async def _finish(connection: HttpConnection, exchange: Exchange) -> None:
    if connection.reader.trailers:
        exchange.request.trailers_raw = connection.reader.trailers
    if exchange.endpoint is not None and exchange.endpoint.stream and connection.emitter.heard:
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
