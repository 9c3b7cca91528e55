"""Second attempts: a retry after an attempt that failed, a hedge beside an attempt that takes long.

Both need a request that may be repeated and has no byte of a response yet. Together they are held to a share of the
requests under way, so that a member in trouble does not meet a storm of retries. They need no task and no timer: the
sweeper calls.
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

#: Second attempts that are always allowed at once, for clients with few requests under way; as in Envoy.
LEAST = 3
#: The number of latencies that are kept, and the number needed before the first hedge.
REMEMBERED, ENOUGH = 256, 32


class Retries:
    """The second attempts of one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._limits = client.limits
        self._extra: set[Subrequest] = set()  # second attempts under way
        self._waiting: set[Later] = set()
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)
        self._new = 0  # latencies since ``_late`` was computed
        self._late = math.inf
        self.hedges = self._limits.hedge_percentile > 0

    def __repr__(self) -> str:
        return f"<Retries of {self._client.name}: {len(self._extra)} extra, {len(self._waiting)} wait>"

    def _affordable(self) -> bool:
        live = sum(pool.busy for pool in self._client.pools) + len(self._client.queue)
        return len(self._extra) < max(LEAST, live * self._limits.retry_budget / 100)

    # Retries.

    def retry(self, sub: Subrequest, error: UpstreamError) -> bool:
        """Schedule a retry, at another member at once or after a backoff; false if none is allowed."""
        limits = self._limits
        if sub.single or sub.retried >= limits.retries or sub.first or self._client.closed:
            return False
        if not (sub.may_repeat or (_never_sent(error) and sub.body_source is None)) or not self._affordable():
            return False
        delay = 0.0
        assert sub.pool is not None
        sub.tried = (*sub.tried, sub.pool)
        if all(pool in sub.tried or pool.out for pool in self._client.pools):
            # Between half and all of the span, at random, so that requests that failed together are not repeated
            # together (AWS: "jitter").
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
            later = Later(self, sub, now + delay)
            self._waiting.add(later)
            self._client.sweeper.hasten(later)
        else:
            self._client.place(sub)
        return True

    # Hedges.

    def note(self, sub: Subrequest, now: float) -> None:
        """Note the latency of an answer."""
        self._latencies.append(now - sub.placed)
        self._new += 1
        if self._new >= ENOUGH:
            self._new = 0
            ordered = sorted(self._latencies)
            self._late = ordered[min(int(len(ordered) * self._limits.hedge_percentile / 100), len(ordered) - 1)]

    def watch(self, sub: Subrequest) -> None:
        """Hedge the request, which is about to begin, if it turns out to be late."""
        if self._late < math.inf and sub.may_repeat and not sub.stream and not sub.single:
            self._waiting.add(Later(self, sub, monotonic() + self._late))

    def due(self, later: Later, sub: Subrequest) -> None:
        """Start the retry whose backoff is over, or the hedge of a request that is late."""
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
        """Note the end of a second attempt."""
        self._extra.discard(sub)

    def forget(self, later: Later) -> None:
        """Drop a ``Later``."""
        self._waiting.discard(later)
        self._client.sweeper.discard(later)

    def close(self) -> None:
        """Cancel the retries that wait."""
        for later in tuple(self._waiting):
            self.forget(later)
            if later.sub.between:
                later.sub.cancel()


class Later:
    """A retry after its backoff, or a hedge of a late request. In the sweeper's ``running``, which is checked at each
    tick.
    """

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
        """Forget a subrequest that is done."""
        if self.sub.done:
            self.retries.forget(self)


class Hedge(Subrequest):
    """The second attempt of a hedged subrequest: the first answer ends the other attempt."""

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
        elif first.via is None and first.ended:  # the first attempt has failed already
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
    """Whether the request was never sent: sending it is then no repetition, whatever its method."""
    if isinstance(error, UpstreamTimeout):
        return error.phase in ("connect", "tls")
    return isinstance(error, UpstreamConnectError)
