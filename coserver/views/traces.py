"""Traces as a table or as lines, the newest last. ``python -m coserver.views.traces`` prints examples."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..observe.trace.trace import Trace
from ..observe.trace.waterfall import show_seconds
from .text import cut, plain, readable


def render(traces: Sequence[Trace]) -> Table:
    """A table with one line a trace: method, target, status, size, time, error or handler."""
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, padding=(0, 1, 0, 0))
    for name, options in (
        ("", {"width": 1}),
        ("id", {"justify": "right", "style": "bright_black", "no_wrap": True}),
        ("at", {"style": "bright_black", "no_wrap": True}),
        ("method", {"no_wrap": True}),
        ("target", {"ratio": 3, "no_wrap": True, "overflow": "ellipsis"}),
        ("status", {"justify": "right", "no_wrap": True}),
        ("size", {"justify": "right", "no_wrap": True}),
        ("time", {"justify": "right", "no_wrap": True}),
        ("", {"ratio": 2, "no_wrap": True, "overflow": "ellipsis"}),
    ):
        table.add_column(name, **options)
    for trace in traces:
        table.add_row(*_cells(trace))
    return table


def _cells(trace: Trace) -> tuple[Text | str, ...]:
    return (
        Text("●", "magenta") if trace.marked else "",
        str(trace.id),
        datetime.fromtimestamp(trace.at).strftime("%H:%M:%S"),
        Text(plain(trace.method or trace.protocol), "bold"),
        Text(readable(trace.target if trace.method else trace.url)),
        status(trace),
        show_size(trace.response.body.size),
        show_seconds(trace.seconds),
        Text(plain(trace.error), "red") if trace.error else Text(plain(trace.handler), "bright_black"),
    )


def line_of(trace: Trace, width: int = 0) -> Text:
    """One trace as a line, its columns wide enough for usual values. In ``width`` cells a long target is cut."""
    at = datetime.fromtimestamp(trace.at).strftime("%H:%M:%S")
    said = status(trace)
    line = Text.assemble(
        (f"{at} {trace.id:>5} ", "bright_black"), said, " " * (5 - len(said)),
        f"{show_seconds(trace.seconds):>8} ",
        f"{show_size(trace.response.body.size):>7} ", (plain(trace.method or trace.protocol), "bold"), " ",
    )  # fmt: skip
    error = f"  {plain(trace.error)}" if trace.error else ""
    if trace.place:
        error += f" ({plain(trace.place)})"
    target = readable(trace.target if trace.method else trace.url)
    if width:
        left = width - line.cell_len
        target = cut(target, max(left - min(cell_len(error), left // 2), 20))
    line.append(target)
    if trace.held_seconds:
        line.append(f"  held {show_seconds(trace.held_seconds)}", "yellow")
    line.append(error, "red")
    return line


def status(trace: Trace) -> Text:
    """The status, coloured by its class."""
    if not trace.status:
        return Text("" if trace.protocol == "tcp" else "none", "red")
    return Text(str(trace.status), {2: "green", 3: "cyan", 4: "yellow"}.get(trace.status // 100, "red"))


def show_size(size: int) -> str:
    """A size in bytes as text: 512 B, 1.5 KB, 12 MB; 1 KB is 1,024 bytes."""
    value, unit = float(size), "B"
    for bigger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1024, bigger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"


if __name__ == "__main__":
    from .samples import all_samples

    Console().print(render(all_samples()))
