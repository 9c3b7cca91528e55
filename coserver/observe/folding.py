"""From what the recorder keeps to a trace: marks become spans, bytes become fields and bodies.

Keeping is done while clients wait, folding when somebody looks.
"""

from __future__ import annotations

from typing import Any

from ..lifecycle import events as ev
from ..lifecycle import phases
from .heads import answer_fields
from .spans import ENDS, Line, Marks
from .taking import Listened
from .trace import HANDLER, RESPONSE, Body, Message, Span, Trace

#: Between the names and values of fields, in none of which it can be.
_LINE = b"\n"
#: An HTTP exchange has one, or one more for an error; a TCP message may have any number of answers.
_ONCE = frozenset({ev.ResponseStarted, ev.ResponseFinished, ev.ResponseFailed, ev.ResponseCancelled})
#: What may happen any number of times in one exchange.
_REPEATED = _ONCE | {
    ev.Suspended, ev.Resumed, ev.SubrequestStarted, ev.SubrequestFinished, ev.SubrequestFailed, ev.SubrequestCancelled,
}  # fmt: skip


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

    # Defaults of the class, not set one by one: most exchanges never change them.
    sent: Kept | None = None
    answered: Kept | None = None
    skipped = 0
    _owed: dict[Any, int] | None = None  # the ends of steps that were passed over

    def __init__(self, exchange: Any, listened: Listened) -> None:
        self.exchange = exchange
        self.listened = listened
        self.http = listened.protocol == "http"
        self.marks: Marks = []

    def passes_over(self, event: Any) -> bool:
        """Whether this mark is not kept, there being too many; of a step both marks are kept, or none."""
        kind = type(event)
        if kind not in _REPEATED or (self.http and kind in _ONCE):
            return False
        if self._owed is None:
            self._owed = {}
        step = getattr(event, "subrequest", 0) or getattr(event, "call", "")
        if not (kind in ENDS or kind is ev.Resumed):
            self._owed[step] = self._owed.get(step, 0) + 1
            self.skipped += 1
            return True
        owed = self._owed.pop(step, 0)
        if owed > 1:
            self._owed[step] = owed - 1
        return owed > 0

    @property
    def kept(self) -> int:
        """Bytes of bodies."""
        return (self.sent.kept if self.sent else 0) + (self.answered.kept if self.answered else 0)


class Record:
    """What is kept of an exchange that is over; ``size`` is what that takes, in bytes.

    As few objects as can be: a thousand requests later each of them is freed, when no cache knows it any more. So the
    fields are one piece, and the marks one list. ``minor`` is -1 for what had no head.
    """

    __slots__ = (
        "answer", "answer_size", "answered", "at", "connection", "ended", "endpoint", "fields", "host", "id", "length",
        "listened", "marks", "message", "method", "minor", "peer", "sent", "sent_size", "size", "skipped", "started",
        "status", "target",
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
        self.skipped = draft.skipped
        self.sent = draft.sent
        self.answered = draft.answered
        if draft.http:
            self.message = b""
            self._keep_head(exchange.head)
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
            self.endpoint, self.status = connection, 0
            self._keep_head(None)
            self.answer, self.answer_size = b"", 0
        self.size = 0

    def _keep_head(self, head: Any) -> None:
        if head is None:
            self.method = self.target = ""
            self.host = self.fields = b""
            self.length, self.minor = 0, -1
            return
        self.method, self.target, self.minor = head.method, head.target, head.minor
        self.host, self.length = head.host, head.length
        self.fields = _LINE.join([each for pair in head.fields for each in pair])

    @property
    def kept(self) -> int:
        """Bytes of bodies that were handed on piece by piece."""
        return (self.sent.kept if self.sent else 0) + (self.answered.kept if self.answered else 0)


def fold(record: Record, server: str, make: type[Trace], *, marked: bool) -> Trace:
    """The trace of a record."""
    one, seconds = record.listened, record.ended - record.started
    http = one.protocol == "http"
    line = Line(record.marks, record.started, seconds)
    spans = line.spans()
    return make(
        id=record.id,
        connection=record.connection,
        server=server,
        listener=one.name,
        protocol=one.protocol,
        secure=one.secure,
        src=record.peer,
        dst=one.address,
        at=record.at - seconds,
        seconds=seconds,
        method=record.method,
        raw_target=record.target,
        host=record.host.decode("latin-1"),
        version=f"HTTP/1.{record.minor}" if record.minor >= 0 else "",
        request=_request(record),
        status=record.status,
        response=_response(record),
        handler=(record.endpoint.name if http else record.endpoint.handler) if record.endpoint is not None else "",
        route=record.endpoint.route if http and record.endpoint is not None else "",
        phase=_phase(record, spans),
        error=line.errors[0] if line.errors else "",
        marked=marked,
        skipped=record.skipped,
        spans=spans,
    )


def _request(record: Record) -> Message:
    content = record.message or (record.sent.content if record.sent is not None else b"")
    text = record.fields.decode("latin-1").split("\n") if record.fields else []
    fields = tuple(zip(text[::2], text[1::2], strict=True))
    return Message(unmasked=fields, body=Body(content=content, size=record.sent_size))


def _response(record: Record) -> Message:
    head, _, content = record.answer.partition(b"\r\n\r\n")
    size = record.answer_size
    if record.answered is not None:
        content += record.answered.content
        size = max(size, record.answered.size)
    return Message(unmasked=answer_fields(head), body=Body(content=content, size=size))


def _phase(record: Record, spans: tuple[Span, ...]) -> str:
    """Where it ended."""
    if record.marks[-3] in (ev.ResponseFinished, ev.HandlerFinished):
        return phases.RECYCLE
    last = max((span for span in spans if span.kind in (HANDLER, RESPONSE)), key=lambda span: span.end, default=None)
    if last is not None:
        return phases.HANDLER if last.kind == HANDLER else phases.RESPONSE
    return phases.HEAD if record.minor < 0 or record.length == record.sent_size else phases.BODY
