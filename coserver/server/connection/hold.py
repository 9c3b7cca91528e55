"""What becomes of a connection while gates hold it, or a subrequest of its handler: no deadline of its runs.

Several may be held at once, a handler's subrequests. A client that leaves ends the hold: the connection is watched.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ...lifecycle.emitter import Answered

if TYPE_CHECKING:
    from ...lifecycle.events import Event
    from .base import Accepted

log = logging.getLogger("coserver.server")


class Pause:
    """A connection's deadline, put off while anything of it is held. Made by the first hold."""

    __slots__ = ("_left", "_since", "holds", "scope")

    def __init__(self) -> None:
        self.holds = 0
        self.scope: anyio.CancelScope | None = None  # around what a gate holds the connection itself by
        self._left = math.inf
        self._since = 0.0

    def begin(self, connection: Accepted) -> None:
        """One hold more; the first takes the deadline away."""
        if not self.holds:
            # Infinite, not far away: a deadline that has struck is not taken back by moving it.
            self._left, connection.deadline = connection.deadline - monotonic(), math.inf
            self._since = connection.since
        self.holds += 1

    def end(self, connection: Accepted) -> None:
        self.holds -= 1
        if not self.holds and connection.since == self._since:  # else a new phase has set another
            connection.deadline = monotonic() + self._left


async def be_held(connection: Accepted, hold: Awaitable[None], event: Event) -> None:
    """Wait until the gate lets go, or the server drains. What it raises is logged, but for Answered."""
    running = connection.running
    was_running = connection in running
    pause = connection.pause()
    running.add(connection)
    try:
        with anyio.CancelScope() as pause.scope:
            await hold
    except Answered:
        raise
    except Exception:
        log.exception("the gate holding %r raised; it goes on", event)
    finally:
        pause.scope = None
        connection.go_on()
        if not was_running:
            running.discard(connection)
            connection.unwatch()
