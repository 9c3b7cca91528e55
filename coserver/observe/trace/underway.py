"""An exchange under way as a trace: the values of a snapshot on an axis of time, up to now. It needs no recorder.

A snapshot does not know the blocking calls that are over, and when the handler began if its response is being sent. A
snapshot from JSON has no fields and no bodies either.
"""

from __future__ import annotations

from ...lifecycle import phases
from ..secrets import mask_target
from ..snapshot.rows import ExchangeState, SubrequestState
from ..text import answer_fields, decode_fields
from .trace import (
    CANCELLED,
    FAILED,
    HANDLER,
    OK,
    OPEN,
    REQUEST,
    RESPONSE,
    SUBREQUEST,
    SUSPEND,
    Body,
    Message,
    Span,
    Trace,
)

_OUTCOMES = {"done": OK, "failed": FAILED, "cancelled": CANCELLED}
_BEFORE = frozenset({phases.ACCEPT, phases.HEAD, phases.BODY})


def so_far(row: ExchangeState, at: float = 0.0, make: type[Trace] = Trace) -> Trace:
    """Make the trace. ``at`` is the moment of the snapshot, in seconds since 1970."""
    spans = _main(row)
    if row.suspended is not None:
        waits = row.suspended
        start = max(row.seconds - waits.seconds, 0.0)
        name = f"{waits.call} {waits.on}".rstrip()
        spans.append(_open(SUSPEND, name, start, row.seconds, waits.place))
    spans += [_asked(sub, row.seconds) for sub in row.subrequests]
    request = Message(unmasked=decode_fields(row.raw_fields), body=Body(content=row.content, size=row.request_size))
    answer = Body(content=row.response_content(), size=row.response_size)
    return make(
        id=row.id, connection=row.connection, server=row.server, listener=row.listener, protocol=row.protocol,
        secure=row.secure, src=row.src, dst=row.dst, at=at - row.seconds, seconds=row.seconds, method=row.method,
        raw_target=row.target, host=row.host, version="", request=request, status=row.status,
        response=Message(unmasked=answer_fields(row.raw_answer), body=answer), handler=row.handler, route=row.route,
        phase=row.phase, error=row.error, marked=row.marked, spans=tuple(spans),
    )  # fmt: skip


def _main(row: ExchangeState) -> list[Span]:
    """The spans of request, handler and response so far."""
    since = min(max(row.seconds - row.phase_seconds, 0.0), row.seconds)
    if row.phase in _BEFORE or not row.seconds:
        return [_open(REQUEST, "", 0.0, row.seconds)]
    if row.phase in (phases.RESPONSE, phases.RECYCLE):
        before = Span(kind=HANDLER, name=row.handler, start=0.0, end=since, outcome=OK)
        return [before, _open(RESPONSE, "", since, row.seconds)]
    return [
        Span(kind=REQUEST, name="", start=0.0, end=since, outcome=OK),
        _open(HANDLER, row.handler, since, row.seconds),
    ]


def _open(kind: str, name: str, start: float, end: float, detail: str = "") -> Span:
    return Span(kind=kind, name=name, start=start, end=end, outcome=OPEN, detail=detail)


def _asked(sub: SubrequestState, now: float) -> Span:
    outcome = _OUTCOMES.get(sub.state, OPEN)
    said = sub.state if outcome == OPEN else str(sub.status or sub.state)
    return Span(
        kind=SUBREQUEST, name=f"{sub.method} {mask_target(sub.target)}", upstream=sub.upstream,
        start=sub.start, end=min(sub.start + sub.seconds, now), outcome=outcome, detail=f"{said} {sub.member}".rstrip(),
    )  # fmt: skip
