"""What happens on the server's loop, handed to a client on the control's: a bounded line between two threads.

The server never waits for a client. One that reads too slowly loses the oldest, and is told how many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from ..observe.filters import EVERYTHING, Filter, FilterError
from ..transport.loop import poster
from .wire_format import event_dict, trace_dict

if TYPE_CHECKING:
    from .server_handle import ServerHandle

#: Things that may wait for a client; a second's worth of a busy server, some MB at the most.
WAITING_MAX = 2000
#: Things handed over in one go, between which others have their turn.
_AT_ONCE = 100
#: Seconds of silence after which a line says that all is well: whoever reads knows that the other side is there.
HEARTBEAT = 5.0
_HEARTBEAT: dict[str, Any] = {"heartbeat": True}


class Feed:
    """Made on the loop of whoever reads. ``put`` is for any thread, and never waits; ``lost`` counts what gave way."""

    def __init__(self, most: int = WAITING_MAX) -> None:
        self.lost = 0
        self._line: deque[Any] = deque(maxlen=most)
        self._there = anyio.Event()
        self._post = poster()
        self._told = False
        self._closed = False

    def put(self, thing: Any) -> None:
        """One thing more, from any thread; the oldest gives way where the line is full, counted in ``lost``."""
        line = self._line
        if len(line) == line.maxlen:
            self.lost += 1
        line.append(thing)
        self._tell()

    def close(self) -> None:
        """Nothing more comes; from any thread."""
        self._closed = True
        self._told = False
        self._tell()

    async def batches(self, patience: float) -> AsyncIterator[list[Any]]:
        """What has come, in order; an empty list after ``patience`` seconds without anything. Ends when closed."""
        while True:
            if not self._line:
                if self._closed:
                    return
                with anyio.move_on_after(patience):
                    await self._there.wait()
                self._there = anyio.Event()
                self._told = False
            batch: list[Any] = []
            while self._line and len(batch) < _AT_ONCE:
                batch.append(self._line.popleft())
            yield batch

    def _tell(self) -> None:
        if self._told:
            return
        self._told = True
        try:
            self._post(self._wake)
        except RuntimeError:
            pass  # the reader's loop has ended

    def _wake(self) -> None:
        self._there.set()


class Feeds:
    """All streams of one control."""

    def __init__(self, server: ServerHandle) -> None:
        self._server = server
        self._feeds: set[Feed] = set()
        self._recorders = 0  # streams for whose sake traces are recorded
        self._recording = False

    @property
    def count(self) -> int:
        return len(self._feeds)

    def close(self) -> None:
        for feed in tuple(self._feeds):
            feed.close()

    async def events(self, wanted: Filter) -> AsyncIterator[dict[str, Any]]:
        """Every event as plain values; with a filter, those of exchanges that match."""
        with self._feed() as feed:
            observer = feed.put if wanted is EVERYTHING else _matching(wanted, feed, self._server.pictures())
            with self._server.emitter.observing(observer):
                async for each in _told(feed, event_dict):
                    yield each

    async def traces(self, wanted: Filter, *, whole: bool) -> AsyncIterator[dict[str, Any]]:
        """Each trace that is finished and matches."""
        traces = self._server.traces
        with self._feed() as feed, self._recorded():
            stop = traces.follow(_matching(wanted, feed, lambda trace: trace))
            try:
                async for each in _told(feed, lambda trace: trace_dict(trace, whole=whole)):
                    yield each
            finally:
                stop()

    @contextmanager
    def _feed(self) -> Iterator[Feed]:
        feed = Feed()
        self._feeds.add(feed)
        try:
            yield feed
        finally:
            self._feeds.discard(feed)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Traces are recorded meanwhile, and after it only if they were before."""
        traces = self._server.traces
        if not self._recorders:
            self._recording = traces.recording
            traces.start()
        self._recorders += 1
        try:
            yield
        finally:
            self._recorders -= 1
            if not self._recorders and not self._recording:
                traces.stop()


async def _told(feed: Feed, encode: Callable[[Any], dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """What comes, what was lost, and a heartbeat in between; an error is the last."""
    told = 0
    yield {"following": True}  # at once: whoever asked knows that nothing from now on is missed
    async for batch in feed.batches(HEARTBEAT):
        if feed.lost > told:
            lost, told = feed.lost - told, feed.lost
            yield {"lost": lost}
        for each in batch:
            if isinstance(each, FilterError):
                yield {"error": str(each)}
                return
            yield encode(each)
        if not batch:
            yield _HEARTBEAT


def _matching(wanted: Filter, feed: Feed, subject_of: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Hands on what matches, an exchange being asked as it is at that moment; if that takes too long, no more."""
    matches, failed = wanted.matches, False

    def observe(thing: Any) -> None:
        nonlocal failed
        if failed:
            return  # until the stream has ended
        subject = subject_of(thing)
        try:
            if subject is not None and matches(subject):
                feed.put(thing)
        except FilterError as error:
            failed = True
            feed.put(error)

    return observe
