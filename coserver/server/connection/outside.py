"""What ends a connection from outside: the sweeper at its deadline, the poller when the client leaves, the drain.

Each says why and cancels the connection's scope; its story does the rest. Called between its steps, on its own loop,
and must not wait.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ...lifecycle import phases
from ...transport.deadlines import TICK
from ...transport.stream import SocketStream
from ..limits import Limits
from .hold import Pause

if TYPE_CHECKING:
    from ..service import Service

#: Seconds for the first byte of a client that connects as the server stops; a round trip around the world is 0.3.
_FIRST_WORD = 0.5

#: What a deadline means in each phase: the limit, the status that is still sent if any, and what happened.
_LATE = {
    phases.ACCEPT: ("head_timeout", 0, "nothing was sent for {} s"),
    "tls": ("handshake_timeout", 0, "the TLS handshake took longer than {} s"),
    phases.HEAD: ("head_timeout", 408, "the request head took longer than {} s"),
    phases.BODY: ("body_timeout", 408, "nothing of the body came for {} s"),
    phases.HANDLER: ("handler_timeout", 503, "the handler took longer than {} s"),
    phases.SUSPEND: ("handler_timeout", 503, "the handler took longer than {} s"),
    phases.SUBREQUEST: ("handler_timeout", 503, "the handler took longer than {} s"),
}
_SLOW_BODY = ("body_rate", 408, "the body came slower than {} bytes a second")
_IDLE = ("idle_timeout", 0, "idle for {} s")


class EndedFromOutside:
    """The part of an accepted connection that others call to end it. What these attributes are, Accepted says."""

    __slots__ = (
        "_fd",
        "_pause",
        "_socket",
        "aborted",
        "arriving",
        "deadline",
        "ended_by",
        "exchange",
        "hang_up_watched",
        "limits",
        "peer",
        "phase",
        "reason",
        "scope",
        "service",
        "since",
    )
    service: Service
    limits: Limits
    peer: str
    phase: str
    arriving: str
    since: float
    deadline: float
    exchange: Any
    ended_by: tuple[int, Any]
    reason: str
    aborted: bool
    hang_up_watched: bool
    scope: anyio.CancelScope
    _fd: int
    _socket: SocketStream | None
    _pause: Pause | None

    def end(self, reason: str) -> None:
        """Note why the connection ends; only the first reason is kept."""
        self.reason = self.reason or reason

    def expire(self, now: float) -> None:
        """The deadline of the current phase has passed."""
        deadline, self.deadline = self.deadline, math.inf
        if self.phase == phases.ACCEPT and self.service.draining:
            self.drain()
            return
        limit, status, what = _LATE.get(self.arriving or self.phase, _IDLE)
        # Not a hair less of patience, which is rounding, but a part: it came too slowly.
        if self.phase == phases.BODY and deadline - self.since < self.limits.body_timeout * 0.999:
            limit, status, what = _SLOW_BODY
        self.end(f"{what.format(round(getattr(self.limits, limit), 3))} ({limit})")
        self.ended_by = (status, self.exchange)
        if limit != "idle_timeout":  # which is nobody's fault, as is a browser's connection made ahead of time
            level = logging.WARNING if status else logging.INFO
            self.service.breaches.note(limit, self.peer, "%r: %s", self, self.reason, level=level)
        self.scope.cancel()

    def cut(self, limit: str, reason: str) -> None:
        """The client broke ``limit`` and reads nothing: end in a reset, lest it take what it has for the whole."""
        self.end(reason)
        self.service.breaches.note(limit, self.peer, "%r: %s", self, reason)
        self.aborted = True
        self.scope.cancel()

    def abort(self, reason: str) -> None:
        """Whoever holds it wants it gone: end in a reset."""
        self.end(reason)
        self.aborted = True
        self.scope.cancel()

    def outlive(self, now: float) -> None:
        """An exchange is under way at a look of the sweeper; one that has lasted is watched for its client leaving."""
        # Once: the handler of a client that has left may take its time to end, and would be told again at each look.
        if not self.hang_up_watched and self._fd >= 0 and now - self.since >= TICK and not self.scope.cancel_called:
            self.hang_up_watched = True
            half_close = self.limits.on_half_close == "cancel"
            self.service.loop.poller.watch(self._fd, self.hung_up, half_close=half_close)

    def hung_up(self) -> None:
        """The poller saw the client leave."""
        self.hang_up_watched = False
        self.end("the client left")
        self.scope.cancel()

    def unwatch(self) -> None:
        if self.hang_up_watched:
            self.hang_up_watched = False
            self.service.loop.poller.forget(self._fd)

    def drain(self) -> None:
        """The server stops: an idle connection ends now, but what has arrived on it is still served.

        What a gate holds goes on.
        """
        if self._pause is not None and self._pause.scope is not None:
            self._pause.scope.cancel()
        if self.exchange is not None or self.phase not in (phases.ACCEPT, phases.RECYCLE):
            return
        first_word = self.since + _FIRST_WORD
        if self.phase == phases.ACCEPT and monotonic() < first_word:
            self.deadline = first_word  # it has just come, and what it came for is on the way
            return
        self.end("the server stops")
        self.end_receiving()

    def idle(self, now: float) -> bool:
        """Whether it may give way to a client that waits. Not so, unless a protocol says it."""
        return False

    def give_way(self) -> None:
        """An idle connection ends now, but what has arrived on it is still served."""
        self.end("it gave way to a client that waited")
        self.end_receiving()

    def end_receiving(self) -> None:
        """What has arrived is still served; then the client has no more to say."""
        if self._socket is not None:
            self._socket.end_receiving()
        else:
            self.scope.cancel()
