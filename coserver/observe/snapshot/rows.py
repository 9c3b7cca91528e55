"""The rows of a snapshot, as frozen values: a listener, a connection, an exchange, what it waits for, an upstream.

Times are seconds up to the moment of the snapshot. Each field is in the JSON, but for those that say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from ...lifecycle.frozen_dataclass import frozen
from ..text import FieldLines, content_of, field_lines

#: Of a field that is for filters alone.
NOT_IN_JSON = {"json": False}


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
    "done", "failed" or "cancelled"; ``member`` is who was asked last, "" before. It began ``start`` seconds after its
    exchange, and took or has taken ``seconds``.
    """

    upstream: str
    method: str
    target: str
    state: str
    member: str
    status: int
    seconds: float
    start: float = 0.0


@frozen
class ExchangeState:
    """One exchange under way. It is what filters ask (see ``subject``); fields and bodies are no part of its JSON.

    ``handler`` is "" until a route is found; ``phase_seconds`` is how long it has been in ``phase``, of a handler that
    waits for something how long it has been in the handler.
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
    raw_fields: FieldLines = field(default=(), repr=False, compare=False, metadata=NOT_IN_JSON)
    raw_answer: bytes = field(default=b"", repr=False, compare=False, metadata=NOT_IN_JSON)
    content: bytes = field(default=b"", repr=False, compare=False, metadata=NOT_IN_JSON)

    @property
    def url(self) -> str:
        """The whole URL that was asked for."""
        return url_of(self, self.target)

    @property
    def upstreams(self) -> Sequence[str]:
        """The names of the upstreams that it has asked, one for each subrequest."""
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
    without an answer, ``errors`` answers of 5xx; ``latency`` is how long the first byte of an answer lately took, None
    before the first.
    """

    address: str
    open: int
    idle: int
    in_flight: int
    state: str = "up"
    failures: int = 0
    errors: int = 0
    latency: float | None = None


@frozen
class UpstreamState:
    """``waiting`` is how many requests stand in line for a connection."""

    name: str
    policy: str
    waiting: int
    members: tuple[MemberState, ...]


@frozen
class WorkersState:
    """The greenlets that run blocking handlers: those that wait in a blocking call, those kept for the next request,
    and those ``parked`` for good because they would not be cancelled (of the whole process).
    """

    suspended: int = 0
    idle: int = 0
    parked: int = 0


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
