"""Streamed responses: an iterator's or async iterator's pieces, each written as it comes, the client setting the pace.

The head waits for the first piece and goes out with it, so that a stream that fails at once can still be answered with
an error. A stream that fails later is broken off, visibly: a part must never look like the whole.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import anyio

from ..hooks.workers import await_, run_blocking
from ..protocol import responses
from ..protocol.errors import LocalProtocolError, RemoteProtocolError
from . import wire
from .accepted import is_cancellation
from .errors import ClientLeft, HTTPException
from .response import Response, encode_piece, error_response

if TYPE_CHECKING:
    from .connection import HttpConnection
    from .exchange import Exchange

log = logging.getLogger("coserver.server")


class NothingSent(Exception):
    """A stream failed before its first piece; ``instead`` is what the client gets."""

    def __init__(self, instead: Response) -> None:
        self.instead = instead


class BrokenOff(Exception):
    """A stream failed after its first piece; it has been logged, and the connection must close."""


class Sender:
    """Writes one streamed body: pieces in, framed bytes out. ``size`` counts the body's bytes."""

    def __init__(self, connection: HttpConnection, exchange: Exchange, head: bytes, framing: int) -> None:
        self._connection = connection
        self._exchange = exchange
        self._head = head
        self._framing = framing
        self.size = 0
        self.started = False

    async def send(self, piece: Any) -> None:
        """Write one piece; an empty one is none. Raises LocalProtocolError for what cannot be written."""
        data = encode_piece(piece)
        if data:
            self.size += len(data)
            if 0 <= self._framing < self.size:
                raise LocalProtocolError(f"Content-Length says {self._framing}, but the stream yields more")
            await self._write(responses.encode_chunk(data) if self._framing == wire.CHUNKED else data)
        # A client that takes everything must not keep other tasks from running.
        await anyio.lowlevel.checkpoint()

    async def finish(self, trailers: Any) -> None:
        """Write what ends the body. Raises LocalProtocolError if less came than Content-Length says."""
        if 0 <= self._framing != self.size:
            raise LocalProtocolError(f"Content-Length says {self._framing}, but the stream yielded {self.size} bytes")
        end = b""
        if self._framing == wire.CHUNKED:
            end = responses.encode_last_chunk(trailers.items()) if trailers else responses.LAST_CHUNK
        await self._write(end)

    async def _write(self, data: bytes) -> None:
        if not self.started:
            self.started = True
            self._exchange.continued = True  # no 100 may follow a final status, even if the handler reads on
            data = self._head + data
        if data:
            await self._connection.send(data)


async def send_stream(
    connection: HttpConnection, exchange: Exchange, response: Response, head: bytes, framing: int
) -> int:
    """Send the head and all that ``response.body`` yields; how many bytes of body that were. Closes the iterator.

    Raises NothingSent, BrokenOff, ClientLeft, RemoteProtocolError.
    """
    body = response.body
    sender = Sender(connection, exchange, head, framing)
    try:
        if framing == wire.NO_BODY:
            await close_body(connection, body)
            await connection.send(head)
            return 0
        exchange.until_close = framing == wire.UNTIL_CLOSE
        if isinstance(body, AsyncIterator):
            await _pump_async(connection, sender, body)
        elif isinstance(body, Iterator):
            await run_blocking(_pump, sender, body)
        else:
            raise LocalProtocolError(
                f"a response's body is bytes or an iterator; got {type(body).__name__}: {body!r:.60}"
            )
        await sender.finish(response.trailers)
        exchange.until_close = False
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        raise
    except BaseException as error:
        if is_cancellation(error):
            raise
        if isinstance(error, ClientLeft | RemoteProtocolError):  # the stream reads the request's body as it goes
            if not sender.started:
                exchange.status = 0
            raise
        raise _failed(exchange, sender, error) from error
    return sender.size


def _failed(exchange: Exchange, sender: Sender, error: BaseException) -> Exception:
    if not sender.started:
        exchange.status = 0
        if isinstance(error, HTTPException):
            return NothingSent(error_response(error))
        log.error("handler %s failed before its first piece, on %r", exchange.endpoint_name, exchange, exc_info=error)
        return NothingSent(error_response(HTTPException(500)))
    log.error("handler %s broke off its response to %r", exchange.endpoint_name, exchange, exc_info=error)
    return BrokenOff(f"the handler broke off its response: {error!r:.80}")


def _pump(sender: Sender, pieces: Iterator[Any]) -> None:
    """In a worker, and in one from the first piece to the last: what the generator keeps for itself stays its own."""
    try:
        for piece in pieces:
            await_(sender.send(piece))
    finally:
        _close(pieces)


async def _pump_async(connection: HttpConnection, sender: Sender, pieces: AsyncIterator[Any]) -> None:
    try:
        async for piece in pieces:
            await sender.send(piece)
    finally:
        await close_body(connection, pieces)


async def close_body(connection: HttpConnection, body: Any) -> None:
    """Close an iterator that will not be iterated further, so that its ``finally`` blocks run now.

    Cancelled or not, within ``Limits.cleanup_timeout``.
    """
    if isinstance(body, bytes):
        return
    with anyio.move_on_after(connection.service.limits.cleanup_timeout, shield=True):
        try:
            if hasattr(body, "aclose"):
                await body.aclose()
            elif not hasattr(body, "__anext__"):
                await run_blocking(_close, body)
        except Exception:
            log.exception("closing %r raised", body)


def _close(pieces: Iterator[Any]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
