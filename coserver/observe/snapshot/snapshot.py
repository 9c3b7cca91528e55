"""A frozen picture of one server: listeners, connections, exchanges, upstreams, counters.

Times are seconds: ``at`` since 1970, every other time a duration up to ``at``. Snapshots are values: they may be kept,
sent as JSON, and read back.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import sleep
from typing import Any

from ...lifecycle.frozen_dataclass import frozen
from ..filters import Filter, parse
from . import json_rows
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

__all__ = [
    "BREATH",
    "CHUNK",
    "ConnectionState",
    "ExchangeState",
    "ListenerState",
    "MemberState",
    "Snapshot",
    "SubrequestState",
    "Suspension",
    "UpstreamState",
    "WorkersState",
    "collector_paused",
]

#: Rows made without a pause, in half a millisecond; then other threads run.
CHUNK = 300
#: Seconds of a pause. A mere release of the interpreter would be taken back before another thread wakes.
BREATH = 20e-6


@frozen
class Snapshot:
    """One server at one moment.

    ``state`` is "running", "draining" or "stopped"; ``pid`` is the server's process; ``counters`` are whole numbers
    since the start. ``stands`` is the seconds for which the event loop has stood still, 0.0 if it does not, and
    ``stands_at`` the user's line, "shop.py:15 in read".
    """

    server: str
    pid: int
    at: float
    seconds: float
    state: str
    listeners: tuple[ListenerState, ...]
    connections: tuple[ConnectionState, ...]
    upstreams: tuple[UpstreamState, ...] = ()
    workers: WorkersState = WorkersState()
    stands: float = 0.0
    stands_at: str = ""
    counters: Mapping[str, int]

    def __repr__(self) -> str:
        busy = sum(len(one.exchanges) for one in self.connections)
        return f"<Snapshot of {self.server!r}, {self.state}: {len(self.connections)} connections, {busy} exchanges>"

    @property
    def exchanges(self) -> list[ExchangeState]:
        """The exchanges under way."""
        return [exchange for one in self.connections for exchange in one.exchanges]

    def filter(self, expression: str | Filter) -> list[ExchangeState]:
        """The exchanges that match. Raises FilterError."""
        matches = parse(expression).matches
        return [one for one in self.exchanges if matches(one)]

    def only(self, expression: str | Filter) -> Snapshot:
        """This snapshot, with only the connections whose exchange matches. Raises FilterError."""
        matches = parse(expression).matches
        kept = [one for one in self.connections if any(matches(exchange) for exchange in one.exchanges)]
        return replace(self, connections=tuple(kept))

    def as_dict(self) -> dict[str, Any]:
        """The snapshot as plain values, as in its JSON."""
        found: dict[str, Any] = json.loads(self.to_json())
        return found

    def to_json(self) -> str:
        """Write one JSON object. 5,000 rows may take 10 ms; it sleeps between parts, so that other threads run."""
        head = {"server": self.server, "pid": self.pid, "at": self.at, "seconds": round(self.seconds, 6),
                "state": self.state, "stands": round(self.stands, 3), "stands_at": self.stands_at,
                "counters": dict(self.counters)}  # fmt: skip
        parts = [
            json.dumps(head)[:-1],
            f'"listeners": {json_rows.list_json(json_rows.write_listener, self.listeners)}',
            f'"upstreams": {json_rows.list_json(json_rows.write_upstream, self.upstreams)}',
            f'"workers": {json_rows.write_workers(self.workers)}',
            f'"connections": [{", ".join(self._rows())}]}}',
        ]
        return ", ".join(parts)

    @classmethod
    def from_json(cls, text: str | bytes) -> Snapshot:
        """Read the text that ``to_json`` wrote. Unknown names are ignored. Raises ValueError for any other text."""
        with collector_paused():
            return from_dict(json.loads(text))

    def _rows(self) -> Iterator[str]:
        for begin in range(0, len(self.connections), CHUNK):
            if begin:
                sleep(BREATH)
            for row in self.connections[begin : begin + CHUNK]:
                yield json_rows.write_connection(row)


def from_dict(given: Mapping[str, Any]) -> Snapshot:
    """Make a Snapshot of plain values. Raises ValueError, which names a missing or wrong value."""
    try:
        return Snapshot(
            **{name: given[name] for name in ("server", "pid", "at", "seconds", "state")},
            listeners=tuple([json_rows.read_listener(one) for one in given["listeners"]]),
            connections=tuple([json_rows.read_connection(one) for one in given["connections"]]),
            upstreams=tuple([json_rows.read_upstream(one) for one in given.get("upstreams", ())]),
            workers=json_rows.read_workers(given.get("workers", {})),
            stands=given.get("stands", 0.0),
            stands_at=given.get("stands_at", ""),
            counters=given.get("counters", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not a snapshot of coserver: {error!r}") from error


@contextmanager
def collector_paused() -> Iterator[None]:
    """Turn the garbage collector off for a block that makes many thousand objects, none in a cycle.

    They would start a full collection, which stops all threads for 80 ms in a process of 5,000 connections.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
