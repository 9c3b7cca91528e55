"""The phases of a connection in SVG, with the events of each; made from the order table.

``render(phase)`` marks the current phase; ``render(phase, before)`` also marks the phase before it.
``python -m coserver.views.svg.lifecycle handler > life.svg`` writes an example.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ...lifecycle import events as ev
from ...lifecycle import phases
from ...lifecycle.order import FIRST, FOLLOWS, HOLDABLE
from .elements import cut, opening, write

#: Pixels, of the drawing and of a phase's box. Six boxes are in a row, two below the handler's.
WIDTH, HEIGHT = 960, 322
_BOX, _TALL, _STEP, _LEFT, _ROW, _BELOW = 104, 34, 158, 33, 64, 214
#: Pixels between the lines of events.
_LINE = 15

_ROWS = (phases.ACCEPT, phases.HEAD, phases.BODY, phases.HANDLER, phases.RESPONSE, phases.RECYCLE)
#: The position of each box: left, top.
_PLACES = {phase: (_LEFT + number * _STEP, _ROW) for number, phase in enumerate(_ROWS)}
_PLACES[phases.HANDSHAKE] = (_LEFT, _BELOW)
_PLACES[phases.SUSPEND] = (_LEFT + 3 * _STEP - 86, _BELOW)
_PLACES[phases.SUBREQUEST] = (_LEFT + 3 * _STEP + 86, _BELOW)

_COLOURS = {
    "box": ("#eef1f5", "#232832"),
    "now": ("#3465c8", "#7aa5ff"),
    "before": ("#cfdcf5", "#2c3d63"),
    "on": ("#ffffff", "#10131a"),
}


def lifecycle_svg(phase: str | None = None, before: str | None = None) -> str:
    """One SVG element. ``phase`` and ``before`` are names of phases or None. Raises ValueError for other names."""
    for name in (phase, before):
        if name is not None and name not in _PLACES and name != phases.CLOSED:
            raise ValueError(f"there is no phase {name!r}; there are {', '.join(_PLACES)}")
    told = "the life of a connection" + (f", now at {phase}" if phase else "")
    parts = [opening(WIDTH, HEIGHT, told, _COLOURS), *_ways()]
    for name, (left, top) in _PLACES.items():
        parts += _phase(name, left, top, "now" if name == phase else "before" if name == before else "box")
    parts.append(write("small dim", WIDTH - 16, HEIGHT - 14, "‖ can be held there", "end"))
    return "\n".join([*parts, "</svg>\n"])


render = lifecycle_svg


def events_of(phase: str) -> tuple[type[ev.Event], ...]:
    """The events of a phase: the event that opens it, and the events that may end it; none for a TLS handshake."""
    if phase == phases.HANDSHAKE:
        return ()
    opens = HOLDABLE.get(phase) or FIRST[phase][0]
    elsewhere = {kind for other, kind in HOLDABLE.items() if other != phase}
    said = ev.ConnectionClosed if phase == phases.RECYCLE else None  # shown with accept, whose track it ends
    closing = (kind for kind in FOLLOWS[opens] if kind not in elsewhere and kind is not opens and kind is not said)
    return opens, *closing, *(FIRST["reset"] if phase == phases.RECYCLE else ())


def _ways() -> Iterator[str]:
    middle = _ROW + _TALL / 2
    for before, after in pairwise(_ROWS):
        yield _arrow(_PLACES[before][0] + _BOX, middle, _PLACES[after][0], middle)
    # From recycle back to head, above the other boxes.
    start, end = _PLACES[phases.RECYCLE][0] + _BOX / 2, _PLACES[phases.HEAD][0] + _BOX / 2
    yield _path(f"M{start} {_ROW} V40 H{end} V{_ROW - 6}")
    yield _head(end, _ROW, "down")
    yield write("small dim", (start + end) / 2, 34, "the next request", "middle")
    for over, below in (
        (phases.ACCEPT, phases.HANDSHAKE), (phases.HANDLER, phases.SUSPEND), (phases.HANDLER, phases.SUBREQUEST),
    ):  # fmt: skip
        left, top = _PLACES[over]
        y = top + _TALL + 4 + _LINE * len(events_of(over))
        yield _path(f"M{left + _BOX / 2} {y + 6} L{_PLACES[below][0] + _BOX / 2} {_BELOW - 6}")


def _phase(name: str, left: float, top: float, how: str) -> Iterator[str]:
    yield f'<rect class="cw-{how}" x="{left}" y="{top}" width="{_BOX}" height="{_TALL}" rx="6"/>'
    mark = " ‖" if name in HOLDABLE else ""
    yield write("on" if how == "now" else "ink", left + _BOX / 2, top + _TALL / 2 + 4, name + mark, "middle")
    for number, kind in enumerate(events_of(name)):
        word = cut(kind.__name__, 20)
        yield write("small dim", left + _BOX / 2, top + _TALL + 16 + _LINE * number, word, "middle")


def _arrow(x: float, y: float, to: float, at: float) -> str:
    return f"{_path(f'M{x + 4} {y} L{to - 8} {at}')}\n{_head(to - 2, at, 'right')}"


def _path(way: str) -> str:
    return f'<path d="{way}" fill="none" stroke="#8a919c" stroke-width="1.2"/>'


def _head(x: float, y: float, points: str) -> str:
    feet = f"{x - 7},{y - 4} {x - 7},{y + 4}" if points == "right" else f"{x - 4},{y - 7} {x + 4},{y - 7}"
    return f'<polygon points="{x},{y} {feet}" fill="#8a919c"/>'


if __name__ == "__main__":
    import sys

    print(lifecycle_svg(*sys.argv[1:3]), end="")
