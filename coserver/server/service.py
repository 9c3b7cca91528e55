"""One listener of a running server: its connections, the objects that they share, and its drain.

A server has one Service for each listener. The service owns the tasks that a drain waits for: the connections, and the
work after responses that ``request.after`` asked for.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream, TaskGroup

from ..hooks.cancellation import Waits
from ..hooks.descriptors import close_descriptors
from ..hooks.workers import close_idle, idle_workers, run_for
from ..lifecycle.emitter import Emitter
from ..protocol.codecs import Parsers
from ..protocol.dates import format_date
from ..transport.cancellation import is_cancellation, is_interrupt, parkable, where, where_raised
from ..transport.certificates import Certificates
from ..transport.deadlines import FAR
from ..transport.listener import Listener
from ..transport.loop import Loop
from ..transport.stream import Socket, SocketStream
from ..upstream.parent import current_connection
from .breaches import Breaches
from .capacity import Capacity
from .connection.base import Connection
from .connection.tls_handshake import keep_fresh
from .handler.endpoint import AWAIT, Endpoint, describe, kind_of
from .handler.errors import log_failure
from .limits import Limits
from .router import Router

if TYPE_CHECKING:
    from .handler.request import Request
    from .handler.response import Response
    from .handler.trusted_proxies import Trust
    from .http.exchange import HttpExchange
    from .http.head_log import HeadLog

log = logging.getLogger("coserver.server")

#: Makes the connection for an accepted stream and its peer's address.
MakeConnection = Callable[["Service", ByteStream, Any], Connection]
#: Seconds between two checks, in a drain, whether another server has taken the listeners over.
_LOOK = 0.1
#: Functions without arguments, to be called in this order.
Work = list[Callable[[], Any]]


class Totals:
    """Sums over the closed connections: exchanges served, seconds spent on them, bytes received and sent."""

    __slots__ = ("received", "sent", "served", "spent")

    def __init__(self) -> None:
        self.served = self.received = self.sent = 0
        self.spent = 0.0

    def add(self, connection: Connection) -> None:
        """Add the figures of a closed connection."""
        self.served += connection.served
        self.spent += connection.spent
        self.received += connection.received
        self.sent += connection.sent


class Service:
    """Accepts on the listening sockets of one listener, and serves their connections until ``stop``."""

    def __init__(self, router: Router, limits: Limits, codec: str, emitter: Emitter) -> None:
        self.router = router
        self.limits = limits
        self.head_limits = limits.head  # made once: each connection's reader has them
        self.parsers = Parsers(codec)
        self.emitter = emitter
        self.loop = Loop.current()
        self.breaches = Breaches(self.loop.sweeper)
        self.waits = Waits(limits.cleanup_timeout)
        self.idle_workers = idle_workers()
        self.connections: dict[int, Connection] = {}
        self.body_memory_used = 0  # bytes in memory of bodies that have not come whole yet
        self.pending_work = 0  # pieces of work after responses that have not ended
        self.last_resort: Endpoint | None = None  # answers an error that no error handler of the app answers
        self.no_route: Callable[[Request], Response] | None = None  # answers a 404 of the router, under debug
        self.access: Callable[..., None] | None = None  # writes the access log, see ``http.access_log``
        self.heads: HeadLog | None = None  # logs each head
        self.trust: Trust | None = None  # the proxies that may name the client; None: none
        self.certificates: Certificates | None = None  # if set, each connection begins with a TLS handshake
        self.proxy_protocol = False  # whether each connection begins with a PROXY header
        #: Stops the server as Ctrl+C does, for a handler that raises KeyboardInterrupt. None: the exception goes on, to
        #: the program that the server is a part of.
        self.interrupt: Callable[[], None] | None = None
        self.draining = False
        self.cancelled = False  # everything must end now
        self.closing = False  # answers may have to say Connection: close, since it drains or clients wait for a place
        self.capacity = Capacity(self)
        self.accepted = 0
        self.gone = Totals()
        self._tasks: TaskGroup | None = None
        self._listeners: list[tuple[Listener, MakeConnection]] = []
        self._accepting: list[anyio.CancelScope] = []
        self._changed = anyio.Event()
        self._stop = anyio.Event()
        #: The services of the server's other listeners. A handler of theirs may ask this listener in a drain.
        self.siblings: list[Service] = []
        self.replaced: Callable[[], bool] = _never  # whether another server accepts from the same sockets
        self._owed: set[int] = set()  # in a drain: the connections that were there when it began
        #: The number of exchanges of a connection before its last one.
        self.last_served = (limits.requests_per_connection or sys.maxsize) - 1
        self._grace = limits.grace
        # Whether the limits are so long that the sweeper need not look at an idle connection all the time.
        self._patient = min(limits.head_timeout, limits.idle_timeout, limits.handshake_timeout) > 4 * FAR
        self.ends_by = math.inf  # monotonic seconds: the end of a drain's grace
        self._stuck: Stuck | None = None
        self._date = self.head_end = b""  # the Date field, and the end of a usual response's head, which has it
        #: The whole heads of usual answers of text, by the length of the text; they hold the date, so for a second.
        self.heads_of_texts: dict[int, bytes] = {}
        self.date_until = 0.0
        self.date_seconds = 0  # the Date field's value, in seconds since 1970

    def __repr__(self) -> str:
        return f"<Service {len(self.connections)} connections{', draining' if self.draining else ''}>"

    async def run(self, listeners: list[tuple[Listener, MakeConnection]], closed: Callable[[], None]) -> None:
        """Serve until ``stop``, then drain. A cancellation ends all at once.

        ``closed`` is called when the listeners are closed: when the drain begins, or, with ``siblings``, when none of
        them has requests that began before the drain.
        """
        loop_tasks = anyio.CancelScope()
        self._listeners = listeners
        _running.add(self)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run_loop, loop_tasks)
                async with anyio.create_task_group() as self._tasks:
                    for listener, make in listeners:
                        self._tasks.start_soon(self._accept, listener, make)
                    try:
                        await self._stop.wait()
                        if self.siblings:
                            await self._begin_drain(listeners)
                        self._close_listeners(listeners)
                        closed()
                        await self._drain()
                    except BaseException:
                        self.cancelled = True
                        self.waits.break_waits()
                        raise
                loop_tasks.cancel()
        finally:
            _running.discard(self)
            self.draining = self.closing = True
            if self._stuck is not None:
                self.loop.sweeper.discard(self._stuck)
            for listener, _ in listeners:
                listener.close()
            self.breaches.close()
            close_idle()
            close_descriptors()

    def stop(self, grace: float | None = None) -> None:
        """Begin to drain. ``grace`` is in seconds; a second call may shorten it. Call it on the loop's own thread."""
        if grace is not None:
            self._grace = min(grace, self._grace) if self._stop.is_set() else grace
        self.ends_by = min(self.ends_by, monotonic() + self._grace)
        self.draining = self.closing = True
        self._patient = False
        for connection in self.connections.values():
            self.loop.sweeper.add(connection)  # the deadlines of a drain are short
        self._stop.set()
        self._tell_change()

    def cancel(self) -> None:
        """Cancel all tasks: the grace is over. This also interrupts the sleeps and waits of blocking code."""
        assert self._tasks is not None
        self.cancelled = True
        self.waits.break_waits()
        self._tasks.cancel_scope.cancel()

    def start_task(self, connection: Connection) -> None:
        """Start a task for the connection."""
        assert self._tasks is not None
        self._tasks.start_soon(connection.main, name=f"coserver connection {connection.id}")

    # Work that a drain waits for.

    async def run_after_in_turn(self, exchange: HttpExchange) -> None:
        """Start the work that ``request.after`` asked for, in a task of its own.

        If ``Limits.after_tasks`` tasks run already, do the work here and now: only this client waits for it.
        """
        if self.pending_work < self.limits.after_tasks:
            self.run_after(exchange)
            return
        work, exchange.after = exchange.after, None
        if work:
            await self._do(work, repr(exchange))

    def run_after(self, exchange: HttpExchange) -> None:
        """Start the work after a response in a task of its own. Does not wait."""
        work, exchange.after = exchange.after, None
        if work:
            number = exchange.id
            self.start_work(
                partial(self._do, work, f"exchange {number}"), f"coserver work after exchange {number}"
            )

    async def _do(self, work: Work, whose: str) -> None:
        """Call the functions one after another. A failure is logged, and does not stop the next one."""
        for number, each in enumerate(work):
            function = each.func if isinstance(each, partial) else each
            try:
                if kind_of(function) is AWAIT:
                    await each()
                else:
                    value = await run_for(None, self.waits, each)
                    if hasattr(value, "__await__"):  # a lambda or a decorator that hides an async def
                        await value
            except BaseException as error:
                if self.interrupted(error, describe(function)):
                    continue
                if is_cancellation(error):
                    log.warning("background tasks after %s, cancelled at the end of the grace: %s and %d more", whose,
                                describe(function), len(work) - number - 1)  # fmt: skip
                    raise
                log_failure(log, error, "a background task after %s failed: %s", whose, describe(function))

    def interrupted(self, error: BaseException, whose: str) -> bool:
        """If ``error`` is a KeyboardInterrupt, stop the server as Ctrl+C does, and return True. One line tells why."""
        # A group comes from a task of the handler's own: asyncio has left the loop already, and ``App.run`` tells it.
        if self.interrupt is None or isinstance(error, BaseExceptionGroup) or not is_interrupt(error):
            return False
        log.error("%s raised KeyboardInterrupt at %s: the server stops, as at Ctrl+C", whose, where_raised(error))
        self.interrupt()
        return True

    def start_work(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Start ``work`` in a task of its own, for which a drain waits. ``work`` must not raise."""
        assert self._tasks is not None
        self.pending_work += 1
        # Its subrequests must not become children of the connection's next exchange.
        context = copy_context()
        context.run(current_connection.set, None)
        start: Callable[..., Any] = self._tasks.start_soon
        context.run(start, self._work, work, name, name=name)

    async def _work(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        scope = anyio.CancelScope()

        async def scoped() -> None:
            with scope:
                await work()

        try:
            await parkable(scoped, scope, lambda: self.cancelled, partial(self.tell_parked, name))
        finally:
            self.work_done()

    @staticmethod
    def tell_parked(name: str, where: str) -> None:
        """Log that a piece of work swallows every cancellation."""
        log.error("%s ignores its cancellation; it is given up at %s", name, where)

    def work_done(self) -> None:
        """Note that a piece of work has ended."""
        self.pending_work -= 1
        self._tell_change()

    def begin(self, make: MakeConnection, stream: ByteStream, peer: Any) -> Connection:
        """Make a connection, and start its task."""
        connection = make(self, stream, peer)
        self.connections[connection.id] = connection
        sweeper = self.loop.sweeper
        (sweeper.add_patient if self._patient and connection.patient else sweeper.add)(connection)
        self.accepted += 1
        connection.begin()
        return connection

    def connection_closed(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        if self.connections.pop(connection.id, None) is not None:
            self.gone.add(connection)
        self.capacity.connection_closed(connection)
        if self.draining:
            self._tell_change()

    def date(self, now: float) -> bytes:
        """The Date field's value (RFC 9110 §6.6.1) at ``now``, monotonic seconds; made once a second."""
        if now >= self.date_until:
            moment = time()
            self.date_seconds = int(moment)
            self._date = format_date(self.date_seconds).encode()
            self.date_until = now + 1 - moment % 1  # until the next second begins
            self.heads_of_texts.clear()
            self.head_end = b"date: %b\r\n\r\n" % self._date
        return self._date

    async def _run_loop(self, scope: anyio.CancelScope) -> None:
        with scope:
            if self.certificates is None:
                await self.loop.run()
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep_fresh, self.certificates)
                await self.loop.run()

    async def _accept(self, listener: Listener, make: MakeConnection) -> None:
        if self._stop.is_set():
            return  # stopped before this task's first turn: the listening socket may be closed already
        with anyio.CancelScope() as scope:
            self._accepting.append(scope)
            await listener.run(self._accepted_by(make), self.capacity)

    def _accepted_by(self, make: MakeConnection) -> Callable[[Socket, Any], None]:
        def accepted(sock: Socket, address: Any) -> None:
            self.begin(make, SocketStream(sock, self.loop), address if isinstance(address, tuple) else "unix")

        return accepted

    def _tell_change(self) -> None:
        self._changed.set()
        for service in self.siblings:
            service._changed.set()

    @property
    def _may_ask(self) -> bool:
        """Whether a handler that ran when the drain began, or its work after the response, may still ask others."""
        return bool(self.pending_work) or not self._owed.isdisjoint(self.connections)

    async def _begin_drain(self, listeners: list[tuple[Listener, MakeConnection]]) -> None:
        """Let idle connections end, and go on accepting while requests of the siblings may need this listener."""
        for listener, make in listeners:
            listener.accept_waiting(self._accepted_by(make))
        self._owed = set(self.connections)
        for connection in tuple(self.connections.values()):
            connection.drain()
        await self.loop.checkpoint()  # each sibling notes its own connections first
        while not self.replaced() and any(one._may_ask for one in self.siblings):
            if (left := self.ends_by - monotonic()) <= 0:
                break
            self._changed = anyio.Event()
            with anyio.move_on_after(min(left, _LOOK)):
                await self._changed.wait()

    def _close_listeners(self, listeners: list[tuple[Listener, MakeConnection]]) -> None:
        """Stop accepting. Accept the clients that wait in the backlog before."""
        for scope in self._accepting:
            scope.cancel()
        for listener, make in listeners:
            listener.accept_waiting(self._accepted_by(make))
            listener.close()

    def forget(self) -> None:
        """Close the sockets that a forked child has inherited; the parent's go on."""
        for listener, _ in self._listeners:
            listener.forget()
        for connection in tuple(self.connections.values()):
            if isinstance(connection.stream, SocketStream):
                connection.stream.forget()

    async def _drain(self) -> None:
        """Let exchanges and work end within the grace, then cancel them."""
        for connection in tuple(self.connections.values()):
            connection.drain()
        while (self.connections or self.pending_work) and (left := self.ends_by - monotonic()) > 0:
            self._changed = anyio.Event()
            with anyio.move_on_after(left):
                await self._changed.wait()
        if self.connections or self.pending_work:
            # Idle connections that had no time to notice the drain lose nothing, and are not logged.
            if cut := sum(connection.busy for connection in self.connections.values()):
                log.warning("the grace of %s s is over; requests still running, now cancelled: %d", self._grace, cut)
            self.cancel()
            self._stuck = Stuck(self)
            self.loop.sweeper.add(self._stuck)


#: The services that run in this process.
_running: set[Service] = set()


def _after_fork() -> None:
    """Close the sockets of the parent's servers in a forked child.

    Otherwise the port stays taken, and clients see no end of their connections, for as long as the child lives.
    """
    for service in tuple(_running):
        service.forget()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _never() -> bool:
    return False


class Stuck:
    """Tasks that outlive the cancellation at the end of a drain. Each is logged once, and its connection is closed.

    Nothing can end a handler that waits under its own shield, or that swallows cancellations. Its task and the loop go
    on until it is done, but its client need not wait. The sweeper has this object from the cancellation on, with
    ``Limits.cleanup_timeout`` as its deadline.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.deadline = monotonic() + service.limits.cleanup_timeout

    def expire(self, now: float) -> None:
        """Abandon the connections that are left: the time for ``finally`` blocks is over."""
        self.deadline = math.inf
        service = self._service
        tasks = {task.name: task for task in anyio.get_running_tasks()}
        for connection in tuple(service.connections.values()):
            task = tasks.get(f"coserver connection {connection.id}")
            connection.abandon(where(task.coro) if task is not None else "an unknown place")
        if service.pending_work:
            log.error("background tasks after responses ignore their cancellation: %d", service.pending_work)
