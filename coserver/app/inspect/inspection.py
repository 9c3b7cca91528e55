"""What can be seen of a running server: the live objects of the server floor, handed to the rooms of ``observe``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
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

#: Seconds that a look at a server waits for its loop. One that is stuck is looked at from outside: that is when a
#: picture is wanted most.
PATIENCE = 0.25


def watched(server: Server) -> ServerView:
    """All listeners of a server."""
    found = [
        ListenerView(one.name, one.protocol, one.path or f"{one.host}:{one.port}", service, one.tls)
        for one, service in zip(server.addresses, server._services, strict=True)
    ]
    upstreams = [one for app in server.apps for one in app.upstreams.values()]
    clients = [(one.policy, client) for one in upstreams if (client := one.client_of(server.thread)) is not None]
    return ServerView(server.name, server.started, found, clients)


def take_snapshot(server: Server) -> ShownSnapshot:
    """From any thread; on the server's own, everything is done in it."""
    copied = _copy(watched(server), server)
    state = "running" if server.accepting else "draining" if server.running else "stopped"
    return show_snapshot(copied.build(state))


def make_meter(server: Server) -> Meter:
    return Meter(watched(server).listeners)


def make_collector(server: Server, meter: Meter) -> Collector:
    """What a registry of prometheus-client asks."""
    sweeper = server.sweeper
    return Collector(meter, partial(take_snapshot, server), partial(Loops, sweeper), lambda: server.breaches)


def _copy(what: ServerView, server: Server) -> Capture:
    """The references, taken on the loop if it is there to do it."""
    found: list[Capture] = []
    done = threading.Event()

    def copy() -> None:
        found.append(what.copy())
        done.set()

    if server.on_its_thread or not server.post(copy) or not done.wait(PATIENCE):
        return what.copy()
    return found[0]


def pictures(server: Server) -> Callable[[Event], ExchangeState | None]:
    """What makes of an event what filters ask; None of one that is another server's."""
    what = watched(server)

    def picture(event: Event) -> ExchangeState | None:
        one = what.listener_of(event)
        connection = getattr(event.source, "connection", event.source)
        return None if one is None else picture_of(server.name, one, event, connection.phase)

    return picture


def make_stepper(server: Server, filter: str | Filter, at: str | Iterable[str], limit: float | None) -> Stepper:
    """Raises FilterError, ValueError; RuntimeError for a server that drains."""
    if not server.accepting:
        raise RuntimeError(f"server {server.name!r} stops, and holds nothing more")
    of = Steppable(watched(server), server.emitter, server.thread)
    step = ShownStepper(of, filter, at) if limit is None else ShownStepper(of, filter, at, limit)
    step.server = server.name
    return step
