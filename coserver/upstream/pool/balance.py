"""Which member gets the next request. A policy is a class with ``choose`` and a row in POLICIES.

``choose`` sees only pools that have room, never none, and is not asked where there is one member. ``told`` hears how
each attempt ended, and a cancelled one never is; a policy that has no use for it leaves it out. What a policy
remembers ends when the members change: it is made anew with them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ..errors import UpstreamError

if TYPE_CHECKING:
    from ..subrequest import Subrequest
    from .pool import Pool


class Policy(Protocol):
    """One upstream's on one loop. Made with all its pools."""

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        """One of ``pools``."""
        ...


class RoundRobin:
    """Smooth weighted round-robin: of weights 5, 1, 1 it makes a a b a c a a.

    A failure halves what a member counts for, down to 1/64, so that it is still tried; an answer gives back an eighth.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._current = dict.fromkeys(pools, 0.0)
        self._effective = {pool: float(pool.member.weight) for pool in pools}

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        """Each gains its weight, the highest is chosen and gives back all weights (nginx's smooth round-robin)."""
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
    """Whoever has the fewest requests under way for its weight; among equals, whoever was chosen longest ago."""

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
    """The better of two drawn at random, by its latency times what it has under way.

    The latency is a moving average that rises at once to any higher value and falls slowly: who has become slow is
    left alone after one answer, and tried again as that is forgotten. (Finagle's; Mitzenmacher 2001 on two choices.)
    """

    #: Seconds in which all but a third is forgotten; Finagle's too.
    FORGET = 10.0
    #: Seconds that a failure counts for at least: a member that refuses is quick, and must not attract.
    FAILURE = 1.0

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._seen = dict.fromkeys(pools, (0.0, 0.0))  # seconds, and when that was

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        if len(pools) == 1:
            return pools[0]
        one, other = random.sample(pools, 2)
        now = monotonic()
        return one if self._load(one, now) <= self._load(other, now) else other

    def attempt_ended(self, pool: Pool, sub: Subrequest, error: UpstreamError | None) -> None:
        """Note its seconds, from the taking of a connection to the first byte."""
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
        if not at:  # unknown: worth one try, and no second before its answer
            return float(pool.busy)
        return seconds * math.exp((at - now) / self.FORGET) * (pool.busy + 1) / pool.member.weight


class ConsistentHash:
    """The same key to the same member, as long as that has room; a member that leaves moves none but its own.

    Rendezvous hashing, with weights: each pair of key and member has a score, and the highest wins (Thaler 1998).
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
    """The client whose request it is for, behind trusted peers too; its own target if it stands alone."""
    if sub.host is None:
        return sub.target
    client: str | None = getattr(getattr(sub.exchange, "request", None), "client", None)  # a TCP message has none
    return client or sub.host.peer.rpartition(":")[0] or sub.host.peer


POLICIES: dict[str, Callable[[Sequence[Pool]], Policy]] = {
    "round-robin": RoundRobin,
    "least-connections": LeastConnections,
    "peak-ewma": PeakEwma,
    "consistent-hash": ConsistentHash,
}
