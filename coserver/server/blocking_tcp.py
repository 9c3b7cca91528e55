"""A TCP connection as a ``def`` handler sees it: each call that waits suspends this handler alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from ..hooks.suspension import await_unseen
from ..transport.tls_info import TlsInfo

if TYPE_CHECKING:
    from .tcp import TcpConnection


class BlockingTcpConnection:
    """What a ``def`` handler gets: the same words, each of which suspends only this handler."""

    __slots__ = ("_connection",)

    def __init__(self, connection: TcpConnection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"<blocking {self._connection!r}>"

    @property
    def id(self) -> int:
        """The connection's number, as snapshots and events have it."""
        return self._connection.id

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._connection.peer

    @property
    def tls(self) -> TlsInfo | None:
        """See Accepted.tls."""
        return self._connection.tls

    @property
    def state(self) -> dict[str, Any]:
        """A dict of the handler's own."""
        return self._connection.state

    def receive(self) -> bytes:
        """See TcpConnection.receive."""
        return await_unseen(self._connection.receive())

    def send(self, message: bytes | str) -> None:
        """See TcpConnection.send."""
        await_unseen(self._connection.send(message))

    def __iter__(self) -> BlockingTcpConnection:
        """Messages until the client has no more."""
        return self

    def __next__(self) -> bytes:
        try:
            return self.receive()
        except anyio.EndOfStream:
            raise StopIteration from None

    def close(self) -> None:
        """See TcpConnection.aclose."""
        await_unseen(self._connection.aclose())
