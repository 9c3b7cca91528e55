"""A record of one exchange, and the trace that it becomes: marks become spans, bytes become fields and bodies.

The recorder makes a record while clients wait, so that is cheap. ``fold`` makes the trace when somebody looks.
"""

from __future__ import annotations

from operator import itemgetter
from time import time
from typing import Any, NamedTuple

from ...lifecycle import events as ev
from ...lifecycle import phases
from ...protocol.head import RequestHead
from ..snapshot.capture import ListenerView
from ..text import answer_fields, decode_fields, read_request
from .spans import ENDS, Hold, Marks, Timeline
from .trace import HANDLER, RESPONSE, Body, Message, Span, Trace

#: Bytes of a record beside its head and bodies.
_OVERHEAD = 500
#: Bytes of one mark.
_MARK = 150
#: An HTTP exchange has one of these, or two with an error response; a TCP message may have any number.
_ONCE = frozenset({ev.ResponseStarted, ev.ResponseFinished, ev.ResponseFailed, ev.ResponseCancelled})
#: Events that one exchange may have any number of times.
_REPEATED = _ONCE | {
    ev.Suspended, ev.Resumed, ev.SubrequestStarted, ev.SubrequestFinished, ev.SubrequestFailed, ev.SubrequestCancelled,
}  # fmt: skip


class BodyPrefix:
    """The first bytes of a body that passes in pieces: ``size`` bytes have passed, ``kept`` of them are here."""

    __slots__ = ("kept", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = self.kept = 0

    def add(self, piece: bytes, most: int) -> int:
        """Keep a piece, as far as ``most`` bytes in all allow; return how many bytes of it are kept."""
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
    """The notes of an exchange under way, if there is more to note than that it went smoothly.

    ``sent`` is the request's body, ``answered`` the response's, where they passed in pieces. ``message`` is the message
    of a TCP exchange that is over.
    """

    # Defaults of the class, not set one by one: most exchanges never change them.
    sent: BodyPrefix | None = None
    answered: BodyPrefix | None = None
    message = b""
    skipped = 0
    _owed: dict[Any, int] | None = None  # by step: begins that were skipped, whose ends are skipped too

    def __init__(self, listener: ListenerView) -> None:
        self.listener = listener
        self.http = listener.protocol == "http"
        self.marks: Marks = []

    def skips(self, event: Any) -> bool:
        """Whether to skip this mark because there are too many. Of a step it keeps both marks or none."""
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
        """Bytes kept of bodies that passed in pieces."""
        return (self.sent.kept if self.sent else 0) + (self.answered.kept if self.answered else 0)

    @property
    def size(self) -> int:
        """Bytes of the whole draft."""
        return _MARK * len(self.marks) // 3 + len(self.message) + self.kept


class Record(NamedTuple):
    """One exchange that is over, as it is kept. ``size`` is the memory that it takes, in bytes.

    Times are monotonic seconds, but ``at``, which is ``ended`` in seconds since 1970. ``began`` is the begin of the
    handler, ``since`` that of the response. ``began`` is 0 if the draft's marks have the handler, and for TCP.
    """

    size: int
    id: int
    connection: int
    peer: str
    listener: ListenerView
    started: float
    began: float
    since: float
    ended: float
    at: float
    head: bytes
    handler: str
    route: str
    status: int
    sent_size: int
    answer_size: int
    answer: bytes
    draft: Draft | None

    @property
    def marks(self) -> Marks:
        """The marks sorted by time, with those of a handler and a response that went smoothly."""
        marks: Marks = list(self.draft.marks) if self.draft is not None else []
        if self.began:
            marks += (ev.HandlerStarted, self.began, self.handler, ev.HandlerFinished, self.since, None)
            marks += (ev.ResponseFinished, self.ended, self.since)
        each = iter(marks)
        rows = sorted(zip(each, each, each, strict=True), key=itemgetter(1))
        return [one for row in rows for one in row]


#: A Record's values in their order. A bare tuple costs a third of a Record, and most are never looked at.
Row = tuple[Any, ...]
#: Where a Row has its size, its exchange's id, the status, and the draft.
SIZE, ID, STATUS, DRAFT = (Record._fields.index(name) for name in ("size", "id", "status", "draft"))


def keep(exchange: Any, listener: ListenerView, began: float, ended: float, most: int, draft: Draft | None) -> Row:
    """The row of an exchange, with ``most`` bytes of its answer's body. ``began``: see Record.

    Makes as few objects as possible, and none of its own for an exchange that went smoothly: each is freed a thousand
    requests later, when no cache of the processor has it any more. So the head is kept as it came.
    """
    if exchange.hold_times:
        draft = _with_holds(exchange, listener, draft)
    connection, head, endpoint = exchange.connection, exchange.head, exchange.endpoint
    raw, status, answer_size = head.raw if head is not None else b"", exchange.status, exchange.size
    answer = exchange.answer_head if status else b""
    if answer_size > most and answer:
        answer = answer[: answer.find(b"\r\n\r\n") + 4 + most]
    size = _OVERHEAD + len(raw) + len(answer)
    if draft is not None:
        size += draft.size
    if endpoint is None:
        handler = route = ""
    elif exchange.hosted is None:
        handler, route = endpoint.name, endpoint.route
    else:
        handler, route = exchange.handler, exchange.route
    return (size, exchange.id, connection.id, connection.peer, listener, exchange.started, began, exchange.since,
            ended, time(), raw, handler, route, status, exchange.body_size, answer_size, answer, draft)  # fmt: skip


def keep_message(exchange: Any, ended: float, most: int, draft: Draft) -> Row:
    """The row of a TCP message's exchange, with ``most`` bytes of the message."""
    connection, message = exchange.connection, exchange.message
    draft.message = message[:most]
    if exchange.hold_times:
        _with_holds(exchange, draft.listener, draft)
    return Record(
        size=_OVERHEAD + draft.size, id=exchange.id, connection=connection.id, peer=connection.peer,
        listener=draft.listener, started=exchange.started, began=0.0, since=0.0, ended=ended, at=time(), head=b"",
        handler=exchange.handler, route="", status=0, sent_size=len(message), answer_size=0, answer=b"", draft=draft,
    )  # fmt: skip


def _with_holds(exchange: Any, listener: ListenerView, draft: Draft | None) -> Draft:
    """The draft, a new one if there is none, with marks of the exchange's holds."""
    draft = draft if draft is not None else Draft(listener)
    for phase, begin, end in exchange.hold_times:
        draft.marks += (Hold, begin, (phase, end))
    return draft


def fold(record: Record, server: str, make: type[Trace], *, marked: bool) -> Trace:
    """Make the trace of a record."""
    one, seconds = record.listener, record.ended - record.started
    marks, head, draft = record.marks, read_request(record.head), record.draft
    timeline = Timeline(marks, record.started, seconds)
    spans = timeline.spans()
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
        method=head.method if head is not None else "",
        raw_target=head.target if head is not None else "",
        host=head.host.decode("latin-1") if head is not None else "",
        version=f"HTTP/1.{head.minor}" if head is not None else "",
        request=_request(record, head),
        status=record.status,
        response=_response(record),
        handler=record.handler,
        route=record.route,
        phase=_phase(record, head, marks, spans),
        error=timeline.errors[0] if timeline.errors else "",
        marked=marked,
        skipped=draft.skipped if draft is not None else 0,
        spans=spans,
        traceback=timeline.traceback,
    )


def _request(record: Record, head: RequestHead | None) -> Message:
    draft = record.draft
    content = b"" if draft is None else draft.sent.content if draft.sent is not None else draft.message
    fields = decode_fields(head.fields) if head is not None else ()
    return Message(unmasked=fields, body=Body(content=content, size=record.sent_size))


def _response(record: Record) -> Message:
    head, _, content = record.answer.partition(b"\r\n\r\n")
    size = record.answer_size
    answered = record.draft.answered if record.draft is not None else None
    if answered is not None:
        content += answered.content
        size = max(size, answered.size)
    return Message(unmasked=answer_fields(head), body=Body(content=content, size=size))


def _phase(record: Record, head: RequestHead | None, marks: Marks, spans: tuple[Span, ...]) -> str:
    """The phase in which the exchange ended."""
    marks = [one for at in range(0, len(marks), 3) if marks[at] is not Hold for one in marks[at : at + 3]]
    if marks[-3] in (ev.ResponseFinished, ev.HandlerFinished):
        return phases.RECYCLE
    last = max((span for span in spans if span.kind in (HANDLER, RESPONSE)), key=lambda span: span.end, default=None)
    if last is not None:
        return phases.HANDLER if last.kind == HANDLER else phases.RESPONSE
    if ev.RequestRead in marks[::3]:
        return phases.BODY
    if head is None:
        return phases.HEAD
    if head.length != record.sent_size:
        return phases.BODY
    return phases.HANDLER if record.handler else phases.HEAD  # its handler began before the recording
