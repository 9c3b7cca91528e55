"""The base of connections and exchanges: each has a phase and a deadline, and a gate may hold it.

While a subject is held, its deadline does not run. Several holds may last at once, one for each subrequest of a
handler. A client that leaves ends them.
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

#: What a passed deadline means, by phase: the limit, the status that the client still gets (0: none), and the reason.
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
    """The suspended deadline of a subject, and the number of its holds. The first hold makes it.

    ``times`` has its holds up to now, as the phase, the begin and the end of each in monotonic seconds. The end is
    infinite while it lasts. Holds that overlap are one.
    """

    __slots__ = ("_left", "_since", "holds", "scope", "times")

    def __init__(self) -> None:
        self.holds = 0
        self.scope: anyio.CancelScope | None = None  # around a hold of the subject itself, not of a subrequest
        self._left = math.inf
        self._since = 0.0
        self.times: list[tuple[str, float, float]] = []

    @property
    def seconds(self) -> float:
        """The time of all holds that are over."""
        return sum(end - begin for _, begin, end in self.times if end < math.inf)

    def begin(self, subject: Holdable) -> None:
        """Count one hold more. The first one takes the deadline away."""
        if not self.holds:
            # Infinite, not only later: moving a deadline that has passed does not undo it.
            now = monotonic()
            self._left, subject.deadline = subject.deadline - now, math.inf
            self._since = subject.since
            self.times.append((subject.phase, now, math.inf))
        self.holds += 1

    def end(self, subject: Holdable) -> None:
        """Count one hold less. The last one sets the deadline to the time that was left."""
        self.holds -= 1
        if self.holds:
            return
        now = monotonic()
        phase, begin, _ = self.times[-1]
        self.times[-1] = (phase, begin, now)
        subject.count_held(now - begin)
        if subject.since == self._since:  # else a new phase has set its own deadline
            subject.deadline = now + self._left


class Holdable:
    """Base of Connection and Exchange. Any thread may read ``phase``, ``since`` and ``held``.

    ``since`` and ``deadline`` are monotonic seconds: the begin of the phase, and the end of its patience. ``reason``
    says why the subject ends early; "" if it does not.
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
        """Whether a gate holds the subject, or a subrequest of its handler. Any thread may read it."""
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

    @property
    def hold_times(self) -> list[tuple[str, float, float]]:
        """The holds of the subject up to now: see ``Pause.times``."""
        return self._pause.times if self._pause is not None else []

    @property
    def held_seconds(self) -> float:
        """How long it was held, in holds that are over."""
        return self._pause.seconds if self._pause is not None else 0.0

    def count_held(self, seconds: float) -> None:
        """A hold of so many seconds is over."""

    def release_hold(self) -> None:
        """End a gate's hold of the subject itself. Its subrequests stay held."""
        if self._pause is not None and self._pause.scope is not None:
            self._pause.scope.cancel()

    async def tell_and_hold(self, event: Event) -> None:
        """Tell ``event``, then wait while gates hold the subject.

        Call it only between two steps, never in a ``finally``. Raises Answered if a gate has answered the exchange.
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
        """Wait until the gate releases the subject, or the server drains. Logs an exception of the gate."""
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

    # Called from outside, on the subject's loop, to end it. None of these waits.

    def cancel(self, reason: str, status: int = 0) -> None:
        """Note why the subject ends, and cancel its scope. The client still gets ``status``, if that is possible."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """End the subject in a reset."""
        raise NotImplementedError

    def cut(self, limit: str, reason: str) -> None:
        """End in a reset: the client broke ``limit`` and reads nothing. It must not take a part for the whole."""
        connection = self.connection
        self.abort(reason)
        connection.service.breaches.note(limit, connection.peer, "%r: %s", connection, reason)

    def expire(self, now: float) -> None:
        """End the subject: the deadline of its current phase has passed."""
        deadline, self.deadline = self.deadline, math.inf
        limit, status, what = LATE[self.phase]
        # A deadline clearly short of ``body_timeout``, beyond rounding: bytes came, but too slowly.
        if self.phase == phases.BODY and deadline - self.since < self.limits.body_timeout * 0.999:
            limit, status, what = SLOW_BODY
        connection = self.connection
        self.cancel(f"{what.format(round(getattr(self.limits, limit), 3))} ({limit})", status)
        if limit != "idle_timeout":  # an idle connection breaks no rule
            # INFO: a browser may have made the connection ahead of time.
            level = logging.WARNING if status else logging.INFO
            connection.service.breaches.note(limit, connection.peer, "%r: %s", connection, self.reason, level=level)

    def outlive(self, now: float) -> None:
        """Called by the sweeper's look while the subject's handler runs."""
        raise NotImplementedError
