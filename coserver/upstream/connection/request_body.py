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
    """A request's body that comes piece by piece, chunked if ``length`` is None. ``taking``: its iterator is in use."""

    __slots__ = ("length", "pieces", "sent", "taking")

    def __init__(self, pieces: Iterator[Any] | AsyncIterator[Any], length: int | None) -> None:
        self.pieces = pieces
        self.length = length
        self.sent = 0
        self.taking = False

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


class _WireBroke(Exception):
    """An OSError of the socket. A body's iterator may raise OSError too, which is not the member's fault."""

    def __init__(self, error: OSError) -> None:
        self.error = error


async def send_rest(connection: UpstreamConnection, sub: Subrequest, rest: memoryview) -> None:
    """Send ``rest``, then the pieces of the body, if there are any."""
    if connection.sub is not sub:
        connection.sender_ended(sub)
        return
    with anyio.CancelScope() as connection.scope:
        try:
            await _send(connection, sub, rest)
        finally:
            connection.sender_ended(sub)


async def _send(connection: UpstreamConnection, sub: Subrequest, rest: memoryview) -> None:
    try:
        await _send_all(connection, sub, rest)
        given = sub.body_source
        if given is not None:
            given.taking = True
            try:
                if isinstance(given.pieces, AsyncIterator):
                    await _send_async(connection, sub, given)
                else:
                    await run_blocking(_send_in_worker, connection, sub, given)
            finally:
                given.taking = False
            await _send_all(connection, sub, memoryview(given.last()))
    except _WireBroke as broke:
        if connection.sub is sub:
            connection.send_failed(broke.error)
    except BaseException as error:  # the caller's error: its body raised, or yielded a wrong piece
        if is_cancellation(error):
            raise
        connection.request_body_failed(sub, error)


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
            raise _WireBroke(error) from error
        rest = rest[taken:]
        if rest:
            if connection.sub is sub:
                connection.deadline = min(monotonic() + limits.send_timeout, sub.until)
            await connection.wait_writable()
    await anyio.lowlevel.checkpoint()
    if connection.sub is sub:
        connection.deadline = sub.until  # the wait for the next piece is the caller's time
