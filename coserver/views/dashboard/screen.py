"""The lines of the dashboard, for a screen of any size: title, figures, tabs, visible rows, a note, keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from textwrap import wrap
from typing import Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from ...observe.filters import EVERYTHING
from ...observe.snapshot.snapshot import ConnectionState, ExchangeState, Snapshot
from ...observe.trace.trace import Trace
from ...observe.trace.waterfall import show_seconds
from .. import exchange as exchange_view
from .. import held as held_view
from .. import underway
from ..columns import heading_line, row_line
from ..live import VIEWS, example
from ..samples import all_samples
from ..text import counted, plain
from ..traces import show_size
from .keys import KEYS
from .model import HELP, LOOK, TABLE, Dashboard, shown_row
from .prompt import Prompt
from .rates import sparkline

_FRAME = 6  # lines other than rows


def lines(board: Dashboard, width: int, height: int) -> list[Text]:
    """Exactly ``height`` lines, none wider than ``width``."""
    found = [_title(board, width), _figures(board, width), _tabs(board, width)]
    room = max(height - _FRAME, 0)
    board.page = max(room, 1)
    if board.mode == HELP:
        body = _scrolled(board, list(_help(width)), room + 1)
    elif board.mode == LOOK:
        body = _scrolled(board, _rendered(_looked(board), width), room + 1)
    else:
        body = _table(board, width, room)
    found += body[: room + 1] + [Text()] * (room + 1 - len(body))
    found = found[: max(height - 2, 1)]
    found += [_bottom(board, width), _keys(board, width)]
    return [_cut(line, width) for line in found[-height:]]


def _cut(line: Text, width: int) -> Text:
    line.no_wrap, line.overflow = True, "crop"
    line.truncate(width, overflow="crop")
    return line


def _title(board: Dashboard, width: int) -> Text:
    snapshot = board.snapshot
    if snapshot is None:
        return Text("coserver top", "bold", no_wrap=True)
    up = timedelta(seconds=int(snapshot.seconds))
    state = (snapshot.state, "" if snapshot.state == "running" else "bold yellow")
    if board.gone:
        state = ("gone", "bold red")
    elif board.silent:
        state = (f"no answer for {board.silent:.0f} s", "bold red")
    left = [(plain(snapshot.server), "bold green"), (f"pid {snapshot.pid}", ""), state, (f"up {up}", "")]
    right = [(counted(len(snapshot.connections), "connection"), ""), (f"{len(snapshot.exchanges)} busy", "")]
    if snapshot.workers.suspended:
        right.append((f"{snapshot.workers.suspended} suspended", "yellow"))
    if held := len(board.held) + len(board.other_held):
        right.append((f"{held} held", "bold yellow"))
    spare = [left[3], left[1], *([state] if state[0] == "running" else []), right[0], right[1]]
    for one in spare:
        if sum(len(text) + 2 for text, _ in [*left, *right]) > width + 2:
            (left if one in left else right).remove(one)  # held exchanges go last: somebody waits for them
    return _both(_apart(left), _apart(right), width)


def _apart(parts: list[tuple[str, str]]) -> Text:
    return Text.assemble(*[part for one in parts for part in ("  ", one)][1:], no_wrap=True)


def _figures(board: Dashboard, width: int) -> Text:
    if board.snapshot is not None and board.snapshot.stands and not board.gone:
        return _alarm(board.snapshot)
    now, seconds = board.rates.now, list(board.rates.seconds)
    spark = max(4, min(60, (width - 84) // 2)) if width >= 80 else 0
    latency = show_seconds(now.latency) if now.latency is not None else "–"
    line = Text("requests ", "bright_black", no_wrap=True)
    line.append(sparkline([one.rate for one in seconds], spark), "cyan")
    line.append(f" {now.rate:>6.{0 if now.rate >= 100 else 1}f}/s", "bold")
    line.append("  mean latency " if width >= 60 else "  mean ", "bright_black")
    line.append(sparkline([one.latency for one in seconds], spark), "magenta")
    line.append(f" {latency:>8}", "bold")
    errors = board.error_rate()
    if errors is not None:
        line.append("  errors ", "bright_black")
        line.append(f"{errors:.{1 if 0 < errors < 0.0995 else 0}%}", "bold red" if errors else "bold")
    rest = f"↓ {show_size(round(now.received))}/s ↑ {show_size(round(now.sent))}/s"
    flow = Text(rest if line.cell_len + cell_len(rest) < width else "", "bright_black")
    return _both(line, flow, width)


def _alarm(snapshot: Snapshot) -> Text:
    """The event loop stands still: nothing else of the server's matters then."""
    where = f" at {plain(snapshot.stands_at)}" if snapshot.stands_at else ""
    said = f"the loop stands still{where}, for {show_seconds(snapshot.stands)}: no request goes on"
    return Text(said, "bold white on red", no_wrap=True, overflow="ellipsis")


def _tabs(board: Dashboard, width: int) -> Text:
    line = Text(no_wrap=True)
    wide = 100 if board.hold or board.hold_before or board.others or board.filter is not EVERYTHING else 70
    for number, name in enumerate(VIEWS, 1):
        chosen = name == board.view.name
        # On a narrow screen the other tabs are only their keys.
        shown = f" {number} {name} " if chosen or width >= wide else f" {number} "
        line.append(shown, "reverse bold" if chosen else "bright_black")
    right = Text()
    if board.paused:
        right.append(" paused ", "black on yellow")
    if board.filter is not EVERYTHING:
        right.append(f" {plain(str(board.filter))}", "cyan")
    if board.hold:
        right.append(f" ‖ {plain(board.hold)}", "bold yellow")
    elif board.hold_before:
        right.append(f" i: {plain(board.hold_before)} again", "yellow")
    for what, by in board.others:
        right.append(f" ‖ {plain(what)} by {plain(by)}", "yellow")
    return _both(line, right, width)


def _both(left: Text, right: Text, width: int) -> Text:
    """Two texts, left and right; the right one is cut if there is no room."""
    gap = width - cell_len(left.plain) - cell_len(right.plain)
    if gap < 1:
        right.truncate(max(width - cell_len(left.plain) - 1, 0), overflow="ellipsis")
        gap = max(width - cell_len(left.plain) - cell_len(right.plain), 0)
    left.append(" " * gap)
    left.append_text(right)
    return left


def _table(board: Dashboard, width: int, room: int) -> list[Text]:
    rows = board.rows()
    columns = board.view.fitting(max(width - 2, 1))
    sorted_by, down = board.sorted.get(board.view.name, (board.view.columns[0].heading, False))
    heading = Text("  ", no_wrap=True)
    heading.append_text(heading_line(columns, sorted_by, down))
    found = [heading]
    if not rows:
        nothing = board.view.nothing if board.filter is EVERYTHING else "nothing matches the filter"
        asks = board.snapshot is None or board.asks
        return [heading, Text(f"  {'loading …' if asks else nothing}", "bright_black")]
    chosen = board.at(rows)
    board.first = max(min(board.first, chosen, max(len(rows) - room, 0)), chosen - room + 1, 0)
    for at, row in enumerate(rows[board.first : board.first + room], board.first):
        marked = (
            not isinstance(row, Trace) and getattr(row, "id", None) in board.marked
        )  # a trace has a column for its mark
        line = Text(no_wrap=True)  # a style here would apply to all unstyled cells
        line.append("●" if marked else " ", "magenta")
        line.append("▸" if at == chosen else " ", "bold cyan")
        depth = board.depths.get(row.id, 0) if isinstance(row, ExchangeState | Trace) else 0
        cells = row_line(columns, shown_row(row, board.view.name), "  " * (depth - 1) + "└ " if depth else "")
        if isinstance(row, Trace) and board.view.name == "exchanges":
            cells.stylize("dim")
        line.append_text(cells)
        if at == chosen:
            line.stylize("on grey23")
        found.append(line)
    return found


def _scrolled(board: Dashboard, found: list[Text], room: int) -> list[Text]:
    board.scroll = max(0, min(board.scroll, len(found) - room))
    board.below = max(len(found) - board.scroll - room, 0)
    return found[board.scroll : board.scroll + room]


def _rendered(what: RenderableType, width: int) -> list[Text]:
    """A renderable as lines."""
    console = Console(width=max(width, 1), color_system=None, legacy_windows=False)
    found = []
    for line in console.render_lines(what, console.options.update(width=max(width, 1)), pad=False):
        text = Text(no_wrap=True)
        for segment in line:
            text.append(segment.text, segment.style)
        found.append(text)
    return found


def _looked(board: Dashboard) -> RenderableType:
    looked = board.looked
    if isinstance(looked, dict):
        shown = board.snapshot.exchanges if board.snapshot is not None else ()
        return held_view.render(looked, next((one for one in shown if one.id == looked["exchange"]["id"]), None))
    if isinstance(looked, Trace):
        return exchange_view.render(looked)
    if isinstance(looked, ExchangeState):
        return underway.render(looked, board.request, over=board.over)
    if isinstance(looked, str):
        return Text(plain(looked))
    if isinstance(looked, ConnectionState):
        return underway.render_connection(looked)
    return Text("it no longer exists", "bright_black")


def _bottom(board: Dashboard, width: int) -> Text:
    if board.prompt is not None:
        return board.prompt.line(width)
    if not board.note and board.mode != TABLE and board.below:
        return Text(f"▾ {counted(board.below, 'more line')}", "bright_black", no_wrap=True)
    return Text(plain(board.note), "red" if board.wrong else "green", no_wrap=True)


def _keys(board: Dashboard, width: int) -> Text:
    if board.prompt is not None:
        return _under(board, board.prompt, width)
    line = Text(no_wrap=True)
    for key in _useful(board):
        short = (board.quits if key == "q" else KEYS[key].short) if (key, board.mode) not in _BACK else "back"
        if len(line) + len(key) + len(short) + 2 > width:
            break
        line.append(f"{key} ", "bold cyan")
        line.append(f"{short} ", "bright_black")
    return line


_BACK = (("q", LOOK), ("q", HELP))
_ALWAYS, _OF_HELD = ("?", "q"), ("n", "a", "e", "X", "E", "R", "A")
_OF_REQUEST, _OF_TABLE = ("r", "m", "c", "y"), ("enter", "f", "i", "o", "p")


def _useful(board: Dashboard) -> tuple[str, ...]:
    """The useful keys in this mode. The help first: it lists the keys that do not fit."""
    if board.mode == HELP:
        return _ALWAYS[::-1]
    if board.mode == LOOK and isinstance(board.looked, str):
        return (*_ALWAYS[::-1], "y")
    if board.mode == LOOK:
        return (*_ALWAYS[::-1], *(_OF_HELD if board.current_held() is not None else ()), *_OF_REQUEST)
    # Keys for held exchanges first: somebody waits for them.
    return (*_ALWAYS, *(_OF_HELD[:4] if board.held else ()), *_OF_TABLE, *_OF_REQUEST)


def _under(board: Dashboard, prompt: Prompt, width: int) -> Text:
    """The line below the prompt: the error with a mark at its position, else the keys."""
    if not (board.note and board.wrong):
        return Text("enter: apply   escape: cancel   ctrl-u: clear", "bright_black", no_wrap=True)
    reason = plain(board.note)
    if prompt.wrong is None:
        return Text(reason, "red", no_wrap=True)
    cell = prompt.cell(prompt.wrong, width)
    after, before = f"^ {reason}", f"{reason} ^"
    if cell + cell_len(after) <= width:
        return Text(" " * cell + after, "red", no_wrap=True)
    if cell_len(before) <= cell + 1:
        return Text(before.rjust(cell + 1), "red", no_wrap=True)
    line = Text(f"column {prompt.wrong + 1}: {reason}", "red", no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line


def _help(width: int) -> Iterator[Text]:
    room = max(width - 25, 10)
    for each in KEYS.values():
        if each.about:
            keys, about = re.split(r":(?= )", each.about, maxsplit=1)
            first, *more = wrap(about.strip(), room)
            yield Text.assemble((f"  {keys:<22} ", "bold cyan"), first)
            yield from (Text(" " * 25 + one) for one in more)
    yield Text()
    for one in wrap("Filters: ~u URL  ~m method  ~c status  ~hq field  ~took >1s  ~at phase  ~marked; "
                    "& and, | or, ! not, ( )", max(width - 4, 10)):  # fmt: skip
        yield Text(f"  {one}", "bright_black")


def example_board() -> Dashboard:
    """A board with example data of 40 seconds: one held exchange, some traces."""
    board, now = Dashboard(), example()
    counts = dict(now.counters)
    for ago in range(40, -1, -1):
        busy = 9 + (40 - ago) * 7 % 23
        more = {"served": 12 * busy, "spent_us": 12 * busy * busy * 400, "received": 900 * busy, "sent": 40_000 * busy}
        counts = {name: count + more.get(name, 0) for name, count in counts.items()}
        board.show(replace(now, seconds=now.seconds - ago, counters=counts))
    board.hold = "~u /cart @response"
    board.show_held([held_view.example()])
    for trace in all_samples():
        board.show_trace(trace)
    return board


def main() -> None:
    """Print an example screen."""
    console = Console(highlight=False)
    for line in lines(example_board(), console.width, 24):
        console.print(line)


def plain_lines(board: Any, width: int, height: int) -> list[str]:
    """The lines as plain text, for tests."""
    return [line.plain for line in lines(board, width, height)]


if __name__ == "__main__":
    main()
