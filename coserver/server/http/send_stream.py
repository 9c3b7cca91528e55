"""Send a stream: the pieces of an iterator or async iterator, each at once, as fast as the client reads.

The head waits for the first piece and is sent with it. So a stream that fails at once can still get an error answer. A
stream that fails later is broken off in a way that the client notices: a part must never look like the whole.
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
    """A stream failed before its first piece, with ``error``. Another answer can still be sent."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class BrokenOff(Exception):
    """A stream failed after its first piece. The failure has been logged, and the connection must close."""


class Sender:
    """Frames and writes the pieces of one body. Counts its bytes in ``exchange.size``."""

    def __init__(self, exchange: HttpExchange, head: bytes) -> None:
        self.exchange = exchange
        self.head = head
        self.started = False
        self.broken: BaseException | None = None  # the error of a write: the client left

    encode = staticmethod(encode_piece)

    async def pump(self, pieces: Any) -> None:
        """Write all pieces of an iterator, and close it."""
        if isinstance(pieces, AsyncIterator):
            await _pump_async(self, pieces)
        elif isinstance(pieces, Iterator):
            await run_for(self.exchange, self.exchange.connection.service.waits, _pump, self, pieces)
        else:
            raise LocalProtocolError(
                f"a response's body is bytes or an iterator; got {type(pieces).__name__}: {pieces!r:.60}"
            )

    async def send(self, piece: Any) -> None:
        """Write one piece, unless it is empty. Raises LocalProtocolError if it cannot be written."""
        data = self.encode(piece)
        if data:
            exchange = self.exchange
            exchange.size += len(data)
            if 0 <= exchange.framing < exchange.size:
                raise LocalProtocolError(
                    f"Content-Length says {exchange.framing}, but the stream yields more; leave the field out"
                )
            if exchange.emitter.taps:
                exchange.emitter.pass_on(exchange, data, sent=True)
            await self._write_out(data)
        # A client that reads fast must not keep other tasks from running.
        await anyio.lowlevel.checkpoint()

    async def finish(self, trailers: Any) -> None:
        """Write the end of the body. Raises LocalProtocolError if it is shorter than Content-Length says."""
        size, framing = self.exchange.size, self.exchange.framing
        if 0 <= framing != size:
            raise LocalProtocolError(
                f"Content-Length says {framing}, but the stream yielded {size} bytes; leave the field out"
            )
        if trailers and framing == MARKED:
            responses.encode_last_chunk(trailers.items())  # raises before the head is sent
        await self._write_out(b"", trailers, end=True)

    async def _write_out(self, data: bytes, trailers: Any = None, *, end: bool = False) -> None:
        try:
            await self._write(data, trailers, end)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self.broken = error  # noted: the user's stream may raise the same kind of error for another reason
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
        """Begin the response. Returns its head, which must be sent first."""
        self.started = True
        self.exchange.continued = True  # no 100 may follow a final status, even if the handler reads on
        self.exchange.show_head(self.head)
        return self.head


async def send_stream(exchange: HttpExchange, response: Response, head: bytes) -> None:
    """Send the head and all pieces of ``response.body``. Closes the iterator.

    Raises NothingSent, BrokenOff, ClientLeft, RemoteProtocolError.
    """
    await send_by(Sender(exchange, head), response.body, response.trailers)


async def send_by(sender: Sender, pieces: Any, trailers: Any = None) -> None:
    """Send all of ``pieces`` by ``sender``. Closes the iterator. Raises the errors of ``send_stream``."""
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
        if isinstance(error, ClientLeft | RemoteProtocolError):  # the stream reads the request's body
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
    failure.log(log, "handler %s broke off its response to %r, request id %s", exchange.endpoint_name, exchange,
                exchange.request.request_id, extra=exchange.log_extra)  # fmt: skip
    return BrokenOff(f"the handler broke off its response: {error!r:.80}")


def _pump(sender: Sender, pieces: Iterator[Any]) -> None:
    """Iterate in one worker, from the first piece to the last: so the generator keeps its context and thread-locals."""
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
    """Close an iterator, so that its ``finally`` blocks run now.

    Even in a cancelled task they get ``Limits.cleanup_timeout``.
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
