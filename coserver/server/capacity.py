"""Places for connections: while all are taken, or the system has no descriptor left, clients wait in the backlog.

A client that waits is known by its listening socket being readable. Then idle connections give way, the longest idle
first; and where none is idle, as many exchanges as clients wait are the last of their connections, and say so. Nobody
is reset, nobody gets a 503, and a connection that is being used is not taken from its client.
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

#: Seconds between two looks for idle connections while clients wait; one that ends is noticed at once.
_LOOK = 0.1


class Backlog(Protocol):
    """Where clients wait: a Listener."""

    async def wait(self) -> bool:
        """Wait until a client waits; false if none ever will."""
        ...

    def waiting(self) -> int:
        """How many wait, as far as it is known; at least 1, and asked only while one does."""
        ...


class Capacity:
    """The places that one service has, for all its listening sockets.

    ``wanted`` exchanges are to be the last of their connections; while there are any, ``service.closing`` is true.
    """

    __slots__ = ("_changed", "_leaving", "_service", "_waiting", "wanted")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._changed = anyio.Event()
        self._leaving: set[int] = set()  # connections that have been told to end
        self._waiting = 0  # listening sockets before which clients wait
        self.wanted = 0

    def __repr__(self) -> str:
        full = "full" if self.full else "free"
        return f"<Capacity {full}, {self._waiting} waiting, {len(self._leaving)} leaving, {self.wanted} wanted>"

    @property
    def full(self) -> bool:
        return len(self._service.connections) >= self._service.limits.max_connections

    def check(self, backlog: Backlog) -> Awaitable[None] | None:
        """None if there is a place, else what to await."""
        return self._wait(backlog) if self.full else None

    async def exhausted(self, backlog: Backlog, error: OSError, first: bool) -> None:
        """The system has no descriptor, or no memory, for the next connection, or forbids it."""
        if first:
            way_out = "trying again"
            if error.errno in (errno.EMFILE, errno.ENFILE):
                way_out = "waiting for connections to end (raise the limit with ulimit -n)"
            note = self._service.breaches.note
            note("descriptors", "the backlog", "cannot accept: %s; %s", error, way_out, level=logging.ERROR)
        with self._somebody_waits():
            await self._wait_for_change(backlog)

    def connection_closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self._leaving.discard(connection.id)
        if self._waiting:
            self._changed.set()

    def claim_last_exchange(self, connection: Connection) -> bool:
        """Have this connection end after its exchange, if one is wanted to; whether it is.

        Uses up one of ``wanted``, so ask once an exchange.
        """
        if not self.wanted:
            return False
        self._want(self.wanted - 1)
        self._leaving.add(connection.id)
        self._service.breaches.note("gave_way", connection.peer, "%r gives way", connection, level=logging.DEBUG)
        return True

    async def _wait(self, backlog: Backlog) -> None:
        # While nobody waits there is nothing to do; and who comes when a place is free again is let in.
        if not await backlog.wait() or not self.full:
            return
        most = self._service.limits.max_connections
        note, way_out = self._service.breaches.note, "a client waits (raise max_connections)"
        note("max_connections", "the backlog", "%d connections are open, %s", most, way_out, level=logging.INFO)
        with self._somebody_waits():
            while self.full and await backlog.wait():
                await self._wait_for_change(backlog)

    async def _wait_for_change(self, backlog: Backlog) -> None:
        """Have as many connections end as clients wait, and wait until one has, or for a moment."""
        if self._changed.is_set():  # one event for all that wait: each listening socket may be among them
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
