"""Every number that a server holds its clients to, each with unit, default, reason and precedent.

The command line's flags, the configuration's keys and the docs' table are made from these fields: a new option is a new
field here and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

from ..field import KiB, MiB, check_limits, limit
from ..protocol.http1 import HeadLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server takes from clients, and how long it waits for them. Raises ValueError, TypeError for nonsense."""

    # A server that accepts no connection, or no head, is a mistake (least=1). No body and no waiting may be meant.
    head_size: int = limit(
        32 * KiB,
        "bytes",
        "request line and fields together; nginx 32 KiB, h11 16 KiB. Cookies fill it first. Beyond: 431",
        least=1,
    )
    head_fields: int = limit(
        100, "fields", "field lines of a head; browsers send 20, proxies add 10; Apache 100. Beyond: 431", least=1
    )
    target_size: int = limit(
        8 * KiB, "bytes", "the request target; RFC 9112 asks for 8,000 at least. Beyond: 414", least=1
    )
    trailer_size: int = limit(8 * KiB, "bytes", "the trailer of a chunked request; as nginx. Beyond: 431")
    extension_size: int = limit(
        16 * KiB, "bytes", "of chunk extensions in one body; nobody uses them, Go 16 KiB. A line has 4 KiB. Beyond: 400"
    )
    body_size: int = limit(
        100 * MiB, "bytes", "a request's body; an upload's size that fills no disk at once. Beyond: 413", route=True
    )
    body_buffer: int = limit(
        1 * MiB, "bytes", "a body's part kept in memory; the rest goes to a temporary file, as in nginx", route=True
    )
    body_memory: int = limit(
        64 * MiB,
        "bytes",
        "of unfinished bodies in memory, all connections together; beyond it they wait in temporary files. A thousand "
        "slow uploads would take 1 GiB",
    )
    form_fields: int = limit(
        1000,
        "fields",
        "of one form, or parameters of one query (400); each costs 40 µs. Django, PHP 1000. Beyond: 413",
        route=True,
    )
    form_text: int = limit(
        1 * MiB,
        "bytes",
        "of a form's text and part heads, kept in memory; files do not count. Django 2.5 MB, werkzeug 0.5. Beyond: 413",
        route=True,
    )
    drain_size: int = limit(
        64 * KiB,
        "bytes",
        "of an unread body, read and thrown away to keep the connection; above it, it is closed. Go 256 KiB",
        route=True,
    )
    frame_size: int = limit(16 * MiB, "bytes", "one message of a TCP framing; a length field may claim 2 GiB", least=1)
    max_connections: int = limit(
        10_000,
        "connections",
        "open at once; above it clients wait in the backlog. 5 to 10 KB each, so 100 MB. nginx 512 a worker",
        least=1,
    )
    requests_per_connection: int = limit(
        0,
        "requests",
        "of one connection, the last one answered with close; 0: no end to them. Behind a balancer a number spreads "
        "long connections anew; nginx 1000",
    )
    head_timeout: float = limit(
        10.0, "seconds", "for the whole head, however it trickles; Apache 20, nginx 60. Then 408"
    )
    handshake_timeout: float = limit(
        10.0, "seconds", "for the TLS handshake, before the head's own time begins; nginx 60. Then closed"
    )
    body_timeout: float = limit(
        30.0,
        "seconds",
        "of patience with a body: waiting uses it up, what comes restores it; nginx 60. Then 408",
        route=True,
    )
    body_rate: int = limit(
        240,
        "bytes a second",
        "of a body restore a second of that patience, so that a trickle uses it up; 0: any byte restores it all. "
        "Kestrel 240, Apache 500. Then 408",
        route=True,
    )
    handler_timeout: float = limit(
        math.inf,
        "seconds",
        "from a handler's start to its return; off, since only the author knows. gunicorn 30. Then 503",
        route=True,
    )
    write_timeout: float = limit(
        30.0,
        "seconds",
        "of patience with a client that does not read: waiting uses it up, what it reads restores it; nginx 60. "
        "Then reset",
        route=True,
    )
    write_rate: int = limit(
        240,
        "bytes a second",
        "read by the client restore a second of that patience; 0: any byte restores it all. Kestrel 240. Then reset",
        route=True,
    )
    idle_timeout: float = limit(75.0, "seconds", "between two requests of a connection; as nginx. Then closed")
    linger_timeout: float = limit(
        2.0, "seconds", "to read away what a refused client still sends, that it may read the answer; nginx 5"
    )
    cleanup_timeout: float = limit(
        5.0,
        "seconds",
        "for the finally blocks of a blocking handler, or of a response stream, that was cancelled",
        route=True,
    )
    after_tasks: int = limit(
        1000, "tasks", "work after responses, under way at once; above it a connection does its own before it reads on"
    )
    grace: float = limit(
        10.0, "seconds", "for running exchanges to end when the server stops; Kubernetes kills after 30"
    )
    on_half_close: Literal["cancel", "answer"] = limit(
        "cancel",
        "",
        "what a client's FIN means while its handler runs: it left, or it waits for the answer",
        route=True,
    )

    def __post_init__(self) -> None:
        check_limits(self)
        if self.on_half_close not in ("cancel", "answer"):
            raise ValueError(f"on_half_close must be 'cancel' or 'answer'; got {self.on_half_close!r}")

    @property
    def head(self) -> HeadLimits:
        """The part that the protocol floor keeps."""
        return HeadLimits(self.head_size, self.head_fields, self.target_size, self.trailer_size, self.extension_size)


class RouteLimits:
    """The limits of one route: fields of Limits that mean one exchange, in the place of the listener's.

    Raises TypeError for a name that is none of them, and what Limits raises for a value.
    """

    __slots__ = ("changes",)

    def __init__(self, changes: Mapping[str, Any]) -> None:
        for name in changes:
            if name not in ROUTE_LIMITS:
                what = "means a whole connection, so no route has its own" if name in _ALL else "is no limit"
                raise TypeError(f"{name!r} {what}; a route may have {', '.join(ROUTE_LIMITS)}")
        Limits(**changes)
        self.changes = tuple(changes.items())

    def __repr__(self) -> str:
        return f"RouteLimits({dict(self.changes)})"


_ALL = tuple(each.name for each in fields(Limits))
#: Those that a route may have of its own.
ROUTE_LIMITS = tuple(each.name for each in fields(Limits) if each.metadata["route"])


@lru_cache(maxsize=256)  # routes times listeners; a route defined anew in a notebook is forgotten in time
def limits_of(route: RouteLimits, listener: Limits) -> Limits:
    """What holds for a route's exchanges on a listener."""
    return replace(listener, **dict(route.changes))
