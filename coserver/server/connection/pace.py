"""Patience: how long a client may send its body, or read the answer. Waiting uses it up, bytes restore it.

Patience begins at a timeout's seconds. Each second of waiting takes one second, each ``rate`` bytes give one second
back, and it never exceeds the timeout. So neither silence nor a trickle of bytes keeps a connection open, and a burst
does not pay for a trickle after it.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

from ...transport.stream import SocketStream

if TYPE_CHECKING:
    from .base import Connection

#: Looks at a client that does not read, in the time of its patience; each costs a system call of 1 µs.
_LOOKS = 50
#: Seconds between two looks at least: the sweeper's own grain.
_LOOK_MIN = 0.1


def patience(left: float, waited: float, came: int, timeout: float, rate: float) -> float:
    """The patience after a wait of ``waited`` seconds, in which ``came`` bytes came; it was ``left`` seconds before.

    It is over below 0. With ``rate`` 0, any byte restores all of it, so only silence counts.
    """
    if not came:
        return left - waited
    return min(left - waited + came / rate, timeout) if rate else timeout


class Pace:
    """The patience with a client that does not read, over all writes of a connection.

    ``deadline`` is finite while a write waits. It is apart from the connection's deadline: a TCP handler may be
    receiving at the same time.
    """

    __slots__ = ("_connection", "_left", "_looked", "_moved", "_socket", "_taken", "deadline")

    def __init__(self, connection: Connection, sock: SocketStream | None) -> None:
        self._connection = connection
        self._socket = sock
        self._left = connection.limits.write_timeout
        self._taken = self._count()
        self._looked = self._moved = monotonic()
        self.deadline = math.inf

    def begin(self) -> None:
        """Start the wait of a write. Bytes that the client has read since the last one count too."""
        self._looked = self._moved = now = monotonic()
        self._look(now)
        self._connection.service.loop.sweeper.add(self)

    def end(self) -> None:
        """End the wait of a write."""
        self._connection.service.loop.sweeper.discard(self)
        self._look(monotonic())
        self.deadline = math.inf

    def expire(self, now: float) -> None:
        """Cut the connection if the client took too little since the last look, else set a new deadline."""
        if self._look(now) > 0:
            return
        connection, limits = self._connection, self._connection.limits
        self.deadline = math.inf
        if now - self._moved >= limits.write_timeout - 0.001:  # the sum of the waits is rounded
            seconds = round(limits.write_timeout, 3)
            connection.cut("write_timeout", f"the client read nothing for {seconds} s (write_timeout)")
        else:
            rate = limits.write_rate
            connection.cut("write_rate", f"the client read less than {rate} bytes a second (write_rate)")

    def _look(self, now: float) -> float:
        """Work out the patience that is left at ``now``, and set the deadline by it."""
        limits, taken = self._connection.limits, self._count()
        came = max(taken - self._taken, 0)
        if came:
            self._taken, self._moved = taken, now
        self._left = patience(self._left, now - self._looked, came, limits.write_timeout, limits.write_rate)
        self._looked = now
        # The kernel does not say when the client took the bytes that came since the last look: a look now and then
        # tells it by a fiftieth of the timeout. At the deadline alone, the patience would begin anew there.
        self.deadline = now + min(self._left, max(limits.write_timeout / _LOOKS, _LOOK_MIN))
        return self._left

    def _count(self) -> int:
        # Bytes that the client took, not our system: its buffer holds megabytes, and frees them a megabyte at a time.
        return self._socket.taken() if self._socket is not None else 0
