"""The meter: counts exchanges, suspensions and subrequests by their outcome. Plain numbers, added on the loop.

It is an observer of the main events. It counts by route, not by path, and puts unknown methods together. So no client
can fill the tables with made-up names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from ..lifecycle import events as ev
from ..lifecycle.emitter import Emitter
from .snapshot.capture import ListenerView

#: Upper edges in seconds: the defaults of prometheus-client, and finer ones up to a millisecond for fast answers.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})


class Durations:
    """A histogram. ``counts`` has one number a bucket, the last for all above the last edge; ``total`` is seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class Meter:
    """Counts the exchanges of ``listeners`` between ``start`` and ``stop``. Any thread may read the tables."""

    def __init__(self, listeners: Iterable[ListenerView]) -> None:
        self.requests: dict[tuple[str, str, str, int], int] = {}  # listener, method, route, status
        self.durations: dict[tuple[str, str], Durations] = {}  # listener, route
        self.broken: dict[tuple[str, str], int] = {}  # listener, route
        self.messages: dict[str, int] = {}  # listener
        self.suspensions: dict[str, Durations] = {}  # call
        self.subrequests: dict[tuple[str, str], int] = {}  # upstream, outcome
        self.upstream_durations: dict[str, Durations] = {}  # upstream
        self._listeners = {one.service: one for one in listeners}
        self._emitter: Emitter | None = None

    def __repr__(self) -> str:
        return f"<Meter {'on' if self.measuring else 'off'}, {sum(self.requests.values())} requests>"

    @property
    def measuring(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self._emitter is not None

    def start(self, emitter: Emitter) -> None:
        """Start to count. A second call does nothing."""
        if self._emitter is None:
            self._emitter = emitter
            emitter.add_observer(self.note, served=self.served)

    def stop(self) -> None:
        """Stop counting; the numbers stay. A second call does nothing."""
        if self._emitter is not None:
            self._emitter.remove_observer(self.note)
            self._emitter = None

    def note(self, event: ev.Event) -> None:
        """Count an event; the emitter calls it."""
        count = _COUNT.get(type(event))
        if count is not None and event.exchange is not None:
            one = self._listeners.get(event.source.connection.service)
            if one is not None:
                count(self, one, event)

    def served(self, exchange: Any, at: float) -> None:
        """Count an exchange that went smoothly; the emitter calls it once, instead of events."""
        one = self._listeners.get(exchange.connection.service)
        if one is not None:
            self._count(one, exchange, at)

    def _answered(self, one: ListenerView, event: Any) -> None:
        if one.protocol == "http":
            self._count(one, event.source, event.at)

    def _count(self, one: ListenerView, exchange: Any, at: float) -> None:
        head, endpoint = exchange.head, exchange.endpoint
        method = head.method if head is not None and head.method in _METHODS else "other"
        route = "" if endpoint is None else endpoint.route if exchange.hosted is None else exchange.route
        key = (one.name, method, route, exchange.status)
        self.requests[key] = self.requests.get(key, 0) + 1
        _durations(self.durations, (one.name, route)).add(at - exchange.started)

    def _broke(self, one: ListenerView, event: Any) -> None:
        """Count an exchange without a whole answer: closed before it, or cut off in it.

        A response that fails before its first byte is not counted: an error response replaces it.
        """
        exchange = event.source
        ended = isinstance(event, ev.ExchangeReset | ev.ConnectionClosed)
        if one.protocol == "http" and (exchange.status == 0) == ended:
            endpoint = exchange.endpoint
            key = (one.name, endpoint.route if endpoint is not None else "")
            self.broken[key] = self.broken.get(key, 0) + 1

    def _message(self, one: ListenerView, event: Any) -> None:
        if one.protocol != "http":
            self.messages[one.name] = self.messages.get(one.name, 0) + 1

    def _resumed(self, one: ListenerView, event: Any) -> None:
        _durations(self.suspensions, event.call).add(event.seconds)

    def _subrequest(self, one: ListenerView, event: Any) -> None:
        sub = event.source
        name = sub.client.name
        if isinstance(event, ev.SubrequestFinished):
            outcome = f"{event.status // 100}xx"
            _durations(self.upstream_durations, name).add(sub.elapsed)
        else:
            outcome = "failed" if isinstance(event, ev.SubrequestFailed) else "cancelled"
        self.subrequests[name, outcome] = self.subrequests.get((name, outcome), 0) + 1


def _durations(table: dict[Any, Durations], key: Any) -> Durations:
    found = table.get(key)
    if found is None:
        found = table[key] = Durations()
    return found


_COUNT: dict[type[ev.Event], Any] = {
    ev.ResponseFinished: Meter._answered,
    ev.ResponseFailed: Meter._broke,
    ev.ResponseCancelled: Meter._broke,
    ev.ExchangeReset: Meter._broke,
    ev.ConnectionClosed: Meter._broke,
    ev.HandlerFinished: Meter._message,
    ev.HandlerFailed: Meter._message,
    ev.HandlerCancelled: Meter._message,
    ev.Resumed: Meter._resumed,
    ev.SubrequestFinished: Meter._subrequest,
    ev.SubrequestFailed: Meter._subrequest,
    ev.SubrequestCancelled: Meter._subrequest,
}
