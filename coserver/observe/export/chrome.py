"""Traces as Chrome trace events, for Perfetto (ui.perfetto.dev) and chrome://tracing.

A server is a process, a connection a thread. Slices of a thread must be nested. So exchanges of one connection that
overlap (HTTP/2 in a browser's HAR) have a thread each. Other spans that overlap are asynchronous slices: suspensions,
subrequests, a request that is read while its handler runs. Times are microseconds since the first trace began: a float
of microseconds since 1970 would lose its last digits. Source: the "Trace Event Format" document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from ..trace.trace import HELD, STEP, SUBREQUEST, SUSPEND, Span, Trace

#: Nanoseconds by which exchanges of one connection may seem to overlap: starts and durations come from two clocks.
_SKEW = 1_000_000


def to_chrome(traces: Iterable[Trace]) -> dict[str, Any]:
    """Make the object of the JSON file."""
    those = sorted(traces, key=lambda trace: trace.at)
    began = those[0].at if those else 0.0
    threads = _Threads()
    events = [event for trace in those for event in _events(trace, *threads.place(trace, began))]
    start = datetime.fromtimestamp(began, UTC).isoformat(timespec="microseconds")
    return {"traceEvents": [*threads.names(), *events], "displayTimeUnit": "ms", "otherData": {"start": start}}


class _Threads:
    """Gives each exchange its process and thread. Times are nanoseconds."""

    def __init__(self) -> None:
        self._processes: dict[str, int] = {}
        self._lanes: dict[tuple[int, int], list[tuple[int, int]]] = {}  # by connection: its threads, each with its end
        self._named: dict[tuple[int, int], str] = {}

    def place(self, trace: Trace, began: float) -> tuple[int, int, int]:
        """The process, the thread and the start of an exchange."""
        pid = self._processes.setdefault(trace.server, len(self._processes) + 1)
        start, length = round((trace.at - began) * 1e9), round(trace.seconds * 1e9)
        lanes = self._lanes.setdefault((pid, trace.connection), [])
        number = next((at for at, (_, end) in enumerate(lanes) if end <= start + _SKEW), len(lanes))
        if number == len(lanes):
            tid = len(self._named) + 1
            self._named[pid, tid] = f"connection {trace.connection}" + (f" ({number + 1})" if number else "")
            lanes.append((tid, start))
        tid, end = lanes[number]
        start = max(start, end)
        lanes[number] = tid, start + length
        return pid, tid, start

    def names(self) -> Iterator[dict[str, Any]]:
        for server, pid in self._processes.items():
            yield _name("process_name", pid, 0, server or "server")
        for (pid, tid), name in self._named.items():
            yield _name("thread_name", pid, tid, name)


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _events(trace: Trace, pid: int, tid: int, start: int) -> Iterator[dict[str, Any]]:
    base = {"pid": pid, "tid": tid}
    told = {
        "exchange": trace.id, "connection": trace.connection, "status": trace.status, "handler": trace.handler,
        "route": trace.route, "error": trace.error, "from": trace.src,
    }  # fmt: skip
    name = f"{trace.method} {trace.target}" if trace.method else trace.url
    length = round(trace.seconds * 1e9)
    whole = {"ph": "X", "cat": "exchange", "name": name, "ts": start / 1e3, "dur": length / 1e3}
    yield {**base, **whole, "args": {key: value for key, value in told.items() if value}}
    free = 0  # the end of the last slice of this thread
    for number, span in enumerate(trace.spans):
        begin, end = round(span.start * 1e9), round(span.end * 1e9)
        if span.kind in (SUSPEND, SUBREQUEST, HELD) or begin < free or end > length:
            own = f"{pid}.{tid}.{trace.id}.{number}"
            yield from _asynchronous(span, {**base, "id": own, "cat": span.kind}, start)
        else:
            free = end
            yield {
                **base, "ph": "X", "cat": span.kind, "name": _title(span), "ts": (start + begin) / 1e3,
                "dur": (end - begin) / 1e3, "args": _told(span),
            }  # fmt: skip


def _title(span: Span) -> str:
    if span.kind in (SUSPEND, SUBREQUEST, STEP):
        return f"{span.upstream} {span.name}".strip() or span.kind
    return f"{span.kind} {span.name}".rstrip()


def _asynchronous(span: Span, base: dict[str, Any], start: int) -> Iterator[dict[str, Any]]:
    name = _title(span)
    yield {**base, "ph": "b", "name": name, "ts": (start + round(span.start * 1e9)) / 1e3, "args": _told(span)}
    for child in span.children:
        yield from _asynchronous(child, base, start)
    yield {**base, "ph": "e", "name": name, "ts": (start + round(span.end * 1e9)) / 1e3}


def _told(span: Span) -> dict[str, Any]:
    return {"outcome": span.outcome, **({"detail": span.detail} if span.detail else {})}
