"""Notes of events, as the recorder keeps them, and the spans that they become on one axis of time.

A note keeps plain values alone: no connection, and no exception with its frames. A new event needs a row in NOTES,
and a row in BEGINS or ENDS.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ...lifecycle import events as ev
from ..secrets import mask_target
from .trace import CANCELLED, FAILED, HANDLER, HELD, OK, OPEN, REQUEST, RESPONSE, STEP, SUBREQUEST, SUSPEND, Span

#: Characters of an error's text.
_WORDS = 300

Kind = type[ev.Event]
#: A flat list: kind of event, its time, its note, and so on. A mark is one such triple.
Marks = list[Any]

#: The steps of a subrequest; each ends at the time in this attribute of the subrequest.
_STEPS = (
    ("wait", "placed"), ("connect", "connected"), ("tls", "secured"), ("send", "sent"), ("first byte", "first"),
    ("body", "ended"),
)  # fmt: skip


def words_of(error: BaseException) -> tuple[str, bool]:
    """The text of an exception, and whether it is a failure: a handler that raises a 404 has not failed."""
    status = getattr(error, "status", None)
    try:
        text = str(error)
    except Exception as second:
        text = f"(its str raises {type(second).__name__})"
    told = f"{type(error).__name__}: {text}"[:_WORDS].encode("utf-8", "backslashreplace").decode()
    return told, not (isinstance(status, int) and status < 500)


#: Limits of a kept traceback, which a recursion would fill: frames, counted from the innermost, and characters.
_FRAMES, _CHARACTERS = 20, 8_000
_COSERVER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


def failure_of(error: BaseException) -> tuple[str, bool, str]:
    """``words_of`` an exception, and its traceback as text if it is a failure."""
    told, failed = words_of(error)
    if not failed:
        return told, False, ""
    try:
        own = _from_users_frame(error.__traceback__)
        shown = "".join(traceback.format_exception(type(error), error, own, limit=-_FRAMES))
    except Exception:  # an exception's own code: its str may raise
        return told, True, ""
    if len(shown) > _CHARACTERS:
        shown = f"… {len(shown) - _CHARACTERS} characters more\n{shown[-_CHARACTERS:]}"
    return told, True, shown.encode("utf-8", "backslashreplace").decode()


def _from_users_frame(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without coserver's frames before the first one of other code; all of it if there is none."""
    at = trace
    while at is not None and at.tb_frame.f_code.co_filename.startswith(_COSERVER):
        at = at.tb_next
    return at or trace


class Hold:
    """The kind of a mark about a hold by a stepper; its note is the phase and the end."""


def _subrequest_began(event: Any) -> tuple[Any, ...]:
    return event.subrequest, event.upstream, f"{event.method} {event.target}"


def _subrequest_ended(event: Any) -> tuple[Any, ...]:
    sub = event.source
    if isinstance(event, ev.SubrequestFinished):
        words = str(event.status)
    elif isinstance(event, ev.SubrequestFailed):
        words = words_of(event.error)[0]
    else:
        words = ""
    return event.subrequest, words, sub.member, [(name, getattr(sub, moment)) for name, moment in _STEPS]


#: For each event that the recorder keeps: the function that makes its note, None for no note.
NOTES: dict[Kind, Callable[[Any], Any] | None] = {
    ev.RequestRead: None,
    ev.RequestRefused: lambda event: event.reason,
    ev.HandlerStarted: lambda event: event.handler,
    ev.HandlerFinished: None,
    ev.HandlerFailed: lambda event: failure_of(event.error),
    ev.HandlerCancelled: None,
    ev.Suspended: lambda event: (event.call, event.on, event.where),
    ev.Resumed: lambda event: (event.call, event.seconds),
    ev.SubrequestStarted: _subrequest_began,
    ev.SubrequestFinished: _subrequest_ended,
    ev.SubrequestFailed: _subrequest_ended,
    ev.SubrequestCancelled: _subrequest_ended,
    ev.ResponseStarted: None,
    ev.ResponseFinished: lambda event: event.source.since,  # its begin: ResponseStarted may be missing
    ev.ResponseFailed: lambda event: words_of(event.error),
    ev.ResponseCancelled: None,
    ev.ExchangeReset: lambda event: event.reason,
    ev.ConnectionClosed: lambda event: event.reason,
}

BEGINS: dict[Kind, str] = {ev.HandlerStarted: HANDLER, ev.ResponseStarted: RESPONSE, ev.SubrequestStarted: SUBREQUEST}
ENDS: dict[Kind, tuple[str, str]] = {
    ev.HandlerFinished: (HANDLER, OK),
    ev.HandlerFailed: (HANDLER, FAILED),
    ev.HandlerCancelled: (HANDLER, CANCELLED),
    ev.SubrequestFinished: (SUBREQUEST, OK),
    ev.SubrequestFailed: (SUBREQUEST, FAILED),
    ev.SubrequestCancelled: (SUBREQUEST, CANCELLED),
    ev.ResponseFinished: (RESPONSE, OK),
    ev.ResponseFailed: (RESPONSE, FAILED),
    ev.ResponseCancelled: (RESPONSE, CANCELLED),
}


class Timeline:
    """Turns the marks of one exchange into spans. It began at ``started`` and took ``seconds``."""

    def __init__(self, marks: Marks, started: float, seconds: float) -> None:
        self.started = started
        self.seconds = seconds
        self.errors: list[str] = []
        self.traceback = ""
        self._read: float | None = None
        self._begun: dict[Any, tuple[float, Any]] = {}
        self._waits: list[tuple[float, tuple[str, str, str]]] = []
        self._done: list[Span] = []
        self._failed: float | None = None  # the end of a handler that failed, until its answer begins
        each = iter(marks)
        for kind, at, note in zip(each, each, each, strict=True):
            if kind in BEGINS:
                self._begin(BEGINS[kind], at - started, note)
            elif kind in ENDS:
                self._end(*ENDS[kind], at - started, note)
            elif kind is ev.Suspended:
                self._waits.append((at - started, note))
            elif kind is ev.Resumed:
                self._resume(at - started, *note)
            elif kind is Hold:
                phase, until = note
                end = min(until - started, seconds)
                if at - started <= seconds:
                    self._done.append(Span(kind=HELD, name=phase, start=at - started, end=end))
            elif kind is ev.RequestRead:
                self._read = at - started
            elif note:
                self.errors.append(note)  # the reason why it was refused, or closed before its end

    def spans(self) -> tuple[Span, ...]:
        """The spans, sorted by start, the longer first. A span without an end lasts until the exchange ends."""
        found = list(self._done)
        for key, (start, note) in self._begun.items():
            found.append(self._span(key, (start, self.seconds), OPEN, note, None))
        found += [_wait(note, start, self.seconds, OPEN) for start, note in self._waits]
        found.sort(key=lambda span: (span.start, -span.end))
        known = self._read is not None
        end = self._read if self._read is not None else self.seconds
        return (Span(kind=REQUEST, name="", start=0.0, end=end, outcome=OK if known else OPEN), *found)

    def _begin(self, kind: str, when: float, note: Any) -> None:
        if self._read is None:
            self._read = when
        if self._failed is not None and kind != SUBREQUEST:
            self._logged(when)
        self._begun[(kind, note[0]) if kind == SUBREQUEST else (kind, 0)] = (when, note)

    def _end(self, kind: str, outcome: str, when: float, note: Any) -> None:
        key = (kind, note[0]) if kind == SUBREQUEST else (kind, 0)
        begun = self._begun.pop(key, None)
        if begun is None and kind == SUBREQUEST:
            return  # the subrequest began before the recording
        if type(note) is float:
            begun, note = begun or (note - self.started, ""), None
        start, before = begun or (next((one.end for one in reversed(self._done) if one.kind != HELD), 0.0), "")
        if self._failed is not None and kind == RESPONSE:
            self._logged(start)
        if kind != SUBREQUEST and note is not None and note[1]:
            self.errors.append(note[0])
            self.traceback = self.traceback or (note[2] if len(note) > 2 else "")
            self._failed = when if kind == HANDLER else None
        self._done.append(self._span(key, (start, when), outcome, before, note))

    def _logged(self, when: float) -> None:
        """Between a handler's failure and its answer the failure is logged, with its traceback."""
        assert self._failed is not None
        held = [one.start for one in self._done if one.kind == HELD and one.start >= self._failed]
        end = min(when, *held) if held else when
        if end > self._failed:
            self._done.append(Span(kind=STEP, name="log", start=self._failed, end=end))
        self._failed = None

    def _resume(self, when: float, call: str, seconds: float) -> None:
        """End a suspension. Several workers may wait in the same call; the begin tells which one resumes."""
        mine = [one for one in self._waits if one[1][0] == call]
        if mine:
            wait = min(mine, key=lambda one: abs(one[0] - (when - seconds)))
            self._waits.remove(wait)
            self._done.append(_wait(wait[1], wait[0], when, OK))

    def _span(self, key: tuple[str, int], times: tuple[float, float], outcome: str, before: Any, after: Any) -> Span:
        kind, (start, end) = key[0], times
        if kind != SUBREQUEST:
            detail = after[0] if after is not None else ""
            return Span(kind=kind, name=before or "", start=start, end=end, outcome=outcome, detail=detail)
        _, upstream, name = before
        _, words, member, moments = after or (0, "", "", [])
        return Span(
            kind=kind, name=mask_target(name), start=start, end=end, outcome=outcome, upstream=upstream,
            detail=" ".join([each for each in (words, member) if each]), children=self._steps(start, moments),
        )  # fmt: skip

    def _steps(self, start: float, moments: list[tuple[str, float]]) -> tuple[Span, ...]:
        found = []
        for name, moment in moments:
            if moment:
                end = max(moment - self.started, start)  # an answer may begin before the request is out
                found.append(Span(kind=STEP, name=name, start=start, end=end))
                start = end
        return tuple(found)


def _wait(note: tuple[str, str, str], start: float, end: float, outcome: str) -> Span:
    call, on, where = note
    return Span(kind=SUSPEND, name=f"{call} {on}", start=start, end=end, outcome=outcome, detail=where)
