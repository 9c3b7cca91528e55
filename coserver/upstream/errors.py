"""Errors of subrequests. The client of the server that asked is never to blame for them.

Each error says which upstream and member, at which attempt, and how the time went. A handler that does not catch one
answers with its ``status``.
"""

from __future__ import annotations

from collections.abc import Mapping


class UpstreamError(Exception):
    """No response came. ``member`` is "" if none was reached; ``timeline`` has the seconds of each step."""

    status = 502

    def __init__(
        self, reason: str, *, upstream: str = "", member: str = "", attempts: int = 0,
        timeline: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        self.reason = reason
        self.upstream = upstream
        self.member = member
        self.attempts = attempts
        self.timeline = dict(timeline or {})
        super().__init__(reason)

    def __str__(self) -> str:
        if not self.upstream:
            return self.reason
        where = f"upstream {self.upstream}" + (f", member {self.member}" if self.member else "")
        tries = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{where}: {self.reason}{tries}"


class UpstreamConnectError(UpstreamError):
    """No connection to a member: it refuses, its name is unknown, or it is out of reach."""


class UpstreamTimeout(UpstreamError):
    """A time limit passed. ``phase`` is connect, tls, send, first byte, body, total, or take (the caller read too
    slowly).
    """

    status = 504

    def __init__(self, reason: str, *, phase: str, **told: object) -> None:
        self.phase = phase
        super().__init__(reason, **told)  # type: ignore[arg-type]


class UpstreamProtocolError(UpstreamError):
    """A member sent bytes that are not an HTTP/1.1 response, or closed the connection before the response was whole."""


class UpstreamBusy(UpstreamError):
    """No connection became free in time, or too many requests are queued already."""

    status = 504


class TooDeep(UpstreamError):
    """Subrequests nest deeper than ``UpstreamLimits.depth``. Mostly a loop of servers that ask each other (RFC 5842
    §7.2).
    """

    status = 508


class SubrequestCancelled(Exception):
    """The outcome of a cancelled subrequest was asked for. No upstream is to blame."""
