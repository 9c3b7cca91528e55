"""Every number that an upstream is held to, each with unit, default, reason and precedent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..field import KiB, MiB, check_limits, limit
from ..protocol.http1_client import ResponseLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """Connections, patience and sizes for one upstream. Raises ValueError, TypeError for nonsense."""

    max_connections: int = limit(
        100,
        "connections",
        "to each member, at once; above it requests wait in line. aiohttp 100, httpx 100 in all",
        least=1,
    )
    waiting: int = limit(
        1000, "requests", "that wait for a connection; above it UpstreamBusy at once: a longer line only makes all late"
    )
    idle_timeout: float = limit(
        60.0, "seconds", "an unused connection is kept; below nginx's 75. A member's own Keep-Alive shortens it"
    )
    connection_requests: int = limit(
        0, "requests", "on one connection, then it is closed; 0: no end. nginx's upstream keepalive 1000"
    )
    connection_age: float = limit(
        math.inf, "seconds", "of one connection, then it is closed; off. resolve_interval follows names that move"
    )
    resolve_interval: float = limit(
        30.0,
        "seconds",
        "between two look-ups of a member's name; CoreDNS lets answers live 30. 0: not again, once it is known",
    )
    pool_timeout: float = limit(10.0, "seconds", "in line for a connection. Then UpstreamBusy")
    connect_timeout: float = limit(5.0, "seconds", "to connect, with one lost SYN repeated twice; nginx 60, httpx 5")
    tls_timeout: float = limit(5.0, "seconds", "for the TLS handshake")
    send_timeout: float = limit(30.0, "seconds", "without progress while the member does not read; nginx 60")
    first_byte_timeout: float = limit(30.0, "seconds", "from the request's last byte to the answer's first; nginx 60")
    between_timeout: float = limit(30.0, "seconds", "between two pieces of an answer; nginx 60")
    take_timeout: float = limit(
        120.0, "seconds", "that a streamed answer waits for whoever takes its body; a forgotten one must not stay open"
    )
    total_timeout: float = limit(
        60.0, "seconds", "for the whole, from the call to the answer's last byte; a streamed body is not counted"
    )
    eject_failures: int = limit(
        5, "failures", "without an answer in eject_window, then a member is left alone; 0: never. Envoy 5, nginx 1"
    )
    eject_errors: int = limit(
        0, "answers", "of 5xx in eject_window that do the same; off, for a status may be the request's fault, as nginx"
    )
    eject_window: float = limit(10.0, "seconds", "in which failures are counted; nginx's fail_timeout 10")
    eject_time: float = limit(
        10.0, "seconds", "that a member is left alone, then twice as long each time until it answers; Envoy 30"
    )
    eject_time_max: float = limit(300.0, "seconds", "that it is left alone at most; Envoy 300")
    check_path: str = limit("", "", "a path that each member is asked for from time to time; none: no checks")
    check_interval: float = limit(5.0, "seconds", "between two checks; Envoy and HAProxy 2 to 10")
    check_timeout: float = limit(2.0, "seconds", "for the whole answer to a check")
    check_status: int = limit(200, "", "the status of a member that is well")
    check_failures: int = limit(
        2, "checks", "failed in a row, then it is not asked; one that succeeds brings it back", least=1
    )
    retries: int = limit(
        1, "attempts", "more after one that failed, of what may be repeated; at another member if there is one. Envoy 1"
    )
    retry_budget: int = limit(
        20, "percent", "of the requests under way may be second attempts, 3 always: a retry storm kills. Envoy 20"
    )
    retry_backoff: float = limit(
        0.025, "seconds", "before a member is asked again, twice as long each time, less up to a half; Envoy 0.025"
    )
    retry_backoff_max: float = limit(0.25, "seconds", "before a member is asked again at most; Envoy 0.25")
    hedge_percentile: int = limit(
        0, "percent", "of the answers come sooner: what takes longer has a second attempt. 95, say; 0: never", most=99
    )
    head_size: int = limit(
        64 * KiB, "bytes", "an answer's status line and fields; twice what a request may have", least=1
    )
    head_fields: int = limit(200, "fields", "field lines of an answer's head", least=1)
    trailer_size: int = limit(8 * KiB, "bytes", "the trailer of a chunked answer; as nginx")
    body_size: int = limit(100 * MiB, "bytes", "an answer's body, which is in memory; beyond it, ask with stream=True")
    depth: int = limit(8, "levels", "of subrequests that have subrequests, servers counted together. Then 508", least=1)

    def __post_init__(self) -> None:
        check_limits(self)
        _check_path(self.check_path)

    @property
    def response(self) -> ResponseLimits:
        """The part that the protocol floor keeps."""
        return ResponseLimits(self.head_size, self.head_fields, self.trailer_size)


def _check_path(path: Any) -> None:
    if not isinstance(path, str):
        raise TypeError(f"check_path must be a path, '/health'; got {path!r}")
    if path and not path.startswith("/"):
        raise ValueError(f"check_path begins with '/', as in '/health'; got {path!r}")
