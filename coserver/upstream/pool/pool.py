"""The connections to one member on one loop, and the queue of subrequests that wait for a connection.

Every method is synchronous, so nothing can happen between a decision and its effect. Every method takes the same time
however many connections there are and however long the queue is.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING

from ...transport.deadlines import NEAR
from ..member import Addresses, UpstreamMember
from .health import Health

if TYPE_CHECKING:
    from ...transport.deadlines import Sweeper
    from ..connection.connection import UpstreamConnection
    from ..subrequest import Subrequest
    from .client import Client
    from .dns import ResolvedName


#: The weight of one answer in the moving average of latencies: an eighth, as for TCP's round trips (RFC 6298).
LEARNT = 0.125


class PoolQueue:
    """The subrequests that wait for a connection, first come first served. All pools of a client share one.

    The queue is non-empty only while every pool that could serve it is full, so a newcomer never overtakes. The sweeper
    looks at the deadline of each subrequest that waits.
    """

    __slots__ = ("_sweeper", "waiting")

    def __init__(self, sweeper: Sweeper) -> None:
        self._sweeper = sweeper
        # An OrderedDict: to find its first key, a plain dict walks over all the keys that were deleted before it.
        self.waiting: OrderedDict[Subrequest, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.waiting)

    def __repr__(self) -> str:
        return f"<PoolQueue {len(self)} waiting>"

    def join(self, sub: Subrequest, deadline: float) -> None:
        """Append ``sub``, which waits until ``deadline``."""
        sub.deadline = deadline
        self.waiting[sub] = None
        self._sweeper.add(sub)
        if deadline < monotonic() + NEAR:
            self._sweeper.hasten(sub)

    def join_first(self, sub: Subrequest, deadline: float) -> None:
        """Put ``sub`` at the head: it had a connection already and needs another."""
        self.join(sub, deadline)
        self.waiting.move_to_end(sub, last=False)

    def leave(self, sub: Subrequest) -> bool:
        """Remove ``sub``. False if it is not in the queue."""
        if sub in self.waiting:
            del self.waiting[sub]
            self._sweeper.discard(sub)
            return True
        return False

    def first(self) -> Subrequest:
        """The first, which stays. Raises StopIteration if the queue is empty."""
        return next(iter(self.waiting))

    def pop(self) -> Subrequest:
        """Remove the first, and return it. Raises KeyError if the queue is empty."""
        sub = self.waiting.popitem(last=False)[0]
        self._sweeper.discard(sub)
        return sub


class Pool:
    """The connections to one member: idle ones are used again, new ones are opened up to ``most``.

    ``open`` counts the places taken: connections that connect, are in use, or are idle. ``addresses`` are tried in
    turn; they are empty for a name that has not been looked up yet. Which case a subrequest meets stands in
    ``Client.place``.
    """

    __slots__ = (
        "address", "addresses", "client", "connections", "health", "host_field", "idle", "latency", "leaving",
        "member", "most", "name", "open", "out", "queue", "troubled",
    )  # fmt: skip

    def __init__(
        self, client: Client, member: UpstreamMember, queue: PoolQueue, name: ResolvedName | None = None
    ) -> None:
        self.client = client
        self.member = member
        self.address = member.address  # as shown to people
        self.addresses: Addresses = () if name is not None else member.places
        self.name = name  # the name that these addresses belong to; None if the member is an address itself
        self.queue = queue
        self.most = client.limits.max_connections
        self.open = 0
        self.idle: list[UpstreamConnection] = []
        self.connections: set[UpstreamConnection] = set()
        self.out = False  # not to be chosen while another can be
        self.troubled = False  # out, or just back: its answers are reported to ``health``
        self.leaving = False  # not to be chosen any more
        self.latency = 0.0  # seconds from sending to an answer's first byte, a moving average; 0 before the first
        self.health = Health(self)
        is_http = member.scheme != "tcp"
        self.host_field = b"host: %b\r\n" % member.authority.encode() if is_http else b""

    def __repr__(self) -> str:
        return f"<Pool {self.address} {self.open} open, {len(self.idle)} idle, {len(self.queue)} waiting>"

    @property
    def has_room(self) -> bool:
        """Whether ``take`` may be called: there is an idle connection, or a new one may be opened."""
        return bool(self.idle) or self.open < self.most

    @property
    def busy(self) -> int:
        """The number of requests under way."""
        return self.open - len(self.idle)

    def take(self, sub: Subrequest) -> None:
        """Send ``sub`` on the connection that was used last, or on a new one. Requires ``has_room``."""
        sub.pool = self
        idle = self.idle
        now = monotonic()
        while idle:
            connection = idle.pop()
            if now < connection.deadline and (sub.may_repeat or connection.alive()):
                connection.begin(sub, now)
                return
            connection.close(hand_on=False)
        self.open += 1
        self.client.connect(self, sub)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Give the free connection to the first in the queue, or keep it idle."""
        if self.queue.waiting and not self.out:
            sub = self.queue.pop()
            sub.pool = self
            connection.begin(sub, monotonic())
            return
        self.idle.append(connection)
        if self.queue.waiting:
            self.client.serve_queue()  # an ejected member serves too, if all members are out

    def connection_closed(self, connection: UpstreamConnection, *, hand_on: bool) -> None:
        """Free the place of a closed connection; with ``hand_on`` the first in the queue gets it."""
        self.connections.discard(connection)
        self.open -= 1
        if self.leaving:
            if not self.open:
                self.client.member_gone(self)
            return
        if not hand_on or not self.queue or self.client.closed:
            return
        if self.out:
            self.client.serve_queue()
        else:
            self.take(self.queue.pop())

    def note_latency(self, seconds: float) -> None:
        """Add to the average: the first byte of an answer came so many seconds after its request."""
        latency = self.latency
        self.latency = latency + (seconds - latency) * LEARNT if latency else seconds

    def settle(self, addresses: Addresses) -> None:
        """Set the addresses that a look-up found; a pool that was leaving is back."""
        self.addresses = addresses
        self.address = f"{self.member.address} ({', '.join(str(one[1][0]) for one in addresses)})"
        self.leaving = False

    def leave(self) -> list[Subrequest]:
        """Begin to leave: close the idle connections, let the busy ones end. Returns the subrequests not yet sent."""
        self.leaving = True
        while self.idle:
            self.idle.pop().close(hand_on=False)
        return [sub for each in tuple(self.connections) if (sub := each.release_unsent()) is not None]
