"""An upstream on one loop: its members' pools, the queue before them, and the tasks that wait.

``Client.place`` decides where a subrequest goes: to an idle connection, to a new one, or into the queue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import copy_context
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from anyio.abc import TaskGroup

from ...hooks.workers import on_loop
from ...transport.loop import Loop, latches, poster
from ..connection.connection import UpstreamConnection
from ..connection.readers import Reader
from ..encode import encode_request
from ..errors import SubrequestCancelled, UpstreamBusy, UpstreamError
from ..subrequest import Subrequest
from .balance import POLICIES, client_address
from .detach import Detached
from .health import check
from .hold import Holds
from .members import Members
from .pool import Pool, PoolQueue
from .retry import Retries

if TYPE_CHECKING:
    from ..upstream import Upstream

log = logging.getLogger("coserver.upstream")


class Client:
    """Made on the loop that it works on. ``tasks`` is the group for the tasks of its subrequests and members."""

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
        self.queue = PoolQueue(self.sweeper)
        self.key = upstream.key or client_address
        self.retries = Retries(self)
        self._members = Members(self, upstream.members, POLICIES[upstream.policy])
        self.members_changed()
        self._tasks = tasks
        # Tasks must neither see nor keep alive the context variables that a handler has set.
        self._context = copy_context()
        self.holds = Holds(self)
        self.detached = Detached(self)
        self._coming: dict[Subrequest, None] = {}  # begun in other threads, not yet on this loop
        for name in self._members.names:
            tasks.start_soon(name.keep)
        if self.limits.check_path:
            tasks.start_soon(check, self)

    def __repr__(self) -> str:
        return f"<Client of {self.name}: {', '.join(map(repr, self.pools))}>"

    @property
    def pools(self) -> Sequence[Pool]:
        """The pools of all members that may be asked."""
        return self._members.pools

    @property
    def all_pools(self) -> Sequence[Pool]:
        """``pools``, and those of members that have left and still have requests under way. From any thread."""
        return (*self._members.pools, *self._members.leaving)

    def begin(self, sub: Subrequest) -> None:
        """Start a subrequest without waiting; a gate may hold it first."""
        if self.closed:
            sub.cancel()
            return
        exchange = sub.exchange
        event = sub.tell_start() if exchange is not None and exchange.emitter.heard else None
        if event is None:
            self.place(sub)
        else:
            self.holds.hold(sub, event, lambda: self.place(sub))

    def begin_from_thread(self, sub: Subrequest) -> None:
        """Start a subrequest from another thread. Raises RuntimeError if this client is closed."""
        self._coming[sub] = None
        if not self.closed:  # otherwise ``close`` has cancelled it, or ran before it came
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
        """Send the subrequest on a connection, or queue it. There are three cases:

        1. *Idle*: the chosen member has an idle connection. ``Pool.take`` sends on the one that was used last.
        2. *New*: it has none, but fewer than ``max_connections``. ``Pool.take`` opens one.
        3. *Queued*: every member is full. ``PoolQueue`` keeps it for ``pool_timeout`` seconds; where ``waiting``
           subrequests are queued already it fails with UpstreamBusy.

        ``Members.choose`` picks the member for cases 1 and 2. The head of the queue is served by ``Pool.give_back``
        when a connection becomes free, by ``Pool.connection_closed`` when one ends, and by ``serve_queue`` when
        members come or come back.
        """
        if sub.done:
            return
        pool = self._only
        if pool is None:
            try:
                pool = self._members.choose(sub)
            except Exception as error:  # raised by the user's ``key``: the caller gets it, in whichever thread
                sub.fail(error)
                return
            if self.retries.hedges:
                self.retries.watch(sub)
        elif not pool.idle and pool.open >= pool.most:
            pool = None
        if pool is not None:
            pool.take(sub)
        elif len(self.queue) >= self.limits.waiting:
            sub.fail(sub.make_error(UpstreamBusy, f"{len(self.queue)} requests wait for a connection already"))
        else:
            self.queue.join(sub, min(monotonic() + self.limits.pool_timeout, sub.until))

    def place_first(self, subs: Iterable[Subrequest]) -> None:
        """Queue subrequests before all others: their member has left before they were sent."""
        until = monotonic() + self.limits.pool_timeout
        for sub in sorted(subs, key=lambda one: one.started, reverse=True):
            sub.begin_again()
            if sub.silent:
                sub.cancel()  # a check of the member that has left
                continue
            self.queue.join_first(sub, min(until, sub.until))
        self.serve_queue()

    def serve_queue(self) -> None:
        """Serve the queue after members became available."""
        while self.queue and not self.closed:
            pool = self._members.choose(self.queue.first())
            if pool is None:
                return
            pool.take(self.queue.pop())

    def members_changed(self) -> None:
        """Compute what depends on the members and their number."""
        #: The only pool, if there is no choice and no hedge to prepare; else None.
        self._only = None if self.retries.hedges else self._members.only
        #: Whether each answer is reported, to hedges or to the policy.
        self.learns = self.retries.hedges or self._members.attempt_ended is not None

    def member_gone(self, pool: Pool) -> None:
        """Forget a member that left: its last connection has ended."""
        self._members.gone(pool)

    def choose_other(self, sub: Subrequest) -> Pool | None:
        """Choose the pool for a hedge, which runs beside the first attempt."""
        return self._members.choose_other(sub)

    def check(self, pool: Pool) -> Subrequest | None:
        """Send a health check to a member. None if all of its connections are busy."""
        if not pool.has_room or self.closed:
            return None
        now = monotonic()
        sub = Subrequest(self, "GET", self.limits.check_path, now)
        encode_request(sub, {}, b"")
        sub.single = sub.silent = True
        sub.until = now + self.limits.check_timeout
        pool.take(sub)
        return sub

    def connect(self, pool: Pool, sub: Subrequest) -> None:
        """Open a connection for ``sub``. The pool has counted its place."""
        UpstreamConnection(self, pool).connect(sub)

    def attempt_ended(self, sub: Subrequest, pool: Pool, error: UpstreamError | None, status: int) -> None:
        """Report the end of an attempt to health, policy and hedges. Cancelled attempts blame nobody: not reported."""
        if sub.silent:
            return
        if error is None and self.retries.hedges:
            self.retries.note(sub, monotonic())
        pool.health.attempt_ended(sub, error, status)
        if self._members.attempt_ended is not None:
            self._members.attempt_ended(pool, sub, error)

    def attempt_failed(self, sub: Subrequest, error: UpstreamError) -> None:
        """Fail the subrequest, unless its hedge is still under way or a retry is allowed."""
        if sub.hedge is not None:
            sub.error, sub.via = error, None
        elif not self.retries.retry(sub, error):
            sub.fail(error)

    # Tasks, and the end.

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start a task. ``function`` must not raise: a failure of one subrequest must not reach the others."""
        start: Callable[..., Any] = self._tasks.start_soon
        self._context.run(on_loop, start, function, *args)

    def post(self, call: Callable[..., Any], *args: Any) -> None:
        """Call ``call(*args)`` on this loop; from any thread. Raises RuntimeError if the loop has ended."""
        self._post(self._called, call, args)

    def _called(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.closed:
            call(*args)
        else:
            self.spawn(_in_task, call, args)

    def close(self) -> None:
        """Cancel all subrequests, close all connections."""
        self.closed = True
        for sub in tuple(self._coming):
            self._coming.pop(sub, None)
            sub.cancel()
        while self.queue:
            self.queue.pop().cancel()
        self.holds.close()
        self.retries.close()
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
