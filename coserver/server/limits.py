"""The limits of a server: sizes, rates and timeouts of its clients. Each has a unit, a default, a reason, a precedent.

The flags of the command line, the keys of the configuration and the table in the docs are made from these fields. So a
new limit needs a new field here, and nothing else. A flag's help is the text up to its first semicolon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ..field import KiB, MiB, check_limits, limit
from ..keywords import checked_fields
from ..protocol.http1 import HeadLimits


@checked_fields("Limits", timeout="handler_timeout", keep_alive="idle_timeout", max_body_size="body_size")
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The sizes that a server takes from clients, and the times that it waits for them.

    Raises ValueError for a number out of range, TypeError for a value that is no number.
    """

    # least=1: a server that accepts no connection or no head is a mistake. One that accepts no body may be intended.
    head_size: int = limit(
        32 * KiB,
        "bytes",
        "the largest head: the request line and all headers; cookies fill it first; nginx 32 KiB, h11 16 KiB. Beyond "
        "it: 431",
        least=1,
    )
    head_fields: int = limit(
        100,
        "fields",
        "the most header lines of a request; browsers send 20, proxies add 10; Apache 100. Beyond it: 431",
        least=1,
    )
    target_size: int = limit(
        8 * KiB,
        "bytes",
        "the longest request target, path and query; RFC 9112 asks for at least 8,000 bytes. Beyond it: 414",
        least=1,
    )
    trailer_size: int = limit(
        8 * KiB, "bytes", "the largest trailer of a chunked request; as in nginx. Beyond it: 431"
    )
    extension_size: int = limit(
        16 * KiB,
        "bytes",
        "the most bytes of chunk extensions in one body; nobody uses them; one line may have 4 KiB; Go 16 KiB. Beyond "
        "it: 400",
    )
    body_size: int = limit(
        100 * MiB,
        "bytes",
        "the largest body of a request; one upload of this size does not fill a disk. Beyond it: 413",
        route=True,
    )
    body_buffer: int = limit(
        1 * MiB,
        "bytes",
        "the largest part of a body that is kept in memory; the rest goes to a temporary file, as in nginx",
        route=True,
    )
    body_memory: int = limit(
        64 * MiB,
        "bytes",
        "the most memory for all unfinished bodies together; beyond it they go to temporary files. Without it, a "
        "thousand slow uploads would take 1 GiB",
    )
    form_fields: int = limit(
        1000,
        "fields",
        "the most fields of a form, or parameters of a query; each costs 40 µs; Django and PHP 1000. Beyond it: 413, "
        "for a query 400",
        route=True,
    )
    form_text: int = limit(
        1 * MiB,
        "bytes",
        "the most text of a form, with the heads of its parts, kept in memory; files do not count; Django 2.5 MB, "
        "werkzeug 0.5. Beyond it: 413",
        route=True,
    )
    drain_size: int = limit(
        64 * KiB,
        "bytes",
        "the most bytes of an unread body that are thrown away to keep the connection; beyond it, the connection is "
        "closed; Go 256 KiB",
        route=True,
    )
    frame_size: int = limit(
        16 * MiB, "bytes", "the largest message of a TCP framing; a length field may claim 2 GiB", least=1
    )
    max_connections: int = limit(
        10_000,
        "connections",
        "the most connections that are open at once; beyond it, clients wait in the backlog. One takes 5 to 10 KB, so "
        "all take 100 MB; nginx 512 a worker",
        least=1,
    )
    requests_per_connection: int = limit(
        0,
        "requests",
        "the most requests of one connection, 0 for no limit; the answer to the last one closes it. Behind a balancer "
        "a number spreads long connections again; nginx 1000",
    )
    head_timeout: float = limit(
        10.0, "seconds", "the longest time for the whole head, however fast it comes; Apache 20, nginx 60. Then: 408"
    )
    handshake_timeout: float = limit(
        10.0,
        "seconds",
        "the longest time for the TLS handshake; the time for the head begins after it; nginx 60. Then the connection "
        "is closed",
    )
    body_timeout: float = limit(
        30.0,
        "seconds",
        "the longest total stall while a client sends a body, in which received bytes earn time back (body_rate); "
        "nginx 60. Then: 408",
        route=True,
    )
    body_rate: int = limit(
        240,
        "bytes a second",
        "the bytes of a body that earn back one second of body_timeout, 0 if any byte earns back all; a client that "
        "sends more slowly runs out of time. Kestrel 240, Apache 500. Then: 408",
        route=True,
    )
    handler_timeout: float = limit(
        math.inf,
        "seconds",
        "the longest time from a handler's start to its return; off, since only the author knows it; gunicorn 30. "
        "Then: 503",
        route=True,
    )
    write_timeout: float = limit(
        30.0,
        "seconds",
        "the longest total stall while a client reads an answer, in which bytes that it reads earn time back "
        "(write_rate); nginx 60. Then the connection is reset",
        route=True,
    )
    write_rate: int = limit(
        240,
        "bytes a second",
        "the bytes of an answer that earn back one second of write_timeout, 0 if any byte earns back all; Kestrel 240. "
        "Then the connection is reset",
        route=True,
    )
    idle_timeout: float = limit(
        75.0,
        "seconds",
        "the longest time between two requests of a connection; as in nginx. Then the connection is closed",
    )
    linger_timeout: float = limit(
        2.0,
        "seconds",
        "the longest time to throw away the rest of a refused request, so that the client can read the answer; nginx 5",
    )
    cleanup_timeout: float = limit(
        5.0,
        "seconds",
        "the longest time for the finally blocks of a cancelled blocking handler or response stream",
        route=True,
    )
    after_tasks: int = limit(
        1000,
        "tasks",
        "the most background tasks after responses (request.after) that run at once; beyond it, a connection does its "
        "own before it reads its next request",
    )
    grace: float = limit(
        10.0,
        "seconds",
        "the longest time for running requests to end when the server stops; Kubernetes kills after 30",
    )
    on_half_close: Literal["cancel", "answer"] = limit(
        "cancel",
        "",
        "the meaning of a half-closed connection while a handler runs: cancel, the client has left; answer, the client "
        "waits for its answer",
        route=True,
    )

    def __post_init__(self) -> None:
        check_limits(self)
        if self.on_half_close not in ("cancel", "answer"):
            raise ValueError(f"on_half_close must be 'cancel' or 'answer'; got {self.on_half_close!r}")

    @property
    def head(self) -> HeadLimits:
        """The limits that the HTTP/1 parser checks."""
        return HeadLimits(self.head_size, self.head_fields, self.target_size, self.trailer_size, self.extension_size)


class RouteLimits:
    """The limits of one route: fields of Limits that concern one exchange. They replace the listener's.

    Raises TypeError for any other name, and the errors of Limits for a value.
    """

    __slots__ = ("_made", "changes")

    def __init__(self, changes: Mapping[str, Any]) -> None:
        for name in changes:
            if name not in ROUTE_LIMITS:
                what = "concerns a whole connection, not one exchange" if name in _ALL else "is no limit"
                raise TypeError(f"{name!r} {what}; a route may set {', '.join(ROUTE_LIMITS)}")
        Limits(**changes)
        self.changes = tuple(changes.items())
        #: The last limits made of these, and the listener's that they were made of. A server has few listeners.
        self._made: dict[int, tuple[Limits, Limits]] = {}

    def __reduce__(self) -> Any:
        return RouteLimits, (dict(self.changes),)

    def __repr__(self) -> str:
        return f"RouteLimits({dict(self.changes)})"


#: The most listeners whose limits a route keeps: more than a server has.
_LISTENERS_MAX = 64
_ALL = tuple(each.name for each in fields(Limits))
#: The limits that a route may set.
ROUTE_LIMITS = tuple(each.name for each in fields(Limits) if each.metadata["route"])


def limits_of(route: RouteLimits, listener: Limits) -> Limits:
    """The limits of a route's exchanges on a listener, made once for each listener."""
    made = route._made
    found = made.get(id(listener))
    if found is None or found[0] is not listener:  # another may have got the number of one that is gone
        equal = next((limits for other, limits in list(made.values()) if other == listener), None)
        if len(made) >= _LISTENERS_MAX:  # the listeners of servers that ended
            made.clear()
        found = made[id(listener)] = (listener, equal or replace(listener, **dict(route.changes)))
    return found[1]
