"""One task that looks at every deadline of a loop, so that none needs a timer or a cancel scope of its own.

A deadline is a plain attribute, in monotonic seconds; setting one costs nothing. (``anyio.fail_after`` costs 8 µs on
asyncio, 17 on trio.) Deadlines are met to within four ticks, which is what timeouts of seconds need.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

import anyio

#: Seconds between two looks at what runs. A handler that outlives it is watched for hang-ups: quick ones pay nothing.
TICK = 0.025
#: All deadlines are looked at every fourth tick: 5,000 idle connections then cost 0.3 % of a core, not 1.
_DEADLINE_TICKS = 4

log = logging.getLogger("coserver.transport")


class Swept(Protocol):
    """What has a deadline."""

    deadline: float

    def expire(self, now: float) -> None:
        """The deadline has passed; called at every look until it is moved. Must not wait."""
        ...

    def outlive(self, now: float) -> None:
        """This has been in ``running`` at a look. Must not wait."""
        ...


class Sweeper:
    """``subjects`` are looked at for their deadlines, ``running`` are those of them with an exchange under way.

    ``lag`` is how much too late the last look came, in seconds: how long the loop was kept from its tasks. ``lags`` and
    ``ticks`` are the sum of them and their number, ``worst_lag`` the longest. From any thread.
    """

    __slots__ = ("_wake", "lag", "lags", "running", "subjects", "ticks", "worst_lag")

    def __init__(self) -> None:
        self.subjects: set[Swept] = set()
        self.running: set[Swept] = set()
        self._wake: anyio.Event | None = None
        self.lag = self.lags = self.worst_lag = 0.0
        self.ticks = 0

    def __repr__(self) -> str:
        return f"<Sweeper {len(self.subjects)} subjects, {len(self.running)} running>"

    def add(self, subject: Swept) -> None:
        self.subjects.add(subject)
        if self._wake is not None:
            self._wake.set()

    def discard(self, subject: Swept) -> None:
        self.subjects.discard(subject)
        self.running.discard(subject)

    async def run(self) -> None:
        """Sweep until cancelled; sleeps without waking while there is nothing to look at."""
        while True:
            if not self.subjects:
                self._wake = anyio.Event()
                await self._wake.wait()
                self._wake = None
            due = monotonic() + TICK
            await anyio.sleep(TICK)
            now = monotonic()
            self.ticks += 1
            self.lag = lag = max(now - due, 0.0)
            self.lags += lag
            self.worst_lag = max(self.worst_lag, lag)
            self.sweep(now, every=self.ticks % _DEADLINE_TICKS == 0)

    def sweep(self, now: float, *, every: bool = True) -> None:
        """One look, at all subjects or only at those that run. A subject that raises is logged; the others go on."""
        for subject in tuple(self.running):
            try:
                subject.outlive(now)
            except Exception:
                log.exception("%r raised at the sweep", subject)
        late = [subject for subject in (self.subjects if every else self.running) if subject.deadline < now]
        for subject in late:
            try:
                subject.expire(now)
            except Exception:
                log.exception("%r raised at its deadline", subject)
