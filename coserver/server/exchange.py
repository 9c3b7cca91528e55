"""An exchange of any protocol: one request, or one TCP message, while the server works on it.

An exchange owns its phase, deadline, limits, holds and subrequests, so a connection may carry several at once.
``http.exchange`` and ``tcp`` have the subclasses.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ..hooks import workers
from ..hooks.workers import on_loop
from ..lifecycle import events as ev
from ..lifecycle import phases
from ..protocol.fields import RawFields
from ..upstream.parent import end_children, find_parent
from .hold import Holdable, Pause

if TYPE_CHECKING:
    from ..hooks.workers import Worker
    from ..upstream.subrequest import Subrequest
    from .limits import Limits

log = logging.getLogger("coserver.server")

#: One counter for the process: a server that replaces another must not repeat its numbers.
next_exchange_id = itertools.count(1).__next__


class Exchange(Holdable):
    """Base of HttpExchange and TcpExchange.

    ``started`` is monotonic seconds. ``limits`` are the listener's, and the route's once it is known. ``suspended`` is
    the handler's worker while it waits in a blocking call.
    """

    # Defaults of the class, not set one by one: most exchanges never change them.
    deadline = math.inf
    suspended: Worker | None = None
    _pause: Pause | None = None
    _scope: anyio.CancelScope | None = None  # its own, if its connection carries several exchanges
    _reason = ""  # why it ends, if its connection goes on
    late_status = 0  # the status that answers a deadline which ended the exchange
    watched = False  # the handler's start was told, so its end must be told
    answer: Any = None  # the answer that is about to be sent, while a gate may edit it
    children: list[Subrequest] | None = None  # the subrequests of its handler
    waiting = 0  # tasks of its handler that wait for a subrequest
    waited_from = ""  # the phase in which the first of these tasks began to wait
    handed_on = b""  # field lines for the subrequests, see ``upstream.parent``
    #: Events tell the suspensions of its handler.
    tells_suspensions = True

    id: int
    started: float
    limits: Limits

    def count_held(self, seconds: float) -> None:
        """Take a hold out of the time that its connection spends on exchanges. After its end that counts no more."""
        if self.phase is not phases.RECYCLE:
            self.connection.spent -= seconds

    @property
    def reason(self) -> str:  # type: ignore[override]
        """Why the exchange ends early; "" if it does not."""
        return self._reason or self.connection.reason

    @property
    def scope(self) -> anyio.CancelScope:
        """The cancel scope around its steps: its own, or its connection's."""
        return self._scope or self.connection.scope

    @property
    def over(self) -> bool:
        """Whether its response has been sent, or its connection is closed."""
        return self.phase is phases.RECYCLE or self.phase is phases.CLOSED

    @property
    def received(self) -> RawFields:
        """The request's fields. A TCP message has none."""
        return []

    @property
    def handler(self) -> str:
        """The handler's name, "" until one is found."""
        raise NotImplementedError

    @property
    def route(self) -> str:
        """The route's pattern; "" if there is none."""
        return ""

    def event_fields(self) -> dict[str, Any]:
        return {"at": monotonic(), "connection": self.connection.id, "exchange": self.id, "source": self}

    def hold_drain(self) -> Callable[[], None]:
        """Have a drain wait, within its grace, until the returned function is called."""
        return self.connection.hold_drain()

    # Called from outside, to end the exchange. None of these waits.

    def cancel(self, reason: str, status: int = 0) -> None:
        """Note why the exchange ends, and cancel its scope. The client still gets ``status``, if that is possible."""
        self.late_status = status
        self._note_end(reason)
        on_loop(self.scope.cancel)

    def abort(self, reason: str) -> None:
        """End the exchange in a reset: of the connection if it carries one exchange at a time, else of the stream."""
        self._note_end(reason)
        if self._scope is None:
            self.connection.aborted = True
        on_loop(self.scope.cancel)

    def _note_end(self, reason: str) -> None:
        """Note why the exchange ends; the first reason is kept. Without a scope of its own, its connection ends too."""
        if self._scope is None:
            self.connection.end(reason)
        else:
            self._reason = self.reason or reason

    def client_left(self) -> None:
        """End the exchange, if it does not go on without its client. The connection has noted the reason."""
        self.scope.cancel()

    def drain(self) -> None:
        """Release a gate's hold: the server stops."""
        self.release_hold()

    def outlive(self, now: float) -> None:
        if not self.scope.cancel_called:
            self.connection.watch_hang_up(now - self.since, self.limits)

    def close(self) -> None:
        """Cancel the subrequests that still run, and leave the sweeper's tables."""
        self.connection.service.loop.sweeper.discard(self)
        if self.children is not None:
            end_children(self)

    def tell_broken(self, error: BaseException) -> None:
        """Tell that a response was broken off, by a failure or by a cancellation.

        After a failed write, the close is a reset. The client may still be there, if only the system ran out of
        buffers. And some clients take a head that was cut anywhere for a whole head.
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

    # For a gate that holds the exchange.

    def edit(self, phase: str, given: Mapping[str, Any]) -> None:
        """Change the request or the answer, as far as ``phase`` allows. Raises ValueError."""
        raise NotImplementedError

    def make_answer(self, status: int, body: Any, headers: Any) -> Any:
        """Make an answer that replaces the handler's. Raises ValueError."""
        raise NotImplementedError


def _subject_of_this_task() -> tuple[Any, Any]:
    """For ``run_blocking``: the exchange whose handler runs in this context, and the waits of its server."""
    exchange: Any = find_parent()
    return (None, workers.no_server) if exchange is None else (exchange, exchange.connection.service.waits)


workers.find_subject = _subject_of_this_task
