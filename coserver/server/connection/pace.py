"""How long a client may keep us waiting, for its body or to read our answer: by patience, which bytes give back.

Patience begins at a timeout's seconds. Waiting uses it up, each ``rate`` bytes give a second back, and it never becomes
more than it was: neither silence nor a trickle holds a connection, and a burst buys no trickle after it.
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
    """What is left of it, in seconds, after ``waited`` of them in which ``came`` bytes have come; below 0 it is over.

    With ``rate`` 0 any byte restores it: then only silence counts.
    """
    if not came:
        return left - waited
    return min(left - waited + came / rate, timeout) if rate else timeout


class Pace:
    """The patience with a client that does not read, over all writes of a connection; ``deadline`` while one waits.

    Its own, beside the connection's: a TCP handler may be receiving at the same time.
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
        """A write waits for the client from now on; what it has read meanwhile counts."""
        self._looked = self._moved = now = monotonic()
        self._look(now)
        self._connection.service.loop.sweeper.add(self)

    def end(self) -> None:
        """The write waits no more."""
        self._connection.service.loop.sweeper.discard(self)
        self._look(monotonic())
        self.deadline = math.inf

    def expire(self, now: float) -> None:
        """The client took too little since the last look, or the deadline starts anew."""
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
        """What patience is left at ``now``, the deadline being set by it."""
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
        # What the client took, not what our system did: that may hold megabytes, and room is made by the megabyte.
        return self._socket.taken() if self._socket is not None else 0
