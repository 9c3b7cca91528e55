"""Deadlines of a loop: one task checks all of them, so that none needs a timer or a cancel scope of its own.

A deadline is a plain attribute, in monotonic seconds; setting one costs nothing. (``anyio.fail_after`` costs 8 µs on
asyncio, 17 µs on trio.) A deadline is acted on within four ticks, which is enough for timeouts of seconds. One that is
nearer than ``NEAR`` may be given to ``hasten``, and is acted on within ``FINE``.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

import anyio

#: Seconds between two visits of the running subjects. Only a handler that takes longer is watched for a client that
#: hangs up: quick handlers pay nothing.
TICK = 0.025
#: Seconds between two checks of all deadlines but those of patient subjects.
PERIOD = 4 * TICK
#: Seconds between two checks of the patient subjects. 5,000 idle connections, each looked at every ``PERIOD``, would
#: cost 1.5 % of a core. Those whose deadline comes within two such checks are looked at with all others.
FAR = 1.0
#: Seconds: a deadline is near if it comes sooner. A tenth of a second more or less matters to it.
NEAR = 1.0
#: Seconds between two visits of the near subjects; nobody is visited while there are none.
FINE = 0.005

log = logging.getLogger("coserver.transport")


class Subject(Protocol):
    """Anything with a deadline: a member of ``Sweeper.subjects``."""

    deadline: float

    def expire(self, now: float) -> None:
        """Act on the deadline, which has passed. Called at every check until the deadline moves; must not wait."""
        ...


class RunningSubject(Subject, Protocol):
    """A subject that the sweeper also visits at every tick, late or not: a member of ``Sweeper.running``."""

    def outlive(self, now: float) -> None:
        """Note that this was in ``running`` at a tick. Must not wait."""
        ...


class Sweeper:
    """Calls ``expire`` on late subjects every fourth tick, and on those in ``running`` at every tick.

    ``subjects`` holds everything with a deadline; ``running`` the few that ``outlive`` also visits, at every tick;
    ``near`` those of ``subjects`` whose deadline may be less than a second away; ``patient`` those that never set a
    deadline sooner than ``2 * FAR`` from now.
    ``lag`` is the delay of the last tick in seconds: the time for which the loop was kept from its tasks. ``lags`` is
    the sum of all lags, ``ticks`` their number, ``worst_lag`` the longest. All four may be read from any thread.
    """

    __slots__ = (
        "_near_wake", "_soon", "_wake", "lag", "lags", "near", "patient", "running", "subjects", "ticks", "worst_lag",
    )  # fmt: skip

    def __init__(self) -> None:
        self.subjects: set[Subject] = set()
        self.running: set[RunningSubject] = set()
        self.near: set[Subject] = set()
        self.patient: set[Subject] = set()
        self._soon: set[Subject] = set()  # the patient subjects whose deadline may come before they are looked at again
        self._wake: anyio.Event | None = None
        self._near_wake: anyio.Event | None = None
        self.lag = self.lags = self.worst_lag = 0.0
        self.ticks = 0

    def __repr__(self) -> str:
        return f"<Sweeper {len(self.subjects) + len(self.patient)} subjects, {len(self.running)} running>"

    def add(self, subject: Subject) -> None:
        """Check the subject's deadline from now on."""
        self.patient.discard(subject)
        self._soon.discard(subject)
        self.subjects.add(subject)
        if self._wake is not None:
            self._wake.set()

    def add_patient(self, subject: Subject) -> None:
        """Check the deadline of a subject that never sets one sooner than ``2 * FAR`` from now. ``add`` undoes it."""
        self.patient.add(subject)
        self._soon.add(subject)
        if self._wake is not None:
            self._wake.set()

    def discard(self, subject: Subject) -> None:
        """Forget the subject, in all sets."""
        self.subjects.discard(subject)
        self.near.discard(subject)
        self.patient.discard(subject)
        self._soon.discard(subject)
        self.running.discard(subject)

    def hasten(self, subject: Subject) -> None:
        """Check the subject, which was added, every ``FINE`` seconds while its deadline is near."""
        self.near.add(subject)
        if self._near_wake is not None:
            self._near_wake.set()

    async def run_near(self) -> None:
        """Expire the near subjects until cancelled, beside ``run``. Sleeps without waking while there are none."""
        while True:
            if not self.near:
                self._near_wake = anyio.Event()
                await self._near_wake.wait()
                self._near_wake = None
            await anyio.sleep(FINE)
            now = monotonic()
            self.near = {subject for subject in self.near if subject.deadline < now + NEAR}
            self._expire([subject for subject in self.near if subject.deadline < now], now)

    async def run(self) -> None:
        """Sweep until cancelled. Sleeps without waking while there are no subjects."""
        checked = looked = 0.0
        while True:
            if not (self.subjects or self.patient):
                self._wake = anyio.Event()
                await self._wake.wait()
                self._wake = None
            pause = TICK if self.running else 2 * TICK  # an idle server wakes half as often
            due = monotonic() + pause
            await anyio.sleep(pause)
            now = monotonic()
            self.ticks += 1
            self.lag = lag = max(now - due, 0.0)
            self.lags += lag
            self.worst_lag = max(self.worst_lag, lag)
            every, far = now - checked > PERIOD - TICK / 2, now - looked > FAR - TICK / 2
            self.sweep(now, every=every, far=far)
            checked, looked = now if every else checked, now if far else looked

    def sweep(self, now: float, *, every: bool = True, far: bool = True) -> None:
        """Visit what runs, then expire the late ones: of those in ``running``; with ``every`` of all but the patient
        subjects; with ``far`` of these too.

        An exception of one subject is logged; the others are still visited.
        """
        for runs in tuple(self.running):
            try:
                runs.outlive(now)
            except Exception:
                log.exception("%r raised at the sweep", runs)
        late: list[Subject] = [subject for subject in self.running if subject.deadline < now]
        if every:
            late += [one for one in self.subjects if one.deadline < now and one not in self.running]
            if far:
                soon = now + 2 * FAR
                self._soon = {one for one in self.patient if one.deadline < soon}
            if self._soon:
                late += [one for one in self._soon if one.deadline < now]
        self._expire(late, now)

    def _expire(self, late: list[Subject], now: float) -> None:
        for subject in late:
            try:
                subject.expire(now)
            except Exception:
                log.exception("%r raised at its deadline", subject)
