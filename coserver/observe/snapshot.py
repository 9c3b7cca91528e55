"""A frozen picture of one server: its listeners, connections, what they are doing, its upstreams and its counters.

Times are seconds: ``at`` since 1970, everything else a length up to ``at``. Pictures are values: they may be kept, sent
as JSON and read back. How one is taken of a live server stands in ``taking``.
"""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, fields
from operator import attrgetter
from time import sleep
from typing import Any, Protocol

from ..lifecycle.frozen import frozen
from .filters import Filter, parse
from .heads import FieldLines, content_of, field_lines

#: Rows made in one go: half a millisecond, after which other threads have their turn.
CHUNK = 150
#: What lets another thread have the interpreter: a release alone would be taken back before the other wakes.
BREATH = 20e-6


@frozen
class ListenerState:
    """``address`` is host:port or a socket's path; ``limits`` are those of Limits, by name."""

    name: str
    protocol: str
    address: str
    connections: int
    accepted: int
    draining: bool
    limits: Mapping[str, Any]


@frozen
class Suspension:
    """A blocking call that a handler waits in: which, on what, and where in the user's code it stands."""

    call: str
    on: str
    place: str
    seconds: float


@frozen
class SubrequestState:
    """One request to an upstream. ``state`` is "wait" (for a connection), "connect", "send", "first byte", "body",
    "done", "failed" or "cancelled"; ``member`` is who was asked last, "" before.
    """

    upstream: str
    method: str
    target: str
    state: str
    member: str
    status: int
    seconds: float


@frozen
class ExchangeState:
    """One exchange under way. It is what filters ask (see ``subject``); fields and bodies are no part of its JSON.

    ``handler`` is "" until a route is found; ``phase_seconds`` is how long it has been in ``phase``.
    """

    id: int
    connection: int
    server: str
    listener: str
    protocol: str
    src: str
    dst: str
    method: str
    target: str
    host: str
    status: int
    phase: str
    phase_seconds: float
    seconds: float
    handler: str
    route: str
    secure: bool = False
    held: bool = False
    marked: bool = False
    error: str = ""
    request_size: int = 0
    response_size: int = 0
    suspended: Suspension | None = None
    subrequests: tuple[SubrequestState, ...] = ()
    raw_fields: FieldLines = field(default=(), repr=False, compare=False)
    raw_answer: bytes = field(default=b"", repr=False, compare=False)
    content: bytes = field(default=b"", repr=False, compare=False)

    @property
    def url(self) -> str:
        return url_of(self, self.target)

    @property
    def upstreams(self) -> Sequence[str]:
        return [one.upstream for one in self.subrequests]

    def request_lines(self) -> Iterable[str]:
        return field_lines(self.raw_fields)

    def response_lines(self) -> Iterable[str]:
        lines = self.raw_answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        return [line.decode("latin-1") for line in lines]

    def request_content(self) -> bytes:
        return self.content

    def response_content(self) -> bytes:
        return content_of(self.raw_answer)


@frozen
class ConnectionState:
    """One open connection. ``received`` and ``sent`` are bytes; ``tls`` says what was agreed on, None without TLS."""

    id: int
    peer: str
    listener: str
    protocol: str
    phase: str
    phase_seconds: float
    seconds: float
    served: int
    received: int
    sent: int
    held: bool
    tls: Mapping[str, Any] | None = None
    exchange: ExchangeState | None = None


@frozen
class MemberState:
    """One member of an upstream. Of its connections ``open`` are there, of which some are ``idle``.

    ``state`` is "up", "ejected" (it failed), "failing" (its checks do) or "draining"; ``failures`` were attempts
    without an answer, ``errors`` answers of 5xx.
    """

    address: str
    open: int
    idle: int
    in_flight: int
    state: str = "up"
    failures: int = 0
    errors: int = 0


@frozen
class UpstreamState:
    """``waiting`` is how many requests stand in line for a connection."""

    name: str
    policy: str
    waiting: int
    members: tuple[MemberState, ...]


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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON."""
        return {**self._head(), "connections": [_connection(one) for one in self.connections]}

    def to_json(self) -> str:
        """One JSON object. Other threads have their turn between two parts: this may take 20 ms for 5,000 rows."""
        head = json.dumps(self._head())
        return f'{head[:-1]}, "connections": [{", ".join(self._rows())}]}}'

    @classmethod
    def from_json(cls, text: str | bytes) -> Snapshot:
        """What ``to_json`` wrote. Raises ValueError for what is none; names that are not known are passed over."""
        return from_dict(json.loads(text))

    def _head(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "pid": self.pid,
            "at": self.at,
            "seconds": round(self.seconds, 6),
            "state": self.state,
            "listeners": [_plain(one) for one in self.listeners],
            "upstreams": [{**_plain(one), "members": [_plain(each) for each in one.members]} for one in self.upstreams],
            "counters": dict(self.counters),
        }

    def _rows(self) -> Iterator[str]:
        encode = json.JSONEncoder().encode
        for begin in range(0, len(self.connections), CHUNK):
            if begin:
                sleep(BREATH)
            yield encode([_connection(one) for one in self.connections[begin : begin + CHUNK]])[1:-1]


def url_of(of: _Asked, target: str) -> str:
    """What was asked for as one text; a target in absolute form says it all by itself."""
    if of.protocol != "http":
        return f"{'tls' if of.secure else of.protocol}://{of.listener}"
    return f"http{'s' if of.secure else ''}://{of.host}{target}" if target.startswith("/") else target


class _Asked(Protocol):
    """What has a URL."""

    @property
    def protocol(self) -> str: ...
    @property
    def secure(self) -> bool: ...
    @property
    def host(self) -> str: ...
    @property
    def listener(self) -> str: ...


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


#: By class, the fields that its JSON has: all that is no nested row and not left out.
_LEFT_OUT = {"raw_fields", "raw_answer", "content", "members", "exchange", "suspended", "subrequests"}
_NAMES: dict[type, tuple[str, ...]] = {
    kind: tuple(each.name for each in fields(kind) if each.name not in _LEFT_OUT)
    for kind in (
        ListenerState, Suspension, SubrequestState, ExchangeState, ConnectionState, MemberState, UpstreamState,
    )
}  # fmt: skip
_GETTERS = {kind: attrgetter(*names) for kind, names in _NAMES.items()}
_DURATIONS = {kind: [name for name in names if name in ("seconds", "phase_seconds")] for kind, names in _NAMES.items()}


def _plain(row: Any) -> dict[str, Any]:
    """Its own fields; durations to the microsecond, infinite limits as none."""
    kind = type(row)
    found = dict(zip(_NAMES[kind], _GETTERS[kind](row), strict=True))
    for name in _DURATIONS[kind]:
        found[name] = round(found[name], 6)
    if kind is ListenerState:
        found["limits"] = {name: None if value == math.inf else value for name, value in row.limits.items()}
    return found


def _connection(row: ConnectionState) -> dict[str, Any]:
    found = _plain(row)
    exchange = row.exchange
    found["exchange"] = None if exchange is None else exchange_dict(exchange)
    return found


def exchange_dict(row: ExchangeState) -> dict[str, Any]:
    """Plain values, as in the JSON of a snapshot."""
    found = _plain(row)
    found["suspended"] = _plain(row.suspended) if row.suspended is not None else None
    found["subrequests"] = [_plain(one) for one in row.subrequests]
    return found


def from_dict(given: Mapping[str, Any]) -> Snapshot:
    """Raises ValueError, which names what is missing or of the wrong kind."""
    try:
        return Snapshot(
            **{name: given[name] for name in ("server", "pid", "at", "seconds", "state")},
            listeners=tuple(_read(ListenerState, one) for one in given["listeners"]),
            connections=tuple(_read_connection(one) for one in given["connections"]),
            upstreams=tuple(_read_upstream(one) for one in given.get("upstreams", ())),
            counters=given.get("counters", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no snapshot of coserver's: {error!r}") from error


def _read(kind: Callable[..., Any], given: Mapping[str, Any], **more: Any) -> Any:
    names = _NAMES[kind]  # type: ignore[index]
    return kind(**{name: given[name] for name in names if name in given}, **more)


def _read_connection(given: Mapping[str, Any]) -> ConnectionState:
    exchange = given.get("exchange")
    state: ConnectionState = _read(ConnectionState, given, exchange=exchange and _read_exchange(exchange))
    return state


def _read_exchange(given: Mapping[str, Any]) -> ExchangeState:
    suspended = given.get("suspended")
    state: ExchangeState = _read(
        ExchangeState,
        given,
        suspended=suspended and _read(Suspension, suspended),
        subrequests=tuple(_read(SubrequestState, one) for one in given.get("subrequests", ())),
    )
    return state


def _read_upstream(given: Mapping[str, Any]) -> UpstreamState:
    state: UpstreamState = _read(
        UpstreamState, given, members=tuple(_read(MemberState, one) for one in given["members"])
    )
    return state
