"""The members of an upstream on one loop: their pools, and the policy that chooses among them.

The pools are as declared, except those of a name, whose addresses change. A pool that leaves is not chosen any more,
ends what is under way, and is then forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..member import UpstreamMember
from .balance import Policy
from .dns import ResolvedName
from .pool import Pool

if TYPE_CHECKING:
    from ..subrequest import Subrequest
    from .client import Client


class Members:
    """``pools`` may be chosen. ``only`` is the only pool, if there is no choice. ``leaving`` end what is under way.

    ``attempt_ended`` is the policy's method of that name; None if the policy does not learn.
    """

    __slots__ = (
        "_client", "_groups", "_make_policy", "_policy", "attempt_ended", "leaving", "names", "only", "pools",
    )  # fmt: skip

    def __init__(
        self, client: Client, members: Iterable[UpstreamMember], policy: Callable[[Sequence[Pool]], Policy]
    ) -> None:
        self._client = client
        self._make_policy = policy
        self.names: list[ResolvedName] = []
        self._groups = [self._group(member) for member in members]  # the pools of each member
        self.leaving: tuple[Pool, ...] = ()
        self._arrange()

    def __repr__(self) -> str:
        return f"<Members of {self._client.name}: {', '.join(map(repr, self.pools))}>"

    def _group(self, member: UpstreamMember) -> list[Pool]:
        if member.places:
            return [Pool(self._client, member, self._client.queue)]
        name = ResolvedName(self._client, member, self)
        self.names.append(name)
        return name.pools

    def _arrange(self) -> None:
        self.pools: tuple[Pool, ...] = tuple(pool for group in self._groups for pool in group)
        self.only = self.pools[0] if len(self.pools) == 1 else None
        self._policy = self._make_policy(self.pools)
        learns = None if self.only is not None else getattr(self._policy, "attempt_ended", None)
        self.attempt_ended: Callable[..., None] | None = learns

    def choose(self, sub: Subrequest) -> Pool | None:
        """Choose among the pools that have room and are not out; if all pools are out, among all that have room."""
        pools = [pool for pool in self.pools if not pool.out and pool.has_room]
        if not pools and all(pool.out for pool in self.pools):
            pools = [pool for pool in self.pools if pool.has_room]
        if sub.tried:
            pools = [pool for pool in pools if pool not in sub.tried] or pools
        return self._policy.choose(pools, sub) if pools else None

    def choose_other(self, sub: Subrequest) -> Pool | None:
        """Choose for a hedge: another member if possible, else the same one on another connection."""
        pools = [pool for pool in self.pools if not pool.out and pool.has_room]
        pools = [pool for pool in pools if pool is not sub.pool] or pools
        return self._policy.choose(pools, sub) if pools else None

    def changed(self, gone: Sequence[Pool]) -> None:
        """Note that the addresses of a name changed. ``gone`` are the pools that are not in use any more."""
        self.leaving = (*(pool for pool in self.leaving if pool.leaving), *gone)  # one of them may be back
        self._arrange()
        self._client.members_changed()
        unsent = [sub for pool in gone for sub in pool.leave()]
        for pool in gone:
            if not pool.open:
                self.gone(pool)
        self._client.place_first(unsent)

    def gone(self, pool: Pool) -> None:
        """Forget a pool that was leaving: its last connection has ended."""
        self.leaving = tuple(each for each in self.leaving if each is not pool)
        self._client.sweeper.discard(pool.health)

    def left(self, name: ResolvedName) -> dict[object, Pool]:
        """The pools of a name that are still leaving, by their first address."""
        return {pool.addresses[0]: pool for pool in self.leaving if pool.name is name and pool.addresses}
