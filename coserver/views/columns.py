"""Tables of a snapshot: columns with a cell, a width and a sort key each.

A view is a list of columns. ``View.render(snapshot)`` makes a table of all rows; the dashboard draws only visible rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from ..observe.snapshot.snapshot import Snapshot

#: The column of width 0 takes this many cells before others grow, and by how many cells they may grow.
_ENOUGH, _GROWTH = 32, 40

Cell = str | tuple[str, str]  # text, or text and style


@dataclass(frozen=True, slots=True)
class Column:
    """A column. ``width`` is in cells; 0 takes the rest. On a narrow screen the highest ``rank`` is left out first.

    ``runs``: the cell is a time in seconds that keeps growing; ``key`` gives it. ``grows``: on a wide screen the column
    gets some of the free cells.
    """

    heading: str
    width: int
    cell: Callable[[Any], Cell]
    key: Callable[[Any], Any]
    right: bool = False
    rank: int = 0
    runs: bool = False
    grows: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A table. ``rows`` takes its rows from a snapshot; ``nothing`` is shown if there are none."""

    name: str
    columns: tuple[Column, ...]
    rows: Callable[[Snapshot], Sequence[Any]]
    nothing: str

    def render(self, snapshot: Snapshot) -> Rows:
        """All rows of the snapshot, as wide as the console."""
        return self.render_rows(self.rows(snapshot))

    def render_rows(self, rows: Sequence[Any]) -> Rows:
        """The given rows as a table."""
        return Rows(self, rows)

    def fitting(self, width: int) -> list[tuple[Column, int]]:
        """The columns that fit into ``width`` cells, each with its width."""
        kept = list(self.columns)
        least = 24  # cells, for the column of width 0
        while sum(one.width or least for one in kept) + len(kept) - 1 > width and any(one.rank for one in kept):
            kept.remove(max(kept, key=lambda one: one.rank))
        left = width - sum(one.width for one in kept) - len(kept) + 1
        more = min(max(left - _ENOUGH, 0), _GROWTH) if any(one.grows for one in kept) else 0
        return [(one, one.width + more * one.grows if one.width else max(left - more, 1)) for one in kept]


class Rows:
    """A rich renderable: a heading and a line for each row."""

    def __init__(self, view: View, rows: Sequence[Any]) -> None:
        self.view = view
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = self.view.fitting(options.max_width)
        yield heading_line(columns, "", False)
        for row in self.rows:
            yield row_line(columns, row)
        if not self.rows:
            yield Text(self.view.nothing, "bright_black")


def heading_line(columns: Iterable[tuple[Column, int]], sorted_by: str, down: bool) -> Text:
    """The headings. The heading of the sorted column has an arrow."""
    line = Text(no_wrap=True, overflow="crop", style="bold bright_black")
    for at, (column, width) in enumerate(columns):
        marked = column.heading == sorted_by
        name = f"{column.heading}{'▾' if down else '▴'}" if marked else column.heading
        line.append(" " if at else "")
        line.append(_fit(name, width, column.right), "bold cyan" if marked else "")
    return line


def row_line(columns: Iterable[tuple[Column, int]], row: Any, indent: str = "") -> Text:
    """One row; each cell is cut or padded to its width. ``indent`` stands before the cell of the widest column."""
    line = Text(no_wrap=True, overflow="crop")
    for at, (column, width) in enumerate(columns):
        cell = column.cell(row)
        text, style = (cell, "") if isinstance(cell, str) else cell
        line.append(" " if at else "")
        text = text if column.width else indent + text
        line.append(_fit(text, width, column.right), style)
    return line


def _fit(text: str, width: int, right: bool) -> str:
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + "…" if width > 1 else "…"
    return " " * (width - size) + text if right else text + " " * (width - size)
