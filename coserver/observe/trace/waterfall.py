"""The rows of a waterfall: which span of a trace is on which line, and where on the axis. Views draw them.

A handler's line shows where it waited. Suspensions at the same place share a line, since there may be thousands;
each subrequest has a line of its own, up to LINES_MAX.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .trace import FAILED, HANDLER, HELD, OK, RESPONSE, STEP, SUBREQUEST, SUSPEND, Span, Trace

#: Lines of subrequests and of suspensions, as many as a screen holds.
LINES_MAX = 40

#: Units of time in seconds, with their names.
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. ``kind`` is the span's kind, or the name of a subrequest's step; ``start``, ``end`` are seconds."""

    kind: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line. Later bars cover earlier ones; ``seconds`` is their sum; ``note`` says how the line ended."""

    label: str
    kind: str
    depth: int
    bars: tuple[Bar, ...]
    seconds: float
    outcome: str = OK
    note: str = ""


def rows_of(trace: Trace) -> list[Row]:
    """The lines of a trace, sorted by start. A handler's subrequests and suspensions follow its line."""
    found: list[Row] = []
    inner = [span for span in trace.spans if span.kind in (SUSPEND, SUBREQUEST)]
    holds = [span for span in trace.spans if span.kind == HELD]
    for span in trace.spans:
        if span.kind in (SUSPEND, SUBREQUEST):
            continue
        if span.kind == HELD:
            bars = (Bar(HELD, span.start, span.end),)
            found.append(Row(f"held at {span.name}", HELD, 1, bars, span.seconds, span.outcome))
            continue
        mine = [one for one in inner if span.kind == HANDLER and span.start <= one.start <= span.end]
        inner = [one for one in inner if one not in mine] if mine else inner
        found.append(_row(span, [one for one in mine if one.kind == SUSPEND], holds))
        found += _inner(mine)
    return found + _inner(inner)


def _row(span: Span, suspended: Sequence[Span], holds: Sequence[Span]) -> Row:
    label = span.name if span.kind == STEP else f"{span.kind} {span.name}".rstrip()
    bars = [
        Bar(span.name if span.kind == STEP else span.kind, span.start, span.end),
        *(Bar(SUSPEND, one.start, one.end) for one in suspended),
    ]
    held = [(max(one.start, span.start), min(one.end, span.end)) for one in holds]
    held = [(start, end) for start, end in held if start < end]
    bars += [Bar(HELD, start, end) for start, end in held]
    seconds = span.seconds - sum(end - start for start, end in held)  # a stepper's time is not the handler's
    note = span.detail if span.kind != RESPONSE or span.outcome == FAILED else ""
    return Row(label, span.kind, 0, tuple(bars), seconds, span.outcome, note)


def _inner(spans: Sequence[Span]) -> list[Row]:
    """The lines below a handler: one for each subrequest, and one for each place of suspensions."""
    places: dict[tuple[str, str], list[Span]] = {}
    lines: list[tuple[float, Row]] = []
    for span in spans:
        if span.kind == SUBREQUEST:
            lines.append((span.start, _subrequest(span)))
        else:
            places.setdefault((span.name, span.detail), []).append(span)
    for (name, place), those in places.items():
        times = f" ×{len(those)}" if len(those) > 1 else ""
        bars = tuple([Bar(SUSPEND, one.start, one.end) for one in those])
        total = sum(one.seconds for one in those)
        lines.append((those[0].start, Row(f"{name}{times}", SUSPEND, 1, bars, total, those[-1].outcome, place)))
    lines.sort(key=lambda line: line[0])
    shown = [row for _, row in lines[:LINES_MAX]]
    if len(lines) > LINES_MAX:
        rest = [bar for _, row in lines[LINES_MAX:] for bar in row.bars[:1]]
        start, end = min(bar.start for bar in rest), max(bar.end for bar in rest)
        shown.append(Row(f"and {len(rest)} more", SUBREQUEST, 1, (Bar(SUBREQUEST, start, end),), end - start))
    return shown


def _subrequest(span: Span) -> Row:
    steps = [Bar(step.name, step.start, step.end) for step in span.children if step.kind == STEP]
    bars = (Bar(SUBREQUEST, span.start, span.end), *steps)
    return Row(f"{span.upstream} {span.name}", SUBREQUEST, 1, bars, span.seconds, span.outcome, span.detail)


def ticks(seconds: float, most: int) -> list[float]:
    """Round times from 0 up to ``seconds``, at most ``most`` of them: 0, 20 ms, 40 ms ..."""
    if seconds <= 0 or not math.isfinite(seconds):
        return [0.0]
    raw = seconds / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return [round(step * n, 12) for n in range(int(seconds / step * (1 + 1e-9)) + 1)]


def show_seconds(seconds: float) -> str:
    """A duration as three digits and a unit: 1.23 s, 45.6 ms, 789 µs."""
    for size, unit in _UNITS:
        if seconds >= size * 0.9995 or unit == "µs":
            value = seconds / size
            return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"
    raise AssertionError("the last unit takes all")


def show_tick(at: float, seconds: float) -> str:
    """A time in the unit of the whole axis: 0, 20 ms."""
    size, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
    return f"{at / size:g} {unit}" if at else "0"
