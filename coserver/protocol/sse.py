"""Server-sent events as bytes, without I/O (the event stream format of the HTML standard, §9.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

#: A comment: no client sees it, but proxies learn that the connection is alive.
HEARTBEAT = b": \n\n"

# The line ends of the format; str.splitlines knows others, which are ordinary characters here.
_split_lines = re.compile(r"\r\n|\r|\n").split


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One server-sent event.

    ``data`` is a str, or a value for JSON; None for an event that only sets ``id`` or ``retry``, which no listener
    sees. ``event`` is its type, "message" if there is none. ``id`` is sent back by the client in Last-Event-ID when it
    reconnects, after ``retry`` milliseconds. Raises ValueError, TypeError for values that the format cannot carry.
    """

    data: Any = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    def __post_init__(self) -> None:
        for name in ("event", "id"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, str):
                raise TypeError(f"an event's {name} is a str; got {value!r:.60}: str() it")
            if any(bad in value for bad in "\r\n\0"):
                raise ValueError(f"an event's {name} must not hold line ends or NUL; got {value!r:.60}")
        if self.retry is not None:
            if isinstance(self.retry, bool) or not isinstance(self.retry, int):
                raise TypeError(f"an event's retry is a whole number of milliseconds; got {self.retry!r:.60}")
            if self.retry < 0:
                raise ValueError(f"an event's retry must not be negative; got {self.retry}")


def encode_event(data: str | None, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    """The bytes of one event: a field for each line of ``data``, and the blank line that ends it."""
    lines = []
    if event is not None:
        lines.append(f"event: {event}\n")
    if id is not None:
        lines.append(f"id: {id}\n")
    if retry is not None:
        lines.append(f"retry: {retry}\n")
    if data is not None:
        # The blank after the colon belongs to the format: without it a blank at the beginning of the text would be
        # lost.
        lines += [f"data: {line}\n" for line in _split_lines(data)]
    return "".join([*lines, "\n"]).encode()
