"""Every number that an upstream is held to, each with unit, default, reason and precedent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from ..protocol.http1_client import ResponseLimits

KiB = 1024
MiB = 1024 * 1024


def _limit(default: Any, unit: str, why: str) -> Any:
    return field(default=default, metadata={"unit": unit, "why": why})


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """Connections, patience and sizes for one upstream. Raises ValueError, TypeError for nonsense."""

    max_connections: int = _limit(
        100, "connections", "to each member, at once; above it requests wait in line. aiohttp 100, httpx 100 in all"
    )
    waiting: int = _limit(
        1000, "requests", "that wait for a connection; above it UpstreamBusy at once: a longer line only makes all late"
    )
    idle_timeout: float = _limit(
        60.0, "seconds", "an unused connection is kept; below nginx's 75. A member's own Keep-Alive shortens it"
    )
    connection_requests: int = _limit(
        0, "requests", "on one connection, then it is closed; 0: no end. nginx's upstream keepalive 1000"
    )
    connection_age: float = _limit(
        math.inf, "seconds", "of one connection, then it is closed; off. resolve_interval follows names that move"
    )
    resolve_interval: float = _limit(
        30.0,
        "seconds",
        "between two look-ups of a member's name; CoreDNS lets answers live 30. 0: not again, once it is known",
    )
    pool_timeout: float = _limit(10.0, "seconds", "in line for a connection. Then UpstreamBusy")
    connect_timeout: float = _limit(5.0, "seconds", "to connect, with one lost SYN repeated twice; nginx 60, httpx 5")
    tls_timeout: float = _limit(5.0, "seconds", "for the TLS handshake")
    send_timeout: float = _limit(30.0, "seconds", "without progress while the member does not read; nginx 60")
    first_byte_timeout: float = _limit(30.0, "seconds", "from the request's last byte to the answer's first; nginx 60")
    between_timeout: float = _limit(30.0, "seconds", "between two pieces of an answer; nginx 60")
    take_timeout: float = _limit(
        120.0, "seconds", "that a streamed answer waits for whoever takes its body; a forgotten one must not stay open"
    )
    total_timeout: float = _limit(
        60.0, "seconds", "for the whole, from the call to the answer's last byte; a streamed body is not counted"
    )
    eject_failures: int = _limit(
        5, "failures", "without an answer in eject_window, then a member is left alone; 0: never. Envoy 5, nginx 1"
    )
    eject_errors: int = _limit(
        0, "answers", "of 5xx in eject_window that do the same; off, for a status may be the request's fault, as nginx"
    )
    eject_window: float = _limit(10.0, "seconds", "in which failures are counted; nginx's fail_timeout 10")
    eject_time: float = _limit(
        10.0, "seconds", "that a member is left alone, then twice as long each time until it answers; Envoy 30"
    )
    eject_time_max: float = _limit(300.0, "seconds", "that it is left alone at most; Envoy 300")
    check_path: str = _limit("", "", "a path that each member is asked for from time to time; none: no checks")
    check_interval: float = _limit(5.0, "seconds", "between two checks; Envoy and HAProxy 2 to 10")
    check_timeout: float = _limit(2.0, "seconds", "for the whole answer to a check")
    check_status: int = _limit(200, "", "the status of a member that is well")
    check_failures: int = _limit(2, "checks", "failed in a row, then it is not asked; one that succeeds brings it back")
    retries: int = _limit(
        1, "attempts", "more after one that failed, of what may be repeated; at another member if there is one. Envoy 1"
    )
    retry_budget: int = _limit(
        20, "percent", "of the requests under way may be second attempts, 3 always: a retry storm kills. Envoy 20"
    )
    retry_backoff: float = _limit(
        0.025, "seconds", "before a member is asked again, twice as long each time, less up to a half; Envoy 0.025"
    )
    retry_backoff_max: float = _limit(0.25, "seconds", "before a member is asked again at most; Envoy 0.25")
    hedge_percentile: int = _limit(
        0, "percent", "of the answers come sooner: what takes longer has a second attempt. 95, say; 0: never"
    )
    head_size: int = _limit(64 * KiB, "bytes", "an answer's status line and fields; twice what a request may have")
    head_fields: int = _limit(200, "fields", "field lines of an answer's head")
    trailer_size: int = _limit(8 * KiB, "bytes", "the trailer of a chunked answer; as nginx")
    body_size: int = _limit(100 * MiB, "bytes", "an answer's body, which is in memory; beyond it, ask with stream=True")
    depth: int = _limit(8, "levels", "of subrequests that have subrequests, servers counted together. Then 508")

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "check_path":
                _check_path(value)
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{each.name} must be a number of {each.metadata['unit']}; got {value!r}")
            if each.name == "hedge_percentile" and value > 99:
                raise ValueError(f"hedge_percentile must be at most 99; got {value!r}")
            least = 1 if each.name in ("max_connections", "head_size", "head_fields", "depth", "check_failures") else 0
            if not value >= least:
                raise ValueError(f"{each.name} must be at least {least}; got {value!r}")

    @property
    def response(self) -> ResponseLimits:
        """The part that the protocol floor keeps."""
        return ResponseLimits(self.head_size, self.head_fields, self.trailer_size)


def _check_path(path: Any) -> None:
    if not isinstance(path, str):
        raise TypeError(f"check_path must be a path, '/health'; got {path!r}")
    if path and not path.startswith("/"):
        raise ValueError(f"check_path begins with '/', as in '/health'; got {path!r}")
