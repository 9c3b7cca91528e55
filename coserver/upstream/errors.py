"""What can go wrong with an upstream, and whose fault it is: never the client's of the server that asked.

Each says which member, at which attempt, and how the time went. Unhandled in a handler they become ``status``.
"""

from __future__ import annotations

from collections.abc import Mapping


class UpstreamError(Exception):
    """An upstream gave no answer. ``member`` is "" if it came to none; ``timeline`` is in seconds by phase."""

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
        where = f"upstream {self.upstream}" + (f", member {self.member}" if self.member else "")
        tries = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{where}: {self.reason}{tries}"


class UpstreamConnectError(UpstreamError):
    """No connection to a member came about: it refuses, is unknown, or is out of reach."""


class UpstreamTimeout(UpstreamError):
    """It took longer than allowed. ``phase`` is where: connect, tls, send, first byte, body, take (ours) or total."""

    status = 504

    def __init__(self, reason: str, *, phase: str, **told: object) -> None:
        self.phase = phase
        super().__init__(reason, **told)  # type: ignore[arg-type]


class UpstreamProtocolError(UpstreamError):
    """What a member sent is no sound HTTP/1.1 response, or it closed before the response was whole."""


class UpstreamBusy(UpstreamError):
    """No connection became free in time, or too many requests wait for one already."""

    status = 504


class TooDeep(UpstreamError):
    """A subrequest of a subrequest of ...: deeper than ``UpstreamLimits.depth``. Mostly a loop (RFC 5842 §7.2)."""

    status = 508


class SubrequestCancelled(Exception):
    """The answer of a cancelled subrequest was asked for. Whoever cancelled it is not the upstream's fault."""
