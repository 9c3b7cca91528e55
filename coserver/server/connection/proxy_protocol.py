"""The PROXY header, which comes before all else: by it a trusted proxy names its client.

On a listener with ``proxy_protocol`` every connection begins with such a header. The connection is closed if its peer
is not trusted, or sends anything else: otherwise any client could claim any address.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ...protocol.errors import RemoteProtocolError
from ...protocol.proxy_header import ProxyHeader, read_proxy_header
from ...transport.stream import SocketStream

if TYPE_CHECKING:
    from .base import Connection


async def read_client(connection: Connection) -> bool:
    """Read the header and take the client's address from it; false if the connection must be closed.

    Raises anyio.BrokenResourceError. No event of the connection has been told before.
    """
    seconds, trust = connection.service.limits.head_timeout, connection.service.trust
    if not isinstance(connection.stream, SocketStream):
        return True  # a test's connection in memory, which has no proxy
    if trust is None or not trust.trusts(connection.peer):
        return _refuse(connection, "not one of trusted_peers, which alone may speak the PROXY protocol here")
    deadline, connection.deadline = connection.deadline, math.inf  # the scope below has its own
    try:
        with anyio.move_on_after(seconds):
            header = await _read(connection.stream)
            connection.peer = header.peer or connection.peer
            connection.deadline = deadline if deadline == math.inf else monotonic() + seconds
            return True
        return _refuse(
            connection, f"no whole PROXY header came within {round(seconds, 3)} s (head_timeout)", "head_timeout"
        )
    except RemoteProtocolError as error:
        return _refuse(connection, error.reason)
    except anyio.EndOfStream:
        connection.end("the client left before its PROXY header was whole")
        return False


def _refuse(connection: Connection, reason: str, limit: str = "protocol") -> bool:
    connection.end(f"refused: {reason}")
    connection.service.breaches.note(limit, connection.peer, "%r: refused: %s", connection, reason)
    return False


async def _read(stream: SocketStream) -> ProxyHeader:
    """Take the header's bytes and none after them: TLS or another reader takes the bytes that follow."""
    taken = b""
    while True:
        seen = await stream.peek()
        header = read_proxy_header(taken + seen)
        mine = len(seen) if header is None else header.size - len(taken)
        while mine:
            piece = await stream.receive(mine)
            taken += piece
            mine -= len(piece)
        if header is not None:
            return header
