"""Before a connection's story: the PROXY header, by which a proxy that is trusted says who its client is.

On a listener with ``proxy_protocol`` every connection begins with one. Nothing is guessed: a peer that is not trusted,
or sends something else, is closed, or anybody could say whatever address he likes.
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
    """Read the header and take the client's address from it; false if the connection is to be closed.

    Raises anyio.BrokenResourceError. Whatever ends it, the connection's first event has not been told yet.
    """
    seconds, trust = connection.service.limits.head_timeout, connection.service.trust
    if not isinstance(connection.stream, SocketStream):
        return True  # a test's connection in memory, made by nobody's proxy
    if trust is None or not trust.trusts(connection.peer):
        return _refuse(connection, "not one of trusted_peers, which alone may speak the PROXY protocol here")
    deadline, connection.deadline = connection.deadline, math.inf  # its own, told in its own words
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
    """Take the header's bytes and none behind them: what follows may be for TLS or for another's reader."""
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
