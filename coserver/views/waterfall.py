"""A trace as a waterfall in the terminal: a line for each step, all on one axis of time.

``python -m coserver.views.waterfall`` prints examples.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from ..observe.trace.trace import CANCELLED, FAILED, OPEN, Trace
from ..observe.trace.waterfall import Bar, Row, rows_of, show_seconds, show_tick, ticks
from .text import cut, plain, readable

#: The style of each kind of bar, and the character that fills it.
BARS: dict[str, tuple[str, str]] = {
    "request": ("cyan", "█"),
    "handler": ("blue", "█"),
    "suspend": ("yellow", "░"),
    "subrequest": ("magenta", "█"),
    "response": ("green", "█"),
    "held": ("bold yellow", "‖"),
    "blocked": ("bright_black", "░"),
    "dns": ("yellow", "▒"),
    "receive": ("green", "█"),
    "wait": ("bright_black", "░"),
    "connect": ("yellow", "▒"),
    "tls": ("yellow", "▒"),
    "send": ("cyan", "▓"),
    "first byte": ("magenta", "▓"),
    "body": ("magenta", "█"),
}
#: Colours of label and time for steps that did not end normally.
OUTCOMES = {FAILED: "red", CANCELLED: "bright_black", OPEN: "yellow"}
#: The ends of a bar in eighths of a cell.
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LABEL_MAX, _TIME = 36, 8


class Waterfall:
    """A rich renderable, readable without colours too."""

    def __init__(self, trace: Trace, above: Text | None = None) -> None:
        self.trace = trace
        self.above = above

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(40, options.max_width)
        rows = rows_of(self.trace)
        widest = max((cell_len(_label(row)) for row in rows), default=0)  # a browser's HAR may have no steps
        label = min(widest, _LABEL_MAX, width // 3)
        axis = width - label - _TIME - 3
        yield self.above if self.above is not None else heading(self.trace, width)
        yield Text.assemble(" " * (label + 1), (_axis(self.trace.seconds, axis), "bright_black"))
        for row in rows:
            yield from self._line(row, label, axis)

    def _line(self, row: Row, label: int, axis: int) -> Iterator[Text]:
        style = OUTCOMES.get(row.outcome, "")
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(_fit(_label(row), label), style or ("bold" if not row.depth else ""))
        line.append(" ")
        cells = _bars(row.bars, self.trace.seconds, axis)
        note = plain(row.note)
        written = _write(cells, note, style or "bright_black")
        for char, colour in cells:
            line.append(char, colour)
        line.append(f" {show_seconds(row.seconds):>{_TIME}}", style)
        yield line
        if note and not written:
            yield Text(" " * (label + 1) + _fit(note, axis).rstrip(), style or "bright_black")


def render(trace: Trace, above: Text | None = None) -> Waterfall:
    """A waterfall; ``above`` replaces its heading."""
    return Waterfall(trace, above)


def heading(trace: Trace, width: int = 0) -> Text:
    """One line: method, target, status, time, error. In ``width`` cells a long target is cut, not status and time."""
    what = f"{trace.method} {trace.target}" if trace.method else trace.url
    status = str(trace.status) if trace.status else ("" if trace.protocol == "tcp" else "unanswered")
    fine = 0 < trace.status < 400
    colour = "red" if trace.status >= 500 or trace.error else "green" if fine else "yellow"
    parts = [("  ", ""), (status, colour), ("  ", ""), (show_seconds(trace.seconds), "")]
    if held := trace.held_seconds:
        parts += [("  ", ""), (f"held {show_seconds(held)}", "yellow")]
    if trace.error:
        where = f" ({trace.place})" if trace.place else ""
        parts += [("  ", ""), (plain(trace.error) + where, "red")]
    room = width - min(sum(cell_len(part) for part, _ in parts), width // 2) if width else 10_000
    text = Text.assemble((cut(readable(what), max(room, 20)), "bold"), *parts)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _label(row: Row) -> str:
    return "  " * row.depth + plain(row.label)


def _fit(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _axis(seconds: float, width: int) -> str:
    """The labels of the time axis. A label that would overlap another is left out."""
    line = [" "] * width
    free = 0
    for at in ticks(seconds, max(2, width // 9)):
        word = show_tick(at, seconds)
        column = min(round(at / seconds * width) if seconds else 0, width - len(word))
        if column >= free:
            line[column : column + len(word)] = word
            free = column + len(word) + 1
    return "".join(line)


def _bars(bars: tuple[Bar, ...], seconds: float, width: int) -> list[tuple[str, str]]:
    """All bars of one line, later ones over earlier ones. The shortest bar takes one cell."""
    cells: list[tuple[str, str]] = [(" ", "")] * width
    for bar in bars:
        style, fill = BARS.get(bar.kind, BARS["handler"])
        start = bar.start / seconds * width if seconds else 0.0
        end = bar.end / seconds * width if seconds else 0.0
        first = min(int(start), width - 1)
        last = min(int(end), width)
        for column in range(first, last):
            cells[column] = (fill, style)
        part = int((end - last) * 8)
        if last < width and (part or last == first) and (cells[last][0] == " " or last == first):
            cells[last] = (_EIGHTHS[max(part, 1)], style)
    return cells


def _write(cells: list[tuple[str, str]], note: str, style: str) -> bool:
    """Write the note beside the bars; false if there is no room."""
    filled = [at for at, (char, _) in enumerate(cells) if char != " "]
    size = cell_len(note)
    if size != len(note):  # wide characters take two cells
        return False
    if len(cells) - filled[-1] > size + 1:
        begin = filled[-1] + 2
    elif filled[0] > size:
        begin = filled[0] - 1 - size
    else:
        return False
    for at, char in enumerate(note, begin):
        cells[at] = (char, style)
    return True


if __name__ == "__main__":
    from .samples import all_samples

    Console().print(Group(*[part for trace in all_samples() for part in (render(trace), "")]))
