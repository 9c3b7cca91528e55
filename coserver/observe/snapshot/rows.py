"""The rows of a snapshot, as frozen values: listener, connection, exchange, suspension, subrequest, upstream.

Times are seconds up to the moment of the snapshot. Each field is in the JSON, except fields with NOT_IN_JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from ...lifecycle.frozen_dataclass import frozen
from ..text import FieldLines, content_of, field_lines

#: Metadata of a field that only filters read.
NOT_IN_JSON = {"json": False}


@frozen
class ListenerState:
    """One listener. ``address`` is host:port, or a socket's path; ``limits`` are the fields of Limits by name."""

    name: str
    protocol: str
    address: str
    connections: int
    accepted: int
    draining: bool
    limits: Mapping[str, Any]


@frozen
class Suspension:
    """A blocking call that a handler waits in.

    ``call`` is its name, ``on`` the socket, lock or file it waits for, ``place`` the file and line in the user's code.
    """

    call: str
    on: str
    place: str
    seconds: float


@frozen
class SubrequestState:
    """One request to an upstream.

    ``state`` is "wait" (for a connection), "connect", "send", "first byte", "body", "done", "failed" or "cancelled".
    ``member`` is the address of the last member that was asked, "" before the first. The subrequest began ``start``
    seconds after its exchange; it took ``seconds``, or has taken them so far.
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
    """One exchange under way, and the subject of filters. Fields and bodies are not in its JSON.

    ``handler`` is "" until a route is found. ``phase_seconds`` counts from the begin of ``phase``; for a suspended
    handler, from the begin of the handler.
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
        """The whole URL of the request."""
        return url_of(self, self.target)

    @property
    def upstreams(self) -> Sequence[str]:
        """The names of its subrequests' upstreams, one for each subrequest."""
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
    """One open connection. ``received`` and ``sent`` are bytes; ``tls`` says what the handshake agreed on.

    ``exchanges`` are those under way: HTTP/1 and TCP carry one at a time. ``phase`` is then the phase of that exchange,
    else the connection's own.
    """

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
    exchanges: tuple[ExchangeState, ...] = ()

    @property
    def exchange(self) -> ExchangeState | None:
        """The first of ``exchanges``, None without any. Deprecated: use ``exchanges``."""
        from ...deprecated import deprecated

        deprecated("ConnectionState.exchange", "ConnectionState.exchanges")
        return self.exchanges[0] if self.exchanges else None


@frozen
class MemberState:
    """One member of an upstream. It has ``open`` connections, ``idle`` ones among them.

    ``state`` is "up", "ejected" (after failed requests), "failing" (health checks fail) or "draining". ``failures``
    counts attempts without an answer, ``errors`` answers of 5xx. ``latency`` is the recent time to an answer's first
    byte in seconds, None before the first answer.
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
    """One upstream. ``waiting`` is the number of requests in the queue for a connection."""

    name: str
    policy: str
    waiting: int
    members: tuple[MemberState, ...]


@frozen
class WorkersState:
    """The number of worker greenlets, which run blocking handlers.

    ``suspended`` wait in a blocking call; ``idle`` are kept for the next request; ``parked`` did not end when they were
    cancelled and stay for good (of the whole process).
    """

    suspended: int = 0
    idle: int = 0
    parked: int = 0


def url_of(of: _HasUrl, target: str) -> str:
    """The URL of a request as one text. A target in absolute form is the URL already."""
    if of.protocol != "http":
        return f"{'tls' if of.secure else of.protocol}://{of.listener}"
    return f"http{'s' if of.secure else ''}://{of.host}{target}" if target.startswith("/") else target


class _HasUrl(Protocol):
    """An exchange or a trace."""

    @property
    def protocol(self) -> str: ...
    @property
    def secure(self) -> bool: ...
    @property
    def host(self) -> str: ...
    @property
    def listener(self) -> str: ...
