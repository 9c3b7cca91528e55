"""Traces as Chrome trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

A server is a process, a connection a thread; suspensions and subrequests, which overlap, are asynchronous slices.
Source: the "Trace Event Format" document. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .trace import SUBREQUEST, SUSPEND, Span, Trace


def to_chrome(traces: Iterable[Trace]) -> dict[str, Any]:
    """What goes into the JSON file."""
    events: list[dict[str, Any]] = []
    processes: dict[str, int] = {}
    threads: set[tuple[int, int]] = set()
    for trace in traces:
        pid = processes.setdefault(trace.server, len(processes) + 1)
        threads.add((pid, trace.connection))
        events += _events(trace, pid)
    names = [_name("process_name", pid, 0, server or "server") for server, pid in processes.items()]
    names += [_name("thread_name", pid, tid, f"connection {tid}") for pid, tid in sorted(threads)]
    return {"traceEvents": [*names, *events], "displayTimeUnit": "ms"}


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _events(trace: Trace, pid: int) -> Iterator[dict[str, Any]]:
    base = {"pid": pid, "tid": trace.connection}
    start = trace.at * 1e6
    told = {
        "exchange": trace.id, "status": trace.status, "handler": trace.handler, "route": trace.route,
        "error": trace.error, "from": trace.src,
    }  # fmt: skip
    name = f"{trace.method} {trace.target}" if trace.method else trace.url
    whole = {"ph": "X", "cat": "exchange", "name": name, "ts": _us(start), "dur": _us(trace.seconds * 1e6)}
    yield {**base, **whole, "args": {key: value for key, value in told.items() if value}}
    for number, span in enumerate(trace.spans):
        if span.kind in (SUSPEND, SUBREQUEST):
            yield from _asynchronous(span, {**base, "id": f"{trace.id}.{number}", "cat": span.kind}, start)
        else:
            yield {
                **base, "ph": "X", "cat": span.kind, "name": f"{span.kind} {span.name}".rstrip(),
                "ts": _us(start + span.start * 1e6), "dur": _us(span.seconds * 1e6), "args": _told(span),
            }  # fmt: skip


def _asynchronous(span: Span, base: dict[str, Any], start: float) -> Iterator[dict[str, Any]]:
    name = f"{span.upstream} {span.name}".strip() or span.kind
    yield {**base, "ph": "b", "name": name, "ts": _us(start + span.start * 1e6), "args": _told(span)}
    for child in span.children:
        yield from _asynchronous(child, base, start)
    yield {**base, "ph": "e", "name": name, "ts": _us(start + span.end * 1e6)}


def _told(span: Span) -> dict[str, Any]:
    return {"outcome": span.outcome, **({"detail": span.detail} if span.detail else {})}


def _us(microseconds: float) -> float:
    return round(microseconds, 3)
