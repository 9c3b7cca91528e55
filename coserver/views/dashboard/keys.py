"""The dashboard's keys, with mitmproxy's letters where it has them. A new key is a row of KEYS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...observe.filters import EVERYTHING
from ...observe.snapshot.snapshot import ExchangeState
from ...observe.trace.trace import Trace
from ..live import VIEWS
from .model import HELP, LOOK, TABLE, Command, Dashboard, oldest_exchange
from .prompt import Prompt


@dataclass(frozen=True, slots=True)
class Key:
    """A key. ``about`` is its line in the help ("" for an alias); ``short`` its word in the bottom line."""

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

    board.ask(Prompt("filter:", text, "~u /page & ~m GET; empty for all"), then)


def _search(board: Dashboard) -> None:
    board.ask(Prompt("search:", board.searched, "a text in any column"), board.search)


def _sort(board: Dashboard) -> None:
    names = [one.heading for one in board.view.columns if one.heading]
    hint = "  ".join(f"{number} {name}" for number, name in enumerate(names, 1))
    board.ask(Prompt("sort by:", "", hint), board.sort_by)


def _save(board: Dashboard) -> None:
    looked = board.looked if board.mode == LOOK and isinstance(board.looked, Trace) else None
    text = "" if board.filter is EVERYTHING else str(board.filter)
    name = f"exchange-{looked.id}.har" if looked is not None else "exchanges.har"

    def then(path: str) -> Command:
        return Command("save", {"path": path, "filter": text, "id": looked.id if looked is not None else None})

    board.ask(Prompt("save as:", name), then)


def _hold(board: Dashboard) -> None:
    row = board.current()
    text = board.hold or board.hold_before
    if not text and isinstance(row, ExchangeState) and row.method:
        text = f"~u {row.target.partition('?')[0]} @handler"
    board.ask(Prompt("hold:", text, "~u /page @handler,response; . for all, empty for none"), board.set_hold)


def _held(board: Dashboard) -> dict[str, Any] | None:
    """The hold that a key acts on; None, with a note, if there is none."""
    held = board.current_held()
    if held is None:
        row = board.looked if board.mode == LOOK else board.current()
        if isinstance(row, dict) and "by" in row:
            board.say(f"{row['by']} holds this one, and can release it", wrong=True)
            return None
        lists = (
            "this one is not held; 5 lists the held ones" if board.held else "nothing is held; press i to hold requests"
        )
        board.say("another stepper holds this one" if getattr(row, "held", False) else lists, wrong=True)
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

    board.ask(Prompt(f"respond #{number}:", "", "503 'come later' Retry-After:5"), then)


def _look(board: Dashboard) -> Command | None:
    row = board.current()
    if row is None or isinstance(row, tuple):
        return None
    board.look(board.held_of(row) or oldest_exchange(row) or row)
    return Command("look", {"id": board.looked.id}) if isinstance(board.looked, Trace | ExchangeState) else None


def _copy(board: Dashboard) -> Command | None:
    """Copy what is shown: a curl command as it is; of an exchange its curl command."""
    if isinstance(board.looked, str):
        board.say("copied, if the terminal lets programs write to its clipboard (OSC 52)")
        return Command("copy", {"text": board.looked})
    return _with_request("copy_curl")(board)


def _mark(board: Dashboard) -> Command | None:
    row = board.looked if board.mode == LOOK else board.current()
    row = oldest_exchange(row)
    if not isinstance(row, ExchangeState | Trace | dict):
        return None
    number = row["exchange"]["id"] if isinstance(row, dict) else row.id
    on = number not in board.marked
    (board.marked.add if on else board.marked.discard)(number)
    board.say(f"exchange {number} is marked" if on else f"exchange {number} is no longer marked")
    return Command("mark", {"id": number, "on": on}) if isinstance(row, Trace) else None


def _with_request(what: str) -> Callable[[Dashboard], Command | None]:
    def command(board: Dashboard) -> Command | None:
        row = board.looked if board.mode == LOOK else board.current()
        row = oldest_exchange(row)
        if isinstance(row, dict):
            return Command(what, {"id": row["exchange"]["id"]})
        if isinstance(board.looked, str) or not isinstance(row, Trace | ExchangeState):
            board.say("choose a request in the exchanges (1) or the traces (4)", wrong=True)
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
    "up": Key(
        _move(lambda board: -1), "up down k j: choose a row; also pageup, pagedown or space, home or g, end or G"
    ),
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
    "enter": Key(_look, "enter: show it in full; q, escape: back", "show"),
    "right": Key(_look),
    "1": Key(
        _view("exchanges"),
        "1 to 6, tab: exchanges, connections, upstreams, traces, held, errors",
    ),
    "2": Key(_view("connections")),
    "3": Key(_view("upstreams")),
    "4": Key(_view("traces")),
    "5": Key(_view("held")),
    "6": Key(_view("errors")),
    "tab": Key(_next_view),
    "f": Key(_filter, "f: show only rows that match a filter", "filter"),
    "/": Key(_search, "/: choose the next row with a text; / and enter: the next one"),
    "s": Key(_sort, "s: sort by a column: its number or name; again reverses"),
    "w": Key(_save, "w: save as HAR: the shown exchange, or all recorded ones that match the filter"),
    "o": Key(lambda board: board.next_sorting(), "o: sort by the next column, up and then down", "sort"),
    "p": Key(_pause, "p: pause the display, or continue", "pause"),
    "i": Key(_hold, "i: hold requests that match a filter, at a phase: ~u /page @handler; empty: release all", "hold"),
    "n": Key(_with_held("next"), "n: resume it until its next phase", "next"),
    "a": Key(_with_held("resume"), "a: resume it", "resume"),
    "A": Key(_all, "A: resume all that is held", "all"),
    "e": Key(_edit, "e: edit what is held: target=/x Name:value body=text status=404", "edit"),
    "E": Key(_with_held("editor"), "E: edit its fields and body in your editor (VISUAL or EDITOR)", "editor"),
    "R": Key(_respond, "R: respond without the handler: 503 'come later'", "respond"),
    "X": Key(_with_held("abort"), "X: abort it: reset its connection; cancel a subrequest", "abort"),
    "r": Key(_with_request("replay"), "r: send its request again", "replay"),
    "c": Key(_with_request("curl"), "c: show its request as a curl command, secrets masked", "curl"),
    "y": Key(_copy, "y: copy the curl command of its request to the clipboard, by the terminal (OSC 52)", "copy"),
    "m": Key(_mark, "m: mark it or remove the mark; the filter ~marked finds it", "mark"),
    "ctrl-l": Key(lambda board: Command("redraw"), "ctrl-l: redraw the screen"),
    "?": Key(_help, "?, F1: this help", "help"),
    "f1": Key(_help),
    "q": Key(_quit, "q, ctrl-c: quit, and resume all that is held (while you type, ctrl-c cancels the line)", "quit"),
}


_BACK = ("q", "escape", "left", "enter", "backspace", "?")


def press(board: Dashboard, key: str) -> Command | None:
    """Carry out one key; a Command if the server is to be asked."""
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
