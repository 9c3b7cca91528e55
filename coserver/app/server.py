"""Server: a running app. Its addresses, its pictures, figures, traces and steppers, and its end; for any thread.

Observation is built, and loaded, when it is first asked for.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio

from ..lifecycle.emitter import Emitter
from ..server.handler.errors import SetupError
from ..transport.cancellation import where_thread
from ..transport.certificates import CertificateError
from ..transport.loop import poster
from .address import Address, Addressed, proxy_pattern
from .config.settings import Settings
from .config.validate import seconds

if TYPE_CHECKING:
    from ..control.host import Control
    from ..lifecycle.events import Event
    from ..notebook.live import LiveTable
    from ..observe.filters import Filter
    from ..observe.meter import Meter
    from ..observe.metrics import Collector
    from ..observe.snapshot.snapshot import ExchangeState, Snapshot
    from ..observe.step.stepper import Stepper
    from ..server.service import Service
    from ..transport.deadlines import Sweeper
    from .app import App
    from .inspect.failures import Failures
    from .inspect.traces import Traces
    from .standstill import LoopWatch, Standstill

log = logging.getLogger("coserver.app")

#: Seconds between two checks whether a server that is being stopped can still end.
_CHECK_INTERVAL = 0.5
#: Seconds for a loop's last turns, after the time for its handlers' ``finally`` blocks.
_AFTER_CLEANUP = 1.0
#: Seconds to wait for a replaced server's last accept. It takes one turn of its loop; a stuck loop accepts nobody.
_LAST_ACCEPT = 1.0


class Server(Addressed):
    """A running app. ``with server:`` stops it at the end of the block."""

    def __init__(self, name: str, settings: Settings, services: list[Service], addresses: tuple[Address, ...]) -> None:
        self.name = name
        self.settings = settings
        self.addresses = addresses
        self.apps: list[App] = []  # the app, and all apps whose handlers answer here
        self.thread = threading.get_ident()
        self.started = monotonic()
        self.accepting = True  # until the drain begins, and a successor alone accepts
        self.on_drain: Callable[[], None] = _nothing
        #: Whether the block of ``serving`` ends with the server. Then ``stop`` waits for the block's end too, and so
        #: for the app's work after its last request. False in a caller's own block, which may go on.
        self.owns_block = False
        self.control: Control | None = None  # its control socket, if it has one
        self.loop_watch: LoopWatch | None = None  # notices that its loop stands still
        self.remove_files: Callable[[], None] = _nothing  # of its sockets, for a process that is ended by force
        self.steps: list[Stepper] = []
        self._services = services  # one for each listener
        self._post = poster()
        self._running = True
        self._drained = anyio.Event()
        self._ended = threading.Event()
        self._draining: list[Server] = []  # predecessors that have not ended
        self._traces: Traces | None = None
        self._meter: Meter | None = None
        self._failures: Failures | None = None

    def __repr__(self) -> str:
        state = "stopped" if not self._running else f"{self.connections} connections"
        return f"<Server {self.name!r} {', '.join(address.url for address in self.addresses)}, {state}>"

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # State.

    @property
    def running(self) -> bool:
        """False once the last connection and the listening sockets are closed."""
        return self._running

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return sum(len(service.connections) for service in self._services)

    @property
    def exchanges(self) -> int:
        """The number of requests that are being served; for TCP, of messages."""
        return sum(one.busy for service in self._services for one in list(service.connections.values()))

    @property
    def breaches(self) -> dict[str, int]:
        """How often clients broke a limit since the start, by the limit's name; from any thread.

        Other breaches are counted by the words of ``coserver.server.breaches.OTHER_REASONS``.
        """
        counts: Counter[str] = Counter()
        for service in self._services:
            counts.update(dict(service.breaches.counts))  # copied in one step: the loop's thread may be counting
        return dict(counts)

    @property
    def emitter(self) -> Emitter:
        """The emitter, which takes observers and gates."""
        return self._services[0].emitter

    @property
    def sweeper(self) -> Sweeper:
        """The sweeper of the server's loop."""
        return self._services[0].loop.sweeper

    def interrupt_by(self, interrupt: Callable[[], None]) -> None:
        """Call ``interrupt()`` if a handler raises KeyboardInterrupt."""
        for service in self._services:
            service.interrupt = interrupt

    @property
    def standstill(self) -> Standstill | None:
        """Where its event loop stands still, if it has done so for two seconds; from any thread."""
        return None if self.loop_watch is None else self.loop_watch.standstill()

    # Certificates.

    @property
    def has_certificates(self) -> bool:
        """Whether any listener speaks TLS."""
        return any(one.certificates is not None for one in self._services)

    def reload_certificates(self) -> None:
        """Read the certificate files of all TLS listeners again, for new connections. From any thread.

        Raises SetupError for files that cannot be used. Their listeners keep the old certificates; all other listeners
        have the new ones.
        """
        wrong: list[str] = []
        for certificates in dict.fromkeys(one.certificates for one in self._services if one.certificates is not None):
            try:
                certificates.reload()
            except CertificateError as error:
                wrong.append(str(error))
        if wrong:
            raise SetupError(f"the certificates read before stay in use: {'; '.join(wrong)}")

    # Observation.

    def snapshot(self) -> Snapshot:
        """A frozen picture of connections, exchanges, upstreams and counters; from any thread, at any time.

        For 5,000 connections it takes 15 ms; the server's loop is busy for 1 ms of them.
        """
        from .inspect.inspection import take_snapshot

        return take_snapshot(self)

    def measure(self) -> Meter:
        """Count exchanges, suspensions and subrequests from now on. Each request costs 4 µs more."""
        if self._meter is None:
            from .inspect.inspection import make_meter

            self._meter = make_meter(self)
        self._meter.start(self.emitter)
        return self._meter

    def collector(self) -> Collector:
        """A collector for a registry of prometheus-client. Counts from the first call of this or of ``measure`` on."""
        from .inspect.inspection import make_collector

        return make_collector(self, self.measure())

    def metrics(self) -> str:
        """All metrics, as OpenMetrics text; from any thread. Raises RuntimeError without prometheus-client."""
        from ..observe.metrics import make_registry, render

        return render(make_registry(self.collector()))

    @property
    def traces(self) -> Traces:
        """The finished exchanges, if they are recorded: ``app.start(record=True)``, or ``traces.start()``."""
        if self._traces is None:
            from .inspect.traces import Traces

            self._traces = Traces(self)
        return self._traces

    @property
    def failures(self) -> Failures:
        """The last exceptions that handlers raised unexpectedly. They are collected from the first use of this on."""
        if self._failures is None:
            from .inspect.failures import Failures

            self._failures = Failures(self)
            if not self._running:
                self._failures.close()
        return self._failures

    def step(
        self, filter: str | Filter = "", at: str | Iterable[str] = "handler", *, limit: float | None = None
    ) -> Stepper:
        """Hold the exchanges that match ``filter`` when they reach the phase ``at``, or several phases.

        Returns at once. Nothing is held longer than ``limit`` seconds, 300 by default. Raises FilterError, ValueError,
        and RuntimeError when the server stops.
        """
        from .inspect.inspection import make_stepper

        step = make_stepper(self, filter, at, limit)
        self.steps = [*(one for one in self.steps if not one.closed), step]
        if not self.accepting:  # the server has begun to stop meanwhile
            step.close()
        return step

    def live(self, filter: str | Filter = "", *, record: bool = True) -> LiveTable:
        """A live table of requests for a notebook: the last expression of a cell, or ``.show()``.

        ``filter`` chooses requests. The table shows finished requests too, recorded from now on, unless ``record`` is
        false. Raises FilterError.
        """
        from ..notebook.live import LiveTable

        table = LiveTable(self, filter, proxy_pattern()[0])
        if record and self._running:
            self.traces.start()
        return table

    def pictures(self) -> Callable[[Event], ExchangeState | None]:
        """A function that turns an event of this server into an ExchangeState, for filters; None for other events."""
        from .inspect.inspection import pictures

        return pictures(self)

    def release(self) -> None:
        """Close all steppers: the server drains."""
        for step in self.steps:
            step.close()

    # Its loop.

    @property
    def on_its_thread(self) -> bool:
        """Whether the caller runs in the server's own thread."""
        return threading.get_ident() == self.thread

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Call ``function`` on the server's loop soon, from any thread. False if the loop and the server have ended."""
        # The caller does not wait for the call. The loop may be busy, or wait for the registry's lock that the caller
        # holds; and trio lets no code in a trio thread, a notebook's cell for example, wait for another trio thread.
        try:
            self._post(function, *args)
        except RuntimeError:
            return False
        return True

    # Its end.

    def stop(self, grace: float | None = None) -> None:
        """Stop accepting, let exchanges end within ``grace`` seconds (default: ``Limits.grace``), then cancel them.

        Blocks until the server has ended; on the server's own thread (in a handler) it only begins the drain. Twice is
        fine. A handler that no cancellation reaches, in an endless computation for example, is logged and left behind.
        Raises ValueError.
        """
        began = monotonic()
        self.begin_stop(seconds(grace))
        here = threading.get_ident()
        if here != self.thread:
            for server in (self, *self._draining):
                if here != server.thread:
                    server._wait_for_end(began, grace)

    def wait_for_end(self) -> None:
        """Wait until the server has ended; in another thread than its own."""
        self._ended.wait()

    def _wait_for_end(self, began: float, grace: float | None) -> None:
        """Wait until the server has ended, or its last handlers turn out to be unstoppable."""
        while not self._ended.wait(_CHECK_INTERVAL):
            if self._running and monotonic() > self._ends_by(began, grace):
                log.error("%r cannot be stopped; its thread still runs, at %s", self, where_thread(self.thread))
                return

    def _ends_by(self, began: float, grace: float | None) -> float:
        """The time when all handlers must have ended, cancellation and cleanup included.

        A service that has not begun its drain yet is reckoned from ``began``.
        """
        ends = [
            one.ends_by if one.draining else began + (one.limits.grace if grace is None else grace)
            for one in self._services
        ]
        return max(ends) + max(one.limits.cleanup_timeout for one in self._services) + _AFTER_CLEANUP

    def begin_stop(self, grace: float | None = None) -> None:
        """Begin the drain and return."""
        if self.on_its_thread:
            self.drain(grace)
        else:
            self.post(self.drain, grace)

    def drain(self, grace: float | None = None) -> None:
        """Begin the drain; on the loop."""
        self.on_drain()
        self.release()
        for service in self._services:
            service.stop(grace)

    async def wait(self) -> None:
        """Wait until the last connection has ended; on the server's own loop."""
        await self._drained.wait()

    def drained(self) -> None:
        """Called on the loop when the last connection has ended."""
        self._running = False
        self._drained.set()
        if not self.owns_block:
            self._ended.set()

    def ended(self) -> None:
        """Called on the loop when nothing is left: the app's lifespans have ended too."""
        self._ended.set()
        self._stop_observing()
        self._forget_ended()

    def _stop_observing(self) -> None:
        """Keep what was observed, and observe nothing more."""
        if self._traces is not None:
            self._traces.stop()
        if self._meter is not None:
            self._meter.stop()
        if self._failures is not None:
            self._failures.close()

    def forget(self) -> None:
        """Take this server for ended, in a forked child: it runs in the parent."""
        self._running = self.accepting = False
        self._draining = []
        self._ended = threading.Event()  # a new one: a thread of the parent may have held the lock of the old one
        self._ended.set()
        self._post = _no_loop

    async def replace(self, predecessor: Server) -> None:
        """Take the place of ``predecessor``; this server accepts from its listening sockets already.

        When this returns, the predecessor accepts no client any more. It drains in its own thread.
        """
        self._draining = [predecessor, *predecessor._draining]
        predecessor.begin_stop()
        until = monotonic() + _LAST_ACCEPT
        while predecessor.accepting and monotonic() < until:  # noqa: ASYNC110 - an event would be of another loop
            await anyio.sleep(0.001)
        self._forget_ended()

    def _forget_ended(self) -> None:
        # A cell may run a hundred times: a server must not keep all its predecessors alive.
        self._draining = [server for server in self._draining if server.running]

    # In a notebook.

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ..notebook.cell import server_bundle

        return server_bundle(self)

    def _ipython_display_(self) -> None:
        from ..notebook.cell import kernel_shell, show

        show(self)
        if self._running and kernel_shell() is not None:
            self.live().show()


def _nothing() -> None:
    """There is nothing to do yet."""


def _no_loop(*_: object) -> None:
    raise RuntimeError("the server's loop runs in the parent process")
