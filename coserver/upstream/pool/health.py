"""The health of a member: learned from requests, and from checks if there are any.

A member that fails often enough is ejected, for a longer time each time. After that time one failure ejects it again,
and one answer heals it. If all members are out, all are asked all the same. Cancelled requests do not count.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ..errors import SubrequestCancelled, UpstreamError

if TYPE_CHECKING:
    from ..subrequest import Subrequest
    from .client import Client
    from .pool import Pool

log = logging.getLogger("coserver.upstream")

UP, EJECTED, FAILING, DRAINING = "up", "ejected", "failing", "draining"


class Health:
    """The health of one pool. ``failures`` counts attempts without an answer, ``errors`` answers of 5xx.

    ``deadline`` is the end of an ejection; the sweeper calls ``expire`` then.
    """

    __slots__ = (
        "_bad", "_errored", "_failed", "_failing", "_limits", "_pool", "_since", "deadline", "ejections", "errors",
        "failures",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        limits = self._limits = pool.client.limits
        self._pool = pool
        self.failures = self.errors = 0
        self._failed: deque[float] = deque(maxlen=limits.eject_failures)  # the times of the last ones
        self._errored: deque[float] = deque(maxlen=limits.eject_errors)
        self.ejections = 0  # since the member was last healthy
        self._since = 0.0  # the time of the last ejection
        self._bad = 0  # failed checks in a row
        self._failing = False
        self.deadline = math.inf

    def __repr__(self) -> str:
        return f"<Health of {self._pool.address}: {self.state}, {self.failures} failures, {self.errors} errors>"

    @property
    def state(self) -> str:
        """UP, FAILING (by checks), EJECTED (by requests), or DRAINING (leaving)."""
        if self._pool.leaving:
            return DRAINING
        if self._failing:
            return FAILING
        return EJECTED if self.deadline < math.inf else UP

    def attempt_ended(self, sub: Subrequest, error: UpstreamError | None, status: int) -> None:
        """Count the end of an attempt. ``status`` is 0 if there is none."""
        recent = None
        if error is not None:
            self.failures += 1
            recent = self._failed
        elif status >= 500:
            self.errors += 1
            if self._limits.eject_errors:
                recent = self._errored
        if self.ejections and sub.placed < self._since:
            return  # it began before the ejection, so it is no news
        if recent is None:
            if self.ejections:
                self._heal()
        elif recent.maxlen and not self._pool.leaving:
            self._note(recent, monotonic())

    def _note(self, recent: deque[float], now: float) -> None:
        recent.append(now)
        often = len(recent) == recent.maxlen and now - recent[0] <= self._limits.eject_window
        if self.deadline == math.inf and (often or self.ejections):
            recent.clear()
            self.ejections += 1
            self._since = now
            seconds = self._limits.eject_time * 2 ** min(self.ejections - 1, 30)
            seconds = min(seconds, self._limits.eject_time_max)
            self.deadline = now + seconds
            self._pool.client.sweeper.add(self)
            log.warning("upstream %s ejects %s for %.3g s", self._pool.client.name, self._pool.address, seconds)
            self._changed()

    def _heal(self) -> None:
        self.ejections = 0
        self._back()

    def _back(self) -> None:
        self.deadline = math.inf
        self._pool.client.sweeper.discard(self)
        self._changed()

    def _changed(self) -> None:
        out = self._failing or self.deadline < math.inf
        self._pool.troubled = out or bool(self.ejections)
        if out != self._pool.out:
            self._pool.out = out
            self._pool.client.serve_queue()

    def checked(self, *, well: bool) -> None:
        """Count the result of a check."""
        self._bad = 0 if well else self._bad + 1
        if self._failing != (self._bad >= self._limits.check_failures if not well else False):
            self._failing = not self._failing
            log.warning("upstream %s: %s %s", self._pool.client.name, self._pool.address, self.state)
        if well:
            self._heal()
        else:
            self._changed()

    # For the sweeper.

    def expire(self, now: float) -> None:
        """End the ejection. The next attempt decides about the next."""
        self._back()


async def check(client: Client) -> None:
    """Check each member from time to time. A task of the client's group."""
    limits = client.limits
    while not client.closed:
        asked = [(pool, sub) for pool in client.pools if (sub := client.check(pool)) is not None]
        for pool, sub in asked:
            try:
                answer = await sub
            except SubrequestCancelled:
                continue  # the member has left, or the client was closed
            except UpstreamError:
                pool.health.checked(well=False)
            else:
                pool.health.checked(well=answer.status == limits.check_status)
        await anyio.sleep(limits.check_interval)
