"""The dashboard's keys: mitmproxy's letters where it has them. A new key is a row of KEYS; the help reads the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...observe.filters import EVERYTHING
from ...observe.snapshot.snapshot import ConnectionState, ExchangeState
from ...observe.trace.trace import Trace
from ..live import VIEWS
from .model import HELP, LOOK, TABLE, Command, Dashboard
from .prompt import Prompt


@dataclass(frozen=True, slots=True)
class Key:
    """``about`` is for the help, "" for a key that is like the one before; ``short`` for the line at the bottom."""

    do: Callable[[Dashboard], Command | None]
    about: str = ""
    short: str = ""


def _view(name: str) -> Callable[[Dashboard], Command | None]:
    def show(board: Dashboard) -> Command | None:
        board.view, board.first, board.place, board.selected, board.mode = VIEWS[name], 0, 0, None, TABLE
        return Command("follow") if name == "traces" and not board.following else None

    return show


def _next_view(board: Dashboard) -> Command | None:
    names = list(VIEWS)
    return _view(names[(names.index(board.view.name) + 1) % len(names)])(board)


def _move(by: Callable[[Dashboard], int]) -> Callable[[Dashboard], None]:
    return lambda board: board.move(by(board))


def _filter(board: Dashboard) -> None:
    text = "" if board.filter is EVERYTHING else str(board.filter)

    def then(text: str) -> None:
        board.set_filter(text)

    board.ask(Prompt("filter:", text, "~u /page & ~m GET, nothing for all"), then)


def _hold(board: Dashboard) -> None:
    row = board.current()
    text = board.hold
    if not text and isinstance(row, ExchangeState) and row.method:
        text = f"~u {row.target.partition('?')[0]} @handler"
    board.ask(Prompt("hold:", text, "~u /page @handler,response; . for all, nothing for none"), board.set_hold)


def _held(board: Dashboard) -> dict[str, Any] | None:
    """What is meant of what is held, or a word to whoever meant nothing."""
    held = board.current_held()
    if held is None:
        row = board.looked if board.mode == LOOK else board.current()
        lists = "this one is not held; 5 lists what is" if board.held else "nothing is held; i says what to hold"
        board.say("somebody else holds this one" if getattr(row, "held", False) else lists, wrong=True)
    return held


def _with_held(what: str) -> Callable[[Dashboard], Command | None]:
    def command(board: Dashboard) -> Command | None:
        held = _held(board)
        if held is None:
            return None
        if what != "editor":
            board.leaving.add(held["id"])
        return Command(what, {"which": held["id"]})

    return command


def _all(board: Dashboard) -> Command:
    board.leaving.update(board.held)
    return Command("resume_all")


def _edit(board: Dashboard) -> None:
    held = _held(board)
    if held is None:
        return
    number = held["id"]
    hint = "target=/x status=404 Name:value Name: body='text'"
    board.ask(Prompt(f"edit #{number}:", "", hint), lambda text: board.set_edit(number, text))


def _respond(board: Dashboard) -> None:
    held = _held(board)
    if held is None:
        return
    number = held["id"]

    def then(text: str) -> Command:
        from ...control.edit_syntax import read_answer

        status, body, headers = read_answer(text)
        board.leaving.add(number)
        return Command("respond", {"which": number, "status": status, "body": body, "headers": headers})

    board.ask(Prompt(f"answer #{number}:", "", "503 'come later' Retry-After:5"), then)


def _look(board: Dashboard) -> Command | None:
    row = board.current()
    if row is None or isinstance(row, tuple):
        return None
    board.look(board.held_of(row) or (row.exchange or row if isinstance(row, ConnectionState) else row))
    return Command("look", {"id": board.looked.id}) if isinstance(board.looked, Trace | ExchangeState) else None


def _mark(board: Dashboard) -> Command | None:
    row = board.looked if board.mode == LOOK else board.current()
    row = row.exchange if isinstance(row, ConnectionState) else row
    if not isinstance(row, ExchangeState | Trace | dict):
        return None
    number = row["exchange"]["id"] if isinstance(row, dict) else row.id
    on = number not in board.marked
    (board.marked.add if on else board.marked.discard)(number)
    board.say(f"exchange {number} is marked" if on else f"exchange {number} is not marked any more")
    return Command("mark", {"id": number, "on": on}) if isinstance(row, Trace) else None


def _with_request(what: str) -> Callable[[Dashboard], Command | None]:
    def command(board: Dashboard) -> Command | None:
        row = board.looked if board.mode == LOOK else board.current()
        row = row.exchange if isinstance(row, ConnectionState) else row
        if isinstance(row, dict):
            return Command(what, {"id": row["exchange"]["id"]})
        if not isinstance(row, Trace | ExchangeState):
            board.say("choose a request: among the exchanges, 1, or the traces, 4", wrong=True)
            return None
        return Command(what, {"id": row.id})

    return command


def _pause(board: Dashboard) -> None:
    board.pause()


def _help(board: Dashboard) -> None:
    board.mode, board.scroll = HELP, 0


def _quit(board: Dashboard) -> None:
    board.ended = True


def _first(board: Dashboard) -> int:
    return -1_000_000


KEYS: dict[str, Key] = {
    "up": Key(_move(lambda board: -1), "up down k j: choose a row; pageup, pagedown or space, home g, end G as well"),
    "down": Key(_move(lambda board: 1)),
    "k": Key(_move(lambda board: -1)),
    "j": Key(_move(lambda board: 1)),
    "pageup": Key(_move(lambda board: -board.page)),
    "pagedown": Key(_move(lambda board: board.page)),
    " ": Key(_move(lambda board: board.page)),
    "home": Key(_move(_first)),
    "end": Key(_move(lambda board: 1_000_000)),
    "g": Key(_move(_first)),
    "G": Key(_move(lambda board: 1_000_000)),
    "enter": Key(_look, "enter: look at it in full; q, escape: back", "look"),
    "right": Key(_look),
    "1": Key(
        _view("exchanges"),
        "1 to 5, tab: exchanges, connections, upstreams, traces (recorded from then on), held",
    ),
    "2": Key(_view("connections")),
    "3": Key(_view("upstreams")),
    "4": Key(_view("traces")),
    "5": Key(_view("held")),
    "tab": Key(_next_view),
    "f": Key(_filter, "f: show only what matches a filter", "filter"),
    "o": Key(lambda board: board.next_sorting(), "o: order by the next column, each both ways", "order"),
    "p": Key(_pause, "p: pause the picture, and go on", "pause"),
    "i": Key(_hold, "i: hold what matches a filter, at a phase: ~u /page @handler; nothing lets all go", "hold"),
    "n": Key(_with_held("next"), "n: let it go on to the next phase", "next"),
    "a": Key(_with_held("resume"), "a: let it go on", "go on"),
    "A": Key(_all, "A: let all that is held go on", "all"),
    "e": Key(_edit, "e: change what is held: target=/x Name:value body=text status=404", "edit"),
    "E": Key(_with_held("editor"), "E: change it in your editor (VISUAL or EDITOR): fields and body", "editor"),
    "R": Key(_respond, "R: answer it without its handler: 503 'come later'", "answer"),
    "X": Key(_with_held("abort"), "X: abort it: its connection is reset, a subrequest cancelled", "abort"),
    "r": Key(_with_request("replay"), "r: send its request again", "replay"),
    "c": Key(_with_request("curl"), "c: its request as a command of curl, secrets masked", "curl"),
    "m": Key(_mark, "m: mark it, for the filter ~marked", "mark"),
    "ctrl-l": Key(lambda board: Command("redraw"), "ctrl-l: draw everything anew"),
    "?": Key(_help, "?, F1: this help", "help"),
    "f1": Key(_help),
    "q": Key(_quit, "q, ctrl-c: end; what is held goes on (while you type, ctrl-c leaves that)", "quit"),
}


_BACK = ("q", "escape", "left", "enter", "backspace", "?")


def press(board: Dashboard, key: str) -> Command | None:
    """One key; what is to be asked of the server, if anything is."""
    if board.prompt is not None:
        return board.type(board.prompt, key)
    board.note = ""
    if key in ("ctrl-c", "eof"):
        board.ended = True
        return None
    if board.mode != TABLE and key in _BACK and (key, board.mode) != ("?", LOOK):
        board.leave()
        return None
    found = KEYS.get(key)
    return found.do(board) if found is not None else None
