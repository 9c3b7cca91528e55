"""Feeds: events and traces go from the server's loop to a client on the control's loop, by a bounded queue.

The server never waits for a client. A client that reads too slowly loses the oldest, and is told how many.
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

#: Items in the queue of one client: a second of a busy server, at most some MB.
WAITING_MAX = 2000
#: Items of one batch; between two batches the other clients have their turn.
_AT_ONCE = 100
#: Seconds without an item after which a heartbeat tells the client that the server is there.
HEARTBEAT = 5.0
_HEARTBEAT: dict[str, Any] = {"heartbeat": True}


class Feed:
    """A queue, made on its reader's loop. ``put`` is for any thread, and never waits; ``lost`` counts dropped items."""

    def __init__(self, most: int = WAITING_MAX) -> None:
        self.lost = 0
        self._queue: deque[Any] = deque(maxlen=most)
        self._there = anyio.Event()
        self._post = poster()
        self._told = False
        self._closed = False

    def put(self, item: Any) -> None:
        """Add an item, from any thread. A full queue drops the oldest, and counts it in ``lost``."""
        queue = self._queue
        if len(queue) == queue.maxlen:
            self.lost += 1
        queue.append(item)
        self._tell()

    def close(self) -> None:
        """End the feed, from any thread."""
        self._closed = True
        self._told = False
        self._tell()

    async def batches(self, patience: float) -> AsyncIterator[list[Any]]:
        """The items in order, in batches; an empty one after ``patience`` seconds without an item. Ends when closed."""
        while True:
            if not self._queue:
                if self._closed:
                    return
                with anyio.move_on_after(patience):
                    await self._there.wait()
                self._there = anyio.Event()
                self._told = False
            batch: list[Any] = []
            while self._queue and len(batch) < _AT_ONCE:
                batch.append(self._queue.popleft())
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
    """All feeds of one control."""

    def __init__(self, server: ServerHandle) -> None:
        self._server = server
        self._feeds: set[Feed] = set()
        self._recorders = 0  # feeds that need the recorder
        self._recording = False

    @property
    def count(self) -> int:
        return len(self._feeds)

    def close(self) -> None:
        for feed in tuple(self._feeds):
            feed.close()

    async def events(self, wanted: Filter) -> AsyncIterator[dict[str, Any]]:
        """Every event as plain values; with a filter, the events of exchanges that match."""
        with self._feed() as feed:
            observer = feed.put if wanted is EVERYTHING else _matching(wanted, feed, self._server.pictures())
            with self._server.emitter.observing(observer):
                async for each in _lines(feed, event_dict):
                    yield each

    async def traces(self, wanted: Filter, *, whole: bool) -> AsyncIterator[dict[str, Any]]:
        """Each new trace that matches."""
        traces = self._server.traces
        with self._feed() as feed, self._recorded():
            stop = traces.follow(_matching(wanted, feed, lambda trace: trace))
            try:
                async for each in _lines(feed, lambda trace: trace_dict(trace, whole=whole)):
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
        """Record traces during the block; afterwards only if they were recorded before."""
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


async def _lines(feed: Feed, encode: Callable[[Any], dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """The lines of a feed: items, counts of lost ones, heartbeats. An error is the last."""
    reported = 0
    yield {"following": True}  # at once: from now on the client misses nothing
    async for batch in feed.batches(HEARTBEAT):
        if feed.lost > reported:
            lost, reported = feed.lost - reported, feed.lost
            yield {"lost": lost}
        for each in batch:
            if isinstance(each, FilterError):
                yield {"error": str(each)}
                return
            yield encode(each)
        if not batch:
            yield _HEARTBEAT


def _matching(wanted: Filter, feed: Feed, subject_of: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Make the observer that feeds what matches at that moment. After a search that takes too long it feeds nothing."""
    matches, failed = wanted.matches, False

    def observe(item: Any) -> None:
        nonlocal failed
        if failed:
            return  # the stream is about to end
        subject = subject_of(item)
        try:
            if subject is not None and matches(subject):
                feed.put(item)
        except FilterError as error:
            failed = True
            feed.put(error)

    return observe
