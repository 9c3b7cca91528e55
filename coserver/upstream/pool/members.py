"""Who may be asked, and which of them is: the pools of an upstream on one loop, and the policy among them.

They are as declared, but for names: what those stand for changes. Who leaves is offered nothing more, what it has under
way ends, and then it is gone.
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
    """``pools`` can be asked; ``only`` is their only one, if there is nothing to choose; ``leaving`` are at their end.

    ``told`` is what the policy hears, None if it learns nothing.
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
        self._groups = [self._group(member) for member in members]  # the pools of each
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
        """Of those that have room and are not out; of all with room if all are out."""
        pools = [pool for pool in self.pools if not pool.out and pool.has_room]
        if not pools and all(pool.out for pool in self.pools):
            pools = [pool for pool in self.pools if pool.has_room]
        if sub.tried:
            pools = [pool for pool in pools if pool not in sub.tried] or pools
        return self._policy.choose(pools, sub) if pools else None

    def choose_other(self, sub: Subrequest) -> Pool | None:
        """For a second attempt beside the first: another member, or the same on another connection."""
        pools = [pool for pool in self.pools if not pool.out and pool.has_room]
        pools = [pool for pool in pools if pool is not sub.pool] or pools
        return self._policy.choose(pools, sub) if pools else None

    def changed(self, gone: Sequence[Pool]) -> None:
        """A name stands for others now: ``gone`` are not in its pools any more, or others have come."""
        self.leaving = (*(pool for pool in self.leaving if pool.leaving), *gone)  # one of them may be back
        self._arrange()
        self._client.members_changed()
        unsent = [sub for pool in gone for sub in pool.leave()]
        for pool in gone:
            if not pool.open:
                self.gone(pool)
        self._client.place_first(unsent)

    def gone(self, pool: Pool) -> None:
        """The last connection of one that left has ended."""
        self.leaving = tuple(each for each in self.leaving if each is not pool)
        self._client.sweeper.discard(pool.health)

    def left(self, name: ResolvedName) -> dict[object, Pool]:
        """By their first address, those who have left a name and have not ended."""
        return {pool.addresses[0]: pool for pool in self.leaving if pool.name is name and pool.addresses}
