"""What has a phase and a deadline, and can be held by a gate: a connection, an exchange.

While one is held, its own deadline does not run. Several holds may last at once, one for each subrequest of a handler.
A client that leaves ends them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ..lifecycle import phases
from ..lifecycle.emitter import Answered

if TYPE_CHECKING:
    from ..lifecycle.emitter import Emitter
    from ..lifecycle.events import Event
    from .connection.base import Connection
    from .limits import Limits

log = logging.getLogger("coserver.server")

#: By phase, what a deadline that passed means: the limit, the status that is still sent if any, and what happened.
LATE: dict[str, tuple[str, int, str]] = {
    phases.ACCEPT: ("head_timeout", 0, "nothing was sent for {} s"),
    phases.HANDSHAKE: ("handshake_timeout", 0, "the TLS handshake took longer than {} s"),
    phases.HEAD: ("head_timeout", 408, "the request head took longer than {} s"),
    phases.BODY: ("body_timeout", 408, "nothing of the body came for {} s"),
    phases.HANDLER: ("handler_timeout", 503, "the handler took longer than {} s"),
    phases.SUSPEND: ("handler_timeout", 503, "the handler took longer than {} s"),
    phases.SUBREQUEST: ("handler_timeout", 503, "the handler took longer than {} s"),
    phases.RECYCLE: ("idle_timeout", 0, "idle for {} s"),
}
SLOW_BODY = ("body_rate", 408, "the body came slower than {} bytes a second")


class Pause:
    """The deadline of a subject, put off while anything of it is held. Made by the first hold."""

    __slots__ = ("_left", "_since", "holds", "scope")

    def __init__(self) -> None:
        self.holds = 0
        self.scope: anyio.CancelScope | None = None  # around the hold of the subject itself
        self._left = math.inf
        self._since = 0.0

    def begin(self, subject: Holdable) -> None:
        """Count one hold more; the first takes the deadline away."""
        if not self.holds:
            # Infinite, not far away: a deadline that has struck is not taken back by moving it.
            self._left, subject.deadline = subject.deadline - monotonic(), math.inf
            self._since = subject.since
        self.holds += 1

    def end(self, subject: Holdable) -> None:
        """Count one hold less; the last gives back what was left of the deadline."""
        self.holds -= 1
        if not self.holds and subject.since == self._since:  # else a new phase has set another
            subject.deadline = monotonic() + self._left


class Holdable:
    """Base of Connection and Exchange. ``phase``, ``since`` and ``held`` may be read from any thread.

    ``since`` and ``deadline`` are monotonic seconds: when the phase began, and when its patience ends. ``reason`` is
    why it ends before its time; "" while nothing ends it.
    """

    if not TYPE_CHECKING:
        __slots__ = ()
    phase: str
    since: float
    deadline: float
    reason: str
    emitter: Emitter
    limits: Limits
    connection: Connection  # of a connection: itself
    _pause: Pause | None

    def event_fields(self) -> dict[str, Any]:
        """The fields that every event of this subject has."""
        raise NotImplementedError

    @property
    def held(self) -> bool:
        """Whether a gate holds it, or a subrequest of its handler. May be read from any thread."""
        return self._pause is not None and self._pause.holds > 0

    def pause(self) -> Pause:
        """Suspend the deadline; each call needs one ``go_on()``."""
        if self._pause is None:
            self._pause = Pause()
        self._pause.begin(self)
        return self._pause

    def go_on(self) -> None:
        """Undo one ``pause()``."""
        assert self._pause is not None
        self._pause.end(self)

    def release_hold(self) -> None:
        """Let it go on from where a gate holds it; its subrequests stay held."""
        if self._pause is not None and self._pause.scope is not None:
            self._pause.scope.cancel()

    async def tell_and_hold(self, event: Event) -> None:
        """Tell ``event``, then wait while gates hold it. Only between steps of the story, never in a ``finally``.

        Raises Answered, if who held it has answered it.
        """
        emitter = self.emitter
        emitter.tell(event)
        if emitter.gates:
            service = self.connection.service
            if service.draining:
                return
            for hold in emitter.holds(event):
                await self._be_held(hold, event)
                if service.draining:
                    break

    async def _be_held(self, hold: Awaitable[None], event: Event) -> None:
        """Wait until the gate lets go, or the server drains. Whatever else the gate raises is logged."""
        connection = self.connection
        running = connection.running
        was_running = self in running
        pause = self.pause()
        running.add(self)
        try:
            with anyio.CancelScope() as pause.scope:
                await hold
        except Answered:
            raise
        except Exception:
            log.exception("the gate holding %r raised; it goes on", event)
        finally:
            pause.scope = None
            self.go_on()
            if not was_running:
                running.discard(self)
                connection.unwatch()

    # What ends it from outside, on its own loop. None of it waits.

    def cancel(self, reason: str, status: int = 0) -> None:
        """Note why it ends, and cancel its scope. ``status`` is what the client is still told, where it can be."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """End it in a reset."""
        raise NotImplementedError

    def cut(self, limit: str, reason: str) -> None:
        """The client broke ``limit`` and reads nothing: end in a reset, lest it take what it has for the whole."""
        connection = self.connection
        self.abort(reason)
        connection.service.breaches.note(limit, connection.peer, "%r: %s", connection, reason)

    def expire(self, now: float) -> None:
        """The deadline of the current phase has passed."""
        deadline, self.deadline = self.deadline, math.inf
        limit, status, what = LATE[self.phase]
        # Not a hair less of patience, which is rounding, but a part: it came too slowly.
        if self.phase == phases.BODY and deadline - self.since < self.limits.body_timeout * 0.999:
            limit, status, what = SLOW_BODY
        connection = self.connection
        self.cancel(f"{what.format(round(getattr(self.limits, limit), 3))} ({limit})", status)
        if limit != "idle_timeout":  # which is nobody's fault, as is a browser's connection made ahead of time
            level = logging.WARNING if status else logging.INFO
            connection.service.breaches.note(limit, connection.peer, "%r: %s", connection, self.reason, level=level)

    def outlive(self, now: float) -> None:
        """It has lasted until a look of the sweeper."""
        raise NotImplementedError
