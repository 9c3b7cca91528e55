"""An app that runs without a listener: its service, its lifespan, and connections made by a function call.

Everything above the stream is the server's own code. This file stands for the socket, the accept and the hang-up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import copy_context

import anyio
from anyio.abc import TaskGroup

from ..app.app import App
from ..app.config.settings import Options
from ..app.lifespan import lifespans
from ..app.listeners import ListenerPlan, plan_listeners
from ..app.runner import make_service
from ..lifecycle import events as ev
from ..lifecycle import phases
from ..lifecycle.order import OrderCheck
from ..protocol.errors import RemoteProtocolError
from ..server.connection.base import Connection
from ..server.handler.error_handlers import find_handler
from ..server.handler.errors import ClientLeft, HTTPException
from ..server.http.send_stream import BrokenOff, NothingSent
from ..server.service import Service
from ..transport.deadlines import TICK
from .memory import MemoryStream, stream_pair

#: Errors that are not the app's: each is answered as a client's error, or is the client's own leaving.
_NO_FAILURE = (
    HTTPException,
    ClientLeft,
    RemoteProtocolError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
#: Ports for clients without a socket: Request.peer looks like a client of a dynamic port.
_ports = itertools.cycle(range(49152, 65536))


class Failures:
    """The exceptions of the app's handlers by connection, kept until the client asks for them. An observer."""

    def __init__(self) -> None:
        self._raised: dict[int, list[tuple[BaseException, bool]]] = {}

    def __call__(self, event: ev.Event) -> None:
        if not isinstance(event, ev.HandlerFailed | ev.ResponseFailed):
            return
        error = event.error
        if isinstance(error, BrokenOff | NothingSent):
            error = error.__cause__ or error  # the exception of the stream
        if isinstance(error, _NO_FAILURE):
            return
        exchange = event.source
        tables = getattr(getattr(exchange, "endpoint", None), "errors", ())
        expected = (
            not getattr(exchange, "failed", True) and isinstance(error, Exception) and find_handler(error, tables)[1]
        )
        self._raised.setdefault(event.connection, []).append((error, expected))

    def take(self, connection: int, *, broken: bool) -> BaseException | None:
        """Take the unexpected exception of this connection; any exception, if its answer is ``broken``. Forgets the
        rest.
        """
        raised = self._raised.pop(connection, [])
        return next((error for error, expected in raised if broken or not expected), None)


class Link:
    """The client's end of one connection, with the server's record of it."""

    def __init__(self, host: Host, accepted: Connection, stream: MemoryStream) -> None:
        self._host = host
        self.accepted = accepted
        self.stream = stream

    @property
    def alive(self) -> bool:
        """Whether the server will read the next bytes: it has not begun to end this connection."""
        return not self.stream.ended and not self.accepted.reason and not self.accepted.service.draining

    async def send_eof(self) -> None:
        """Half-close. ``Limits.on_half_close`` decides about a running handler."""
        await self.stream.send_eof()
        self._have_it_noticed()

    def leave(self) -> None:
        """Close. A handler that still runs for this client is cancelled as in production, at the sweeper's check."""
        if not self.stream.closed:
            self.stream.close()
            self._have_it_noticed()

    def _have_it_noticed(self) -> None:
        if self.stream.was_reset or self.accepted.service.limits.on_half_close == "cancel":
            self._host.watch(Leaving(self.accepted))


class Leaving:
    """A client that has left, in the sweeper's table until the server has noticed. Does the poller's part without a
    poller.
    """

    deadline = math.inf

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def expire(self, now: float) -> None:
        """Do nothing: the deadline is infinite."""

    def outlive(self, now: float) -> None:
        connection = self.connection
        running = connection.service.loop.sweeper.running
        if connection.phase is phases.CLOSED:
            running.discard(self)
        elif (
            now - connection.since >= TICK
            and not connection.scope.cancel_called
            and (connection in running or any(one in running for one in connection.exchanges))
        ):
            connection.hung_up()


class Host:
    """A running app to connect to. ``tasks`` is for the clients' own tasks; it ends with the app."""

    tasks: TaskGroup

    def __init__(self, app: App, services: dict[str, tuple[Service, ListenerPlan]]) -> None:
        self.app = app
        self.services = services
        self.failures = Failures()
        self.order = OrderCheck()
        self._context = copy_context()
        self._leaving: set[Leaving] = set()
        self._connecting = 0

    @property
    def connections(self) -> int:
        """The number of connections that are open now."""
        return sum(len(service.connections) for service, _ in self.services.values())

    def observe(self, event: ev.Event) -> None:
        """Observe an event of this app, unless another client or server of the same app caused it."""
        connection = getattr(event.source, "connection", event.source)
        service = getattr(connection, "service", None)
        if service is None or any(service is one for one, _ in self.services.values()):
            self.order(event)
            self.failures(event)

    def name_of(self, protocol: str, name: str | None = None) -> str:
        """The name of a listener; without a name, the first listener of this protocol. Raises KeyError."""
        names = [key for key, (_, one) in self.services.items() if one.spec.protocol == protocol]
        if name in self.services:
            return str(name)
        if name is None and names:
            return names[0]
        missing = f"for {protocol}" if name is None else f"named {name!r}"
        raise KeyError(f"there is no listener {missing}; the listeners are {', '.join(self.services)}")

    async def connect(self, name: str) -> Link:
        """Connect to a listener, and wait as long as the server is full. Raises ConnectionRefusedError."""
        service, listening = self.services[name]
        self._connecting += 1
        try:
            while (full := service.capacity.check(self)) is not None:
                await full
        finally:
            self._connecting -= 1
        if service.draining:
            raise ConnectionRefusedError(f"app {self.app.name} is stopping")
        ours, theirs = stream_pair(service.loop)
        # In the server's context: a handler must not see the context variables of the test.
        peer = f"127.0.0.1:{next(_ports)}"
        accepted = self._context.copy().run(service.begin, listening.make_connection, theirs, peer)
        return Link(self, accepted, ours)

    async def wait(self) -> bool:
        """Wait for a place: this client is in ``connect``."""
        return True

    def waiting(self) -> int:
        return self._connecting

    def watch(self, leaving: Leaving) -> None:
        """Have the sweeper check a client that has left."""
        self._leaving = {one for one in self._leaving if one.connection.phase is not phases.CLOSED}
        self._leaving.add(leaving)
        leaving.connection.running.add(leaving)

    def forget(self) -> None:
        """Do nothing: the app has ended."""
        for leaving in self._leaving:
            leaving.connection.running.discard(leaving)


@asynccontextmanager
async def hosted(app: App, options: Options) -> AsyncIterator[Host]:
    """Run ``app`` during the block; drain it at the end, or end it at once if the block raised. Raises SetupError."""
    settings = app.settings(options)
    plans = plan_listeners(app, settings)
    failure: Exception | None = None
    parts = [part for one in (app, *(each.app for each in plans)) for part in one.parts()]
    async with lifespans(parts, settings.limits.grace):
        services = {one.spec.name: (make_service(one, app, settings), one) for one in plans}
        host = Host(app, services)
        async with _observing(host), anyio.create_task_group() as tasks:
            host.tasks = tasks
            for service, _ in services.values():
                tasks.start_soon(service.run, [], _nothing)
            await _until_they_run(services)
            try:
                yield host
            except Exception as error:
                failure = error  # of the block; raised below, since a task group would wrap it in an ExceptionGroup
                tasks.cancel_scope.cancel()
            except BaseException:
                tasks.cancel_scope.cancel()
                raise
            for service, _ in services.values():
                service.stop()
        if failure is not None:
            raise failure


@asynccontextmanager
async def _observing(host: Host) -> AsyncIterator[None]:
    """Observe from before the first connection until after the last."""
    with host.app.emitter.observing(host.observe):
        yield
    host.forget()


async def _until_they_run(services: dict[str, tuple[Service, ListenerPlan]]) -> None:
    """Wait until each service can take a connection, which is so in its task's first turn."""
    while any(service._tasks is None for service, _ in services.values()):
        await anyio.lowlevel.checkpoint()


def _nothing() -> None:
    """Do nothing: the drain has no listening socket to close."""
