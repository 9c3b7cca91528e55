"""Tables on stdout: folded to the width of a terminal by rich; plain columns in a pipe, where nothing is cut."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell = str | Text


def show(headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, fold: Sequence[str] = ()) -> None:
    """Print a table. On a narrow terminal the columns named in ``fold`` are folded first."""
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        _plain([[Text(heading) for heading in headings], *cells])
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in fold)
    for row in cells:
        table.add_row(*row)
    console.print(table)


def show_json(value: object) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _plain(rows: Sequence[Sequence[Text]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.plain.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
