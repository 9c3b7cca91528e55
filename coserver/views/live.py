"""Tables of exchanges, connections, upstreams and traces.

``python -m coserver.views.live`` prints examples. A new table is one View and its entry in VIEWS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console

from ..observe.secrets import mask_target
from ..observe.snapshot.snapshot import (
    ConnectionState,
    ExchangeState,
    MemberState,
    Snapshot,
    SubrequestState,
    Suspension,
    UpstreamState,
    WorkersState,
)
from ..observe.trace.trace import Trace
from ..observe.trace.waterfall import show_seconds
from .columns import Cell, Column, Rows, View
from .held import HELD
from .text import plain, readable
from .traces import show_size

_PHASES = {"head": "cyan", "body": "cyan", "handler": "blue", "suspend": "yellow", "subrequest": "magenta",
           "response": "green", "recycle": "bright_black", "accept": "bright_black"}  # fmt: skip


def _phase(row: ExchangeState | ConnectionState) -> Cell:
    return (f"{row.phase} ‖", "bold yellow") if row.held else (row.phase, _PHASES.get(row.phase, ""))


def _status(row: ExchangeState | Trace) -> Cell:
    if not row.status:
        return ""
    return str(row.status), {2: "green", 3: "cyan", 4: "yellow"}.get(row.status // 100, "red")


def _target(row: ExchangeState) -> Cell:
    return readable(mask_target(row.target) if row.method else row.url)


def _waited(waits: Suspension) -> str:
    """What a suspension waits for; a time in its own unit: 767 ms."""
    number, _, unit = waits.on.partition(" ")
    try:
        return show_seconds(float(number)) if unit == "s" else waits.on
    except ValueError:
        return waits.on


def _outcome(row: Trace) -> Cell:
    """The error and its place, or else the handler."""
    if not row.error:
        return row.handler, "bright_black"
    return plain(f"{row.error} ({row.place.partition(' in ')[0]})" if row.place else row.error), "red"


def finished_row(trace: Trace) -> ExchangeState:
    """A finished exchange as a row among those under way."""
    return ExchangeState(
        id=trace.id, connection=trace.connection, server=trace.server, listener=trace.listener,
        protocol=trace.protocol, secure=trace.secure, src=trace.src, dst=trace.dst, method=trace.method,
        target=trace.target, host=trace.host, status=trace.status, phase="done", phase_seconds=0.0,
        seconds=trace.seconds, handler=str(_outcome(trace)[0]), route=trace.route,
    )  # fmt: skip


def _doing(row: ExchangeState) -> Cell:
    """The call or subrequest that it waits for, or else its handler."""
    if row.suspended is not None:
        waits = row.suspended
        place = waits.place.rpartition("/")[2].partition(" in ")[0]  # the file and line, which a narrow column has
        return " ".join([one for one in (waits.call, plain(_waited(waits)), plain(place)) if one]), "yellow"
    under_way = [one for one in row.subrequests if one.state not in ("done", "failed", "cancelled")]
    if under_way:
        first = under_way[0]
        more = f" +{len(under_way) - 1}" if len(under_way) > 1 else ""
        return f"{first.upstream} {first.method} {plain(mask_target(first.target))}{more}", "magenta"
    return row.handler, "bright_black"


EXCHANGES = View(
    "exchanges",
    (
        Column("id", 6, lambda row: (str(row.id), "bright_black"), lambda row: row.id, right=True),
        Column("method", 7, lambda row: (plain(row.method or row.protocol), "bold"), lambda row: row.method, rank=1),
        Column("target", 0, _target, lambda row: row.target),
        Column("phase", 12, _phase, lambda row: (row.phase, row.phase_seconds)),
        Column("time", 8, lambda row: show_seconds(row.seconds), lambda row: row.seconds, right=True, runs=True),
        Column("status", 7, _status, lambda row: row.status, right=True, rank=2),
        Column("doing", 18, _doing, lambda row: row.handler, rank=3, grows=True),
        Column("client", 21, lambda row: (row.src, "bright_black"), lambda row: row.src, rank=4),
    ),
    lambda snapshot: snapshot.exchanges,
    "no request is being served",
)
CONNECTIONS = View(
    "connections",
    (
        Column("id", 6, lambda row: (str(row.id), "bright_black"), lambda row: row.id, right=True),
        Column("client", 0, lambda row: row.peer, lambda row: row.peer),
        Column("listener", 10, lambda row: row.listener, lambda row: row.listener, rank=2),
        Column("phase", 12, _phase, lambda row: (row.phase, row.phase_seconds)),
        Column(
            "in phase",
            9,
            lambda row: show_seconds(row.phase_seconds),
            lambda row: row.phase_seconds,
            right=True,
            runs=True,
        ),
        Column(
            "open", 8, lambda row: show_seconds(row.seconds), lambda row: row.seconds, right=True, rank=1, runs=True
        ),
        Column("served", 7, lambda row: str(row.served), lambda row: row.served, right=True),
        Column("in", 7, lambda row: show_size(row.received), lambda row: row.received, right=True, rank=3),
        Column("out", 7, lambda row: show_size(row.sent), lambda row: row.sent, right=True, rank=4),
        Column("tls", 8, lambda row: str((row.tls or {}).get("version", "")), lambda row: str(row.tls), rank=5),
    ),
    lambda snapshot: snapshot.connections,
    "no connection is open",
)
Member = tuple[UpstreamState, MemberState]


def _members(snapshot: Snapshot) -> list[Member]:
    return [(one, member) for one in snapshot.upstreams for member in one.members]


UPSTREAMS = View(
    "upstreams",
    (
        Column("upstream", 12, lambda row: (plain(row[0].name), "bold"), lambda row: row[0].name),
        Column("member", 0, lambda row: plain(row[1].address), lambda row: row[1].address),
        Column("state", 8, lambda row: (row[1].state, "" if row[1].state == "up" else "yellow"),
               lambda row: row[1].state),
        Column("policy", 12, lambda row: row[0].policy, lambda row: row[0].policy, rank=1),
        Column("waiting", 7, lambda row: str(row[0].waiting), lambda row: row[0].waiting, right=True),
        Column("busy", 5, lambda row: str(row[1].in_flight), lambda row: row[1].in_flight, right=True),
        Column("idle", 5, lambda row: str(row[1].idle), lambda row: row[1].idle, right=True),
        Column("open", 5, lambda row: str(row[1].open), lambda row: row[1].open, right=True, rank=3),
        Column("latency", 8, lambda row: show_seconds(row[1].latency) if row[1].latency is not None else "–",
               lambda row: row[1].latency or 0.0, right=True),
        Column("failed", 6, lambda row: (str(row[1].failures), "red" if row[1].failures else ""),
               lambda row: row[1].failures, right=True, rank=2),
        Column("5xx", 5, lambda row: (str(row[1].errors), "red" if row[1].errors else ""),
               lambda row: row[1].errors, right=True, rank=4),
    ),
    _members,
    "this app has no upstreams",
)  # fmt: skip
TRACES = View(
    "traces",
    (
        Column("", 1, lambda row: ("●" if row.marked else "", "magenta"), lambda row: row.marked),
        Column("id", 6, lambda row: (str(row.id), "bright_black"), lambda row: row.id, right=True),
        Column("at", 8, lambda row: (datetime.fromtimestamp(row.at).strftime("%H:%M:%S"), "bright_black"),
               lambda row: row.at, rank=5),
        Column("method", 7, lambda row: (plain(row.method or row.protocol), "bold"), lambda row: row.method, rank=1),
        Column("target", 0, lambda row: readable(row.target if row.method else row.url), lambda row: row.raw_target),
        Column("status", 7, _status, lambda row: row.status, right=True),
        Column("time", 8, lambda row: show_seconds(row.seconds), lambda row: row.seconds, right=True),
        Column("size", 7, lambda row: show_size(row.response.body.size), lambda row: row.response.body.size,
               right=True, rank=2),
        Column("handler", 18, _outcome, lambda row: row.handler, rank=3, grows=True),
        Column("client", 21, lambda row: (row.src, "bright_black"), lambda row: row.src, rank=6),
    ),
    lambda snapshot: (),
    "nothing is recorded yet; exchanges are recorded when they end",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Failed exchanges with the same error at the same place; ``last`` is the newest."""

    id: int
    error: str
    place: str
    count: int
    last: Trace


def error_groups(traces: Sequence[Trace]) -> list[ErrorGroup]:
    """The failed ones of ``traces``, the oldest first, in groups. Digits of an error's text do not count."""
    found: dict[tuple[str, str, str], ErrorGroup] = {}
    for one in traces:
        if not has_failed(one):
            continue
        error = one.error or f"status {one.status}"
        key = (re.sub(r"\d+", "#", error), one.place, one.route)
        before = found.get(key)
        found[key] = ErrorGroup(hash(key), error, one.place, before.count + 1 if before is not None else 1, one)
    return list(found.values())


def has_failed(trace: Trace) -> bool:
    """Whether it is an error of the server: a status of 5xx, a handler that raised, or no whole answer."""
    return trace.status >= 500 or bool(trace.error)


ERRORS = View(
    "errors",
    (
        Column("count", 6, lambda row: (str(row.count), "bold red"), lambda row: row.count, right=True),
        Column("last", 8, lambda row: (datetime.fromtimestamp(row.last.at).strftime("%H:%M:%S"), "bright_black"),
               lambda row: row.last.at),
        Column("error", 0, lambda row: (plain(row.error), "red"), lambda row: row.error),
        Column("place", 20, lambda row: (plain(row.place), "yellow"), lambda row: row.place, grows=True),
        Column("route", 18, lambda row: plain(row.last.route or row.last.target), lambda row: row.last.route, rank=1),
        Column("status", 6, lambda row: _status(row.last), lambda row: row.last.status, right=True, rank=2),
    ),
    lambda snapshot: (),
    "no request has failed",
)  # fmt: skip
#: The tables of a whole snapshot.
TABLES = (EXCHANGES, CONNECTIONS, UPSTREAMS)
#: All tables by name, in the order of their keys in the dashboard.
VIEWS: dict[str, View] = {one.name: one for one in (EXCHANGES, CONNECTIONS, UPSTREAMS, TRACES, HELD, ERRORS)}


def render(snapshot: Snapshot) -> Rows:
    """The table of a snapshot's exchanges."""
    return EXCHANGES.render(snapshot)


#: A suspension and subrequests of the example.
_PAGE: dict[str, Any] = {
    "suspended": Suspension(call="recv", on="10.0.0.9:5432", place="prices.py:41 in price", seconds=0.104),
    "subrequests": (
        SubrequestState(upstream="users", method="GET", target="/u/7?token=abcdef", state="done", status=200,
                        member="http://127.0.0.1:9000", start=0.161, seconds=0.0231),
        SubrequestState(upstream="users", method="GET", target="/ads", state="first byte", status=0,
                        member="http://127.0.0.1:9000", start=0.162, seconds=0.148),
    ),
}  # fmt: skip


def example() -> Snapshot:
    """A snapshot with all kinds of rows."""
    exchanges = [
        ("GET", "/items/7", "handler", 0.012, 0, "item", False),
        ("POST", "/cart?token=abcdef", "handler", 2.4, 0, "cart", True),
        ("GET", "/page/a-rather-long-name-of-a-page-that-needs-more-room", "subrequest", 0.31, 0, "page", False),
        ("GET", "/report.pdf", "response", 12.0, 200, "report", False),
    ]
    rows: list[Any] = []
    for number, (method, target, phase, seconds, status, handler, held) in enumerate(exchanges, 1):
        peer = f"127.0.0.1:{50310 + number}"
        more = _PAGE if handler == "page" else {}
        exchange = ExchangeState(
            id=40 + number, connection=number, server="shop", listener="http", protocol="http", src=peer,
            dst="127.0.0.1:8000", method=method, target=target, host="shop.example", status=status, phase=phase,
            phase_seconds=seconds / 2, seconds=seconds, handler=handler, route=target.partition("?")[0], held=held,
            **more,
        )  # fmt: skip
        rows.append(ConnectionState(
            id=number, peer=peer, listener="http", protocol="http", phase=phase, phase_seconds=seconds / 2,
            seconds=60.0 * number, served=10 * number, received=2_000 * number, sent=900_000 * number, held=held,
            exchanges=(exchange,),
        ))  # fmt: skip
    members = (
        MemberState(address="http://127.0.0.1:9000", in_flight=1, idle=3, open=4, latency=0.0231, errors=2),
        MemberState(address="http://127.0.0.1:9001", in_flight=0, idle=0, open=0, state="ejected", failures=5),
    )
    return Snapshot(
        server="shop", pid=4711, at=1_780_000_000.0, seconds=3725.0, state="running", listeners=(),
        connections=tuple(rows), workers=WorkersState(suspended=1, idle=7),
        upstreams=(UpstreamState(name="users", policy="round-robin", waiting=0, members=members),),
        counters={"accepted": 4, "served": 100, "received": 20_000, "sent": 9_000_000, "spent_us": 1_200_000},
    )  # fmt: skip


if __name__ == "__main__":
    for view in TABLES:
        Console().print(view.render(example()), "")
