"""Breaches of limits and rules by clients: counted by reason, and logged without flooding the log.

A reason is the field of Limits that was broken, or a row of OTHER_REASONS. For each reason and peer, the first breaches
are logged one by one. The others are counted, and their number is logged at the end of each window. So no breach is
lost, and none floods the log.
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

#: Reasons that are no field of Limits, each with its meaning.
OTHER_REASONS = {
    "protocol": "the bytes are not HTTP, or break a rule of HTTP (400, 501, 505) or of a TCP framing",
    "tls": "no TLS handshake: the bytes are no TLS, both sides share nothing, or one refused the other's certificate",
    "descriptors": "the system had no descriptor or memory left for a connection that waited",
    "disk": "a body was too large for memory, and its temporary file could not be written (507)",
    "gave_way": "a connection ended, idle or after its answer, to give its place to a client that waited; no breach",
}

#: Lines about one reason and one peer before the rest is only counted: enough to see the problem and its variants.
BURST = 5
#: Seconds until the count is logged, and until a peer that has been quiet gets single lines again.
WINDOW = 10.0
#: Pairs of reason and peer that are known at once, 200 bytes each. All further peers share one pair for each reason. So
#: the log of an attack from everywhere is bounded too: 5 lines for each pair in 10 s.
PAIRS_MAX = 256


@dataclass(slots=True)
class _Window:
    """The current window of one reason and peer: how many breaches were logged, and how many were only counted."""

    until: float
    level: int
    lines: int = 0
    left_out: int = 0


class Breaches:
    """``counts`` are by reason, since the start: any thread may read these ints. All else belongs to the loop."""

    def __init__(self, sweeper: Sweeper) -> None:
        self.counts: dict[str, int] = {}
        self.deadline = math.inf
        self._sweeper = sweeper
        self._windows: dict[tuple[str, str], _Window] = {}

    def __repr__(self) -> str:
        return f"<Breaches {self.counts}>"

    def note(self, reason: str, peer: str, message: str, *arguments: Any, level: int = logging.WARNING) -> None:
        """Count a breach, and log ``message % arguments`` unless the window has its lines already."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if not log.isEnabledFor(level):
            return
        window = self._window_of(reason, group_of(peer), level)
        if window.lines < BURST:
            window.lines += 1
            log.log(level, message, *arguments)
        else:
            window.left_out += 1

    def expire(self, now: float) -> None:
        """Log the counts of the windows that have ended. A peer that goes on gets further counts, no single lines."""
        for pair, window in list(self._windows.items()):
            if window.until > now:
                continue
            if not window.left_out:
                del self._windows[pair]
                continue
            self._log_count(pair, window)
            window.left_out, window.until = 0, now + WINDOW
        self.deadline = min((window.until for window in self._windows.values()), default=math.inf)
        if not self._windows:
            self._sweeper.discard(self)

    def close(self) -> None:
        """Log all counts: the server ends."""
        for pair, window in self._windows.items():
            if window.left_out:
                self._log_count(pair, window)
        self._windows.clear()
        self._sweeper.discard(self)

    def _window_of(self, reason: str, peer: str, level: int) -> _Window:
        window = self._windows.get((reason, peer))
        if window is None and len(self._windows) >= PAIRS_MAX:
            peer = "other peers"
            window = self._windows.get((reason, peer))
        if window is None:
            until = monotonic() + WINDOW
            window = self._windows[reason, peer] = _Window(until, level)
            if self.deadline == math.inf:
                self.deadline = until
                self._sweeper.add(self)
        return window

    @staticmethod
    def _log_count(pair: tuple[str, str], window: _Window) -> None:
        reason, peer = pair
        log.log(window.level, "%s: %d more like this from %s within %g s", reason, window.left_out, peer, WINDOW)
