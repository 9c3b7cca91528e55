"""What clients did that they must not: counted by reason, and told in the log without filling it.

A reason is the field of Limits that was broken, or a row of OTHER_REASONS. Who breaks the same one again and again is
told of a few times, then counted, and the count is told at the end of each window: nothing is lost, nothing floods.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..transport.peer import group_of

if TYPE_CHECKING:
    from ..transport.deadlines import Sweeper

log = logging.getLogger("coserver.server")

#: Reasons that are no field of Limits.
OTHER_REASONS = {
    "protocol": "what came is not HTTP, or breaks a rule of it (400, 501, 505), or of a TCP framing",
    "tls": "no TLS handshake: what came is none, nothing is shared, or either side refused the other's certificate",
    "descriptors": "the system had no descriptor or memory left for a connection that waited",
    "disk": "a body was too large for memory, and its temporary file could not be written (507)",
    "gave_way": "a connection ended, being idle or after its answer, for a client that waited; nobody's fault",
}

#: Lines about one reason and one peer until the rest is counted only: enough to see what it is and whether it changes.
BURST = 5
#: Seconds until the count is told, and until a peer that has been quiet may be told of anew.
WINDOW = 10.0
#: Pairs of reason and peer known at once, 200 bytes each. Beyond them peers share one place for each reason, so that an
#: attack from everywhere writes a bounded log as well: 5 lines for each of these in 10 s.
PAIRS_MAX = 256


@dataclass(slots=True)
class _Told:
    """One reason and peer: how many lines in this window, and what was left out of them."""

    until: float
    level: int
    lines: int = 0
    left_out: int = 0


class Breaches:
    """``counts`` by reason since the start: plain ints, which any thread may read. The rest is the loop's own."""

    def __init__(self, sweeper: Sweeper) -> None:
        self.counts: dict[str, int] = {}
        self.deadline = math.inf
        self._sweeper = sweeper
        self._told: dict[tuple[str, str], _Told] = {}

    def __repr__(self) -> str:
        return f"<Breaches {self.counts}>"

    def note(self, reason: str, peer: str, message: str, *arguments: Any, level: int = logging.WARNING) -> None:
        """Count one, and log ``message % arguments`` unless this peer has been told of often enough."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if not log.isEnabledFor(level):
            return
        told = self._told_of(reason, group_of(peer), level)
        if told.lines < BURST:
            told.lines += 1
            log.log(level, message, *arguments)
        else:
            told.left_out += 1

    def expire(self, now: float) -> None:
        """A window has ended: say what was left out. Who goes on is told of in such lines only."""
        for pair, told in list(self._told.items()):
            if told.until > now:
                continue
            if not told.left_out:
                del self._told[pair]
                continue
            self._tell(pair, told)
            told.left_out, told.until = 0, now + WINDOW
        self.deadline = min((told.until for told in self._told.values()), default=math.inf)
        if not self._told:
            self._sweeper.discard(self)

    def close(self) -> None:
        """The server ends: what was left out is told now."""
        for pair, told in self._told.items():
            if told.left_out:
                self._tell(pair, told)
        self._told.clear()
        self._sweeper.discard(self)

    def _told_of(self, reason: str, peer: str, level: int) -> _Told:
        told = self._told.get((reason, peer))
        if told is None and len(self._told) >= PAIRS_MAX:
            peer = "other peers"
            told = self._told.get((reason, peer))
        if told is None:
            until = monotonic() + WINDOW
            told = self._told[reason, peer] = _Told(until, level)
            if self.deadline == math.inf:
                self.deadline = until
                self._sweeper.add(self)
        return told

    @staticmethod
    def _tell(pair: tuple[str, str], told: _Told) -> None:
        reason, peer = pair
        log.log(told.level, "%s: %d more like this from %s within %g s", reason, told.left_out, peer, WINDOW)
