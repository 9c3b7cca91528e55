"""The running Server: where it listens, and how it is stopped, from any thread."""

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
from ..server.errors import AppError
from ..transport.certificates import CertificateError
from ..transport.loop import poster
from ..transport.parking import where_thread
from .addresses import Address, Addressed
from .checks import seconds
from .settings import Settings

if TYPE_CHECKING:
    from ..control.hosting import Control
    from ..lifecycle.events import Event
    from ..notebook.live import LiveTable
    from ..observe.filters import Filter
    from ..observe.meter import Meter
    from ..observe.metrics import Collector
    from ..observe.snapshot import ExchangeState, Snapshot
    from ..observe.stepper import Stepper
    from ..server.service import Service
    from ..transport.deadlines import Sweeper
    from .app import App
    from .failing import Failures
    from .traces import Traces

log = logging.getLogger("coserver.app")

#: Seconds between two looks of who waits for a server's end at whether it can still come.
_LOOK = 0.5
#: Seconds for a loop's last turns, once its handlers' ``finally`` blocks have had their time.
_AFTER_CLEANUP = 1.0
#: Seconds to wait for a replaced server's last accept. It takes one turn of its loop; a stuck loop accepts nobody.
_LAST_ACCEPT = 1.0


class Server(Addressed):
    """A running app. ``with server:`` stops it at the end of the block."""

    def __init__(self, name: str, settings: Settings, services: list[Service], addresses: tuple[Address, ...]) -> None:
        self.name = name
        self.settings = settings
        self.addresses = addresses
        self._services = services  # one for each listener
        self._post = poster()
        self.thread = threading.get_ident()
        self._ended = threading.Event()
        self._drained = anyio.Event()
        self._running = True
        self.started = monotonic()
        self.apps: list[App] = []  # all whose handlers answer here
        self._traces: Traces | None = None
        self._meter: Meter | None = None
        self._failures: Failures | None = None
        #: Whether its block ends with it, so that ``stop`` can wait for the block, and what the app does after the last
        #: request: so in a thread of its own and in the foreground. Someone else's block may go on.
        self.owns_block = False
        self.steps: list[Stepper] = []
        self.control: Control | None = None  # its control socket, if it has one
        self.accepting = True  # until its listening sockets are closed, at the beginning of the drain
        self._draining: list[Server] = []  # its predecessors, as far as they have not ended

    def __repr__(self) -> str:
        state = "stopped" if not self._running else f"{self.connections} connections"
        return f"<Server {self.name!r} {', '.join(address.url for address in self.addresses)}, {state}>"

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def emitter(self) -> Emitter:
        """Where observers and gates are added."""
        return self._services[0].emitter

    @property
    def sweeper(self) -> Sweeper:
        """Its loop's."""
        return self._services[0].loop.sweeper

    @property
    def running(self) -> bool:
        """False once the last connection and the listening sockets are closed."""
        return self._running

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return sum(len(service.connections) for service in self._services)

    @property
    def exchanges(self) -> int:
        """How many requests (for TCP, messages) are being served now."""
        return sum(one.busy for service in self._services for one in list(service.connections.values()))

    @property
    def breaches(self) -> dict[str, int]:
        """What clients did that they must not, since the start: how often, by the limit that it broke.

        Also by the words of ``coserver.server.breaches.OTHER_REASONS``. From any thread.
        """
        counts: Counter[str] = Counter()
        for service in self._services:
            counts.update(dict(service.breaches.counts))  # copied in one step: the loop's thread may be counting
        return dict(counts)

    def snapshot(self) -> Snapshot:
        """A frozen picture of connections, exchanges, upstreams and counters; from any thread, at any time.

        For 5,000 connections it takes 15 ms, of which the loop notices 1.
        """
        from .observing import take_snapshot

        return take_snapshot(self)

    def measure(self) -> Meter:
        """Count from now on what exchanges, suspensions and subrequests come to; a request costs 4 µs more."""
        if self._meter is None:
            from .observing import make_meter

            self._meter = make_meter(self)
        self._meter.start(self.emitter)
        return self._meter

    def collector(self) -> Collector:
        """For a registry of prometheus-client; counts from the first call on, unless ``measure`` was called before."""
        from .observing import make_collector

        return make_collector(self, self.measure())

    def metrics(self) -> str:
        """All that was counted, in OpenMetrics text; from any thread. Raises RuntimeError without prometheus-client."""
        from ..observe.metrics import make_registry, render

        return render(make_registry(self.collector()))

    @property
    def traces(self) -> Traces:
        """The exchanges that are over, if they are recorded: ``app.start(record=True)``, or ``traces.start()``."""
        if self._traces is None:
            from .traces import Traces

            self._traces = Traces(self)
        return self._traces

    @property
    def failures(self) -> Failures:
        """What its handlers raised last; heard from the first time on that somebody asks for it."""
        if self._failures is None:
            from .failing import Failures

            self._failures = Failures(self)
            if not self._running:
                self._failures.close()
        return self._failures

    def step(
        self, filter: str | Filter = "", at: str | Iterable[str] = "handler", *, limit: float | None = None
    ) -> Stepper:
        """Hold exchanges that match ``filter`` when they reach ``at``, a phase or several; returns at once.

        Nothing is held longer than ``limit`` seconds, 300 if not given. Raises FilterError, ValueError, and
        RuntimeError when the server stops.
        """
        from .observing import make_stepper

        step = make_stepper(self, filter, at, limit)
        self.steps = [*(one for one in self.steps if not one.closed), step]
        if not self.accepting:  # it has begun to stop meanwhile
            step.close()
        return step

    def live(self, filter: str | Filter = "", *, record: bool = True) -> LiveTable:
        """A table that shows in a notebook what is served, live: as the last line of a cell, or by ``.show()``.

        ``filter`` leaves out other requests. Those that are over are shown as well, recorded from now on, unless
        ``record`` is false. Raises FilterError.
        """
        from ..notebook.live import LiveTable
        from .clicking import proxy_pattern

        table = LiveTable(self, filter, proxy_pattern()[0])
        if record and self._running:
            self.traces.start()
        return table

    def pictures(self) -> Callable[[Event], ExchangeState | None]:
        """What makes of an event of this server's what filters ask; None of one that is another's."""
        from .observing import pictures

        return pictures(self)

    def release(self) -> None:
        """Let go all that steppers hold, and hold nothing more: the server drains."""
        for step in self.steps:
            step.close()

    @property
    def has_certificates(self) -> bool:
        """Whether any of its listeners speaks TLS."""
        return any(one.certificates is not None for one in self._services)

    def reload_certificates(self) -> None:
        """Read the files of all TLS listeners again, for new connections; those that stand go on. From any thread.

        Raises AppError for what cannot be used: those listeners keep the certificates that they have, others do not.
        """
        wrong: list[str] = []
        for certificates in dict.fromkeys(one.certificates for one in self._services if one.certificates is not None):
            try:
                certificates.reload()
            except CertificateError as error:
                wrong.append(str(error))
        if wrong:
            raise AppError(f"the certificates read before stay in use: {'; '.join(wrong)}")

    def stop(self, grace: float | None = None) -> None:
        """Stop accepting, let what runs end within ``grace`` seconds (default: ``Limits.grace``), then cancel it.

        Blocks until nothing is left; on the server's own thread (a handler, say) it begins the drain and returns. Twice
        is fine. What no cancellation reaches, a handler that computes for ever say, is logged and left. Raises
        ValueError.
        """
        began = monotonic()
        self.begin_stop(seconds(grace))
        here = threading.get_ident()
        if here != self.thread:
            for server in (self, *self._draining):
                if here != server.thread:
                    server._wait_for_end(began, grace)

    def wait_for_end(self) -> None:
        """In another thread than its own: until it has ended."""
        self._ended.wait()

    def _wait_for_end(self, began: float, grace: float | None) -> None:
        """Until it has ended; but not for ever where its last requests cannot be ended."""
        while not self._ended.wait(_LOOK):
            if self._running and monotonic() > self._ends_by(began, grace):
                log.error("%r cannot be stopped; its thread goes on, at %s", self, where_thread(self.thread))
                return

    def _ends_by(self, began: float, grace: float | None) -> float:
        """When all must have ended, cancelled and cleaned up; if it has not heeded the stop yet, reckoned from here."""
        ends = [
            one.ends_by if one.draining else began + (one.limits.grace if grace is None else grace)
            for one in self._services
        ]
        return max(ends) + max(one.limits.cleanup_timeout for one in self._services) + _AFTER_CLEANUP

    def begin_stop(self, grace: float | None = None) -> None:
        """Begin the drain and return."""
        if self.on_its_thread:
            self._stop(grace)
        else:
            self.post(self._stop, grace)

    @property
    def on_its_thread(self) -> bool:
        """Whether the caller runs in the server's own thread."""
        return threading.get_ident() == self.thread

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Have it called on the loop, soon; from any thread. False if the loop has ended, and the server with it."""
        # Posted, not called: the loop may be busy, or wait for the registry's lock that the caller holds; and trio lets
        # nobody who runs in a trio thread, a notebook's cell say, wait for another one.
        try:
            self._post(function, *args)
        except RuntimeError:
            return False
        return True

    def _stop(self, grace: float | None) -> None:
        for service in self._services:
            service.stop(grace)

    async def wait(self) -> None:
        """On the server's own loop: wait until its last connection has ended."""
        await self._drained.wait()

    def drained(self) -> None:
        """Called on the loop when the last connection has ended."""
        self._running = False
        self._drained.set()
        if not self.owns_block:
            self._ended.set()

    def ended(self) -> None:
        """Called on the loop when nothing is left: the app's lifespans have been left too."""
        self._ended.set()
        if self._traces is not None:
            self._traces.stop()
        if self._meter is not None:
            self._meter.stop()
        if self._failures is not None:
            self._failures.close()
        self._forget_ended()

    async def replace(self, predecessor: Server) -> None:
        """Take the place of ``predecessor``, from whose listening sockets this server accepts already.

        When this returns, no client comes to the predecessor any more; it drains in its own thread.
        """
        self._draining = [predecessor, *predecessor._draining]
        predecessor.begin_stop()
        until = monotonic() + _LAST_ACCEPT
        while predecessor.accepting and monotonic() < until:  # noqa: ASYNC110 - an event would be of another loop
            await anyio.sleep(0.001)
        self._forget_ended()

    def _forget_ended(self) -> None:
        # A cell may run a hundred times: no server may keep all its predecessors alive.
        self._draining = [server for server in self._draining if server.running]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ..views.cell import server_bundle

        return server_bundle(self)

    def _ipython_display_(self) -> None:
        from ..views.cell import kernel_shell, show

        show(self)
        if self._running and kernel_shell() is not None:
            self.live().show()
