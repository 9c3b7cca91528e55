"""From what the recorder noted to a trace: marks become spans, bytes become fields and bodies.

Noting is done while clients wait, folding when somebody looks. A note holds nothing alive but what is recorded: no
connection, no exception with its frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..lifecycle import events as ev
from ..lifecycle import phases
from .heads import answer_fields, decode_fields
from .taking import Listened
from .trace import (
    CANCELLED,
    FAILED,
    HANDLER,
    OK,
    OPEN,
    REQUEST,
    RESPONSE,
    Body,
    Message,
    Span,
    Trace,
)

#: Characters of an error's words.
_WORDS = 300

Mark = tuple[type[ev.Event], float, Any]


def _words(error: BaseException) -> tuple[str, bool]:
    """An error's words, and whether it is one: a handler that raises a 404 has not failed."""
    expected = isinstance(status := getattr(error, "status", None), int) and status < 500
    try:
        text = str(error)
    except Exception as second:
        text = f"(its str raises {type(second).__name__})"
    return f"{type(error).__name__}: {text}"[:_WORDS], not expected


def _nothing(event: Any) -> None:
    return None


#: What the recorder keeps of each event it notes. Others it passes over.
NOTES: dict[type[ev.Event], Callable[[Any], Any]] = {
    ev.RequestRead: _nothing,
    ev.RequestRefused: lambda event: event.reason,
    ev.HandlerStarted: lambda event: event.handler,
    ev.HandlerFinished: _nothing,
    ev.HandlerFailed: lambda event: _words(event.error),
    ev.HandlerCancelled: _nothing,
    ev.ResponseStarted: _nothing,
    ev.ResponseFinished: _nothing,
    ev.ResponseFailed: lambda event: _words(event.error),
    ev.ResponseCancelled: _nothing,
    ev.ConnectionClosed: lambda event: event.reason,
}


class Kept:
    """The begin of a body that passes in pieces: ``size`` bytes came by, ``kept`` of them are here."""

    __slots__ = ("kept", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = self.kept = 0

    def add(self, piece: bytes, most: int) -> int:
        """Keep it as far as ``most`` bytes in all allow; how many more are kept now."""
        self.size += len(piece)
        room = most - self.kept
        if room <= 0:
            return 0
        part = piece if len(piece) <= room else piece[:room]
        self.pieces.append(part)
        self.kept += len(part)
        return len(part)

    @property
    def content(self) -> bytes:
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


class Draft:
    """An exchange under way, as far as it has been noted. ``sent`` and ``answered`` are bodies that were handed on."""

    __slots__ = ("answered", "exchange", "http", "listened", "marks", "sent")

    def __init__(self, exchange: Any, listened: Listened) -> None:
        self.exchange = exchange
        self.listened = listened
        self.http = listened.protocol == "http"
        self.marks: list[Mark] = []
        self.sent: Kept | None = None
        self.answered: Kept | None = None

    @property
    def kept(self) -> int:
        """Bytes of bodies."""
        return (self.sent.kept if self.sent else 0) + (self.answered.kept if self.answered else 0)


class Record:
    """What is kept of an exchange that is over; ``size`` is what that takes, in bytes."""

    __slots__ = (
        "answer", "answer_size", "answered", "at", "connection", "ended", "endpoint", "head", "id", "listened",
        "marks", "message", "peer", "sent", "sent_size", "size", "started", "status",
    )  # fmt: skip

    def __init__(self, draft: Draft, ended: float, at: float, most: int) -> None:
        """``at`` is seconds since 1970, ``ended`` the same moment on the clock of the marks."""
        exchange = draft.exchange
        connection = exchange.connection
        self.id: int = exchange.id
        self.connection: int = connection.id
        self.peer: str = connection.peer
        self.listened = draft.listened
        self.started: float = exchange.started
        self.ended = ended
        self.at = at
        self.marks = draft.marks
        self.sent = draft.sent
        self.answered = draft.answered
        if draft.http:
            self.message = b""
            self.head = exchange.head
            self.endpoint = exchange.endpoint
            self.status: int = exchange.status
            self.sent_size: int = exchange.body_size
            self.answer_size: int = exchange.size
            self.answer: bytes = exchange.answer_head if exchange.status else b""
            if self.answer_size > most and len(self.answer) > most:
                self.answer = self.answer[: self.answer.find(b"\r\n\r\n") + 4 + most]
        else:
            self.message = exchange.message[:most]
            self.sent_size = len(exchange.message)
            self.head, self.endpoint, self.status = None, connection, 0
            self.answer, self.answer_size = b"", 0
        self.size = 0

    @property
    def kept(self) -> int:
        """Bytes of bodies that were handed on piece by piece."""
        return (self.sent.kept if self.sent else 0) + (self.answered.kept if self.answered else 0)


def fold(record: Record, server: str, make: type[Trace], *, marked: bool) -> Trace:
    """The trace of a record."""
    head, one, seconds = record.head, record.listened, record.ended - record.started
    http = one.protocol == "http"
    spans, phase, error = _follow(record, seconds)
    return make(
        id=record.id,
        connection=record.connection,
        server=server,
        listener=one.name,
        protocol=one.protocol,
        src=record.peer,
        dst=one.address,
        at=record.at - seconds,
        seconds=seconds,
        method=head.method if head is not None else "",
        raw_target=head.target if head is not None else "",
        host=head.host.decode("latin-1") if head is not None else "",
        version=f"HTTP/1.{head.minor}" if head is not None else "",
        request=_request(record),
        status=record.status,
        response=_response(record),
        handler=(record.endpoint.name if http else record.endpoint.handler) if record.endpoint is not None else "",
        route=record.endpoint.route if http and record.endpoint is not None else "",
        phase=phase,
        error=error,
        marked=marked,
        spans=spans,
    )


def _request(record: Record) -> Message:
    content = record.message or (record.sent.content if record.sent is not None else b"")
    fields = decode_fields(record.head.fields) if record.head is not None else ()
    return Message(unmasked=fields, body=Body(content=content, size=record.sent_size))


def _response(record: Record) -> Message:
    head, _, content = record.answer.partition(b"\r\n\r\n")
    size = record.answer_size
    if record.answered is not None:
        content += record.answered.content
        size = max(size, record.answered.size)
    return Message(unmasked=answer_fields(head), body=Body(content=content, size=size))


#: What ends a span, and how.
_ENDS: dict[type[ev.Event], tuple[str, str]] = {
    ev.HandlerFinished: (HANDLER, OK),
    ev.HandlerFailed: (HANDLER, FAILED),
    ev.HandlerCancelled: (HANDLER, CANCELLED),
    ev.ResponseFinished: (RESPONSE, OK),
    ev.ResponseFailed: (RESPONSE, FAILED),
    ev.ResponseCancelled: (RESPONSE, CANCELLED),
}
_BEGINS = {ev.HandlerStarted: HANDLER, ev.ResponseStarted: RESPONSE}


def _follow(record: Record, seconds: float) -> tuple[tuple[Span, ...], str, str]:
    """The spans, the phase in which it ended, and what went wrong, from one mark to the next."""
    begun: dict[str, tuple[float, str]] = {}
    done: list[Span] = []
    read, errors = None, []
    for kind, at, note in record.marks:
        when = at - record.started
        if kind in _BEGINS:
            if read is None:
                read = when
            begun[_BEGINS[kind]] = (when, note or "")
        elif kind in _ENDS:
            what, outcome = _ENDS[kind]
            start, name = begun.pop(what, (0.0, ""))
            words, is_error = note or ("", False)
            if is_error:
                errors.append(words)
            done.append(Span(kind=what, name=name, start=start, end=when, outcome=outcome, detail=words))
        elif kind is ev.RequestRead:
            read = when if not done and not begun else read
        elif note:
            errors.append(note)  # refused, or closed before its end
    done += [
        Span(kind=what, name=name, start=start, end=seconds, outcome=OPEN) for what, (start, name) in begun.items()
    ]
    phase = _phase(record, done)
    whole = OK if read is not None else OPEN
    request = Span(kind=REQUEST, name="", start=0.0, end=seconds if read is None else read, outcome=whole)
    done.sort(key=lambda span: (span.start, -span.end))
    return (request, *done), phase, errors[0] if errors else ""


def _phase(record: Record, spans: list[Span]) -> str:
    last = record.marks[-1][0]
    if last in (ev.ResponseFinished, ev.HandlerFinished):
        return phases.RECYCLE
    by_end = sorted(spans, key=lambda span: span.end)
    if by_end:
        return phases.HANDLER if by_end[-1].kind == HANDLER else phases.RESPONSE
    return phases.HEAD if record.head is None or record.head.length == record.sent_size else phases.BODY
