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
from .carrier import MARKED, NO_BODY, UNTIL_CLOSE

if TYPE_CHECKING:
    from .exchange import HttpExchange

log = logging.getLogger("coserver.server")


class NothingSent(Exception):
    """A stream failed before its first piece, with ``error``; the client can still be given another answer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class BrokenOff(Exception):
    """A stream failed after its first piece; it has been logged, and the connection must close."""


class Sender:
    """Writes one streamed body: pieces in, framed bytes out; the exchange counts the body's bytes."""

    def __init__(self, exchange: HttpExchange, head: bytes) -> None:
        self.exchange = exchange
        self.head = head
        self.started = False
        self.broken: BaseException | None = None  # what writing has raised: the client left

    encode = staticmethod(encode_piece)

    async def pump(self, pieces: Any) -> None:
        """Write all that an iterator yields, and close it."""
        if isinstance(pieces, AsyncIterator):
            await _pump_async(self, pieces)
        elif isinstance(pieces, Iterator):
            await run_for(self.exchange, self.exchange.connection.service.waits, _pump, self, pieces)
        else:
            raise LocalProtocolError(
                f"a response's body is bytes or an iterator; got {type(pieces).__name__}: {pieces!r:.60}"
            )

    async def send(self, piece: Any) -> None:
        """Write one piece, unless it is empty. Raises LocalProtocolError for what cannot be written."""
        data = self.encode(piece)
        if data:
            exchange = self.exchange
            exchange.size += len(data)
            if 0 <= exchange.framing < exchange.size:
                raise LocalProtocolError(f"Content-Length says {exchange.framing}, but the stream yields more")
            if exchange.emitter.taps:
                exchange.emitter.pass_on(exchange, data, sent=True)
            await self._write_out(data)
        # A client that takes everything must not keep other tasks from running.
        await anyio.lowlevel.checkpoint()

    async def finish(self, trailers: Any) -> None:
        """Write what ends the body. Raises LocalProtocolError if less came than Content-Length says."""
        size, framing = self.exchange.size, self.exchange.framing
        if 0 <= framing != size:
            raise LocalProtocolError(f"Content-Length says {framing}, but the stream yielded {size} bytes")
        if trailers and framing == MARKED:
            responses.encode_last_chunk(trailers.items())  # raises before the head has gone out
        await self._write_out(b"", trailers, end=True)

    async def _write_out(self, data: bytes, trailers: Any = None, *, end: bool = False) -> None:
        try:
            await self._write(data, trailers, end)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self.broken = error  # a stream may raise such for a reason of its own
            raise

    async def _write(self, data: bytes, trailers: Any, end: bool) -> None:
        await self._carry(data, trailers, end, b"" if self.started else self.begin())

    async def _carry(self, data: bytes, trailers: Any, end: bool, prefix: bytes) -> None:
        carrier = self.exchange.carrier
        if end:
            await carrier.send_end(self.exchange, trailers, prefix)
        else:
            await carrier.send_data(self.exchange, data, prefix)

    def begin(self) -> bytes:
        """The response begins now: its head, which goes out before everything else."""
        self.started = True
        self.exchange.continued = True  # no 100 may follow a final status, even if the handler reads on
        self.exchange.show_head(self.head)
        return self.head


async def send_stream(exchange: HttpExchange, response: Response, head: bytes) -> None:
    """Send the head and all that ``response.body`` yields. Closes the iterator.

    Raises NothingSent, BrokenOff, ClientLeft, RemoteProtocolError.
    """
    await send_by(Sender(exchange, head), response.body, response.trailers)


async def send_by(sender: Sender, pieces: Any, trailers: Any = None) -> None:
    """Send all that ``pieces`` yields by means of ``sender``. Closes the iterator. Raises like ``send_stream``."""
    exchange = sender.exchange
    if exchange.framing == NO_BODY:
        await close_body(exchange, pieces)
        exchange.show_head(sender.head)
        await exchange.carrier.send_end(exchange, prefix=sender.head)
        return
    try:
        exchange.until_close = exchange.framing == UNTIL_CLOSE
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


def _failed(exchange: HttpExchange, sender: Sender, error: BaseException) -> Exception:
    exchange.after = None
    if not sender.started:
        exchange.status = 0
        return NothingSent(error)
    failure = HandlerFailure(exchange.endpoint_name, exchange, error)
    log.error("handler %s broke off its response to %r, request id %s", exchange.endpoint_name, exchange,
              exchange.request.request_id, exc_info=error, extra={**exchange.log_extra, **failure.extra})  # fmt: skip
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
        await close_body(sender.exchange, pieces)


async def close_body(exchange: HttpExchange, body: Any) -> None:
    """Close an iterator that will not be iterated further, so that its ``finally`` blocks run now.

    Cancelled or not, within ``Limits.cleanup_timeout``.
    """
    if isinstance(body, bytes):
        return
    with anyio.move_on_after(exchange.limits.cleanup_timeout, shield=True):
        try:
            if hasattr(body, "aclose"):
                await body.aclose()
            elif not hasattr(body, "__anext__"):
                await run_for(None, exchange.connection.service.waits, _close, body)
        except BaseException as error:
            if is_cancellation(error):
                raise
            log.exception("closing %r raised", body)


def _close(pieces: Iterator[Any]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
