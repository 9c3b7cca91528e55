"""The recorder: keeps exchanges that are over, up to a number and an amount of bytes.

It only takes notes; ``record.fold`` makes a trace of them when somebody looks. It is an observer of the main events,
and a tap for bodies that the server does not keep. It runs on the server's loop; any thread may ask for traces.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ...lifecycle import events as ev
from ...lifecycle.emitter import Emitter
from ..snapshot.capture import ListenerView
from .record import DRAFT, ID, SIZE, STATUS, BodyPrefix, Draft, Record, Row, fold, keep, keep_message
from .spans import NOTES, Hold
from .trace import Trace

log = logging.getLogger("coserver.observe")

KiB, MiB = 1024, 1024 * 1024

#: Marks of one exchange, enough for a handler that waits a thousand times. Further ones are only counted.
MARKS_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The limits of a recorder: ``traces`` traces of ``size`` bytes together, ``body_size`` bytes of each body.

    The oldest traces give way to new ones. Those that are marked, that failed (5xx) or that a stepper held stay longer:
    they may take a quarter of the places. Raises ValueError.
    """

    traces: int = 1000
    size: int = 32 * MiB
    body_size: int = 64 * KiB

    def __post_init__(self) -> None:
        for name, least in (("traces", 1), ("size", 64 * KiB), ("body_size", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")


@dataclass(slots=True)
class Resent:
    """A request that is sent again: from this address, between these monotonic times, as a copy of the trace ``id``."""

    id: int
    src: str
    method: str
    target: str
    begun: float
    ended: float = math.inf

    def is_seen_in(self, record: Record, trace: Trace) -> bool:
        """Whether the recorded exchange is this one."""
        asked = (trace.src, trace.method, trace.raw_target) == (self.src, self.method, self.target)
        return asked and self.begun <= record.started <= self.ended


class Recorder:
    """Records the exchanges of ``listeners`` between ``start`` and ``stop``."""

    def __init__(
        self, server: str, listeners: Iterable[ListenerView], bounds: Bounds, make: type[Trace] = Trace
    ) -> None:
        self.server = server
        self.bounds = bounds
        self.size = 0  # bytes kept, with those of exchanges under way
        self.dropped = 0  # traces that gave way to newer ones
        self.marked: set[int] = set()
        self.resent: deque[Resent] = deque(maxlen=bounds.traces)
        self._make = make
        self._listeners = {one.service: one for one in listeners}
        self._drafts: dict[int, Draft] = {}
        self._rows: deque[Row] = deque()
        self._kept: deque[Row] = deque()  # older ones that stay longer: see Bounds
        self._followers: tuple[Callable[[Trace], object], ...] = ()
        self._emitter: Emitter | None = None

    def __repr__(self) -> str:
        return f"<Recorder {'on' if self.recording else 'off'}, {len(self)} traces, {self.size} bytes>"

    def __len__(self) -> int:
        return len(self._kept) + len(self._rows)

    @property
    def recording(self) -> bool:
        return self._emitter is not None

    def start(self, emitter: Emitter) -> None:
        """Start to record. A second call does nothing."""
        if self._emitter is None:
            self._emitter = emitter
            emitter.add_observer(self.note, served=self.served)
            emitter.add_tap(self.tap)

    def stop(self) -> None:
        """Stop recording. Exchanges under way are forgotten; traces stay. A second call does nothing."""
        if self._emitter is not None:
            self._emitter.remove_observer(self.note)
            self._emitter.remove_tap(self.tap)
            self._emitter = None
            for number in list(self._drafts):
                self._drop(number)

    def traces(self) -> list[Trace]:
        """All traces, the oldest first; from any thread."""
        return [self._fold(row) for row in self._copy()]

    def latest(self, after: int, most: int) -> tuple[int, list[Trace]]:
        """The number of traces so far, and those after the first ``after``: the last ``most``, oldest first."""
        rows = self._copy()
        total = self.dropped + len(rows)
        new = max(min(total - after, most, len(rows)), 0)
        return total, [self._fold(row) for row in rows[len(rows) - new :]]

    def find(self, number: int) -> Trace | None:
        """The trace of an exchange by its id; None if it is not kept."""
        return next((self._fold(row) for row in self._copy() if row[ID] == number), None)

    def clear(self) -> None:
        """Forget all traces."""
        while self._rows:
            self._forget()
        while self._kept:
            self._drop_oldest(self._kept)
        self.marked.clear()

    def follow(self, follower: Callable[[Trace], object]) -> None:
        """Call ``follower`` on the loop with each new trace. It must not wait; one that raises is removed."""
        self._followers = (*self._followers, follower)

    def unfollow(self, follower: Callable[[Trace], object]) -> None:
        self._followers = tuple(one for one in self._followers if one != follower)

    # On the loop.

    def note(self, event: ev.Event) -> None:
        """Take a note of an event; the emitter calls it."""
        kind, number = type(event), event.exchange
        noted = _NOTED.get(kind)
        if noted is None or number is None:
            return
        draft = self._drafts.get(number)
        if draft is None:
            draft = self._begin(number, event)
            if draft is None:
                return
        note, then = noted
        marks = draft.marks
        if len(marks) >= 3 * MARKS_MAX and draft.skips(event):
            return
        marks += (kind, event.at, note and note(event))
        if then is not None:
            then(self, number, draft, event)

    def served(self, exchange: Any, at: float) -> None:
        """Record an exchange that went smoothly; the emitter calls it once, instead of events."""
        draft = self._drafts.pop(exchange.id, None) if self._drafts else None
        listener = self._listeners.get(exchange.connection.service)
        counted = 0
        if draft is not None:
            self._keep_changed(draft, exchange)
            counted = draft.kept
        if listener is not None:
            self._keep(keep(exchange, listener, exchange.handler_started_at, at, self.bounds.body_size, draft), counted)

    def tap(self, exchange: Any, piece: bytes, *, sent: bool) -> None:
        """Keep a piece of a response's body (``sent``) or a request's; the emitter calls it."""
        draft = self._drafts.get(exchange.id)
        if draft is not None:
            kept = draft.answered if sent else draft.sent
            if kept is None:
                kept = BodyPrefix()
                if sent:
                    draft.answered = kept
                else:
                    draft.sent = kept
            self.size += kept.add(piece, self._room(kept))

    def _room(self, kept: BodyPrefix) -> int:
        """How many bytes of this body may be kept in all. Old traces give way; exchanges under way do not."""
        most = self.bounds.body_size
        while self.size + most - kept.kept > self.bounds.size and len(self):
            self._forget()
        return min(most, max(0, self.bounds.size - self.size) + kept.kept)

    def _begin(self, number: int, event: ev.Event) -> Draft | None:
        """Begin a draft. None for another server's exchange, and for one that is recorded already."""
        exchange = event.source
        if isinstance(event, ev.SubrequestEvent):
            exchange = exchange.exchange
            if exchange.over:
                return None  # the subrequest is a detached one
        one = self._listeners.get(exchange.connection.service)
        if one is None or (one.protocol == "http" and exchange.status and type(event) in _LATE):
            return None
        draft = self._drafts[number] = Draft(one)
        return draft

    def _answers(self, number: int, draft: Draft, event: ev.Event) -> None:
        """A response begins: drop the body of one that it replaces and that was never sent."""
        if draft.answered is not None and draft.http:
            self.size -= draft.answered.kept
            draft.answered = None

    def _answered(self, number: int, draft: Draft, event: ev.Event) -> None:
        if draft.http:
            self._finish(number, draft, event)

    def _handled(self, number: int, draft: Draft, event: ev.Event) -> None:
        """A handler is over: that ends the exchange of a TCP message."""
        if not draft.http:
            self._finish(number, draft, event)

    def _keep_body(self, number: int, draft: Draft, event: Any) -> None:
        """Keep the request's body when it has been read. The pieces of a streamed body come by the tap."""
        exchange = event.source
        if draft.http and draft.sent is None and exchange.body_size:
            kept = draft.sent = BodyPrefix()
            most, spooled = self._room(kept), exchange.spooled
            self.size += kept.add(exchange.content if spooled is None else spooled.read_at(0, most), most)

    def _keep_changed(self, draft: Draft, exchange: Any) -> None:
        """Replace the request's body if it was changed while it was held."""
        kept, endpoint = draft.sent, exchange.endpoint
        if kept is None or endpoint is None or endpoint.stream:
            return  # a body that its handler streams cannot be changed
        content = exchange.content
        if exchange.body_size == kept.size and (not content or content[: kept.kept] == kept.content):
            return
        self.size -= kept.kept
        draft.sent = kept = BodyPrefix()
        self.size += kept.add(content, self._room(kept))

    def _finish(self, number: int, draft: Draft, event: ev.Event) -> None:
        del self._drafts[number]
        most = self.bounds.body_size
        if draft.http:
            self._keep_changed(draft, event.source)
            self._keep(keep(event.source, draft.listener, 0.0, event.at, most, draft), draft.kept)
        else:
            self._keep(keep_message(event.source, event.at, most, draft), draft.kept)

    def _keep(self, row: Row, counted: int) -> None:
        """Add a row, ``counted`` bytes of which are in ``size`` already; drop the oldest beyond the bounds."""
        rows, bounds = self._rows, self.bounds
        self.size += row[SIZE] - counted
        rows.append(row)
        while len(rows) + len(self._kept) > bounds.traces or (self.size > bounds.size and len(rows) > 1):
            self._forget()
        if self._followers:
            self._tell(self._fold(row))

    def _tell(self, trace: Trace) -> None:
        for follower in self._followers:
            try:
                follower(trace)
            except Exception:
                self.unfollow(follower)
                log.exception("follower %r raised for %r, and was removed", follower, trace)

    def _forget(self) -> None:
        """Make room by one step: move a trace that stays longer among those, or drop the oldest."""
        rows, kept, bounds = self._rows, self._kept, self.bounds
        try:
            stays = bool(rows) and self._stays(rows[0])
            if stays and len(kept) < bounds.traces // 4 and self.size <= bounds.size:
                kept.append(rows.popleft())
                return
        except IndexError:
            return  # another thread called clear()
        self._drop_oldest(kept if kept and (stays or not rows or self.size > bounds.size) else rows)

    def _stays(self, row: Row) -> bool:
        """Whether a trace stays longer: it is marked, failed, or was held."""
        draft = row[DRAFT]
        return row[STATUS] >= 500 or row[ID] in self.marked or (draft is not None and Hold in draft.marks[::3])

    def _drop_oldest(self, rows: deque[Row]) -> None:
        try:
            row = rows.popleft()
        except IndexError:
            return  # another thread called clear()
        self.size -= row[SIZE]
        self.dropped += 1
        if self.marked:
            self.marked.discard(row[ID])

    def _drop(self, number: int) -> None:
        draft = self._drafts.pop(number, None)
        if draft is not None:
            self.size -= draft.kept

    def _copy(self) -> list[Row]:
        while True:
            try:
                return [*self._kept, *self._rows]
            except RuntimeError:  # the loop's thread has added a row meanwhile
                continue

    def _fold(self, row: Row) -> Trace:
        record = Record._make(row)
        trace = fold(record, self.server, self._make, marked=record.id in self.marked)
        for one in list(self.resent) if self.resent else ():
            if one.is_seen_in(record, trace):
                return replace(trace, replay_of=one.id)
        return trace


Then = Callable[[Recorder, int, Draft, Any], None]
_THEN: dict[type[ev.Event], Then] = {
    ev.RequestRead: Recorder._keep_body,
    ev.HandlerFinished: Recorder._handled,
    ev.HandlerFailed: Recorder._handled,
    ev.HandlerCancelled: Recorder._handled,
    ev.ResponseStarted: Recorder._answers,
    ev.ResponseFinished: Recorder._answered,
    ev.ExchangeReset: Recorder._finish,
    ev.ConnectionClosed: Recorder._finish,
}
#: For each kind of event: the function that makes its note, and the method that is called then, in one look-up.
_NOTED = {kind: (note, _THEN.get(kind)) for kind, note in NOTES.items()}
#: Events that may come after the answer: no draft begins with one.
_LATE = frozenset({ev.RequestRead, ev.ExchangeReset, ev.ConnectionClosed})
