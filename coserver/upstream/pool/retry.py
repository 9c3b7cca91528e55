"""A second attempt: after one that failed (a retry), or beside one that takes long (a hedge).

Both are for what may be repeated, neither once an answer has begun; together they are held to a share of what is under
way, so that a member in trouble does not meet a storm. Nothing here has a task or a timer: the sweeper calls.
"""

from __future__ import annotations

import math
import random
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from ..errors import SubrequestCancelled, UpstreamConnectError, UpstreamError, UpstreamTimeout
from ..subrequest import Subrequest

if TYPE_CHECKING:
    from .client import Client

#: Second attempts that are always allowed at once, for those who have little under way. Envoy's too.
LEAST = 3
#: Latencies that are remembered, and how many of them there must be before a hedge is made.
REMEMBERED, ENOUGH = 256, 32


class Retries:
    """Of one client: who may have another, and when."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._limits = client.limits
        self._extra: set[Subrequest] = set()  # second attempts that are under way
        self._waiting: set[Later] = set()
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)
        self._new = 0  # latencies since ``_late`` was worked out
        self._late = math.inf
        self.hedges = self._limits.hedge_percentile > 0

    def __repr__(self) -> str:
        return f"<Retries of {self._client.name}: {len(self._extra)} extra, {len(self._waiting)} wait>"

    def _affordable(self) -> bool:
        live = sum(pool.busy for pool in self._client.pools) + len(self._client.queue)
        return len(self._extra) < max(LEAST, live * self._limits.retry_budget / 100)

    # Retries.

    def retry(self, sub: Subrequest, error: UpstreamError) -> bool:
        """Whether ``sub``, whose attempt ended so, gets another: at once at somebody else's, or a little later."""
        limits = self._limits
        if sub.single or sub.retried >= limits.retries or sub.first or self._client.closed:
            return False
        if not (sub.may_repeat or (_never_sent(error) and sub.body_source is None)) or not self._affordable():
            return False
        delay = 0.0
        assert sub.pool is not None
        sub.tried = (*sub.tried, sub.pool)
        if all(pool in sub.tried or pool.out for pool in self._client.pools):
            # All of the span is drawn from: retries that come together fail together (AWS's "full jitter").
            span = min(limits.retry_backoff * 2**sub.retried, limits.retry_backoff_max)
            delay = span * (0.5 + random.random() / 2)
        now = monotonic()
        if now + delay >= sub.until:
            return False
        sub.retried += 1
        sub.more = True
        self._extra.add(sub)
        sub.begin_again()
        if delay:
            sub.between = True
            self._waiting.add(Later(self, sub, now + delay))
        else:
            self._client.place(sub)
        return True

    # Hedges.

    def note(self, sub: Subrequest, now: float) -> None:
        """An answer has come."""
        self._latencies.append(now - sub.placed)
        self._new += 1
        if self._new >= ENOUGH:
            self._new = 0
            ordered = sorted(self._latencies)
            self._late = ordered[min(int(len(ordered) * self._limits.hedge_percentile / 100), len(ordered) - 1)]

    def watch(self, sub: Subrequest) -> None:
        """It is about to begin: look at it again when it is late."""
        if self._late < math.inf and sub.may_repeat and not sub.stream and not sub.single:
            self._waiting.add(Later(self, sub, monotonic() + self._late))

    def due(self, later: Later, sub: Subrequest) -> None:
        """Its time has come: a repeat begins, or a late request gets its hedge."""
        self.forget(later)
        if sub.done or self._client.closed:
            return
        if sub.between:
            sub.between = False
            self._client.place(sub)
        elif sub.via is not None and not sub.first and sub.hedge is None and self._affordable():
            self._hedge(sub)

    def _hedge(self, sub: Subrequest) -> None:
        client = self._client
        pool = client.choose_other(sub)
        if pool is None:
            return
        hedge = Hedge(sub)
        sub.hedge, sub.more = hedge, True
        sub.attempts += 1
        hedge.more = True
        self._extra.add(hedge)
        pool.take(hedge)

    def ended(self, sub: Subrequest) -> None:
        """It has its answer, or will have none."""
        self._extra.discard(sub)

    def forget(self, later: Later) -> None:
        self._waiting.discard(later)
        self._client.sweeper.discard(later)

    def close(self) -> None:
        """What waits for its time is cancelled."""
        for later in tuple(self._waiting):
            self.forget(later)
            if later.sub.between:
                later.sub.cancel()


class Later:
    """Something to look at when its time has come; in the sweeper's ``running``, which it looks at each tick."""

    __slots__ = ("deadline", "retries", "sub")

    def __init__(self, retries: Retries, sub: Subrequest, deadline: float) -> None:
        self.retries = retries
        self.sub = sub
        self.deadline = deadline
        sweeper = retries._client.sweeper
        sweeper.add(self)
        sweeper.running.add(self)

    def expire(self, now: float) -> None:
        self.retries.due(self, self.sub)

    def outlive(self, now: float) -> None:
        """It need not wait for the end of what is over."""
        if self.sub.done:
            self.retries.forget(self)


class Hedge(Subrequest):
    """The second attempt of a hedged subrequest: whichever answers first ends the other."""

    single = True

    def __init__(self, first: Subrequest) -> None:
        super().__init__(first.client, first.method, first.target, monotonic())
        self.of = first
        self.start, self.fields, self.body, self.own_host = first.start, first.fields, first.body, first.own_host
        self.until = first.until

    def _settle(self) -> None:
        super()._settle()
        first = self.of
        first.hedge = None
        if first.done:
            return
        if self.response is not None:
            self._win(first)
        elif first.via is None and first.ended:  # the first has failed before
            assert isinstance(first.error, UpstreamError)
            error, first.error = first.error, None
            first.client.attempt_failed(first, error)

    def _win(self, first: Subrequest) -> None:
        via, first.via, first.error = first.via, None, None
        if via is not None:
            via.abandon(SubrequestCancelled("the other attempt was quicker"))
        first.pool = self.pool
        first.placed, first.connected, first.secured = self.placed, self.connected, self.secured
        first.sent, first.first = self.sent, self.first
        first.finish(self.response, self.ended)


def _never_sent(error: UpstreamError) -> bool:
    """Nothing of it has reached anybody: once more does no harm, whatever it is."""
    if isinstance(error, UpstreamTimeout):
        return error.phase in ("connect", "tls")
    return isinstance(error, UpstreamConnectError)
