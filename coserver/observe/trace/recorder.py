"""The recorder: keeps what exchanges were, when they are over, within a number and an amount of bytes.

While it runs it only notes; what a note means is worked out when somebody looks (``folding``). It is an observer of the
main events, and a tap for the bodies that the server does not keep. All of it runs on the server's loop; whoever looks
may be in any thread.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...lifecycle import events as ev
from ...lifecycle.emitter import Emitter
from ..snapshot.capture import ListenerView
from .record import ID, SIZE, Draft, Kept, Record, Row, fold, keep, keep_message
from .spans import NOTES
from .trace import Trace

log = logging.getLogger("coserver.observe")

KiB, MiB = 1024, 1024 * 1024

#: Marks of one exchange; a handler that waits a thousand times is understood. The rest is counted.
MARKS_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """``traces`` and ``size`` (bytes) are kept at most, the oldest give way; of each body ``body_size`` bytes.

    Raises ValueError.
    """

    traces: int = 1000
    size: int = 32 * MiB
    body_size: int = 64 * KiB

    def __post_init__(self) -> None:
        for name, least in (("traces", 1), ("size", 64 * KiB), ("body_size", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")


class Recorder:
    """Records the exchanges of ``listeners``, between ``start`` and ``stop``."""

    def __init__(
        self, server: str, listeners: Iterable[ListenerView], bounds: Bounds, make: type[Trace] = Trace
    ) -> None:
        self.server = server
        self.bounds = bounds
        self.size = 0  # bytes kept, those of exchanges under way among them
        self.dropped = 0  # traces that gave way
        self.marked: set[int] = set()
        self._make = make
        self._listeners = {one.service: one for one in listeners}
        self._drafts: dict[int, Draft] = {}
        self._rows: deque[Row] = deque()
        self._followers: tuple[Callable[[Trace], object], ...] = ()
        self._emitter: Emitter | None = None

    def __repr__(self) -> str:
        return f"<Recorder {'on' if self.recording else 'off'}, {len(self)} traces, {self.size} bytes>"

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def recording(self) -> bool:
        return self._emitter is not None

    def start(self, emitter: Emitter) -> None:
        """Twice is fine."""
        if self._emitter is None:
            self._emitter = emitter
            emitter.add_observer(self.note, served=self.served)
            emitter.add_tap(self.tap)

    def stop(self) -> None:
        """What is under way is forgotten; what was recorded stays. Twice is fine."""
        if self._emitter is not None:
            self._emitter.remove_observer(self.note)
            self._emitter.remove_tap(self.tap)
            self._emitter = None
            for number in list(self._drafts):
                self._drop(number)

    def traces(self) -> list[Trace]:
        """All that are kept, the oldest first; from any thread."""
        return [self._fold(row) for row in self._copy()]

    def latest(self, after: int, most: int) -> tuple[int, list[Trace]]:
        """How many were recorded in all, and beyond the first ``after`` the last ``most``, the oldest first."""
        rows = self._copy()
        total = self.dropped + len(rows)
        new = max(min(total - after, most, len(rows)), 0)
        return total, [self._fold(row) for row in rows[len(rows) - new :]]

    def find(self, number: int) -> Trace | None:
        """The trace of an exchange by its id."""
        return next((self._fold(row) for row in self._copy() if row[ID] == number), None)

    def clear(self) -> None:
        """Forget all that was recorded."""
        while self._rows:
            self._forget()
        self.marked.clear()

    def follow(self, follower: Callable[[Trace], object]) -> None:
        """Have it called on the loop with each trace that is finished. It must not wait; if it raises it is removed."""
        self._followers = (*self._followers, follower)

    def unfollow(self, follower: Callable[[Trace], object]) -> None:
        self._followers = tuple(one for one in self._followers if one != follower)

    # On the loop.

    def note(self, event: ev.Event) -> None:
        """The observer."""
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
        if len(marks) >= 3 * MARKS_MAX and draft.passes_over(event):
            return
        marks += (kind, event.at, note and note(event))
        if then is not None:
            then(self, number, draft, event)

    def served(self, exchange: Any, at: float) -> None:
        """The observer of what went smoothly."""
        draft = self._drafts.pop(exchange.id, None) if self._drafts else None
        listener = self._listeners.get(exchange.connection.service)
        counted = 0
        if draft is not None:
            self._keep_changed(draft, exchange)
            counted = draft.kept
        if listener is not None:
            self._keep(keep(exchange, listener, exchange.untold, at, self.bounds.body_size, draft), counted)

    def tap(self, exchange: Any, piece: bytes, *, sent: bool) -> None:
        draft = self._drafts.get(exchange.id)
        if draft is not None:
            kept = draft.answered if sent else draft.sent
            if kept is None:
                kept = Kept()
                if sent:
                    draft.answered = kept
                else:
                    draft.sent = kept
            self.size += kept.add(piece, self._room(kept))

    def _room(self, kept: Kept) -> int:
        """How many bytes of this body may be kept in all: less if everything is full of what cannot give way."""
        most = self.bounds.body_size
        while self.size + most - kept.kept > self.bounds.size and self._rows:
            self._forget()
        return min(most, max(0, self.bounds.size - self.size) + kept.kept)

    def _begin(self, number: int, event: ev.Event) -> Draft | None:
        """None for what is no business of this recorder's, or is recorded already."""
        exchange = event.source
        if isinstance(event, ev.SubrequestEvent):
            exchange = exchange.exchange
            if not exchange.untold:
                return None  # no events are deferred, so the exchange is over: the subrequest is a detached one
        one = self._listeners.get(exchange.connection.service)
        if one is None or (one.protocol == "http" and exchange.status and type(event) in _LATE):
            return None
        draft = self._drafts[number] = Draft(one)
        return draft

    def _answers(self, number: int, draft: Draft, event: ev.Event) -> None:
        """A response begins; it takes the place of one that was not sent."""
        if draft.answered is not None and draft.http:
            self.size -= draft.answered.kept
            draft.answered = None

    def _answered(self, number: int, draft: Draft, event: ev.Event) -> None:
        if draft.http:
            self._finish(number, draft, event)

    def _handled(self, number: int, draft: Draft, event: ev.Event) -> None:
        """This is how a TCP message's exchange ends."""
        if not draft.http:
            self._finish(number, draft, event)

    def _keep_body(self, number: int, draft: Draft, event: Any) -> None:
        """The request's body, now that it is there; of a streamed one the tap has had the pieces."""
        exchange = event.source
        if draft.http and draft.sent is None and exchange.body_size:
            kept = draft.sent = Kept()
            most, spooled = self._room(kept), exchange.spooled
            self.size += kept.add(exchange.content if spooled is None else spooled.read_at(0, most), most)

    def _keep_changed(self, draft: Draft, exchange: Any) -> None:
        """A body that was changed while it was held, in place of the one that came."""
        kept, endpoint = draft.sent, exchange.endpoint
        if kept is None or endpoint is None or endpoint.stream:
            return  # of what its handler reads piece by piece nothing can be changed
        content = exchange.content
        if exchange.body_size == kept.size and (not content or content[: kept.kept] == kept.content):
            return
        self.size -= kept.kept
        draft.sent = kept = Kept()
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
        """Add it, ``counted`` bytes of which are in ``size`` already, and let the oldest give way."""
        rows, bounds = self._rows, self.bounds
        self.size += row[SIZE] - counted
        rows.append(row)
        while len(rows) > bounds.traces or (self.size > bounds.size and len(rows) > 1):
            self._forget()
        if self._followers:
            self._tell(self._fold(row))

    def _tell(self, trace: Trace) -> None:
        for follower in self._followers:
            try:
                follower(trace)
            except Exception:
                self.unfollow(follower)
                log.exception("follower %r raised on %r and was removed", follower, trace)

    def _forget(self) -> None:
        try:
            row = self._rows.popleft()
        except IndexError:
            return  # another thread has cleared it
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
                return list(self._rows)
            except RuntimeError:  # the loop's thread has added one in the middle
                continue

    def _fold(self, row: Row) -> Trace:
        record = Record._make(row)
        return fold(record, self.server, self._make, marked=record.id in self.marked)


Then = Callable[[Recorder, int, Draft, Any], None]
_THEN: dict[type[ev.Event], Then] = {
    ev.RequestRead: Recorder._keep_body,
    ev.HandlerFinished: Recorder._handled,
    ev.HandlerFailed: Recorder._handled,
    ev.HandlerCancelled: Recorder._handled,
    ev.ResponseStarted: Recorder._answers,
    ev.ResponseFinished: Recorder._answered,
    ev.ConnectionClosed: Recorder._finish,
}
#: Of each event what is noted, and what is done then: one look-up for each.
_NOTED = {kind: (note, _THEN.get(kind)) for kind, note in NOTES.items()}
#: What may still be told of an exchange that has been answered: nothing begins with it.
_LATE = frozenset({ev.RequestRead, ev.ConnectionClosed})
