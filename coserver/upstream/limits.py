"""The limits of an upstream. Each has a unit, a default, a reason and a precedent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..field import KiB, MiB, check_limits, limit
from ..keywords import checked_fields
from ..protocol.http1_client import ResponseLimits


@checked_fields("UpstreamLimits")
@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """The connections, times and sizes of one upstream.

    Raises ValueError for a value out of range, TypeError for a value of the wrong type.
    """

    max_connections: int = limit(
        100,
        "connections",
        "the connections to each member at once; beyond it, requests wait in line; aiohttp 100, httpx 100 in all",
        least=1,
    )
    waiting: int = limit(
        1000,
        "requests",
        "the requests that wait for a connection; beyond it UpstreamBusy at once, since a longer line makes all "
        "requests late",
    )
    idle_timeout: float = limit(
        60.0,
        "seconds",
        "the time that an unused connection is kept; below nginx's 75. A member's own Keep-Alive shortens it",
    )
    connection_requests: int = limit(
        0,
        "requests",
        "the requests on one connection, which is then closed; 0: no limit. nginx's upstream keepalive 1000",
    )
    connection_age: float = limit(
        math.inf,
        "seconds",
        "the age at which a connection is closed; off: resolve_interval already follows names whose addresses change",
    )
    resolve_interval: float = limit(
        30.0,
        "seconds",
        "the time between two look-ups of a member's name; CoreDNS lets answers live 30; 0: no look-up after the "
        "first that succeeds",
    )
    pool_timeout: float = limit(10.0, "seconds", "the time in line for a connection. Then: UpstreamBusy")
    connect_timeout: float = limit(
        5.0, "seconds", "the time to connect, enough to repeat a lost SYN twice; nginx 60, httpx 5"
    )
    tls_timeout: float = limit(5.0, "seconds", "the time for the TLS handshake")
    send_timeout: float = limit(30.0, "seconds", "the time without progress while the member does not read; nginx 60")
    first_byte_timeout: float = limit(
        30.0, "seconds", "the time from the request's last byte to the answer's first; nginx 60"
    )
    between_timeout: float = limit(30.0, "seconds", "the time between two pieces of an answer; nginx 60")
    take_timeout: float = limit(
        120.0,
        "seconds",
        "the time that a streamed answer waits for the reader of its body; a forgotten answer must not stay open",
    )
    total_timeout: float = limit(
        60.0, "seconds", "the time from the call to the answer's last byte; a streamed body does not count"
    )
    eject_failures: int = limit(
        5,
        "failures",
        "the failures within eject_window, requests without an answer, after which a member is left alone; 0: never. "
        "Envoy 5, nginx 1",
    )
    eject_errors: int = limit(
        0,
        "answers",
        "the 5xx answers within eject_window after which a member is left alone; off, since a status may be the "
        "request's fault, as in nginx",
    )
    eject_window: float = limit(10.0, "seconds", "the time in which failures are counted; nginx's fail_timeout 10")
    eject_time: float = limit(
        10.0, "seconds", "the time that a member is left alone, doubled each time until it answers; Envoy 30"
    )
    eject_time_max: float = limit(300.0, "seconds", "the longest time that a member is left alone; Envoy 300")
    check_path: str = limit("", "", "the path that each member is asked for from time to time; none: no checks")
    check_interval: float = limit(5.0, "seconds", "the time between two checks; Envoy and HAProxy 2 to 10")
    check_timeout: float = limit(2.0, "seconds", "the time for the whole answer to a check")
    check_status: int = limit(200, "", "the status of a healthy member's answer to a check")
    check_failures: int = limit(
        2,
        "checks",
        "the failed checks in a row after which a member is not asked; one successful check brings it back",
        least=1,
    )
    retries: int = limit(
        1,
        "attempts",
        "the attempts after a failed one, for a request that may be repeated; at another member if there is one; "
        "Envoy 1",
    )
    retry_budget: int = limit(
        20,
        "percent",
        "the share of the requests under way that may be second attempts, 3 are always allowed; without it a storm of "
        "retries kills; Envoy 20",
    )
    retry_backoff: float = limit(
        0.025,
        "seconds",
        "the time before a member is asked again, doubled each time, less up to a half at random; Envoy 0.025",
    )
    retry_backoff_max: float = limit(0.25, "seconds", "the longest time before a member is asked again; Envoy 0.25")
    hedge_percentile: int = limit(
        0,
        "percent",
        "the share of answers that come before a late request gets a second attempt; 95, for example; 0: never",
        most=99,
    )
    head_size: int = limit(
        64 * KiB, "bytes", "the status line and the fields of an answer; twice the limit of a request", least=1
    )
    head_fields: int = limit(200, "fields", "the field lines of an answer's head", least=1)
    trailer_size: int = limit(8 * KiB, "bytes", "the trailer of a chunked answer; as in nginx")
    body_size: int = limit(
        100 * MiB, "bytes", "the body of an answer, which is in memory; for a larger one ask with stream=True"
    )
    depth: int = limit(
        8, "levels", "the levels of subrequests within subrequests, all servers counted together. Then: 508", least=1
    )

    def __post_init__(self) -> None:
        check_limits(self)
        _check_path(self.check_path)

    @property
    def response(self) -> ResponseLimits:
        """The limits that the response parser checks."""
        return ResponseLimits(self.head_size, self.head_fields, self.trailer_size)


def _check_path(path: Any) -> None:
    if not isinstance(path, str):
        raise TypeError(f"check_path must be a path, '/health'; got {path!r}")
    if path and not path.startswith("/"):
        raise ValueError(f"check_path begins with '/', as in '/health'; got {path!r}")
