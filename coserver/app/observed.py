"""What can be seen of a running server: its picture, its figures, its traces, its steps. Nothing is built before it is
asked for.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..lifecycle.emitter import Emitter
from ..transport.loop import poster
from .address import Address, Addressed

if TYPE_CHECKING:
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


class Observed(Addressed):
    """The base of Server: what may be asked of it from any thread, and the way onto its own (``post``)."""

    def __init__(self, name: str, services: list[Service], addresses: tuple[Address, ...]) -> None:
        self.name = name
        self.addresses = addresses
        self.apps: list[App] = []  # all whose handlers answer here
        self._services = services  # one for each listener
        self._post = poster()
        self.thread = threading.get_ident()
        self.started = monotonic()
        self._running = True
        self.accepting = True  # until its listening sockets are closed, at the beginning of the drain
        self.steps: list[Stepper] = []
        self._traces: Traces | None = None
        self._meter: Meter | None = None
        self._failures: Failures | None = None

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
        from .inspect.inspection import take_snapshot

        return take_snapshot(self)

    def measure(self) -> Meter:
        """Count from now on what exchanges, suspensions and subrequests come to; a request costs 4 µs more."""
        if self._meter is None:
            from .inspect.inspection import make_meter

            self._meter = make_meter(self)
        self._meter.start(self.emitter)
        return self._meter

    def collector(self) -> Collector:
        """For a registry of prometheus-client; counts from the first call on, unless ``measure`` was called before."""
        from .inspect.inspection import make_collector

        return make_collector(self, self.measure())

    def metrics(self) -> str:
        """All that was counted, in OpenMetrics text; from any thread. Raises RuntimeError without prometheus-client."""
        from ..observe.metrics import make_registry, render

        return render(make_registry(self.collector()))

    @property
    def traces(self) -> Traces:
        """The exchanges that are over, if they are recorded: ``app.start(record=True)``, or ``traces.start()``."""
        if self._traces is None:
            from .inspect.traces import Traces

            self._traces = Traces(self)
        return self._traces

    @property
    def failures(self) -> Failures:
        """What its handlers raised last; heard from the first time on that somebody asks for it."""
        if self._failures is None:
            from .inspect.failures import Failures

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
        from .inspect.inspection import make_stepper

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
        from .inspect.inspection import pictures

        return pictures(self)

    def release(self) -> None:
        """Let go all that steppers hold, and hold nothing more: the server drains."""
        for step in self.steps:
            step.close()

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

    def _stop_looking(self) -> None:
        """It has ended: what was seen stays, nothing is listened for."""
        if self._traces is not None:
            self._traces.stop()
        if self._meter is not None:
            self._meter.stop()
        if self._failures is not None:
            self._failures.close()
