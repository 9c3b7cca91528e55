"""An upstream on one loop: its pools, the line before them, and the tasks of what is slow.

``begin`` starts a subrequest, at once and without waiting: on an idle connection, on a new one, or in line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import copy_context
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from anyio.abc import TaskGroup

from ...transport.loop import Loop, latches, poster
from ..connection.connection import UpstreamConnection
from ..connection.readers import Reader
from ..encode import say
from ..errors import SubrequestCancelled, UpstreamBusy, UpstreamError
from ..subrequest import Subrequest
from .balance import POLICIES, client_address
from .detach import Detached
from .health import check
from .hold import Holds
from .line import Line
from .members import Members
from .pool import Pool
from .retry import Attempts

if TYPE_CHECKING:
    from ..upstream import Upstream

log = logging.getLogger("coserver.upstream")


class Client:
    """Made on the loop that it is for; ``tasks`` is where what waits has its tasks."""

    def __init__(self, upstream: Upstream, tasks: TaskGroup) -> None:
        self.name = upstream.name
        self.limits = upstream.limits
        self.make_reader: Callable[[], Reader] = upstream.reader()
        self.tls = upstream.tls
        self.server_name = upstream.server_name
        self.thread = get_ident()
        self.loop = Loop.current()
        self.sweeper = self.loop.sweeper
        self.poller = self.loop.poller
        self._post = poster()
        self.latch = latches()
        self.closed = False
        self.line = Line()
        self.key = upstream.key or client_address
        self.attempts = Attempts(self)
        self._members = Members(self, upstream.members, POLICIES[upstream.policy])
        self.members_changed()
        self._tasks = tasks
        # What runs for a subrequest must not see, nor keep alive, what its handler has set.
        self._context = copy_context()
        self.holds = Holds(self)
        self.detached = Detached(self)
        self._coming: dict[Subrequest, None] = {}  # from other threads
        for name in self._members.names:
            tasks.start_soon(name.keep)
        if self.limits.check_path:
            tasks.start_soon(check, self)

    def __repr__(self) -> str:
        return f"<Client of {self.name}: {', '.join(map(repr, self.pools))}>"

    @property
    def pools(self) -> Sequence[Pool]:
        """Those of who may be asked."""
        return self._members.pools

    @property
    def all_pools(self) -> Sequence[Pool]:
        """With those who have left, as long as something of theirs is under way. From any thread."""
        return (*self._members.pools, *self._members.leaving)

    def begin(self, sub: Subrequest) -> None:
        """Start it, or have it wait."""
        if self.closed:
            sub.cancel()
            return
        host = sub.host
        event = sub.tell_start() if host is not None and host.emitter.heard else None
        if event is None:
            self.place(sub)
        else:
            self.holds.hold(sub, event, lambda: self.place(sub))

    def begin_from_elsewhere(self, sub: Subrequest) -> None:
        """Start it from another thread. Raises RuntimeError if it is closed."""
        self._coming[sub] = None
        if not self.closed:  # else ``close`` has not seen it, or has cancelled it
            try:
                self.post(self._come, sub)
                return
            except RuntimeError:
                pass
        self._coming.pop(sub, None)
        raise RuntimeError(f"upstream {self.name!r} has just been closed")

    def _come(self, sub: Subrequest) -> None:
        if sub in self._coming:
            del self._coming[sub]
            self.begin(sub)

    def place(self, sub: Subrequest) -> None:
        """Give it a connection, or a place in line."""
        if sub.done:
            return
        pool = self._only
        if pool is None:
            try:
                pool = self._members.choose(sub)
            except Exception as error:  # of the user's own ``key``: it is for whoever asked, in whichever thread
                sub.fail(error)
                return
            if self.attempts.hedges:
                self.attempts.watch(sub)
        elif not pool.idle and pool.open >= pool.most:
            pool = None
        if pool is not None:
            pool.take(sub)
        elif len(self.line) >= self.limits.waiting:
            sub.fail(sub.make_error(UpstreamBusy, f"{len(self.line)} requests wait for a connection already"))
        else:
            sub.deadline = min(monotonic() + self.limits.pool_timeout, sub.until)
            self.line.join(sub)
            self.sweeper.add(sub)

    def place_first(self, subs: Iterable[Subrequest]) -> None:
        """Their member has left before anything of them was sent: they are the next to be served."""
        until = monotonic() + self.limits.pool_timeout
        for sub in sorted(subs, key=lambda one: one.started, reverse=True):
            sub.begin_again()
            if sub.silent:
                sub.cancel()  # a check, of one that nobody asks any more
                continue
            sub.deadline = min(until, sub.until)
            self.line.join_first(sub)
            self.sweeper.add(sub)
        self.serve_line()

    def members_changed(self) -> None:
        """Others may be asked now."""
        #: Nothing is to be chosen, nor looked at again.
        self._only = None if self.attempts.hedges else self._members.only
        #: Whether it is to be told of plain answers too; most have no use for that.
        self.learns = self.attempts.hedges or self._members.told is not None

    def gone(self, pool: Pool) -> None:
        """A member that left has nothing under way any more."""
        self._members.gone(pool)

    def choose_other(self, sub: Subrequest) -> Pool | None:
        """For a second attempt beside the first."""
        return self._members.choose_other(sub)

    def serve_line(self) -> None:
        """Members have come, or come back: whoever waits, and can be served now, is."""
        while self.line and not self.closed:
            pool = self._members.choose(self.line.peek())
            if pool is None:
                return
            sub = self.line.first()
            self.left_line(sub)
            pool.take(sub)

    def check(self, pool: Pool) -> Subrequest | None:
        """Ask a member how it is; None if it is busy on all of its connections."""
        if not pool.has_room or self.closed:
            return None
        now = monotonic()
        sub = Subrequest(self, "GET", self.limits.check_path, now)
        say(sub, {}, b"")
        sub.single = sub.silent = True
        sub.until = now + self.limits.check_timeout
        pool.take(sub)
        return sub

    def connect(self, pool: Pool, sub: Subrequest) -> None:
        """Open a connection for ``sub``; its place is taken."""
        UpstreamConnection(self, pool).connect(sub)

    def leave_line(self, sub: Subrequest) -> None:
        """It does not wait any more; one that does not stand in line is no error."""
        if self.line.leave(sub):
            self.sweeper.discard(sub)

    def left_line(self, sub: Subrequest) -> None:
        """It was first, and has a connection now."""
        self.sweeper.discard(sub)

    def attempt_ended(self, sub: Subrequest, pool: Pool, error: UpstreamError | None, status: int) -> None:
        """One attempt has ended, well or not; a cancelled one is nobody's fault, and is not told."""
        if sub.silent:
            return
        if error is None and self.attempts.hedges:
            self.attempts.note(sub, monotonic())
        pool.health.told(sub, error, status)
        if self._members.told is not None:
            self._members.told(pool, sub, error)

    def failed(self, sub: Subrequest, error: UpstreamError) -> None:
        """An attempt has failed: another is under way, or is made now, or that is the end."""
        if sub.twin is not None:
            sub.error, sub.via = error, None
        elif not self.attempts.retry(sub, error):
            sub.fail(error)

    # Tasks, and the end.

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run what waits. It must not raise: what befalls one subrequest must reach no other."""
        start: Callable[..., Any] = self._tasks.start_soon
        self._context.run(start, function, *args)

    def post(self, call: Callable[..., Any], *args: Any) -> None:
        """Have ``call(*args)`` called on this loop, from any thread. Raises RuntimeError when the loop has ended."""
        self._post(self._called, call, args)

    def _called(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.closed:
            call(*args)
        else:
            self.spawn(_in_task, call, args)

    def close(self) -> None:
        """Cancel what is under way, close all connections."""
        self.closed = True
        for sub in tuple(self._coming):
            self._coming.pop(sub, None)
            sub.cancel()
        while self.line:
            sub = self.line.first()
            self.left_line(sub)
            sub.cancel()
        self.holds.close()
        self.attempts.close()
        for pool in self.all_pools:
            pool.leaving = True
            self.sweeper.discard(pool.health)
            for connection in tuple(pool.connections):
                if connection.sub is not None and not connection.sub.done:
                    connection.sub.cancel()
                else:
                    connection.abandon(SubrequestCancelled(f"upstream {self.name} was closed"))


async def _in_task(call: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        call(*args)
    except Exception:
        log.exception("%r raised", call)
