"""A trace: one exchange that is over, from its first byte to its last, with every step on one axis of time.

It is a value, and a subject of filters. Secrets in its fields and its target are masked wherever it is shown; only
``unmasked``, ``raw_target`` and ``raw_url`` have them. A replay sends them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from ...lifecycle.frozen_dataclass import frozen
from ..secrets import mask_fields, mask_target
from ..snapshot.rows import url_of
from ..text import Fields

#: The kinds of a span.
REQUEST, HANDLER, SUSPEND, SUBREQUEST, RESPONSE = "request", "handler", "suspend", "subrequest", "response"
HELD = "held"  # by a stepper; it lies within the other spans
STEP = "step"  # of a subrequest: wait, connect, send ...
#: How a span ended. OPEN: it had not ended when the exchange did.
OK, FAILED, CANCELLED, OPEN = "ok", "failed", "cancelled", "open"


@frozen
class Span:
    """One step of an exchange. ``start`` and ``end`` are seconds after the exchange's start; ``detail`` is for people.

    ``children`` lie within it: the steps of a subrequest, the suspensions of a handler.
    """

    kind: str
    name: str
    start: float
    end: float
    outcome: str = OK
    detail: str = ""
    upstream: str = ""
    children: tuple[Span, ...] = ()

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.end - self.start

    def walk(self) -> Iterator[Span]:
        """This span and all spans within it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


@frozen
class Body:
    """A body of ``size`` bytes. ``content`` is the part that was kept, as sent: its Content-Encoding is not undone."""

    content: bytes = b""
    size: int = 0

    @property
    def truncated(self) -> bool:
        """Whether more bytes passed than were kept."""
        return len(self.content) < self.size


_NOTHING = Body()


@frozen
class Message:
    """The fields and the body of a request or a response. ``unmasked`` are the fields as they were sent."""

    unmasked: Fields = field(default=(), repr=False)
    body: Body = _NOTHING

    @property
    def fields(self) -> Fields:
        """The fields, with their secrets masked."""
        return mask_fields(self.unmasked)

    def get(self, name: str, default: str = "") -> str:
        """The value of the first field of this name, masked if it is a secret."""
        wanted = name.lower()
        return next((value for key, value in self.fields if key.lower() == wanted), default)


@frozen
class Trace:
    """One exchange that is over.

    ``at`` is its start in seconds since 1970, ``seconds`` its duration. ``status`` is 0 without an answer. ``phase`` is
    the phase in which it ended, "recycle" for a whole one; ``error`` says what went wrong. ``target`` is masked,
    ``raw_target`` is not. ``skipped`` is the number of steps beyond the recorder's limit. For TCP, request and response
    are the messages, without framing. ``secure`` is true for TLS. ``replay_of`` is the id of the trace whose request
    was sent again here, 0 for any other. ``traceback`` is that of a handler that failed, as text, from the first frame
    that is not coserver's; "" without one.
    """

    id: int
    connection: int
    server: str
    listener: str
    protocol: str
    src: str
    dst: str
    at: float
    seconds: float
    method: str
    raw_target: str
    host: str
    version: str
    request: Message
    status: int
    response: Message
    handler: str = ""
    route: str = ""
    phase: str = "recycle"
    error: str = ""
    secure: bool = False
    marked: bool = False
    skipped: int = 0
    spans: tuple[Span, ...] = ()
    replay_of: int = 0
    traceback: str = field(default="", repr=False)

    def __repr__(self) -> str:
        what = f"{self.method} {self.url}" if self.method else self.url
        return f"<{type(self).__name__} {self.id} {what} {self.status or 'unanswered'} {self.seconds * 1e3:.1f} ms>"

    @property
    def target(self) -> str:
        """The target, with secrets in its query masked."""
        return mask_target(self.raw_target)

    @property
    def url(self) -> str:
        """The whole URL, with its secrets masked."""
        return mask_target(self.raw_url)

    @property
    def raw_url(self) -> str:
        """The whole URL as it was asked for, with its secrets."""
        return url_of(self, self.raw_target)

    @property
    def held_seconds(self) -> float:
        """How long a stepper held it."""
        return sum(span.seconds for span in self.spans if span.kind == HELD)

    @property
    def place(self) -> str:
        """Where its handler failed: "shop.py:41 in order"; "" if it did not."""
        return place_in(self.traceback)

    def walk(self) -> Iterator[Span]:
        """All spans, depth first."""
        for span in self.spans:
            yield from span.walk()

    @property
    def upstreams(self) -> Sequence[str]:
        """The names of its subrequests' upstreams, one for each subrequest."""
        return [span.upstream for span in self.walk() if span.upstream]

    def request_lines(self) -> Iterable[str]:
        return [f"{name}: {value}" for name, value in self.request.fields]

    def response_lines(self) -> Iterable[str]:
        return [f"{name}: {value}" for name, value in self.response.fields]

    def request_content(self) -> bytes:
        return self.request.body.content

    def response_content(self) -> bytes:
        return self.response.body.content

    def as_dict(self) -> dict[str, Any]:
        """The trace as plain values for JSON, masked. Of bodies it has the sizes alone; a HAR has the rest."""
        names = (
            "id", "connection", "server", "listener", "protocol", "src", "dst", "at", "seconds", "method", "target",
            "url", "version", "status", "handler", "route", "phase", "error", "marked",
            "skipped", "secure", "replay_of", "traceback",
        )  # fmt: skip
        found: dict[str, Any] = {name: getattr(self, name) for name in names}
        found["request_size"], found["response_size"] = self.request.body.size, self.response.body.size
        found["spans"] = [span_dict(span) for span in self.spans]
        return found


def span_dict(span: Span) -> dict[str, Any]:
    """A span as plain values for JSON, without its empty values."""
    found: dict[str, Any] = {
        "kind": span.kind, "name": span.name, "start": round(span.start, 9), "end": round(span.end, 9),
        "outcome": span.outcome,
    }  # fmt: skip
    if span.detail:
        found["detail"] = span.detail
    if span.upstream:
        found["upstream"] = span.upstream
    if span.children:
        found["children"] = [span_dict(child) for child in span.children]
    return found


_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python3")
_COSERVER = str(Path(__file__).parents[2]) + "/"
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


def place_in(traceback: str) -> str:
    """The innermost frame of a traceback that is no library's: "shop.py:41 in order". "" if there is none."""
    frames = _FRAME.findall(traceback)
    own = [one for one in frames if not _is_library(one[0])] or frames
    if not own:
        return ""
    file, line, name = own[-1]
    return f"{file.replace(chr(92), '/').rpartition('/')[2]}:{line} in {name}"


def _is_library(file: str) -> bool:
    return file.startswith((_COSERVER, "<")) or any(one in file for one in _LIBRARIES)
