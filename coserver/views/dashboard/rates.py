"""Figures of each second, computed from the counters of successive snapshots; and sparklines of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ...observe.snapshot.snapshot import Snapshot

#: Seconds that are kept: as many as a wide terminal has columns.
KEPT = 240
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Second:
    """One second: ``rate`` in requests, average ``latency`` in seconds (None without requests), bytes in and out."""

    rate: float = 0.0
    latency: float | None = None
    received: float = 0.0
    sent: float = 0.0


class Rates:
    """Call ``add`` with each snapshot; ``seconds`` has the last ones, the newest last."""

    def __init__(self) -> None:
        self.seconds: deque[Second] = deque(maxlen=KEPT)
        self._before: Snapshot | None = None

    @property
    def now(self) -> Second:
        return self.seconds[-1] if self.seconds else Second()

    def add(self, snapshot: Snapshot) -> None:
        """Add the seconds since the last snapshot; nothing before 0.95 s. A snapshot of a new process starts over."""
        before = self._before
        if before is None or snapshot.pid != before.pid or snapshot.seconds < before.seconds:
            self._before = snapshot
            return
        elapsed = snapshot.seconds - before.seconds
        if elapsed < 0.95:
            return

        def more(name: str) -> float:
            return max(snapshot.counters.get(name, 0) - before.counters.get(name, 0), 0)

        served = more("served")
        second = Second(
            served / elapsed,
            more("spent_us") / 1e6 / served if served else None,
            more("received") / elapsed,
            more("sent") / elapsed,
        )
        # A late snapshot counts for all seconds since the last one.
        self.seconds.extend([second] * max(1, min(round(elapsed), KEPT)))
        self._before = snapshot


def sparkline(values: list[float | None], width: int) -> str:
    """The last ``width`` values as bars, scaled to the highest; None is a blank."""
    shown = values[-width:] if width else []
    highest = max((value for value in shown if value is not None), default=0.0)
    bars = [_bar(value, highest) for value in shown]
    return "".join(bars).rjust(width)


def _bar(value: float | None, highest: float) -> str:
    if not value or not highest:
        return " " if value is None else "▁" if highest else " "
    return _BARS[max(1, min(8, round(8 * value / highest)))]
