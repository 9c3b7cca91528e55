"""Streamed responses: an iterator's or async iterator's pieces, each written as it comes, the client setting the pace.

The head waits for the first piece and goes out with it, so that a stream that fails at once can still be answered with
an error. A stream that fails later is broken off, visibly: a part must never look like the whole.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import anyio

from ...hooks.suspension import await_unseen
from ...hooks.workers import run_for
from ...protocol import responses
from ...protocol.errors import LocalProtocolError, RemoteProtocolError
from ...transport.cancellation import is_cancellation
from ..handler.errors import ClientLeft, HandlerFailure
from ..handler.response import Response, encode_piece
from . import response_head as wire

if TYPE_CHECKING:
    from .exchange import Exchange
    from .http1 import HttpConnection

log = logging.getLogger("coserver.server")


class NothingSent(Exception):
    """A stream failed before its first piece, with ``error``; the client can still be given another answer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class BrokenOff(Exception):
    """A stream failed after its first piece; it has been logged, and the connection must close."""


class Sender:
    """Writes one streamed body: pieces in, framed bytes out; the exchange counts the body's bytes."""

    def __init__(self, connection: HttpConnection, exchange: Exchange, head: bytes, framing: int) -> None:
        self.connection = connection
        self.exchange = exchange
        self.head = head
        self.framing = framing
        self.started = False
        self.broken: BaseException | None = None  # what writing has raised: the client left

    encode = staticmethod(encode_piece)

    async def pump(self, pieces: Any) -> None:
        """Write all that an iterator yields, and close it."""
        if isinstance(pieces, AsyncIterator):
            await _pump_async(self, pieces)
        elif isinstance(pieces, Iterator):
            await run_for(self.connection, self.connection.service.waits, _pump, self, pieces)
        else:
            raise LocalProtocolError(
                f"a response's body is bytes or an iterator; got {type(pieces).__name__}: {pieces!r:.60}"
            )

    async def send(self, piece: Any) -> None:
        """Write one piece; an empty one is none. Raises LocalProtocolError for what cannot be written."""
        data = self.encode(piece)
        if data:
            self.exchange.size += len(data)
            if 0 <= self.framing < self.exchange.size:
                raise LocalProtocolError(f"Content-Length says {self.framing}, but the stream yields more")
            if self.connection.emitter.taps:
                self.connection.emitter.pass_on(self.exchange, data, sent=True)
            await self._write_out(responses.encode_chunk(data) if self.framing == wire.CHUNKED else data)
        # A client that takes everything must not keep other tasks from running.
        await anyio.lowlevel.checkpoint()

    async def finish(self, trailers: Any) -> None:
        """Write what ends the body. Raises LocalProtocolError if less came than Content-Length says."""
        size = self.exchange.size
        if 0 <= self.framing != size:
            raise LocalProtocolError(f"Content-Length says {self.framing}, but the stream yielded {size} bytes")
        end = b""
        if self.framing == wire.CHUNKED:
            end = responses.encode_last_chunk(trailers.items()) if trailers else responses.LAST_CHUNK
        await self._write_out(end)

    async def _write_out(self, data: bytes) -> None:
        try:
            await self._write(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self.broken = error  # a stream may raise such for a reason of its own
            raise

    async def _write(self, data: bytes) -> None:
        if not self.started:
            self.started = True
            self.exchange.continued = True  # no 100 may follow a final status, even if the handler reads on
            self.show_head()
            data = self.head + data
        if data:
            await self.connection.send(data)

    def show_head(self) -> None:
        """For whoever watches the heads, when this one goes out."""
        if self.connection.service.heads is not None:
            self.connection.service.heads(self.connection, self.exchange, self.head)


async def send_stream(
    connection: HttpConnection, exchange: Exchange, response: Response, head: bytes, framing: int
) -> None:
    """Send the head and all that ``response.body`` yields. Closes the iterator.

    Raises NothingSent, BrokenOff, ClientLeft, RemoteProtocolError.
    """
    await send_by(Sender(connection, exchange, head, framing), response.body, response.trailers)


async def send_by(sender: Sender, pieces: Any, trailers: Any = None) -> None:
    """Send all that ``pieces`` yields in the way of ``sender``. Closes the iterator. Raises like ``send_stream``."""
    exchange = sender.exchange
    if sender.framing == wire.NO_BODY:
        await close_body(sender.connection, pieces)
        sender.show_head()
        await sender.connection.send(sender.head)
        return
    try:
        exchange.until_close = sender.framing == wire.UNTIL_CLOSE
        await sender.pump(pieces)
        await sender.finish(trailers)
        exchange.until_close = False
    except BrokenOff:
        raise
    except BaseException as error:
        if error is sender.broken or is_cancellation(error):
            raise
        if isinstance(error, ClientLeft | RemoteProtocolError):  # the stream reads the request's body as it goes
            if not sender.started:
                exchange.status = 0
            raise
        raise _failed(exchange, sender, error) from error


def _failed(exchange: Exchange, sender: Sender, error: BaseException) -> Exception:
    exchange.after = None
    if not sender.started:
        exchange.status = 0
        return NothingSent(error)
    failure = HandlerFailure(exchange.endpoint_name, exchange, error)
    log.error("handler %s broke off its response to %r, request id %s", exchange.endpoint_name, exchange,
              exchange.request.request_id, exc_info=error, extra={**exchange.marks, **failure.extra})  # fmt: skip
    return BrokenOff(f"the handler broke off its response: {error!r:.80}")


def _pump(sender: Sender, pieces: Iterator[Any]) -> None:
    """In a worker, and in one from the first piece to the last: what the generator keeps for itself stays its own."""
    try:
        for piece in pieces:
            await_unseen(sender.send(piece))
    finally:
        _close(pieces)


async def _pump_async(sender: Sender, pieces: AsyncIterator[Any]) -> None:
    try:
        async for piece in pieces:
            await sender.send(piece)
    finally:
        await close_body(sender.connection, pieces)


async def close_body(connection: HttpConnection, body: Any) -> None:
    """Close an iterator that will not be iterated further, so that its ``finally`` blocks run now.

    Cancelled or not, within ``Limits.cleanup_timeout``.
    """
    if isinstance(body, bytes):
        return
    with anyio.move_on_after(connection.limits.cleanup_timeout, shield=True):
        try:
            if hasattr(body, "aclose"):
                await body.aclose()
            elif not hasattr(body, "__anext__"):
                await run_for(None, connection.service.waits, _close, body)
        except BaseException as error:
            if is_cancellation(error):
                raise
            log.exception("closing %r raised", body)


def _close(pieces: Iterator[Any]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
