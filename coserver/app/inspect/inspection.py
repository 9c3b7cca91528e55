"""Observation of a running server: passes its live objects to the snapshots, meters and steppers of ``observe``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ...observe.filters import Filter
from ...observe.meter import Meter
from ...observe.metrics import Collector, Loops
from ...observe.snapshot.capture import Capture, ListenerView, ServerView, picture_of
from ...observe.snapshot.snapshot import ExchangeState
from ...observe.step.stepper import Steppable, Stepper
from .display import ShownSnapshot, ShownStepper, show_snapshot

if TYPE_CHECKING:
    from ...lifecycle.events import Event
    from ..server import Server

#: Seconds that a snapshot waits for the server's loop. A stuck loop is observed from outside: that is when a snapshot
#: is needed most.
PATIENCE = 0.25


def view_of(server: Server) -> ServerView:
    """The listeners and upstream clients of a server."""
    found = [
        ListenerView(one.name, one.protocol, one.path or f"{one.host}:{one.port}", service, one.tls)
        for one, service in zip(server.addresses, server._services, strict=True)
    ]
    upstreams = [one for app in server.apps for one in app.upstreams.values()]
    clients = [(one.policy, client) for one in upstreams if (client := one.client_of(server.thread)) is not None]
    return ServerView(server.name, server.started, found, clients)


def take_snapshot(server: Server) -> ShownSnapshot:
    """Take a snapshot, from any thread. The loop copies references only, unless the caller runs on it."""
    captured = _capture(view_of(server), server)
    state = "running" if server.accepting else "draining" if server.running else "stopped"
    snapshot = captured.build(state)
    if (found := server.standstill) is not None:
        snapshot = replace(snapshot, stands=found.seconds, stands_at=found.place)
    return show_snapshot(snapshot)


def make_meter(server: Server) -> Meter:
    return Meter(view_of(server).listeners)


def make_collector(server: Server, meter: Meter) -> Collector:
    """The collector for a registry of prometheus-client."""
    sweeper = server.sweeper
    return Collector(meter, partial(take_snapshot, server), partial(Loops, sweeper), lambda: server.breaches)


def _capture(view: ServerView, server: Server) -> Capture:
    """Copy the references, on the loop if it responds within PATIENCE."""
    found: list[Capture] = []
    done = threading.Event()

    def copy() -> None:
        found.append(view.copy())
        done.set()

    if server.on_its_thread or not server.post(copy) or not done.wait(PATIENCE):
        return view.copy()
    return found[0]


def pictures(server: Server) -> Callable[[Event], ExchangeState | None]:
    """A function that turns an event into an ExchangeState, for filters; None for an event of another server."""
    view = view_of(server)

    def picture(event: Event) -> ExchangeState | None:
        one = view.listener_of(event)
        return None if one is None else picture_of(server.name, one, event)

    return picture


def make_stepper(server: Server, filter: str | Filter, at: str | Iterable[str], limit: float | None) -> Stepper:
    """Make the stepper of ``server.step``. Raises FilterError, ValueError; RuntimeError for a server that drains."""
    if not server.accepting:
        raise RuntimeError(f"server {server.name!r} is stopping and cannot hold requests")
    of = Steppable(view_of(server), server.emitter, server.thread)
    step = ShownStepper(of, filter, at) if limit is None else ShownStepper(of, filter, at, limit)
    step.server = server.name
    return step
