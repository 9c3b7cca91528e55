"""One request to an upstream, from the call to its response.

A subrequest has no task. The call starts it, the poller reads the response, and the end wakes all that wait.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..hooks.workers import on_loop
from ..lifecycle import events as ev
from ..lifecycle.phases import SUBREQUEST
from .errors import SubrequestCancelled, UpstreamBusy, UpstreamError, UpstreamTimeout
from .parent import Exchange
from .waitable import Waitable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import anyio

    from ..protocol.response_head import ResponseHead
    from ..transport.loop import FutureLatch, Latch
    from .connection.connection import UpstreamConnection
    from .connection.request_body import StreamedBody
    from .pool.client import Client
    from .pool.pool import Pool
    from .response import BodyStream

_next_number = itertools.count(1).__next__

OnDone = Callable[["Subrequest"], Any]


class Subrequest(Waitable[Any]):
    """The object that ``get``, ``post``, ``send`` and so on return: ``await sub``, or ``sub.result()`` in a plain
    function.

    The outcome is an UpstreamResponse; with ``stream=True`` a StreamedUpstreamResponse; over a TCP framing a message
    (bytes). ``response``, ``status``, ``error``, ``elapsed`` and ``timeline`` may be read at any time. Times are
    monotonic seconds, 0 for a step that has not happened.
    """

    # Defaults of the class, because most subrequests never change them.
    start = fields = body = b""  # the request line; the field lines with the empty line; the body
    own_host = False  # ``fields`` has a Host
    body_source: StreamedBody | None = None  # a body that is sent piece by piece
    stream = False  # settled by the head of the response
    may_repeat = True  # sending it twice is harmless, and possible
    response: Any = None
    body_stream: BodyStream | None = None  # of a streamed response
    cancelled = False
    detached = False
    on_done: OnDone | None = None
    exchange: Exchange | None = None  # whose handler asked; None if it stands alone
    number = 0  # set when the first event is emitted
    watched = False
    pool: Pool | None = None
    via: UpstreamConnection | None = None
    scope: anyio.CancelScope | None = None  # around a task that works for it
    release: Callable[[], None] | None = None  # ends the hold on a drain
    attempts = 0
    single = False  # never tried twice
    silent = False  # a health check, of which no policy learns
    retried = 0
    tried: tuple[Pool, ...] = ()  # the members of the failed attempts
    between = False  # between two attempts
    hedge: Subrequest | None = None  # the second attempt, under way beside this one
    more = False  # ``_settle`` has more to do: it is detached, has a hedge, or is a second attempt
    resent = False  # sent again after its connection turned out to be dead
    placed = connected = secured = sent = first = ended = 0.0
    deadline = math.inf  # while it is queued; read by the sweeper
    until = math.inf

    def __init__(self, client: Client, method: str, target: str, started: float) -> None:
        self._watchers = []
        self.client = client
        self.thread = client.thread
        self.method = method
        self.target = target
        self.started = started

    def __repr__(self) -> str:
        if not self.done:
            state = "waits" if self.via is None else self.via.phase
        elif self.response is not None:
            state = str(self.status or "answered")
        else:
            state = "cancelled" if self.cancelled else "failed"
        return f"<Subrequest {self.client.name} {self.method} {self.target} {state}>"

    @property
    def status(self) -> int | None:
        """The status of the response; None if there is none yet."""
        return getattr(self.response, "status", None)

    @property
    def member(self) -> str:
        """The address of the member that was asked last; "" before the first."""
        return self.pool.address if self.pool is not None else ""

    @property
    def elapsed(self) -> float:
        """Seconds from the call to the end, or until now."""
        return (self.ended or monotonic()) - self.started

    @property
    def timeline(self) -> dict[str, float]:
        """Seconds of each step so far: wait (for a connection), connect, tls, send, first byte, body."""
        marks = (
            ("wait", self.placed),
            ("connect", self.connected),
            ("tls", self.secured),
            ("send", self.sent),
            ("first byte", self.first),
            ("body", self.ended if self.first else 0.0),
        )
        found: dict[str, float] = {}
        before = self.started
        for name, at in marks:
            if at:
                found[name] = at - before
                before = at
        return found

    @property
    def post(self) -> Callable[..., None]:
        """A function that calls another on the loop of this subrequest; from any thread. Raises RuntimeError after its
        end.
        """
        return self.client.post

    @property
    def connection(self) -> Any:
        """The connection whose handler asked; None if the subrequest stands alone."""
        return self.exchange.connection if self.exchange is not None else None

    def cancel(self) -> None:
        """Cancel: close the connection, blame no member. From any thread. A finished subrequest stays as it is."""
        if self.done:
            return
        if get_ident() != self.thread:
            try:
                self.client.post(self._cancel)
            except RuntimeError:
                pass  # its loop has ended, and has cancelled it before that
        else:
            on_loop(self._cancel)

    # For the holder of a gate; see ``edit.py``.

    def edit(self, phase: str, given: Mapping[str, Any]) -> None:
        """Change the held request, or the held response. Raises ValueError."""
        from .edit import edit_subrequest  # loaded late: few are ever changed

        edit_subrequest(self, given)

    def make_answer(self, status: int, body: Any, headers: Any) -> Any:
        """Make a response in the member's place. Raises ValueError."""
        from .edit import make_answer

        return make_answer(self, status, body, headers)

    # For the client and the connection, on their own loop.

    def interim_came(self, heads: list[ResponseHead]) -> None:
        """Interim responses (1xx) have come to a streamed request. Only a forwarded one needs them."""

    def finish(self, response: Any, now: float) -> None:
        """Settle with a response, after the gates that hold it."""
        self.response = response
        self.ended = now
        self.via = None
        if self.watched and self.exchange is not None:
            event = ev.SubrequestFinished(**self._facts(), status=getattr(response, "status", 0), member=self.member)
            self.exchange.emitter.tell(event)
            if self.exchange.emitter.gates:
                self.client.holds.hold(self, event, self._settle)
                return
        self._settle()

    def fail(self, error: BaseException) -> None:
        """Settle with an error."""
        self.error = error
        self.ended = monotonic()
        self.via = None
        if self.exchange is not None and self.watched:
            self.exchange.emitter.tell(ev.SubrequestFailed(**self._facts(), error=error))
        self._settle()

    def begin_again(self) -> None:
        """Reset the times before another attempt."""
        self.via = None
        self.resent = False
        self.placed = self.connected = self.secured = self.sent = self.ended = 0.0

    def make_error(self, kind: Callable[..., UpstreamError], reason: str, **told: Any) -> UpstreamError:
        """Make an error that says which upstream and member, at which attempt, and when."""
        self.ended = monotonic()
        where = {"upstream": self.client.name, "member": self.member}
        return kind(reason, **where, attempts=self.attempts, timeline=self.timeline, **told)

    def tell_start(self) -> ev.SubrequestStarted | None:
        """Emit SubrequestStarted to the observers. Returns the event if a gate might hold it, else None."""
        exchange = self.exchange
        if exchange is None or not exchange.emitter.heard:
            return None
        self.watched = True
        self.number = _next_number()
        event = ev.SubrequestStarted(**self._facts(), upstream=self.client.name, method=self.method, target=self.target)
        exchange.emitter.tell(event)
        return event if exchange.emitter.gates else None

    # For the sweeper, while it is queued.

    def expire(self, now: float) -> None:
        """Leave the queue after the deadline: UpstreamTimeout if the total time is over, else UpstreamBusy."""
        limits = self.client.limits
        self.client.queue.leave(self)
        if now >= self.until:
            self.fail(self.make_error(UpstreamTimeout, "no connection became free in time", phase="total"))
        else:
            self.fail(self.make_error(UpstreamBusy, f"no connection became free in {limits.pool_timeout} s"))

    # Private.

    def _cancel(self) -> None:
        if self.done or self.cancelled:
            return
        self.cancelled = True
        self.error = SubrequestCancelled(f"{self.method} {self.target} of upstream {self.client.name} was cancelled")
        self.ended = monotonic()
        via, self.via = self.via, None
        if via is not None:
            via.abandon(self.error)
        else:
            self.client.queue.leave(self)
        if self.scope is not None:
            self.scope.cancel()
        # otherwise it is held with its response, and SubrequestFinished was emitted
        if self.exchange is not None and self.watched and self.response is None:
            self.exchange.emitter.tell(ev.SubrequestCancelled(**self._facts()))
        self._settle()

    def _settle(self) -> None:
        self.done = True
        watchers = self._watchers
        while watchers:
            watchers.pop()()
        if self.more:
            self.client.retries.ended(self)
            if self.hedge is not None:
                self.hedge.cancel()
            if self.detached:
                self.client.detached.ended(self)

    def _outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.response

    def _given_up(self) -> None:
        if not self.detached:
            self.cancel()

    def _latch(self) -> Latch | FutureLatch:
        return self.client.latch()

    def _wait(self) -> Generator[Any, Any, None]:
        exchange = self.exchange
        if exchange is None:
            yield from super()._wait()
            return
        begin_waiting(exchange)
        try:
            yield from super()._wait()
        finally:
            end_waiting(exchange)

    def _facts(self) -> dict[str, Any]:
        assert self.exchange is not None
        return {**self.exchange.event_fields(), "source": self, "subrequest": self.number, "detached": self.detached}


def begin_waiting(exchange: Exchange) -> None:
    """Put the exchange into phase ``subrequest``, as long as any of its tasks waits for one."""
    if not exchange.waiting:
        exchange.waited_from = exchange.phase
        exchange.phase = SUBREQUEST
    exchange.waiting += 1


def end_waiting(exchange: Exchange) -> None:
    """Undo one ``begin_waiting``; the last one restores the phase."""
    exchange.waiting -= 1
    if not exchange.waiting and exchange.phase is SUBREQUEST:
        exchange.phase = exchange.waited_from
