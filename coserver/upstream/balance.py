"""Which member gets the next request. A policy is a class with ``choose`` and a row in POLICIES.

``choose`` sees only pools that have room, never none, and is not asked where there is one member. ``told`` hears how
each attempt ended; a policy that has no use for it leaves it out. ``own_lines``: a request waits for the member that
the policy means, not for the first that becomes free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .pool import Pool
    from .subrequest import Subrequest


class Policy(Protocol):
    """One upstream's on one loop. Made with all its pools."""

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        """One of ``pools``."""
        ...


class RoundRobin:
    """Smooth weighted round-robin: of weights 5, 1, 1 it makes a a b a c a a."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._current = dict.fromkeys(pools, 0)

    def choose(self, pools: Sequence[Pool], sub: Subrequest) -> Pool:
        current = self._current
        total = 0
        best = pools[0]
        for pool in pools:
            weight = pool.member.weight
            total += weight
            current[pool] += weight
            if current[pool] > current[best]:
                best = pool
        current[best] -= total
        return best


POLICIES: dict[str, Callable[[Sequence[Pool]], Policy]] = {"round-robin": RoundRobin}
