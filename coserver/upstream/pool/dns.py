"""A member whose host is a name: it is looked up again and again, and each of its addresses is a member of its own.

Until the first answer one pool without an address stands for it; what is given to that one waits for the answer, and
goes on to where the name turns out to be. A look-up that fails changes nothing.
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

#: Seconds after a look-up in which one more would say the same.
FRESH = 1.0

log = logging.getLogger("coserver.upstream")


class ResolvedName:
    """``pools`` is the same list for life. One look-up at a time: a resolver that hangs holds one thread."""

    def __init__(self, client: Client, member: UpstreamMember, members: Members) -> None:
        self._client = client
        self._member = member
        self._members = members
        self.pools = [self._pool()]
        self._failure: OSError | None = None
        self._at = -math.inf  # of the last look-up
        self._answer = anyio.Event()  # to the look-up that is under way, or comes next
        self._wanted = anyio.Event()

    def __repr__(self) -> str:
        return f"<ResolvedName {self._member.name}: {', '.join(pool.address for pool in self.pools)}>"

    def _pool(self) -> Pool:
        return Pool(self._client, self._member, self._client.queue, self)

    async def keep(self) -> None:
        """Look it up from time to time; in a task of the client's."""
        interval = self._client.limits.resolve_interval or math.inf
        while not self._client.closed:
            await self._look_up()
            self._at = monotonic()
            self._answer.set()
            self._answer, self._wanted = anyio.Event(), anyio.Event()
            with anyio.move_on_after(interval):
                await self._wanted.wait()

    async def answered(self) -> None:
        """Until it has been looked up. Raises OSError if that failed."""
        answer = self._answer
        self._wanted.set()
        await answer.wait()
        if self._failure is not None:
            raise self._failure

    def doubt(self) -> None:
        """One of its addresses does not answer: it may have moved."""
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
        except Exception as error:  # it must not end what keeps all the others
            log.exception("upstream %s: looking up %s", self._client.name, name)
            self._failure = OSError(f"internal error: {error!r}")
        else:
            self._failure = None
            if not self._client.closed:
                self._found(found)

    def _found(self, found: Sequence[Addresses]) -> None:
        """State change: these are its members now."""
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
    """Of each member that a name stands for, where it is.

    Of two families the one that the system puts first counts (RFC 6724 §6): a host with both must not be two members.
    One that has a single address is tried at those of the other too, as localhost wants it. Raises OSError.
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
