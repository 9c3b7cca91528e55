"""A trace as a waterfall in SVG: static, one element, no script. It has its own background, for light and dark pages.

``python -m coserver.views.svg.waterfall > trace.svg`` writes an example.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...observe.trace.trace import CANCELLED, FAILED, OPEN, Trace
from ...observe.trace.waterfall import Bar, Row, rows_of, show_seconds, show_tick, ticks
from .elements import cut, opening, text, write

#: Pixels: width, columns left and right of the axis, height of a line and a bar, width of a letter, padding.
WIDTH, _LABEL, _TIME, _LINE, _BAR, _LETTER, _PAD = 960, 250, 84, 26, 14, 6.7, 16
_TOP = 74
_AXIS = WIDTH - 2 * _PAD - _LABEL - _TIME

#: The colours of each kind of bar in the light and in the dark theme; waiting is paler than work.
COLOURS: dict[str, tuple[str, str]] = {
    "request": ("#0e8a9e", "#3cc0d4"),
    "handler": ("#3465c8", "#7aa5ff"),
    "suspend": ("#dfb24a", "#8a6d24"),
    "subrequest": ("#8f4bb8", "#c590ea"),
    "response": ("#2a8f4f", "#5ccb86"),
    "held": ("#e8c547", "#f2d76b"),
    "blocked": ("#9aa1ac", "#5b626e"),
    "dns": ("#c77f1a", "#e0a54a"),
    "receive": ("#2a8f4f", "#5ccb86"),
    "wait": ("#9aa1ac", "#5b626e"),
    "connect": ("#c77f1a", "#e0a54a"),
    "tls": ("#b05c2a", "#d98a58"),
    "send": ("#0e8a9e", "#3cc0d4"),
    "first-byte": ("#b58bd0", "#8d62ab"),
    "body": ("#8f4bb8", "#c590ea"),
}
#: Text classes of steps that did not end normally.
_OUTCOMES = {FAILED: "bad", CANCELLED: "dim", OPEN: "warn"}


def waterfall_svg(trace: Trace) -> str:
    """One SVG element, for a page, a notebook or a file."""
    rows = rows_of(trace)
    bottom = _TOP + len(rows) * _LINE
    height = bottom + _PAD + 8
    title = f"{trace.method} {trace.target}".strip() or trace.url
    parts = [
        opening(WIDTH, height, f"waterfall of {title}", COLOURS),
        *_heading(trace),
        *_grid(trace.seconds, bottom),
    ]
    for number, row in enumerate(rows):
        parts += _row(row, trace.seconds, _TOP + number * _LINE)
    return "\n".join([*parts, "</svg>\n"])


render = waterfall_svg


def _heading(trace: Trace) -> Iterator[str]:
    what = f"{trace.method} {trace.target}" if trace.method else trace.url
    status = str(trace.status) if trace.status else "" if trace.protocol == "tcp" else "unanswered"
    fine = 0 < trace.status < 400
    colour = "bad" if trace.status >= 500 or trace.error else "good" if fine else "warn"
    shown = cut(what, 74)
    at = _PAD + len(shown) * 9.05 + 14
    yield write("title ink", _PAD, 30, shown)
    yield write(f"title {colour}", at, 30, status)
    yield write("title dim", WIDTH - _PAD, 30, show_seconds(trace.seconds), "end")
    told = trace.error or f"{trace.src} → {trace.server}"
    yield write("small bad" if trace.error else "small dim", _PAD, 48, cut(told, 120))


def _grid(seconds: float, bottom: int) -> Iterator[str]:
    for moment in ticks(seconds, 9):
        x = _x(moment, seconds)
        yield f'<rect class="cw-grid" x="{x:.1f}" y="{_TOP - 4}" width="1" height="{bottom - _TOP + 4}"/>'
        word = show_tick(moment, seconds)
        if x + len(word) * _LETTER < WIDTH - _PAD - 10:
            yield write("small dim", x + 3, _TOP - 9, word)


def _row(row: Row, seconds: float, y: float) -> Iterator[str]:
    ink = _OUTCOMES.get(row.outcome, "ink")
    base = y + _LINE / 2 + 4
    left = _PAD + 14 * row.depth
    yield write(ink, left, base, cut(row.label, int((_LABEL - 14 * row.depth - 10) / 7.2)))
    for bar in row.bars:
        yield _bar(bar, seconds, y)
    yield write(f"{'dim' if ink == 'ink' else ink}", WIDTH - _PAD, base, show_seconds(row.seconds), "end")
    if row.note:
        yield from _note(row, seconds, base, "dim" if ink == "ink" else ink)


def _bar(bar: Bar, seconds: float, y: float) -> str:
    x, end = _x(bar.start, seconds), _x(bar.end, seconds)
    name = bar.kind.replace(" ", "-")
    name = name if name in COLOURS else "handler"
    told = f"{bar.kind} {show_seconds(bar.end - bar.start)}, from {show_seconds(bar.start)} on"
    place = f'x="{x:.1f}" y="{y + (_LINE - _BAR) / 2:.1f}" width="{max(end - x, 1.5):.1f}" height="{_BAR}" rx="1.5"'
    return f'<rect class="cw-{name}" {place}><title>{text(told)}</title></rect>'


def _note(row: Row, seconds: float, base: float, ink: str) -> Iterator[str]:
    """The note, on the side of the bars that has more room."""
    left = _x(min(bar.start for bar in row.bars), seconds)
    right = _x(max(bar.end for bar in row.bars), seconds)
    before, after = left - (_PAD + _LABEL), _PAD + _LABEL + _AXIS - right
    room = int((max(before, after) - 12) / _LETTER)
    if room >= 4:
        shown = cut(row.note, room)
        yield (
            write(f"small {ink}", right + 6, base, shown)
            if after >= before
            else write(f"small {ink}", left - 6, base, shown, "end")
        )


def _x(moment: float, seconds: float) -> float:
    return _PAD + _LABEL + (min(moment / seconds, 1.0) * _AXIS if seconds else 0.0)


if __name__ == "__main__":
    from ..samples import page

    print(waterfall_svg(page()), end="")
