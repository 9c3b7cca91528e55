"""Take a snapshot of a live server: first copy references on its loop, then build the rows in any thread.

This layer does not import the server's classes. It reads their plain attributes; ``app.inspect`` makes the ServerView.
Values that other threads change are read once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, fields, replace
from itertools import islice
from operator import attrgetter
from time import monotonic, sleep, time
from typing import Any, Protocol

from ...hooks.describe import describe, place_of
from ...hooks.workers import frame_of, parked
from ...lifecycle import events as ev
from ...lifecycle import phases
from ...lifecycle.frozen_dataclass import maker
from .rows import (
    ConnectionState,
    ExchangeState,
    ListenerState,
    MemberState,
    SubrequestState,
    Suspension,
    UpstreamState,
    WorkersState,
)
from .snapshot import BREATH, CHUNK, Snapshot, collector_paused


class Service(Protocol):
    """The service of one listener, as far as a snapshot reads it."""

    @property
    def connections(self) -> Mapping[int, Any]: ...

    @property
    def limits(self) -> Any: ...
    @property
    def gone(self) -> Any: ...
    @property
    def idle_workers(self) -> Sized: ...

    accepted: int
    draining: bool


#: The counters of each connection; the service keeps their sums for closed connections.
_TOTALS = ("served", "spent", "received", "sent")

_connection_state, _exchange_state = maker(ConnectionState), maker(ExchangeState)


@dataclass(frozen=True, slots=True)
class ListenerView:
    """A listener to look at. ``address`` is host:port, or a socket's path; ``secure`` is true for TLS."""

    name: str
    protocol: str
    address: str
    service: Service
    secure: bool = False


@dataclass(frozen=True, slots=True)
class ServerView:
    """A server to look at. ``started`` is monotonic seconds; ``clients`` are upstreams, each with its policy."""

    server: str
    started: float
    listeners: Sequence[ListenerView]
    clients: Sequence[tuple[str, Any]] = ()

    def listener_of(self, event: ev.Event) -> ListenerView | None:
        """The listener of an event; None if it belongs to another server of the same app."""
        service = getattr(event.source.connection, "service", None)
        return next((one for one in self.listeners if one.service is service), None)

    def copy(self) -> Capture:
        """Copy the references. Call it on the server's loop; 5,000 connections take 1 ms."""
        columns = [_columns(one) for one in self.listeners]
        # Read now: a connection that closes later is in the columns, and must not be in these sums too.
        totals = [one.service.gone for one in self.listeners]
        gone = {name: sum(getattr(each, name) for each in totals) for name in _TOTALS}
        return Capture(self, monotonic(), time(), columns, tuple([_upstream(*client) for client in self.clients]), gone)


@dataclass(frozen=True, slots=True)
class Columns:
    """The rows of one listener, as columns: 5,000 tuples would start a full collection, 70 ms of the server's loop.

    ``currents`` are the exchanges of connections that carry one at a time, None between two. ``multiplexed`` has those
    of the other connections, each exchange with its phase and the monotonic time at which the phase began.
    """

    of: ListenerView
    connections: list[Any]
    phases: list[str]
    sinces: list[float]
    currents: list[Any]
    current_phases: list[str]
    current_sinces: list[float]
    multiplexed: dict[int, list[tuple[Any, str, float]]]

    def rows(self) -> Iterator[Row]:
        return zip(
            self.connections,
            self.phases,
            self.sinces,
            self.currents,
            self.current_phases,
            self.current_sinces,
            strict=True,
        )


#: A connection, its own phase and since when (monotonic); its current exchange, the phase of that and since when.
Row = tuple[Any, str, float, Any, str, float]


def _columns(one: ListenerView) -> Columns:
    live = list(one.service.connections.values())
    own_phases, sinces, currents = (list(map(attrgetter(name), live)) for name in ("own_phase", "own_since", "current"))
    return Columns(
        one,
        live,
        own_phases,
        sinces,
        currents,
        ["" if each is None else each.phase for each in currents],
        [0.0 if each is None else each.since for each in currents],
        {each.id: [(ex, ex.phase, ex.since) for ex in each.exchanges] for each in live if each.multiplexed},
    )


@dataclass(frozen=True, slots=True)
class Capture:
    """References to live objects, with the values that change from one moment to the next."""

    of: ServerView
    now: float
    at: float
    columns: list[Columns]
    upstreams: tuple[UpstreamState, ...]
    gone: Mapping[str, float]

    def build(self, state: str) -> Snapshot:
        """Build the snapshot, in any thread. It sleeps between two parts, so that other threads run."""
        found: list[ConnectionState] = []
        with collector_paused():
            for each in self.columns:
                rows = each.rows()
                while chunk := list(islice(rows, CHUNK)):
                    if found:
                        sleep(BREATH)
                    found += self._connections(each, chunk)
        return Snapshot(
            server=self.of.server,
            pid=os.getpid(),
            at=self.at,
            seconds=self.now - self.of.started,
            state=state,
            listeners=tuple([_listener(one) for one in self.of.listeners]),
            connections=tuple(found),
            upstreams=self.upstreams,
            workers=_workers(self.of.listeners, found),
            counters=self._counters(found),
        )

    def _counters(self, rows: Sequence[ConnectionState]) -> dict[str, int]:
        """The sums since the start, over all listeners: closed connections, and the open ones in ``rows``."""
        spent = self.gone["spent"] + sum(each.spent for column in self.columns for each in column.connections)
        # Holds are taken out of ``spent`` when they end, the rest is added when the exchange does: no sum may sink.
        under_way = [one for column in self.columns for one in column.currents if one is not None]
        under_way += [one for column in self.columns for many in column.multiplexed.values() for one, _, _ in many]
        spent += sum([one.held_seconds for one in under_way if one.hold_times and one.phase != phases.RECYCLE])
        return {
            "accepted": sum(one.service.accepted for one in self.of.listeners),
            "served": int(self.gone["served"]) + sum([row.served for row in rows]),
            "received": int(self.gone["received"]) + sum([row.received for row in rows]),
            "sent": int(self.gone["sent"]) + sum([row.sent for row in rows]),
            "spent_us": round(spent * 1e6),
        }

    def _connections(self, column: Columns, rows: Sequence[Row]) -> list[ConnectionState]:
        one = column.of
        now, make, secure = self.now, _connection_state, one.secure
        found = []
        for live, phase, since, current, current_phase, current_since in rows:
            exchanges: tuple[ExchangeState, ...] = ()
            if current is not None:
                phase, since = current_phase, current_since
                exchanges = (exchange_state(self.of.server, one, current, (phase, since, now)),)
            elif column.multiplexed and live.id in column.multiplexed:
                exchanges = tuple([
                    exchange_state(self.of.server, one, exchange, (of_it, from_when, now))
                    for exchange, of_it, from_when in column.multiplexed[live.id]
                ])
            found.append(
                make(
                    id=live.id,
                    peer=live.peer,
                    listener=one.name,
                    protocol=one.protocol,
                    phase=phase,
                    phase_seconds=now - since,
                    seconds=now - live.opened,
                    served=live.served,
                    received=live.received,
                    sent=live.sent,
                    tls=tls.facts() if secure and (tls := live.tls) is not None else None,
                    held=live.held,
                    exchanges=exchanges,
                )
            )
        return found


def exchange_state(server: str, one: ListenerView, exchange: Any, moment: tuple[str, float, float]) -> ExchangeState:
    """Make the row of one exchange. ``moment`` is its phase, when the phase began, and now, in monotonic seconds."""
    phase, since, now = moment
    connection = exchange.connection
    if one.protocol != "http":
        return _message_state(server, one, exchange, moment)
    head = exchange.head
    return _exchange_state(
        id=exchange.id,
        connection=connection.id,
        server=server,
        listener=one.name,
        protocol=one.protocol,
        secure=one.secure,
        src=connection.peer,
        dst=one.address,
        method=head.method if head is not None else "",
        target=head.target if head is not None else "",
        host=head.host.decode("latin-1") if head is not None else "",
        status=exchange.status,
        phase=phase,
        phase_seconds=now - since,
        seconds=now - exchange.started,
        handler=exchange.handler,
        route=exchange.route,
        held=exchange.held,
        request_size=exchange.body_size,
        response_size=exchange.size,
        raw_fields=head.fields if head is not None else (),
        raw_answer=exchange.answer_head,
        content=exchange.content,
        suspended=_suspension(exchange, now),
        subrequests=_subrequests(exchange, now),
    )


def _message_state(server: str, one: ListenerView, exchange: Any, moment: tuple[str, float, float]) -> ExchangeState:
    """Make the row of a TCP message's exchange."""
    phase, since, now = moment
    message, connection = exchange.message, exchange.connection
    return ExchangeState(
        id=exchange.id, connection=connection.id, server=server, listener=one.name, protocol=one.protocol,
        src=connection.peer, dst=one.address, method="", target="", host="", status=0, phase=phase,
        phase_seconds=now - since, seconds=now - exchange.started, handler=exchange.handler,
        route="", held=exchange.held, request_size=len(message), content=message,
        subrequests=_subrequests(exchange, now), suspended=_suspension(exchange, now), secure=one.secure,
    )  # fmt: skip


def picture_of(server: str, one: ListenerView, event: ev.Event, phase: str = "") -> ExchangeState:
    """Make the row that filters ask about an event. ``phase`` is the one where it is held; else its present phase.

    It is the event's exchange. A subrequest's event gives its exchange with that subrequest alone; a connection's event
    without an exchange gives a row with the connection's values.
    """
    now, source = monotonic(), event.source
    if isinstance(event, ev.SubrequestEvent):
        exchange = source.exchange
        picture = exchange_state(server, one, exchange, (phase or exchange.phase, exchange.since, now))
        return replace(picture, subrequests=(subrequest_state(source, now, exchange.started),))
    connection = source.connection
    exchange = connection.current if source is connection else source
    if exchange is not None:
        return exchange_state(server, one, exchange, (phase or exchange.phase, exchange.since, now))
    return ExchangeState(
        id=0, connection=connection.id, server=server, listener=one.name, protocol=one.protocol,
        src=connection.peer, dst=one.address, method="", target="", host="", status=0, phase=phase or connection.phase,
        phase_seconds=now - connection.since, seconds=now - connection.opened, handler="", route="",
        secure=one.secure,
    )  # fmt: skip


def _listener(one: ListenerView) -> ListenerState:
    service = one.service
    return ListenerState(
        name=one.name,
        protocol=one.protocol,
        address=one.address,
        connections=len(service.connections),
        accepted=service.accepted,
        draining=service.draining,
        limits={each.name: getattr(service.limits, each.name) for each in fields(service.limits)},
    )


def _workers(listeners: Sequence[ListenerView], rows: Sequence[ConnectionState]) -> WorkersState:
    """Count the workers. All listeners of a server share one thread and its workers."""
    busy = [exchange for one in rows for exchange in one.exchanges]
    return WorkersState(
        suspended=sum(one.suspended is not None for one in busy),
        idle=len(listeners[0].service.idle_workers) if listeners else 0,
        parked=len(parked),
    )


def _suspension(exchange: Any, now: float) -> Suspension | None:
    worker = exchange.suspended
    if worker is None or worker.call is None:
        return None
    frame = frame_of(worker)
    call, on = describe(worker, frame)
    return Suspension(call=call, on=on, place=place_of(frame), seconds=max(now - worker.since, 0.0))


def _subrequests(exchange: Any, now: float) -> tuple[SubrequestState, ...]:
    children = exchange.children
    return tuple([subrequest_state(child, now, exchange.started) for child in children]) if children else ()


def subrequest_state(sub: Any, now: float, began: float) -> SubrequestState:
    """Make the row of one subrequest. ``began`` is the monotonic time at which its exchange began."""
    response, via = sub.response, sub.via
    if sub.ended:
        state = "done" if response is not None else "cancelled" if sub.cancelled else "failed"
    else:
        state = via.phase if via is not None else "wait"
    return SubrequestState(
        upstream=sub.client.name,
        method=sub.method,
        target=sub.target,
        state=state,
        member=sub.member,
        status=sub.status or 0,
        seconds=(sub.ended or now) - sub.started,
        start=sub.started - began,
    )


def _upstream(policy: str, client: Any) -> UpstreamState:
    members = [
        MemberState(
            address=pool.address, open=pool.open, idle=len(pool.idle), in_flight=pool.open - len(pool.idle),
            state=pool.health.state, failures=pool.health.failures, errors=pool.health.errors,
            latency=pool.latency or None,
        )
        for pool in client.all_pools
    ]  # fmt: skip
    return UpstreamState(name=client.name, policy=policy, waiting=len(client.queue), members=tuple(members))
