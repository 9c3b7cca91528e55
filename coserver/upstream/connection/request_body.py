"""Sending of what does not go out at once: bytes that the socket did not take, or a body that comes piece by piece.

``send_rest`` runs in a task of the client's group and never raises. The response may come before all is sent; it then
ends the sending.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ...hooks.suspension import await_unseen
from ...hooks.workers import run_blocking
from ...protocol.responses import LAST_CHUNK, encode_chunk
from ...transport.cancellation import is_cancellation

if TYPE_CHECKING:
    from ..subrequest import Subrequest
    from .connection import UpstreamConnection

log = logging.getLogger("coserver.upstream")


class StreamedBody:
    """A request's body that comes piece by piece, chunked if ``length`` is None.

    ``taking``: its iterator is in use. ``taken``: it is or was, and whoever took it closes it.
    """

    __slots__ = ("length", "pieces", "sent", "taken", "taking")

    def __init__(self, pieces: Iterator[Any] | AsyncIterator[Any], length: int | None) -> None:
        self.pieces = pieces
        self.length = length
        self.sent = 0
        self.taking = self.taken = False

    def frame(self, piece: Any) -> bytes:
        """Encode one piece for the wire. Raises TypeError, ValueError."""
        if isinstance(piece, str):
            piece = piece.encode()
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"a request's body yields bytes or str; got {type(piece).__name__}: {piece!r:.60}")
        data = bytes(piece)
        self.sent += len(data)
        if self.length is None:
            return encode_chunk(data) if data else b""
        if self.sent > self.length:
            raise ValueError(f"Content-Length says {self.length}, but the body yields more")
        return data

    def last(self) -> bytes:
        """The bytes that end the body. Raises ValueError if it is shorter than its Content-Length."""
        if self.length is None:
            return LAST_CHUNK
        if self.sent != self.length:
            raise ValueError(f"Content-Length says {self.length}, but the body yields {self.sent} bytes")
        return b""


async def send_rest(connection: UpstreamConnection, sub: Subrequest, rest: memoryview) -> None:
    """Send ``rest``, then the pieces of the body, if there are any."""
    try:
        if connection.sub is not sub:
            connection.sender_ended(sub)
            return
        with anyio.CancelScope() as connection.scope:
            try:
                await _send(connection, sub, rest)
            finally:
                connection.sender_ended(sub)
    finally:
        if sub.body_source is not None:
            await close_untaken(connection, sub.body_source)


async def close_untaken(connection: UpstreamConnection, given: StreamedBody) -> None:
    """Close a body of which no piece was asked for: the answer or the error came first. Never raises."""
    if given.taken:
        return
    given.taken = True
    pieces: Any = given.pieces
    with anyio.CancelScope(shield=True), anyio.move_on_after(connection.client.limits.send_timeout):
        try:
            if isinstance(pieces, AsyncIterator):
                if hasattr(pieces, "aclose"):
                    await pieces.aclose()
            elif hasattr(pieces, "close"):
                await run_blocking(pieces.close)
        except Exception:
            log.warning("%r: the body of a request failed as it was closed", connection, exc_info=True)


async def _send(connection: UpstreamConnection, sub: Subrequest, rest: memoryview) -> None:
    try:
        await _send_all(connection, sub, rest)
        given = sub.body_source
        if given is not None:
            given.taking = given.taken = True
            try:
                if isinstance(given.pieces, AsyncIterator):
                    await _send_async(connection, sub, given)
                else:
                    await run_blocking(_send_in_worker, connection, sub, given)
            finally:
                given.taking = False
            await _send_all(connection, sub, memoryview(given.last()))
    except BaseException as error:
        if is_cancellation(error):
            raise
        if connection.broke is None:  # the caller's error: its body raised, or yielded a wrong piece
            connection.request_body_failed(sub, error)
        elif connection.sub is sub:  # the socket's, or that of a body closed for its sake
            connection.send_failed(connection.broke)


async def _send_async(connection: UpstreamConnection, sub: Subrequest, given: StreamedBody) -> None:
    pieces: Any = given.pieces
    try:
        async for piece in pieces:
            await _send_all(connection, sub, memoryview(given.frame(piece)))
    finally:
        if hasattr(pieces, "aclose"):
            with anyio.CancelScope(shield=True), anyio.move_on_after(connection.client.limits.send_timeout):
                await pieces.aclose()


def _send_in_worker(connection: UpstreamConnection, sub: Subrequest, given: StreamedBody) -> None:
    """Send a whole iterator in one worker: a generator must not change its greenlet."""
    pieces: Any = given.pieces
    try:
        for piece in pieces:
            await_unseen(_send_all(connection, sub, memoryview(given.frame(piece))))
    finally:
        if hasattr(pieces, "close"):
            pieces.close()


async def _send_all(connection: UpstreamConnection, sub: Subrequest, rest: memoryview) -> None:
    """Send all of ``rest``. Each progress moves the deadline."""
    send, limits = connection.send, connection.client.limits
    while rest:
        try:
            taken = send(rest)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            connection.broke = error
            raise
        rest = rest[taken:]
        if rest:
            if connection.sub is sub:
                connection.deadline = min(monotonic() + limits.send_timeout, sub.until)
            await connection.wait_writable()
    await anyio.lowlevel.checkpoint()
    if connection.sub is sub:
        connection.deadline = sub.until  # the wait for the next piece is the caller's time
