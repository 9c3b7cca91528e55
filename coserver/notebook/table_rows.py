"""The rows of the live table (running and finished requests in one, connections, upstreams), and their changes.

The columns are those of ``views.live``. A cell is ``[text, style, key]``. A growing time is sent once, as its start;
the page counts from it, so it is no change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..observe.filters import EVERYTHING, Filter
from ..observe.snapshot.snapshot import ConnectionState, ExchangeState, Snapshot
from ..observe.trace.trace import Trace
from ..views.columns import Column, View
from ..views.live import CONNECTIONS, EXCHANGES, TRACES, UPSTREAMS

#: Rows of a table that are sent; of the rest only the number. A page keeps all of them, and draws the visible ones.
MOST = 500
#: Seconds by which a computed start may differ and still counts as the same.
_SAME = 0.1

Cells = list[Any]
Table = dict[str, Cells]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading. ``width`` is in characters; 0 takes the rest."""

    name: str
    width: int
    right: bool


def _own(column: Column) -> Heading:
    return Heading(column.heading, column.width, column.right)


#: Cells of a finished request in the columns of a running one; it has a phase only if it is incomplete.
_OF_TRACE: dict[str, Column] = {
    **{column.heading: column for column in TRACES.columns},
    "phase": Column("phase", 0, lambda row: ("" if row.phase == "recycle" else row.phase, "red"), lambda row: ""),
    "doing": next(column for column in TRACES.columns if column.heading == "handler"),
}
#: Headings by table, in the order of the tabs.
HEADINGS: dict[str, tuple[Heading, ...]] = {
    "requests": tuple(map(_own, EXCHANGES.columns)),
    "connections": tuple(map(_own, CONNECTIONS.columns)),
    "upstreams": tuple(map(_own, UPSTREAMS.columns)),
}


@dataclass(slots=True)
class TablePicture:
    """The tables at one moment; ``more`` is the number of rows of each table that are not sent."""

    tables: dict[str, Table]
    more: dict[str, int]
    about: dict[str, Any]

    def since(self, before: TablePicture | None) -> dict[str, Any] | None:
        """The changes since ``before``, or everything if ``before`` is None; None without changes."""
        if before is None:
            return {"tables": self.tables, "more": self.more, "about": self.about, "whole": True}
        put: dict[str, Table] = {}
        gone: dict[str, list[str]] = {}
        for name, table in self.tables.items():
            old = before.tables.get(name, {})
            changed = {key: cells for key, cells in table.items() if old.get(key) != cells}
            if changed:
                put[name] = changed
            left = [key for key in old if key not in table]
            if left:
                gone[name] = left
        if not put and not gone and self.more == before.more and self.about == before.about:
            return None
        return {"put": put, "gone": gone, "more": self.more, "about": self.about}


class TableDrawer:
    """Draws the tables of one server, again and again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Any, Cells]] = {}  # the data of a row, and its cells
        self._drawn: dict[tuple[str, str], tuple[Any, Cells]] = {}

    def draw(self, snapshot: Snapshot, over: Sequence[tuple[str, Cells]], wanted: Filter = EVERYTHING) -> TablePicture:
        """Draw a snapshot. ``over`` has the rows of finished, matching requests, the newest last."""
        self._drawn = {}
        busy = [one for one in snapshot.exchanges if wanted.matches(one)]
        requests: Table = {}
        for one in busy[:MOST]:
            requests[str(one.id)] = self._row(("requests", str(one.id)), EXCHANGES, one, snapshot.at)
        shown = over[-(MOST - len(requests)) :] if len(requests) < MOST else ()
        requests |= {key: cells for key, cells in shown if key not in requests}
        ids = {one.connection for one in busy}
        linked = [one for one in snapshot.connections if wanted is EVERYTHING or one.id in ids]
        connections: Table = {}
        for link in linked[:MOST]:
            connections[str(link.id)] = self._row(("connections", str(link.id)), CONNECTIONS, link, snapshot.at)
        upstreams: Table = {}
        for at, member in enumerate(UPSTREAMS.rows(snapshot)[:MOST]):
            upstreams[str(at)] = self._row(("upstreams", str(at)), UPSTREAMS, member, snapshot.at)
        self._known = self._drawn
        return TablePicture(
            {"requests": requests, "connections": connections, "upstreams": upstreams},
            {"requests": max(len(busy) + len(over) - len(requests), 0), "connections": len(linked) - len(connections)},
            _about(snapshot),
        )

    def _row(self, key: tuple[str, str], view: View, row: Any, now: float) -> Cells:
        """The cells of a row; the last drawing's cells if the data is the same."""
        made_of = _MADE_OF[key[0]](row)
        known = self._known.get(key)
        if known is None or known[0] != made_of:
            before = known[1] if known is not None else [None] * len(view.columns)
            known = (
                made_of,
                [
                    _moment(before[at], now - column.key(row)) if column.runs else _cell(column, row)
                    for at, column in enumerate(view.columns)
                ],
            )
        self._drawn[key] = known
        return known[1]


def _of_exchange(row: ExchangeState) -> Any:
    waits = row.suspended
    return (
        row.phase, row.held, row.status, row.handler, row.target,
        waits and (waits.call, waits.on, waits.place),
        [(one.upstream, one.target, one.state) for one in row.subrequests],
    )  # fmt: skip


def _of_connection(row: ConnectionState) -> Any:
    return row.phase, row.held, row.served, row.received, row.sent, row.tls is None


#: By table: the data of a row, without growing times. Most rows do not change within a fifth of a second.
_MADE_OF: dict[str, Callable[[Any], Any]] = {
    "requests": _of_exchange,
    "connections": _of_connection,
    "upstreams": lambda row: row,
}


def _moment(known: Cells | None, began: float) -> Cells:
    return known if known is not None and abs(known[0] - began) < _SAME else [round(began, 3)]


def trace_cells(trace: Trace) -> Cells:
    """The row of a finished request."""
    return [_cell(_OF_TRACE[heading.name], trace) for heading in HEADINGS["requests"]]


def find_exchange(snapshot: Snapshot, key: str) -> ExchangeState | None:
    """The running exchange with a row's key."""
    return next((one for one in snapshot.exchanges if str(one.id) == key), None)


def _cell(column: Column, row: Any) -> Cells:
    cell = column.cell(row)
    text, style = (cell, "") if isinstance(cell, str) else cell
    if column.right:
        return [text, style, column.key(row)]
    return [text, style] if style else [text]


def _about(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "server": snapshot.server,
        "state": snapshot.state,
        "served": snapshot.counters.get("served", 0),
        "open": len(snapshot.connections),
    }


def describe() -> dict[str, list[dict[str, Any]]]:
    """The columns of all tables, for the page."""
    return {name: [asdict(one) for one in columns] for name, columns in HEADINGS.items()}
