"""The end of a connection whose client may still be sending: it must be able to read the answer before the close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from ..limits import Limits

if TYPE_CHECKING:
    from .base import Accepted

#: A client that owes nothing is given this part of ``Limits.linger_timeout``: it may be sending what it should not.
_NOT_OWED = 1 / 8


async def linger(connection: Accepted, limits: Limits, *, owed: bool) -> None:
    """Let the client read the answer before the close: unread bytes would make the close a reset (RFC 9112 §9.6).

    ``owed``: the client has sent, or is still to send, what nobody will read.
    """
    with anyio.move_on_after(limits.linger_timeout * (1 if owed else _NOT_OWED)):
        try:
            await connection.end_sending()
            while True:
                await connection.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
