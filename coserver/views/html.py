"""Static tables of a snapshot or of traces: as HTML without script, class or style sheet, and as text.

They are shown by a saved notebook without its kernel, and by GitHub, which allows little more than a table. The columns
are those of ``live``. ``python -m coserver.views.html`` prints an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import Any

from rich.console import Console

from ..observe.snapshot.snapshot import Snapshot
from ..observe.trace.trace import Trace
from ..observe.trace.waterfall import show_seconds
from .columns import Column, View
from .live import CONNECTIONS, EXCHANGES, TRACES, UPSTREAMS
from .text import counted, plain

#: Rows of one table: a screen or two. A notebook file keeps them for ever.
MOST = 50
#: Cells in a line of the text: as wide as a notebook's output on a small screen.
WIDTH = 110
#: Colours of the styles, readable on light and dark backgrounds.
_COLOURS = {"red": "#d0453b", "yellow": "#a8790a", "green": "#2a8f4f", "magenta": "#9a55c0", "blue": "#4a7bd8"}

Bundle = dict[str, str]


def table(view: View, rows: Sequence[Any], most: int = MOST) -> str:
    """The first ``most`` rows as an HTML table, and the number of further rows."""
    if not rows:
        return f"<p><em>{escape(view.nothing)}</em></p>"
    head = "".join([f"<th{_side(column)}>{escape(column.heading)}</th>" for column in view.columns])
    body = "".join([f"<tr>{''.join([_cell(column, row) for column in view.columns])}</tr>\n" for row in rows[:most]])
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>{_more(len(rows) - most, '<p>')}"


def lines(view: View, rows: Sequence[Any], most: int = MOST) -> str:
    """The same table as text."""
    out = StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False)
    console.print(view.render_rows(rows[:most]))
    said = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(said) + _more(len(rows) - most, "\n")


def snapshot_bundle(snapshot: Snapshot) -> Bundle:
    """The exchanges and connections of a snapshot, and its upstreams if there are any."""
    parts: list[tuple[View, Sequence[Any]]] = [(EXCHANGES, snapshot.exchanges), (CONNECTIONS, snapshot.connections)]
    if snapshot.upstreams:
        parts.append((UPSTREAMS, UPSTREAMS.rows(snapshot)))
    about = f"{plain(snapshot.server)}: {snapshot.state} for {show_seconds(snapshot.seconds)}"
    counts = f"{counted(len(snapshot.connections), 'connection')}, "
    counts += f"{counted(len(snapshot.exchanges), 'request')} under way, "
    counts += f"{snapshot.counters.get('served', 0)} served"
    markup = "\n".join([f"<p><strong>{view.name}</strong></p>\n{table(view, rows)}" for view, rows in parts])
    text = "\n\n".join([f"{view.name}\n{lines(view, rows)}" for view, rows in parts])
    return {
        "text/plain": f"{about}; {counts}\n\n{text}",
        "text/html": f"<p><strong>{escape(about)}</strong>; {escape(counts)}</p>\n{markup}",
    }


def traces_bundle(traces: Sequence[Trace], note: str = "") -> Bundle:
    """The newest ``MOST`` traces, the newest last; ``note`` is a sentence above them."""
    newest = traces[-MOST:]
    older = len(traces) - len(newest)
    said = "; ".join([one for one in (f"{older} older ones are not shown" if older else "", note) if one])
    markup, text = table(TRACES, newest), lines(TRACES, newest)
    if said:
        markup, text = f"<p>{escape(said)}</p>\n{markup}", f"{said}\n{text}"
    return {"text/plain": text, "text/html": markup}


def _cell(column: Column, row: Any) -> str:
    cell = column.cell(row)
    text, style = (cell, "") if isinstance(cell, str) else cell
    said = escape(plain(text))
    if "bold" in style.split() and said:
        said = f"<strong>{said}</strong>"
    colour = next((_COLOURS[word] for word in style.split() if word in _COLOURS), "")
    if colour and said:
        said = f'<span style="color:{colour}">{said}</span>'
    return f"<td{_side(column)}>{said}</td>"


def _side(column: Column) -> str:
    # Both are needed: notebooks use the style, GitHub removes it and keeps the attribute.
    side = "right" if column.right else "left"
    return f' align="{side}" style="text-align:{side}"'


def _more(number: int, begin: str) -> str:
    return f"{begin}and {number} more" + ("</p>" if begin == "<p>" else "") if number > 0 else ""


if __name__ == "__main__":
    from .live import example
    from .samples import all_samples

    for shown in (snapshot_bundle(example()), traces_bundle(all_samples())):
        print(shown["text/plain"], shown["text/html"], sep="\n\n", end="\n\n")
