"""Names of members: looked up again and again. Each address of a name is a member with a pool of its own.

Until the first answer of the resolver, one pool without an address stands for the name. Its subrequests wait for the
answer, and then move to the pools of the addresses. A look-up that fails changes nothing.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ..member import Addresses, UpstreamMember
from .pool import Pool

if TYPE_CHECKING:
    from .client import Client
    from .members import Members

#: Seconds after a look-up in which another would give the same.
FRESH = 1.0

log = logging.getLogger("coserver.upstream")


class ResolvedName:
    """A host name with its pools. ``pools`` is the same list for life.

    There is one look-up at a time, so that a resolver that hangs holds only one thread.
    """

    def __init__(self, client: Client, member: UpstreamMember, members: Members) -> None:
        self._client = client
        self._member = member
        self._members = members
        self.pools = [self._pool()]
        self._failure: OSError | None = None
        self._at = -math.inf  # the time of the last look-up
        self._answer = anyio.Event()  # set at the end of the look-up that is under way or comes next
        self._wanted = anyio.Event()

    def __repr__(self) -> str:
        return f"<ResolvedName {self._member.name}: {', '.join(pool.address for pool in self.pools)}>"

    def _pool(self) -> Pool:
        return Pool(self._client, self._member, self._client.queue, self)

    async def keep(self) -> None:
        """Look the name up from time to time. A task of the client's group."""
        interval = self._client.limits.resolve_interval or math.inf
        while not self._client.closed:
            await self._look_up()
            self._at = monotonic()
            self._answer.set()
            self._answer, self._wanted = anyio.Event(), anyio.Event()
            with anyio.move_on_after(interval):
                await self._wanted.wait()

    async def answered(self) -> None:
        """Wait until the name has been looked up. Raises OSError if that failed."""
        answer = self._answer
        self._wanted.set()
        await answer.wait()
        if self._failure is not None:
            raise self._failure

    def doubt(self) -> None:
        """Look the name up soon, because one of its addresses does not answer: it may have moved."""
        if self._client.limits.resolve_interval and monotonic() - self._at > FRESH:
            self._wanted.set()

    async def _look_up(self) -> None:
        name = self._member.name
        try:
            found = await addresses_of(self._member)
        except OSError as error:
            if self._failure is None:
                log.warning("upstream %s: %s is not found: %s", self._client.name, name, error.strerror or error)
            self._failure = error
        except Exception as error:  # the task must go on
            log.exception("upstream %s: looking up %s", self._client.name, name)
            self._failure = OSError(f"internal error: {error!r}")
        else:
            self._failure = None
            if not self._client.closed:
                self._found(found)

    def _found(self, found: Sequence[Addresses]) -> None:
        """Replace the pools by those of the addresses that were found."""
        known = {pool.addresses[0]: pool for pool in self.pools if pool.addresses}
        left = self._members.left(self)
        before = list(self.pools)
        self.pools.clear()
        for addresses in found:
            pool = known.get(addresses[0]) or left.get(addresses[0]) or self._pool()
            pool.settle(addresses)
            self.pools.append(pool)
        if set(before) != set(self.pools):
            log.info("upstream %s is at %s", self._client.name, ", ".join(pool.address for pool in self.pools))
            self._members.changed([pool for pool in before if pool not in self.pools])


async def addresses_of(member: UpstreamMember) -> list[Addresses]:
    """Look up a name. Returns the addresses of each member that it stands for.

    Of two address families only the first counts (RFC 6724 §6), so that a host with both is one member. If that family
    has a single address, those of the other family are tried after it, as localhost needs it. Raises OSError.
    """
    try:
        answers = await anyio.getaddrinfo(member.name, member.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"no name: {error}") from None
    found = list(dict.fromkeys((int(one[0]), one[4]) for one in answers))
    if not found:
        raise OSError("it has no address")
    own = [one for one in found if one[0] == found[0][0]]
    if len(own) == 1:
        return [(own[0], *sorted(found[1:]))]
    return [(one,) for one in own]
