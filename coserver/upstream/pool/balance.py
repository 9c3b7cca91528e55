"""Balancing policies: which member gets the next request. A policy is a class with ``choose`` and a row in POLICIES.

``choose`` gets only pools that have room, at least one, and is not called if there is only one member. A policy that
learns has ``attempt_ended`` too; it is called after each attempt that was not cancelled. When the members change, the
policy is made anew and starts from nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ...transport.peer import host_of
from ..errors import UpstreamError

if TYPE_CHECKING:
    from ..subrequest import Subrequest
    from .pool import Pool


class Policy(Protocol):
    """A policy of one upstream on one loop. Made with all its pools."""

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        """Choose one of ``pools``."""
        ...


class RoundRobin:
    """Smooth weighted round-robin: the weights 5, 1, 1 give the sequence a a b a c a a.

    A failure halves the effective weight of a member, down to 1/64, so that it is still tried; an answer gives back an
    eighth of the weight.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._current = dict.fromkeys(pools, 0.0)
        self._effective = {pool: float(pool.member.weight) for pool in pools}

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        """Add to each its weight, choose the highest, and take the sum of all weights from it (as nginx does)."""
        current, effective = self._current, self._effective
        total = 0.0
        best = pools[0]
        for pool in pools:
            weight = effective[pool]
            total += weight
            current[pool] += weight
            if current[pool] > current[best]:
                best = pool
        current[best] -= total
        return best

    def attempt_ended(self, pool: Pool, sub: Subrequest, error: UpstreamError | None) -> None:
        weight, now = pool.member.weight, self._effective.get(pool)
        if now is None or (error is None and now == weight):
            return
        self._effective[pool] = max(now / 2, weight / 64) if error is not None else min(now + weight / 8, weight)


class LeastConnections:
    """The member with the fewest requests under way for its weight; of equals the one chosen longest ago."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._chosen = dict.fromkeys(pools, 0)
        self._turn = 0

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        chosen = self._chosen
        best = min(pools, key=lambda pool: ((pool.busy + 1) / pool.member.weight, chosen[pool]))
        self._turn += 1
        chosen[best] = self._turn
        return best


class PeakEwma:
    """The better of two members drawn at random, by latency times requests under way.

    The latency is a moving average that rises at once to a higher value and falls slowly. A member that became slow is
    avoided after one answer, and tried again as that answer is forgotten (as in Finagle; Mitzenmacher 2001 on two
    choices).
    """

    #: Seconds after which a value counts for a third (1/e); as in Finagle.
    FORGET = 10.0
    #: The least seconds that a failure counts for: a member that refuses connections is quick, and must not attract
    #: requests.
    FAILURE = 1.0

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._seen = dict.fromkeys(pools, (0.0, 0.0))  # seconds, and the time of the measurement

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        if len(pools) == 1:
            return pools[0]
        one, other = random.sample(pools, 2)
        now = monotonic()
        return one if self._load(one, now) <= self._load(other, now) else other

    def attempt_ended(self, pool: Pool, sub: Subrequest, error: UpstreamError | None) -> None:
        """Note the seconds from the start of the attempt to the first byte."""
        if pool not in self._seen:
            return
        now = monotonic()
        took = (sub.first or now) - sub.placed
        if error is not None:
            took = max(took, self.FAILURE)
        seconds, at = self._seen[pool]
        keep = math.exp((at - now) / self.FORGET)
        self._seen[pool] = max(took, seconds * keep + took * (1 - keep)), now

    def _load(self, pool: Pool, now: float) -> float:
        seconds, at = self._seen[pool]
        if not at:  # unknown: one request to try it, no second one before the answer
            return float(pool.busy)
        return seconds * math.exp((at - now) / self.FORGET) * (pool.busy + 1) / pool.member.weight


class ConsistentHash:
    """Equal keys go to the same member as long as it has room. A member that leaves moves only its own keys.

    Weighted rendezvous hashing: each pair of key and member has a score, the highest wins (Thaler 1998).
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._names = {pool: pool.address.encode() for pool in pools}

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        key = sub.client.key(sub)
        seed = blake2b(key.encode() if isinstance(key, str) else key, digest_size=16).digest()
        return max(pools, key=lambda pool: self._score(seed, pool))

    def _score(self, seed: bytes, pool: Pool) -> float:
        drawn = int.from_bytes(blake2b(self._names[pool], digest_size=6, key=seed).digest(), "big")
        return -pool.member.weight / math.log((drawn + 1) / (2**48 + 1))


Key = Callable[["Subrequest"], str | bytes]


def client_address(sub: Subrequest) -> str:
    """The key by default: the address of the client, also behind trusted proxies; the target for a subrequest without
    one.
    """
    if sub.exchange is None:
        return sub.target
    client: str | None = getattr(getattr(sub.exchange, "request", None), "client", None)  # absent in a TCP message
    return client or host_of(sub.exchange.connection.peer)


POLICIES: dict[str, Callable[[Sequence[Pool]], Policy]] = {
    "round-robin": RoundRobin,
    "least-connections": LeastConnections,
    "peak-ewma": PeakEwma,
    "consistent-hash": ConsistentHash,
}
