"""Places for connections. While all are taken, or the system has no descriptor left, clients wait in the backlog.

A readable listening socket shows that a client waits. Then idle connections give way, the longest idle first. If too
few are idle, as many exchanges as clients still wait become the last of their connections: their answers say
Connection: close. No client is reset or gets a 503, and no connection is closed during an exchange.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from heapq import nsmallest
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from .connection.base import Connection
    from .service import Service

#: Seconds between two looks for idle connections, while clients wait. The end of a connection is noticed at once.
_LOOK = 0.1


class Backlog(Protocol):
    """The queue of clients that wait to be accepted: a Listener."""

    async def wait(self) -> bool:
        """Wait until a client is in the queue; false if none can come any more."""
        ...

    def waiting(self) -> int:
        """The number of clients in the queue, as far as it is known. Call it only while there is one; at least 1."""
        ...


class Capacity:
    """The places of one service, for all its listening sockets.

    ``wanted`` is the number of exchanges that must be the last of their connections. While it is more than 0,
    ``service.closing`` is true.
    """

    __slots__ = ("_changed", "_leaving", "_service", "_waiting", "wanted")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._changed = anyio.Event()
        self._leaving: set[int] = set()  # numbers of the connections that have been told to end
        self._waiting = 0  # listening sockets with clients in their queue
        self.wanted = 0

    def __repr__(self) -> str:
        full = "full" if self.full else "free"
        return f"<Capacity {full}, {self._waiting} waiting, {len(self._leaving)} leaving, {self.wanted} wanted>"

    @property
    def full(self) -> bool:
        return len(self._service.connections) >= self._service.limits.max_connections

    def check(self, backlog: Backlog) -> Awaitable[None] | None:
        """None if there is a place, else an awaitable that ends when there is one."""
        return self._wait(backlog) if self.full else None

    async def exhausted(self, backlog: Backlog, error: OSError, first: bool) -> None:
        """Make places after a failed accept: the system has no descriptor or memory for a connection, or forbids it."""
        if first:
            way_out = "trying again"
            if error.errno in (errno.EMFILE, errno.ENFILE):
                way_out = "waiting for connections to end (raise the limit with ulimit -n)"
            note = self._service.breaches.note
            note("descriptors", "the backlog", "cannot accept: %s; %s", error, way_out, level=logging.ERROR)
        with self._somebody_waits():
            await self._wait_for_change(backlog)

    def connection_closed(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        self._leaving.discard(connection.id)
        if self._waiting:
            self._changed.set()

    def claim_last_exchange(self, connection: Connection) -> bool:
        """Make the current exchange the last of this connection, if one is wanted; false if none is.

        Takes one from ``wanted``, so call it once for an exchange.
        """
        if not self.wanted:
            return False
        self._want(self.wanted - 1)
        self._leaving.add(connection.id)
        self._service.breaches.note("gave_way", connection.peer, "%r gives way", connection, level=logging.DEBUG)
        return True

    async def _wait(self, backlog: Backlog) -> None:
        # Without a client in the queue there is nothing to do, nor if a place has become free meanwhile.
        if not await backlog.wait() or not self.full:
            return
        most = self._service.limits.max_connections
        note, way_out = self._service.breaches.note, "a client waits (raise max_connections)"
        note("max_connections", "the backlog", "%d connections are open, %s", most, way_out, level=logging.INFO)
        with self._somebody_waits():
            while self.full and await backlog.wait():
                await self._wait_for_change(backlog)

    async def _wait_for_change(self, backlog: Backlog) -> None:
        """Have as many connections end as clients wait. Wait until one has ended, or for ``_LOOK`` seconds."""
        if self._changed.is_set():  # all listening sockets wait for the same event
            self._changed = anyio.Event()
        self._make_places(backlog.waiting())
        with anyio.move_on_after(_LOOK):
            await self._changed.wait()

    @contextmanager
    def _somebody_waits(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._want(0)

    def _make_places(self, count: int) -> None:
        connections = self._service.connections
        self._leaving.intersection_update(connections)
        count -= len(self._leaving)
        if count > 0:
            now = monotonic()
            idle = [one for one in connections.values() if one.idle(now) and one.id not in self._leaving]
            for connection in nsmallest(count, idle, key=lambda one: one.since):
                self._leaving.add(connection.id)
                note = self._service.breaches.note
                note("gave_way", connection.peer, "%r gives way", connection, level=logging.DEBUG)
                connection.give_way()
                count -= 1
        self._want(max(count, 0))

    def _want(self, count: int) -> None:
        self.wanted = count
        self._service.closing = self._service.draining or count > 0
