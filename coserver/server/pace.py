"""How long a write may wait for a client that does not read."""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

from ..transport.stream import SocketStream

if TYPE_CHECKING:
    from .accepted import Accepted


class Pace:
    """The deadline of one write that waits for its client: ``Limits.write_timeout`` without progress.

    Its own, beside the connection's: a TCP handler may be receiving at the same time.
    """

    __slots__ = ("_connection", "_socket", "_taken", "deadline")

    def __init__(self, connection: Accepted, sock: SocketStream | None) -> None:
        self._connection = connection
        self._socket = sock
        # What the client took, not what our system did: that may hold megabytes, and room is made by the megabyte.
        self._taken = sock.taken() if sock else 0
        self.deadline = monotonic() + connection.service.limits.write_timeout

    def expire(self, now: float) -> None:
        """The client took nothing since the last look, or the deadline starts anew."""
        timeout = self._connection.service.limits.write_timeout
        taken = self._socket.taken() if self._socket is not None else 0
        if taken != self._taken:
            self._taken = taken
            self.deadline = now + timeout
            return
        self.deadline = math.inf
        self._connection.end(f"the client read nothing for {round(timeout, 3)} s (write_timeout)")
        self._connection.scope.cancel()

    def outlive(self, now: float) -> None:
        """Never in ``running``."""
