"""The counts of a server as OpenMetrics, by prometheus-client: a collector that reads plain numbers.

Source: the OpenMetrics 1.0 specification. Needs ``coserver[metrics]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .meter import BUCKETS, Durations, Meter
from .snapshot.snapshot import Snapshot

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: The Content-Type of the text.
CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Loops:
    """The lag of the loop in seconds, copied from its ``Sweeper``."""

    def __init__(self, sweeper: Any) -> None:
        self.last: float = sweeper.lag
        self.total: float = sweeper.lags
        self.count: int = sweeper.ticks
        self.worst: float = sweeper.worst_lag


class Collector:
    """For a registry of prometheus-client: ``registry.register(server.collector())``. Each scrape takes a snapshot."""

    def __init__(
        self,
        meter: Meter,
        look: Callable[[], Snapshot],
        loop: Callable[[], Loops],
        breaches: Callable[[], dict[str, int]],
    ) -> None:
        self._meter, self._look, self._loop, self._breaches = meter, look, loop, breaches

    def collect(self) -> Iterator[Any]:
        """The metric families, as classes of prometheus-client."""
        from prometheus_client import core

        snapshot = self._look()
        yield core.InfoMetricFamily("coserver_server", "The server.", value={"name": snapshot.server})
        yield from self._connections(core, snapshot)
        yield from self._exchanges(core)
        yield from self._waits(core, snapshot)
        yield from self._loop_lag(core)
        broken = core.CounterMetricFamily("coserver_breaches", "Rules that clients broke.", labels=["reason"])
        for reason, count in sorted(self._breaches().items()):
            broken.add_metric([reason], count)
        yield broken

    def _connections(self, core: Any, snapshot: Snapshot) -> Iterator[Any]:
        listeners = ["listener"]
        accepted = core.CounterMetricFamily("coserver_connections_accepted", "Accepted so far.", labels=listeners)
        limit = core.GaugeMetricFamily("coserver_connections_limit", "The most connections at once.", labels=listeners)
        for one in snapshot.listeners:
            accepted.add_metric([one.name], one.accepted)
            limit.add_metric([one.name], one.limits["max_connections"])
        open_now = core.GaugeMetricFamily("coserver_connections", "Open, by their phase.", labels=["listener", "phase"])
        for labels, count in _count((one.listener, one.phase) for one in snapshot.connections):
            open_now.add_metric(list(labels), count)
        busy = core.GaugeMetricFamily("coserver_in_flight", "Exchanges under way.", labels=["listener", "phase"])
        for labels, count in _count((one.listener, one.phase) for one in snapshot.exchanges):
            busy.add_metric(list(labels), count)
        yield from (accepted, limit, open_now, busy)
        for name, what in (("received", "Bytes received."), ("sent", "Bytes sent.")):
            yield core.CounterMetricFamily(f"coserver_{name}_bytes", what, value=snapshot.counters[name], unit="bytes")
        yield core.CounterMetricFamily("coserver_exchanges", "Served so far.", value=snapshot.counters["served"])

    def _exchanges(self, core: Any) -> Iterator[Any]:
        meter = self._meter
        labels = ["listener", "method", "route", "status"]
        requests = core.CounterMetricFamily("coserver_requests", "Answered requests.", labels=labels)
        for (listener, method, route, status), count in _items(meter.requests):
            requests.add_metric([listener, method, route, str(status)], count)
        yield requests
        labels = ["listener", "route"]
        unanswered = core.CounterMetricFamily("coserver_broken_off", "Requests without a whole answer.", labels=labels)
        for key, count in _items(meter.broken):
            unanswered.add_metric(list(key), count)
        yield unanswered
        what = "From a request's head to the last byte of its answer."
        yield _histogram(core, "coserver_request_duration", what, labels, meter.durations)
        messages = core.CounterMetricFamily("coserver_messages", "Handled TCP messages.", labels=["listener"])
        for listener, count in _items(meter.messages):
            messages.add_metric([listener], count)
        yield messages

    def _waits(self, core: Any, snapshot: Snapshot) -> Iterator[Any]:
        meter = self._meter
        calls = {(call,): found for call, found in _items(meter.suspensions)}
        yield _histogram(core, "coserver_suspension", "Blocking calls that waited.", ["call"], calls)
        labels = ["upstream", "outcome"]
        asked = core.CounterMetricFamily("coserver_subrequests", "Subrequests that have ended.", labels=labels)
        for key, count in _items(meter.subrequests):
            asked.add_metric(list(key), count)
        yield asked
        upstreams = {(name,): found for name, found in _items(meter.upstream_durations)}
        what = "From the call to the whole answer."
        yield _histogram(core, "coserver_subrequest_duration", what, ["upstream"], upstreams)
        waiting = core.GaugeMetricFamily(
            "coserver_upstream_waiting", "Requests that wait for a connection.", labels=["upstream"]
        )
        labels = ["upstream", "member", "state"]
        members = core.GaugeMetricFamily("coserver_upstream_connections", "Connections to each member.", labels=labels)
        what = "Recent time to the first byte of an answer."
        latency = core.GaugeMetricFamily(
            "coserver_upstream_latency_seconds", what, labels=["upstream", "member"], unit="seconds"
        )
        for one in snapshot.upstreams:
            waiting.add_metric([one.name], one.waiting)
            for member in one.members:
                members.add_metric([one.name, member.address, "busy"], member.in_flight)
                members.add_metric([one.name, member.address, "idle"], member.idle)
                if member.latency is not None:
                    latency.add_metric([one.name, member.address], member.latency)
        yield from (waiting, members, latency)
        workers = core.GaugeMetricFamily("coserver_workers", "Greenlets of blocking handlers.", labels=["state"])
        for state in ("suspended", "idle", "parked"):
            workers.add_metric([state], getattr(snapshot.workers, state))
        yield workers

    def _loop_lag(self, core: Any) -> Iterator[Any]:
        loop = self._loop()
        what = "Lag of the loop, measured 40 times a second."
        yield core.SummaryMetricFamily(
            "coserver_loop_lag_seconds", what, count_value=loop.count, sum_value=loop.total, unit="seconds"
        )
        yield core.GaugeMetricFamily("coserver_loop_lag_last_seconds", "The last one.", loop.last, unit="seconds")
        yield core.GaugeMetricFamily("coserver_loop_lag_worst_seconds", "The longest one.", loop.worst, unit="seconds")


def make_registry(collector: Collector) -> CollectorRegistry:
    """Make a registry of this collector alone. Raises RuntimeError without prometheus-client."""
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise RuntimeError("prometheus-client is not installed; pip install 'coserver[metrics]'") from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def render(registry: CollectorRegistry) -> str:
    """Write the metrics of a registry as OpenMetrics text."""
    from prometheus_client.openmetrics import exposition

    generate: Callable[[CollectorRegistry], bytes] = exposition.generate_latest
    return generate(registry).decode()


def _count(keys: Iterable[tuple[str, str]]) -> list[tuple[tuple[str, str], int]]:
    found: dict[tuple[str, str], int] = {}
    for key in keys:
        found[key] = found.get(key, 0) + 1
    return sorted(found.items())


def _items(table: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """A sorted copy, taken in one step: the loop's thread may be counting."""
    return sorted(list(table.items()), key=lambda item: item[0])  # noqa: C414 - the copy is the point


def _histogram(core: Any, name: str, what: str, labels: list[str], table: dict[Any, Durations]) -> Any:
    family = core.HistogramMetricFamily(f"{name}_seconds", what, labels=labels, unit="seconds")
    for key, durations in _items(table):
        total, buckets = 0, []
        for edge, count in zip((*(str(edge) for edge in BUCKETS), "+Inf"), list(durations.counts), strict=True):
            total += count
            buckets.append((edge, total))
        family.add_metric(list(key), buckets, durations.total)
    return family
