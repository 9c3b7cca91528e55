"""Server-sent events as a response's body: where they come from, and how often an idle stream says it is alive.

How they are sent is ``event_stream``'s to say, how they are written the protocol floor's.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any


class EventBody:
    """``pieces`` are what the source yields; ``heartbeat`` is in seconds, infinity for none."""

    __slots__ = ("heartbeat", "pieces")
    content_type = "text/event-stream"
    what = "a stream of events"

    def __init__(self, source: Any, heartbeat: float | None) -> None:
        """Raises TypeError, ValueError."""
        if heartbeat is None:
            heartbeat = math.inf
        if isinstance(heartbeat, bool) or not isinstance(heartbeat, int | float):
            raise TypeError(f"heartbeat is a number of seconds, or None for no heartbeat; got {heartbeat!r}")
        if not heartbeat > 0:
            raise ValueError(f"heartbeat must be more than 0 seconds, or None for no heartbeat; got {heartbeat}")
        self.heartbeat = heartbeat
        self.pieces = iterator_of(source)

    def __repr__(self) -> str:
        return f"<EventBody of {self.pieces!r:.60}>"


def iterator_of(source: Any) -> Iterator[Any] | AsyncIterator[Any]:
    """Raises TypeError for what yields no events."""
    if not isinstance(source, str | bytes | bytearray | dict):
        if hasattr(source, "__aiter__"):
            found: AsyncIterator[Any] = aiter(source)
            return found
        if hasattr(source, "__iter__"):
            pieces: Iterator[Any] = iter(source)
            return pieces
    if callable(source):
        raise TypeError(f"events come from an iterator; got the function {source!r:.60} itself: call it")
    raise TypeError(f"events come from a generator, an async generator or another iterable of them; got {source!r:.60}")
