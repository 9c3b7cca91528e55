"""One request to an upstream, from the call to its answer. It has no task: it is started where it is made, its
connection's poller reads the answer, and whoever waits is woken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..lifecycle import events as ev
from ..lifecycle.phases import SUBREQUEST
from .errors import SubrequestCancelled, UpstreamBusy, UpstreamError, UpstreamTimeout
from .parent import Exchange, Host
from .waitable import Waitable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import anyio

    from ..transport.loop import FutureLatch, Latch
    from .connection.connection import UpstreamConnection
    from .connection.request_body import StreamedBody
    from .pool.client import Client
    from .pool.pool import Pool
    from .response import BodyStream

_next_number = itertools.count(1).__next__

OnDone = Callable[["Subrequest"], Any]


class Subrequest(Waitable[Any]):
    """``await sub``, ``sub.result()``: an UpstreamResponse, with ``stream=True`` a StreamedUpstreamResponse, of a TCP
    framing the message. ``response``, ``status``, ``error``, ``elapsed``, ``timeline`` to look at.

    Times are monotonic seconds, 0 for what has not come about.
    """

    # Defaults of the class, not set one by one: most subrequests never change them.
    start = fields = body = b""  # request line, field lines with the empty one, body
    own_host = False  # the fields say Host
    body_source: StreamedBody | None = None  # a body that comes piece by piece
    stream = False  # the answer is there with its head
    may_repeat = True  # sent twice it does no harm, and can be
    response: Any = None
    body_stream: BodyStream | None = None  # of a streamed answer
    cancelled = False
    detached = False
    on_done: OnDone | None = None
    host: Host | None = None  # the connection whose handler asked, None if it stands alone
    exchange: Exchange | None = None
    number = 0  # given when somebody is told of it
    watched = False
    pool: Pool | None = None
    via: UpstreamConnection | None = None
    scope: anyio.CancelScope | None = None  # around a task that works for it
    release: Callable[[], None] | None = None  # lets a drain go on
    attempts = 0
    single = False  # tried once
    silent = False  # a check: no policy learns from it
    retried = 0
    tried: tuple[Pool, ...] = ()  # who was asked before
    between = False  # two attempts
    hedge: Subrequest | None = None  # the second attempt of a hedge
    more = False  # there is more to do at its end: it is detached, has a hedge, is a second attempt
    resent = False  # its connection was dead, and it went out again
    placed = connected = secured = sent = first = ended = 0.0
    deadline = math.inf  # while it waits in line; the sweeper's
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
        """The answer's status; None as long as there is none."""
        return getattr(self.response, "status", None)

    @property
    def member(self) -> str:
        """The address of who was asked last; "" as long as nobody was."""
        return self.pool.address if self.pool is not None else ""

    @property
    def elapsed(self) -> float:
        """Seconds from the call to the end, or to now."""
        return (self.ended or monotonic()) - self.started

    @property
    def timeline(self) -> dict[str, float]:
        """How the time went, in seconds: wait (for a connection), connect, tls, send, first byte, body."""
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
        return self.client.post

    @property
    def connection(self) -> Host | None:
        """The connection whose handler asked."""
        return self.host

    def cancel(self) -> None:
        """Give it up: its connection is closed, no member is blamed. From any thread; what is done stays done."""
        if self.done:
            return
        if get_ident() != self.thread:
            try:
                self.client.post(self._cancel)
            except RuntimeError:
                pass  # its loop has ended, and has cancelled it before
        else:
            self._cancel()

    # For whoever holds it at a gate; see ``editing``.

    def edit(self, phase: str, given: Mapping[str, Any]) -> None:
        """Change what it asks, or the answer that it has. Raises ValueError."""
        from .edit import edit_subrequest  # few are ever changed

        edit_subrequest(self, given)

    def make_answer(self, status: int, body: Any, headers: Any) -> Any:
        """What it is to be answered with instead. Raises ValueError."""
        from .edit import make_answer

        return make_answer(self, status, body, headers)

    # What its client and its connection call, on its own loop.

    def finish(self, response: Any, now: float) -> None:
        """The answer is there."""
        self.response = response
        self.ended = now
        self.via = None
        if self.watched and self.host is not None:
            event = ev.SubrequestFinished(**self._facts(), status=getattr(response, "status", 0), member=self.member)
            self.host.emitter.tell(event)
            if self.host.emitter.gates:
                self.client.holds.hold(self, event, self._settle)
                return
        self._settle()

    def fail(self, error: BaseException) -> None:
        """There will be no answer."""
        self.error = error
        self.ended = monotonic()
        self.via = None
        if self.host is not None and self.watched:
            self.host.emitter.tell(ev.SubrequestFailed(**self._facts(), error=error))
        self._settle()

    def begin_again(self) -> None:
        """Another attempt is to be made."""
        self.via = None
        self.resent = False
        self.placed = self.connected = self.secured = self.sent = self.ended = 0.0

    def make_error(self, kind: Callable[..., UpstreamError], reason: str, **told: Any) -> UpstreamError:
        """An error that says where and when."""
        self.ended = monotonic()
        where = {"upstream": self.client.name, "member": self.member}
        return kind(reason, **where, attempts=self.attempts, timeline=self.timeline, **told)

    def tell_start(self) -> ev.SubrequestStarted | None:
        """Tell whoever observes; the event, if a gate might hold it."""
        host = self.host
        if host is None or not host.emitter.heard:
            return None
        self.watched = True
        self.number = _next_number()
        event = ev.SubrequestStarted(**self._facts(), upstream=self.client.name, method=self.method, target=self.target)
        host.emitter.tell(event)
        return event if host.emitter.gates else None

    # While it waits in line the sweeper looks at it.

    def expire(self, now: float) -> None:
        """It has waited too long: UpstreamTimeout, or UpstreamBusy where its own time is not over yet."""
        limits = self.client.limits
        self.client.queue.leave(self)
        if now >= self.until:
            self.fail(self.make_error(UpstreamTimeout, "no connection became free in time", phase="total"))
        else:
            self.fail(self.make_error(UpstreamBusy, f"no connection became free in {limits.pool_timeout} s"))

    # The rest is its own.

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
        if self.host is not None and self.watched and self.response is None:  # else it is held, finished
            self.host.emitter.tell(ev.SubrequestCancelled(**self._facts()))
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
        host, exchange = self.host, self.exchange
        if exchange is None or host is None:
            yield from super()._wait()
            return
        begin_waiting(host, exchange)
        try:
            yield from super()._wait()
        finally:
            end_waiting(host, exchange)

    def _facts(self) -> dict[str, Any]:
        assert self.host is not None
        return {**self.host.facts(self.exchange), "source": self, "subrequest": self.number, "detached": self.detached}


def begin_waiting(host: Host, exchange: Exchange) -> None:
    """The connection is in phase ``subrequest`` while any task of the exchange waits for one."""
    if not exchange.waiting:
        exchange.waited_from = host.phase
        host.phase = SUBREQUEST
    exchange.waiting += 1


def end_waiting(host: Host, exchange: Exchange) -> None:
    exchange.waiting -= 1
    if not exchange.waiting and host.phase is SUBREQUEST:
        host.phase = exchange.waited_from
