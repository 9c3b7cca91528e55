"""The connections to one member on one loop: how many there may be, which are idle, who gets the next.

Every method is synchronous: nothing can strike between a decision and its effect. All of them cost the same however
many connections there are.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ..member import Addresses, UpstreamMember
from .health import Health
from .line import Line

if TYPE_CHECKING:
    from ..connection.connection import UpstreamConnection
    from ..connection.ending import Ending
    from ..subrequest import Subrequest
    from .client import Client
    from .dns import Name


#: What one answer counts for in the moving average of latencies: TCP's round trips count an eighth (RFC 6298).
LEARNT = 0.125


class Pool:
    """``open`` counts the places taken: connections that are being made, are in use or are idle.

    ``addresses`` are where it is, tried in turn; of a name that has not been looked up yet, none.
    """

    __slots__ = (
        "address", "addresses", "client", "connections", "health", "host_field", "idle", "latency", "leaving", "line",
        "member", "most", "name", "open", "out", "troubled",
    )  # fmt: skip

    def __init__(self, client: Client, member: UpstreamMember, line: Line, name: Name | None = None) -> None:
        self.client = client
        self.member = member
        self.address = member.address  # as it is told
        self.addresses: Addresses = () if name is not None else member.places
        self.name = name  # whose addresses these are; None if they are written down
        self.line = line
        self.most = client.limits.max_connections
        self.open = 0
        self.idle: list[UpstreamConnection] = []
        self.connections: set[Ending] = set()
        self.out = False  # not to be asked while others can be
        self.troubled = False  # out, or just back: an answer is news
        self.leaving = False  # to be asked no more
        self.latency = 0.0  # seconds from asking to an answer's first byte, a moving average; 0 before the first
        self.health = Health(self)
        is_http = member.scheme != "tcp"
        self.host_field = b"host: %b\r\n" % member.authority.encode() if is_http else b""

    def __repr__(self) -> str:
        return f"<Pool {self.address} {self.open} open, {len(self.idle)} idle, {len(self.line)} waiting>"

    @property
    def has_room(self) -> bool:
        return bool(self.idle) or self.open < self.most

    @property
    def busy(self) -> int:
        """How many requests are under way."""
        return self.open - len(self.idle)

    def took(self, seconds: float) -> None:
        """The first byte of an answer has come, so long after it was asked for."""
        latency = self.latency
        self.latency = latency + (seconds - latency) * LEARNT if latency else seconds

    def settle(self, addresses: Addresses) -> None:
        """It is, or still is, there."""
        self.addresses = addresses
        self.address = f"{self.member.address} ({', '.join(str(one[1][0]) for one in addresses)})"
        self.leaving = False

    def leave(self) -> list[Subrequest]:
        """To be asked no more: what is idle is closed, what is under way ends; what was not sent yet is returned."""
        self.leaving = True
        while self.idle:
            self.idle.pop().close(hand_on=False)
        return [sub for each in tuple(self.connections) if (sub := each.hand_over()) is not None]

    def take(self, sub: Subrequest) -> None:
        """Send ``sub`` on the connection used last, or on a new one. There must be room."""
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
        """The connection is free: the first in line has it, or it lies idle."""
        if self.line.waiting and not self.out:
            sub = self.line.first()
            self.client.left_line(sub)
            sub.pool = self
            connection.begin(sub, monotonic())
            return
        self.idle.append(connection)
        if self.line.waiting:
            self.client.serve_line()  # it gets somebody if all are out

    def left(self, connection: Ending, *, hand_on: bool) -> None:
        """A connection has ended; ``hand_on``: its place is the first in line's, if anybody waits."""
        self.connections.discard(connection)
        self.open -= 1
        if self.leaving:
            if not self.open:
                self.client.gone(self)
            return
        if not hand_on or not self.line or self.client.closed:
            return
        if self.out:
            self.client.serve_line()
        else:
            sub = self.line.first()
            self.client.left_line(sub)
            self.take(sub)
