"""An exchange of any protocol: what one request, or one TCP message, has while it is served.

It owns its phase, deadline, limits, holds and subrequests, so that a connection may carry several at once. HTTP's is
``http.exchange``, TCP's is in ``tcp``; what both do alike stands here.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ..lifecycle import events as ev
from ..lifecycle import phases
from ..protocol.fields import RawFields
from ..upstream.parent import end_children
from .hold import Holdable, Pause

if TYPE_CHECKING:
    from ..hooks.workers import Worker
    from ..upstream.subrequest import Subrequest
    from .limits import Limits

log = logging.getLogger("coserver.server")

#: Of the process: a server that replaces another must not give its numbers again.
next_exchange_id = itertools.count(1).__next__


class Exchange(Holdable):
    """Base of HttpExchange and TcpExchange.

    ``started`` is monotonic seconds. ``limits`` are those of its route, once the route is known. ``suspended`` is the
    worker that waits for it in a blocking call.
    """

    # Defaults of the class, not set one by one: most exchanges never change them.
    deadline = math.inf
    suspended: Worker | None = None
    _pause: Pause | None = None
    _scope: anyio.CancelScope | None = None  # its own, where it is not the only one of its connection
    _reason = ""  # why it ends, where its connection goes on
    late_status = 0  # what a deadline that ended it is answered with
    watched = False  # an observer was told that the handler started, so it is told how the handler ends
    answer: Any = None  # what is about to be sent, while somebody observes
    children: list[Subrequest] | None = None  # what its handler asked of upstreams
    waiting = 0  # tasks of its handler that wait for one of those
    waited_from = ""  # the phase in which the first of them began to wait
    handed_on = b""  # field lines for those, see ``upstream.parent``
    #: Suspensions of its handler are told as events.
    tells_suspensions = True

    id: int
    started: float
    limits: Limits

    @property
    def reason(self) -> str:  # type: ignore[override]
        """Why it ends before its time; "" while nothing ends it."""
        return self._reason or self.connection.reason

    @property
    def scope(self) -> anyio.CancelScope:
        """The cancel scope around its story."""
        return self._scope or self.connection.scope

    @property
    def over(self) -> bool:
        """Whether its response has been sent, or its connection is closed."""
        return self.phase is phases.RECYCLE or self.phase is phases.CLOSED

    @property
    def received(self) -> RawFields:
        """The fields that the request came with; a TCP message has none."""
        return []

    @property
    def handler(self) -> str:
        """The handler's name, "" until one is found."""
        raise NotImplementedError

    @property
    def route(self) -> str:
        """The route's pattern; "" where there is none."""
        return ""

    def event_fields(self) -> dict[str, Any]:
        return {"at": monotonic(), "connection": self.connection.id, "exchange": self.id, "source": self}

    def hold_drain(self) -> Callable[[], None]:
        """Have a drain wait, within its grace, until what this returns is called."""
        return self.connection.hold_drain()

    # How it is ended from outside. None of these waits.

    def cancel(self, reason: str, status: int = 0) -> None:
        """End it: note why, and cancel its story. ``status`` is what the client is still told, if that is possible."""
        self.late_status = status
        self._note_end(reason)
        self.scope.cancel()

    def abort(self, reason: str) -> None:
        """End it in a reset: of the connection if it is the only exchange there, else of its stream."""
        self._note_end(reason)
        if self._scope is None:
            self.connection.aborted = True
        self.scope.cancel()

    def _note_end(self, reason: str) -> None:
        """Note why it ends; only the first reason is kept. The only exchange of a connection takes that along."""
        if self._scope is None:
            self.connection.end(reason)
        else:
            self._reason = self.reason or reason

    def drain(self) -> None:
        """The server stops: what a gate holds goes on."""
        self.release_hold()

    def outlive(self, now: float) -> None:
        if not self.scope.cancel_called:
            self.connection.watch_hang_up(now - self.since, self.limits)

    def close(self) -> None:
        """Cancel what it still asks of upstreams; no sweep looks at it any more."""
        self.connection.service.loop.sweeper.discard(self)
        if self.children is not None:
            end_children(self)

    def tell_broken(self, error: BaseException) -> None:
        """Tell that a response was broken off, by a failure or by a cancellation.

        After a write that failed the close is a reset: where the system ran out of buffers the client is still there,
        and some clients take a head that ends anywhere for a whole one.
        """
        if isinstance(error, anyio.BrokenResourceError) and self._scope is None:
            self.connection.aborted = True
        emitter = self.emitter
        if not emitter.heard:
            return
        if isinstance(error, Exception):
            emitter.tell(ev.ResponseFailed(**self.event_fields(), error=error))
        else:
            emitter.tell(ev.ResponseCancelled(**self.event_fields()))

    # For the one who holds it at a gate.

    def edit(self, phase: str, given: Mapping[str, Any]) -> None:
        """Change what is known of it in this phase. Raises ValueError."""
        raise NotImplementedError

    def make_answer(self, status: int, body: Any, headers: Any) -> Any:
        """Make what it is to be answered with instead. Raises ValueError."""
        raise NotImplementedError
