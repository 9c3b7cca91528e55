"""A frozen picture of one server: its listeners, connections, what they are doing, its upstreams and its counters.

Times are seconds: ``at`` since 1970, everything else a length up to ``at``. Pictures are values: they may be kept, sent
as JSON and read back. How one is taken of a live server stands in ``taking``, its rows in ``states``.
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
from . import json_rows as rows
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

#: Rows made in one go: half a millisecond, after which other threads have their turn.
CHUNK = 300
#: What lets another thread have the interpreter: a release alone would be taken back before the other wakes.
BREATH = 20e-6


@frozen
class Snapshot:
    """``counters`` are whole numbers since the start; ``pid`` is the process that serves."""

    server: str
    pid: int
    at: float
    seconds: float
    state: str
    listeners: tuple[ListenerState, ...]
    connections: tuple[ConnectionState, ...]
    upstreams: tuple[UpstreamState, ...] = ()
    workers: WorkersState = WorkersState()
    counters: Mapping[str, int]

    def __repr__(self) -> str:
        busy = sum(one.exchange is not None for one in self.connections)
        return f"<Snapshot of {self.server!r}, {self.state}: {len(self.connections)} connections, {busy} exchanges>"

    @property
    def exchanges(self) -> list[ExchangeState]:
        """What is under way now."""
        return [one.exchange for one in self.connections if one.exchange is not None]

    def filter(self, expression: str | Filter) -> list[ExchangeState]:
        """The exchanges that match. Raises FilterError."""
        matches = parse(expression).matches
        return [one for one in self.exchanges if matches(one)]

    def only(self, expression: str | Filter) -> Snapshot:
        """The same picture with no other connections than those whose exchange matches. Raises FilterError."""
        matches = parse(expression).matches
        kept = [one for one in self.connections if one.exchange is not None and matches(one.exchange)]
        return replace(self, connections=tuple(kept))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON."""
        found: dict[str, Any] = json.loads(self.to_json())
        return found

    def to_json(self) -> str:
        """One JSON object. Other threads have their turn between two parts: this may take 10 ms for 5,000 rows."""
        head = {"server": self.server, "pid": self.pid, "at": self.at, "seconds": round(self.seconds, 6),
                "state": self.state, "counters": dict(self.counters)}  # fmt: skip
        parts = [
            json.dumps(head)[:-1],
            f'"listeners": {rows.list_json(rows.write_listener, self.listeners)}',
            f'"upstreams": {rows.list_json(rows.write_upstream, self.upstreams)}',
            f'"workers": {rows.write_workers(self.workers)}',
            f'"connections": [{", ".join(self._rows())}]}}',
        ]
        return ", ".join(parts)

    @classmethod
    def from_json(cls, text: str | bytes) -> Snapshot:
        """What ``to_json`` wrote. Raises ValueError for what is none; names that are not known are passed over."""
        with collector_paused():
            return from_dict(json.loads(text))

    def _rows(self) -> Iterator[str]:
        for begin in range(0, len(self.connections), CHUNK):
            if begin:
                sleep(BREATH)
            for row in self.connections[begin : begin + CHUNK]:
                yield rows.write_connection(row)


def from_dict(given: Mapping[str, Any]) -> Snapshot:
    """Raises ValueError, which names what is missing or of the wrong kind."""
    try:
        return Snapshot(
            **{name: given[name] for name in ("server", "pid", "at", "seconds", "state")},
            listeners=tuple([rows.read_listener(one) for one in given["listeners"]]),
            connections=tuple([rows.read_connection(one) for one in given["connections"]]),
            upstreams=tuple([rows.read_upstream(one) for one in given.get("upstreams", ())]),
            workers=rows.read_workers(given.get("workers", {})),
            counters=given.get("counters", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no snapshot of coserver's: {error!r}") from error


@contextmanager
def collector_paused() -> Iterator[None]:
    """Many thousand new objects would call for a full collection, which in a process of 5,000 connections stops all
    threads for 80 ms; none of these is part of a cycle.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
