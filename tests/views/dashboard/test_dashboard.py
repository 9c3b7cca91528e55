"""The dashboard without a terminal: the lines of a screen at every size, and the keys."""

from __future__ import annotations

import os
import pty
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from coserver.observe.snapshot.snapshot import Snapshot
from coserver.observe.trace.trace import Body, Message, Span
from coserver.views import held as held_view
from coserver.views.dashboard.keys import KEYS, press
from coserver.views.dashboard.model import STAYS, TRACES_MAX, Dashboard, as_tree
from coserver.views.dashboard.prompt import Prompt
from coserver.views.dashboard.rates import Rates, sparkline
from coserver.views.dashboard.screen import example_board, lines, plain_lines
from coserver.views.dashboard.terminal import Terminal, glyphs_for, read_keys
from coserver.views.live import VIEWS, example
from coserver.views.samples import page


@pytest.mark.parametrize("width", [1, 2, 7, 20, 40, 79, 80, 120, 300])
@pytest.mark.parametrize("height", [1, 2, 3, 5, 24, 60])
def test_any_size(width: int, height: int) -> None:
    for mode in ("", "2", "3", "4", "?", "\r"):
        board = example_board()
        if mode:
            press(board, "enter" if mode == "\r" else mode)
        lines = plain_lines(board, width, height)
        assert len(lines) == height
        for wanted in ("f", "i", "o", "p", "end", "m"):
            press(board, wanted)
            plain_lines(board, width, height)
            if board.prompt is not None:
                press(board, "escape")


def test_only_what_is_visible_is_drawn() -> None:
    snapshot = example()
    one = snapshot.connections[0]
    assert one.exchanges
    many = [
        replace(one, id=number, exchanges=(replace(one.exchanges[0], id=number, seconds=float(number)),))
        for number in range(5000)
    ]
    board = Dashboard()
    board.show(replace(snapshot, connections=tuple(many)))
    lines = plain_lines(board, 80, 24)
    assert len(lines) == 24
    assert "4999" in lines[4]
    press(board, "end")
    assert " ▸     0" in "\n".join(plain_lines(board, 80, 24))
    press(board, "pageup")
    press(board, "up")
    assert "▸" in "\n".join(plain_lines(board, 80, 24))


def bare_board() -> Dashboard:
    board = Dashboard()
    board.show(example())
    return board


def test_keys_without_anything_held() -> None:
    board = bare_board()
    for key in ("n", "a", "X", "e", "R"):
        assert press(board, key) is None
        assert "nothing is held" in board.note
    for key, what in (("r", "replay"), ("c", "curl")):
        command = press(board, key)
        assert command is not None
        assert (command.what, command.given) == (what, {"id": 44})
        assert press(Dashboard(), key) is None
    assert press(board, "unknown") is None
    for key, each in KEYS.items():
        if key not in ("q", "f", "i"):
            each.do(bare_board())


def held_board() -> tuple[Dashboard, dict[str, Any]]:
    board = bare_board()
    held = held_view.example()
    board.show_held([held])
    return board, held


def test_orders_of_what_is_held() -> None:
    board, held = held_board()
    for key, what in (("n", "next"), ("a", "resume"), ("X", "abort")):
        command = press(board, key)
        assert command is not None
        assert (command.what, command.given) == (what, {"which": held["id"]})
    press(board, "e")
    for char in "target":
        press(board, char)
    press(board, "enter")  # an error: the prompt stays, to be corrected
    assert board.prompt is not None
    assert board.wrong
    for char in "=/x":
        press(board, char)
    command = press(board, "enter")
    assert command is not None
    assert command.given == {"which": 3, "changes": {"target": "/x"}}
    press(board, "i")
    press(board, "ctrl-u")
    for char in "~u /a @head":
        press(board, char)
    command = press(board, "enter")
    assert command is not None
    assert command.given == {"filter": "~u /a", "at": ["head"], "text": "~u /a @head"}


def test_each_of_two_held_subrequests_has_a_row() -> None:
    board, held = held_board()
    two = [{**held, "id": number, "subrequest": number, "title": f"users GET /u/{number}"} for number in (4, 5)]
    board.show_held(two)
    assert "/cart?token=" in plain_lines(board, 80, 24)[5]
    press(board, "5")
    assert "users for /cart" in plain_lines(board, 120, 24)[4]
    press(board, "down")
    for key, what in (("n", "next"), ("a", "resume"), ("X", "abort")):
        command = press(board, key)
        assert command is not None
        assert (command.what, command.given) == (what, {"which": 5})
    press(board, "enter")
    assert "#5 users GET /u/5  held at response" in plain_lines(board, 80, 24)[3]
    command = press(board, "a")
    assert command is not None
    assert command.given == {"which": 5}
    press(board, "q")
    press(board, "f")
    for char in "~u nowhere":
        press(board, char)
    press(board, "enter")
    assert "nothing matches" in plain_lines(board, 80, 24)[4]


def test_no_key_means_what_is_not_chosen() -> None:
    board, held = held_board()
    assert board.current().id == 42  # nothing was chosen: what is held is
    press(board, "up")
    for key in ("n", "a", "X", "e", "R"):
        assert press(board, key) is None
        assert board.prompt is None
        assert "this one is not held" in board.note
    press(board, "1")
    board.show_held([])
    assert board.current().id == 44
    press(board, "down")
    assert press(board, "X") is None
    assert board.note == "another stepper holds this one"
    board.show_held([held])
    press(board, "up")
    # One that is gone leaves its place to another, not to the first.
    press(board, "down")
    rest = tuple(one for one in example().connections if one.id != 2)
    board.show(replace(example(), connections=rest))
    assert board.current().id == 43
    press(board, "end")
    board.show(replace(example(), connections=rest[:1]))
    assert board.current().id == 41
    board.show(replace(example(), connections=()))
    assert board.current() is None


def test_the_newest_trace_until_one_is_chosen() -> None:
    board = bare_board()
    press(board, "4")
    for number in (7, 8):
        board.show_trace(replace(page(), id=number))
        assert board.current().id == number
    press(board, "down")
    board.show_trace(replace(page(), id=9))
    assert board.current().id == 7
    press(board, "g")
    board.show_trace(replace(page(), id=10))
    assert board.current().id == 10


def test_a_wide_screen_has_room_for_more_than_targets() -> None:
    board = bare_board()
    assert "recv 10.0.0.9:5432 prices.py:41 " in "\n".join(plain_lines(board, 200, 24))
    press(board, "4")
    board.show_trace(replace(page(), id=7))
    press(board, "m")
    assert plain_lines(board, 80, 24)[4].startswith(" ▸●      7 GET")


def test_a_row_has_no_colour_but_its_cells() -> None:
    row = lines(bare_board(), 80, 24)[5]
    assert not row.style
    console = Console(color_system="standard", force_terminal=True, width=80)
    with console.capture() as captured:
        console.print(row)
    assert "\x1b[1mPOST   \x1b[0m /cart?token=***  " in captured.get()


def test_a_filter_by_what_a_picture_has_not() -> None:
    board = bare_board()
    board.set_filter("~u /cart | !~hq x-tag")
    assert board.asks
    assert "loading" in plain_lines(board, 80, 24)[4]
    board.matching = (board.filter, frozenset({42, 43}))
    assert [one.id for one in board.rows()] == [42, 43]
    board.set_filter("~b x")
    assert board.rows() == []
    board.set_filter("~u '(a+)+$'")
    one = example().connections[0]
    assert one.exchanges
    long = replace(one, exchanges=(replace(one.exchanges[0], target="/" + "a" * 2000 + "b"),))
    board.show(replace(example(), connections=(long,)))
    assert len(board.rows()) == 1
    assert "takes more than" in board.note


def test_what_comes_while_it_is_paused_is_not_lost() -> None:
    board = bare_board()
    press(board, "4")
    board.show_trace(replace(page(), id=7))
    press(board, "p")
    board.show_trace(replace(page(), id=8))
    assert [one.id for one in board.rows()] == [7]
    press(board, "p")
    assert [one.id for one in board.rows()] == [8, 7]


def test_the_time_of_what_is_held_goes_on() -> None:
    board, _ = held_board()
    press(board, "enter")
    before = plain_lines(board, 80, 24)
    one = next(one for one in example().connections if one.id == 2)
    assert one.exchanges
    later = replace(one, exchanges=(replace(one.exchanges[0], seconds=90.0, phase_seconds=89.0),))
    board.show(replace(example(), connections=(later,)))
    assert before[4] != plain_lines(board, 80, 24)[4]
    assert "80 s" in plain_lines(board, 80, 24)[4]


def test_the_line_of_keys_has_what_can_be_done() -> None:
    board = bare_board()
    plain = plain_lines(board, 80, 24)[-1]
    assert plain.startswith("? help q quit enter show f filter i hold o sort p pause r replay m mark")
    assert "next" not in plain
    board.show_held([held_view.example()])
    assert "? help q quit n next a resume e edit X abort enter" in plain_lines(board, 80, 24)[-1]
    press(board, "enter")
    assert plain_lines(board, 80, 24)[-1].startswith("q back ? help n next a resume e edit X abort E editor R respond")
    board.show_held([])
    assert plain_lines(board, 80, 24)[-1].startswith("q back ? help r replay m mark c curl y copy")
    press(board, "?")
    assert "choose a row" in plain_lines(board, 80, 24)[3]
    press(board, "?")
    assert "no longer held" in plain_lines(board, 80, 24)[3]
    press(board, "q")
    press(board, "f1")
    assert plain_lines(board, 80, 24)[-1] == "q back ? help "
    assert plain_lines(board, 80, 24)[-2].startswith("▾ ")
    narrow = plain_lines(example_board(), 40, 10)
    assert narrow[0] == "shop         4 busy  1 suspended  1 held"
    assert narrow[1].startswith("requests     156/s  mean   5.20 ms")
    assert "up " in plain_lines(example_board(), 120, 24)[0]
    assert narrow[2].startswith(" 1 exchanges  2  3  4  5 ")


def test_what_is_held_no_more_by_itself_is_told() -> None:
    board, held = held_board()
    board.show_held([])
    assert board.note == "POST /cart?coupon=spring is no longer held: the client left, or the hold's time limit passed"
    for key in ("a", "n", "X", "A"):
        board, held = held_board()
        press(board, key)
        board.show_held([])
        assert not board.note
    board, held = held_board()
    press(board, "R")
    press(board, "enter")
    board.show_held([])
    assert not board.note
    del held


def test_what_is_looked_at_follows_its_hold() -> None:
    board, held = held_board()
    row = next(one for one in board.rows() if one.id == 42)
    board.selected = row.id
    press(board, "enter")
    assert "held at response" in "\n".join(plain_lines(board, 80, 24))
    board.show_held([{**held, "id": 9, "phase": "recycle"}])
    assert "held at recycle" in "\n".join(plain_lines(board, 80, 24))
    board.show_held([])
    assert "no longer held; it was at recycle" in "\n".join(plain_lines(board, 80, 24))
    press(board, "q")
    assert not board.ended
    press(board, "q")
    assert board.ended


def test_what_is_looked_at_ends_meanwhile() -> None:
    board = bare_board()
    command = press(board, "enter")
    assert command is not None
    assert (command.what, command.given) == ("look", {"id": 44})
    board.request = held_message()
    shown = "\n".join(plain_lines(board, 80, 24))
    assert "→ GET /report.pdf" in shown
    assert "x-tag: t" in shown
    board.show(replace(example(), connections=()))
    assert "has ended after response" in plain_lines(board, 80, 24)[3]
    board.show_trace(replace(page(), id=44))
    assert "GET /page/7?lang=de  200" in plain_lines(board, 80, 24)[3]
    board.look("curl 'http://x/'")
    assert plain_lines(board, 80, 24)[3] == "curl 'http://x/'"
    press(board, "q")
    assert "id" in plain_lines(board, 80, 24)[3]


def held_message() -> Message:
    return Message(unmasked=(("x-tag", "t"),), body=Body(content=b"a", size=1))


def test_rates() -> None:
    rates = Rates()
    first = example()
    rates.add(first)
    assert not rates.seconds
    more = {**first.counters, "served": 120, "spent_us": 1_300_000, "received": 21_000}
    rates.add(replace(first, seconds=first.seconds + 1, counters=more))
    assert (rates.now.rate, rates.now.latency, rates.now.received) == (20, 0.005, 1000)
    rates.add(replace(first, seconds=first.seconds + 4, counters=more))
    assert [one.rate for one in rates.seconds] == [20, 0, 0, 0]
    rates.add(replace(first, pid=1, counters={}))  # another process: it begins anew
    assert len(rates.seconds) == 4
    assert sparkline([0, 1, 4, 8], 6) == "  ▁▁▄█"
    assert sparkline([None, 0.0], 3) == "   "
    assert sparkline([1, 2, 3], 0) == ""


def test_a_prompt() -> None:
    prompt = Prompt("x:", "ab")
    for key in ("left", "é", "home", "c", "end", "backspace", "left", "delete", "right", "d", " ", "e", "ctrl-w"):
        prompt.press(key)
    assert prompt.text == "cad "
    for width in (1, 5, 80):
        assert cell_len(prompt.line(width).plain) >= 1
    prompt.press("escape")
    assert prompt.given_up
    wide = Prompt("x:", "中文" * 30)
    for _ in range(61):
        line = wide.line(40)
        at = line.plain.index(wide.text[wide.at]) if wide.at < 60 else len(line.plain) - 1
        assert cell_len(line.plain[: at + 1]) <= 40  # the cursor is in view
        assert wide.cell(wide.at, 40) < 39
        wide.press("left")


def test_keys_of_a_terminal() -> None:
    assert read_keys("a\x1b[A\x1b[5~\r\x7fé\x1b\x1bOB\x1b[1;5C") == [
        "a", "up", "pageup", "enter", "backspace", "é", "escape", "down",
    ]  # fmt: skip
    assert read_keys("\x1b") == ["escape"]
    assert read_keys("\x1bOP\x1b[11~\x1b[[A\x1b[[Bx") == ["f1", "f1", "f1", "x"]  # an A lets all go


@contextmanager
def on_a_terminal(monkeypatch: pytest.MonkeyPatch, term: str = "xterm") -> Iterator[int]:
    """A pseudo-terminal as stdin and stdout; its other end."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "r+b", buffering=0) as raw, TextIOWrapper(raw, "utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setenv("TERM", term)
        yield master
    os.close(master)


def test_a_key_that_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_a_terminal(monkeypatch) as master, Terminal() as terminal:

        def type_slowly() -> None:
            for piece in (b"\x1b[", b"B", b"\x1b[6", b"~", b"\xc3", b"\xa9"):
                os.write(master, piece)
                time.sleep(0.02)

        thread = threading.Thread(target=type_slowly)
        thread.start()
        found: list[str] = []
        while len(found) < 3:
            found += terminal.keys(5)
        thread.join()
    assert found == ["down", "pagedown", "é"]


def test_no_dashboard_on_a_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_a_terminal(monkeypatch, "dumb"), pytest.raises(OSError, match="TERM is dumb; --once prints"):
        Terminal()


@pytest.mark.parametrize(("term", "encoding", "shown"), [
    ("xterm", "utf-8", "▸ µ ‖ ▁█"), ("linux", "utf-8", "► µ ║ _█"), ("vt100", "ascii", "> u = _#"),
])  # fmt: skip
def test_characters_that_a_terminal_lacks(term: str, encoding: str, shown: str) -> None:
    assert "▸ µ ‖ ▁█".translate(glyphs_for(term, encoding)) == shown
    everything = "".join(plain_lines(example_board(), 120, 40)).translate(glyphs_for("vt100", "ascii"))
    assert everything.isascii()


def test_views_of_hostile_text() -> None:
    """Control characters from a client never reach the terminal."""
    snapshot = example()
    one = snapshot.connections[0]
    assert one.exchanges
    bad = replace(one.exchanges[0], target="/\x1b]0;x\x07\u202e", method="GET\x1b[2J", handler="h")
    board = Dashboard()
    board.show(replace(snapshot, connections=(replace(one, exchanges=(bad,)),)))
    press(board, "enter")
    shown = "\n".join(plain_lines(board, 80, 24))
    press(board, "q")
    shown += "\n".join(plain_lines(board, 80, 24))
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_all_views_have_a_table() -> None:
    from rich.console import Console

    console = Console(width=100, file=None, record=True)
    with console.capture() as captured:
        for view in VIEWS.values():
            console.print(view.render(example()))
            console.print(view.render(Snapshot.from_json(example().to_json())))
    assert "/items/7" in captured.get()


def test_a_loop_that_stands_still_is_named() -> None:
    from dataclasses import replace

    from coserver.views.dashboard.screen import _figures
    from coserver.views.live import example

    board = Dashboard()
    board.snapshot = replace(example(), stands=4.5, stands_at="shop.py:15 in read")
    assert _figures(board, 100).plain == "the loop stands still at shop.py:15 in read, for 4.50 s: no request goes on"
    board.snapshot = example()
    assert "latency" in _figures(board, 100).plain


def test_a_prefilled_line_is_replaced_by_the_first_key() -> None:
    board = bare_board()
    board.set_filter("~u /a")
    press(board, "f")
    for char in "~u /b":
        press(board, char)
    press(board, "enter")
    assert str(board.filter) == "~u /b"
    press(board, "f")
    press(board, "end")
    press(board, "c")
    press(board, "enter")
    assert str(board.filter) == "~u /bc"
    press(board, "i")
    assert "ctrl-u: clear" in plain_lines(board, 80, 24)[-1]
    for char in "~u /a @handler~u /b @body":
        press(board, char)
    assert press(board, "enter") is None
    assert "a hold has one '@'" in board.note
    board = bare_board()
    assert board.set_hold("~u 'a @b' @body").given["filter"] == "~u 'a @b'"


def test_a_finished_exchange_stays_a_moment_and_is_dim(monkeypatch: pytest.MonkeyPatch) -> None:
    board = bare_board()
    board.show(replace(example(), connections=()))
    board.show_trace(replace(page(), id=6), before=True)
    board.show_trace(replace(page(), id=7))
    assert [one.id for one in board.rows()] == [7]
    line = lines(board, 80, 24)[4]
    assert "done" in line.plain
    assert any("dim" in str(span.style) for span in line.spans)
    command = press(board, "enter")
    assert command is not None
    assert command.given == {"id": 7}
    press(board, "q")
    now = time.monotonic()
    monkeypatch.setattr("coserver.views.dashboard.model.monotonic", lambda: now + STAYS + 1)
    assert board.rows() == []


def test_what_went_wrong_is_kept_longer() -> None:
    board = bare_board()
    held = Span(kind="held", name="handler", start=0.0, end=0.1)
    for number, more in ((1, {"status": 500}), (2, {"spans": (held,)}), (3, {}), (4, {})):
        board.show_trace(replace(page(), id=number, **more))
    board.marked.add(4)
    for number in range(5, TRACES_MAX + 20):
        board.show_trace(replace(page(), id=number))
    kept = [one.id for one in board.traces]
    assert len(kept) == TRACES_MAX
    assert kept[:3] == [1, 2, 4]
    assert board.error_rate() == pytest.approx(1 / TRACES_MAX)
    assert "errors 0.1%" in plain_lines(board, 120, 24)[1]


def test_a_server_that_does_not_answer_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    board = bare_board()
    board.asked = time.monotonic() - 5
    assert "no answer for 5 s" in plain_lines(board, 80, 24)[0]
    board.say("the process is stopped, or its loop stands still", wrong=True)
    board.asked = None
    board.show(example())
    assert "running" in plain_lines(board, 80, 24)[0]
    assert board.note == "it answers again"


def test_the_holds_of_other_steppers_are_listed() -> None:
    board = bare_board()
    board.other_held = [{**held_view.example(), "by": "coserver step, process 7"}]
    assert "1 held" in plain_lines(board, 120, 24)[0]
    press(board, "5")
    assert "held by coserver step, process 7" in plain_lines(board, 200, 24)[4]
    assert press(board, "n") is None
    assert board.note == "coserver step, process 7 holds this one, and can release it"


def test_the_curl_view_offers_what_it_can() -> None:
    board = bare_board()
    board.look("curl 'http://x/'")
    assert plain_lines(board, 80, 24)[-1] == "q back ? help y copy "
    command = press(board, "y")
    assert command is not None
    assert (command.what, command.given) == ("copy", {"text": "curl 'http://x/'"})
    board.quits = "quit and stop the server"
    press(board, "q")
    assert "q quit and stop the server" in plain_lines(board, 80, 24)[-1]


def test_text_goes_to_the_clipboard_by_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_a_terminal(monkeypatch) as master, Terminal() as terminal:
        os.read(master, 4096)
        terminal.copy("é'")
        assert os.read(master, 4096) == b"\x1b]52;c;w6kn\x07"


def test_an_exchange_is_below_the_one_that_asked_for_it() -> None:
    board = bare_board()
    asked = Span(
        kind="subrequest", name="GET /u/7", start=0.1, end=0.3, detail="200 http://127.0.0.1:8000", upstream="u"
    )
    outer = replace(page(), id=3, at=100.0, raw_target="/outer", spans=(asked,))
    inner = replace(page(), id=4, at=100.15, raw_target="/u/7", dst="127.0.0.1:8000")
    other = replace(inner, id=5, at=200.0)
    for one in (inner, other, outer):
        board.show_trace(one)
    press(board, "4")
    assert [one.id for one in board.rows()] == [5, 3, 4]
    assert board.depths == {4: 1}
    assert "└ /u/7" in plain_lines(board, 80, 24)[6]
    press(board, "down")
    press(board, "down")
    command = press(board, "enter")
    assert command is not None
    assert command.given == {"id": 4}
    snapshot = example()
    found, depths = as_tree(list(snapshot.exchanges), snapshot.at)
    assert len(found) == len(snapshot.exchanges)
    assert not depths
    circle = [replace(outer, raw_target="/u/7", at=100.15), replace(outer, id=9, raw_target="/u/7", at=100.15)]
    assert len(as_tree(circle, 0.0)[0]) == 2


def test_errors_in_groups() -> None:
    board = bare_board()
    press(board, "6")
    assert "no request has failed" in plain_lines(board, 80, 24)[4]
    trace = 'Traceback (most recent call last):\n  File "/a/shop.py", line 4, in boom\nValueError: no price 1'
    for number in (1, 2, 3):
        board.show_trace(
            replace(page(), id=number, status=500, error=f"ValueError: no price {number}", traceback=trace)
        )
    board.show_trace(replace(page(), id=4, status=502))
    board.show_trace(page())
    first, second = plain_lines(board, 120, 24)[4:6]
    assert first.split()[0:2][-1] == "3"
    assert "ValueError: no price 3" in first
    assert "shop.py:4 in boom" in first
    assert "status 502" in second
    command = press(board, "enter")
    assert command is not None
    assert command.given == {"id": 3}
    assert "shop.py" in "\n".join(plain_lines(board, 120, 40))


def test_search_and_sorting_by_a_number_or_a_name() -> None:
    board = bare_board()
    for key in ("/", *"ITEMS", "enter"):
        press(board, key)
    assert board.current().id == 41
    for key in ("/", *"nowhere", "enter"):
        press(board, key)
    assert "no row has 'nowhere'" in board.note
    for key in ("s", *"tar", "enter"):
        press(board, key)
    assert board.sorted["exchanges"] == ("target", False)
    for key in ("s", "3", "enter"):
        press(board, key)
    assert board.sorted["exchanges"] == ("target", True)
    for key in ("s", "9", "9", "enter"):
        press(board, key)
    assert "a column is its number or its name" in board.note
    assert board.prompt is not None


def test_saving_asks_for_a_name() -> None:
    board = bare_board()
    board.set_filter("~u /a")
    press(board, "w")
    command = press(board, "enter")
    assert command is not None
    assert command.given == {"path": "exchanges.har", "filter": "~u /a", "id": None}
    board.look(replace(page(), id=7))
    press(board, "w")
    command = press(board, "enter")
    assert command is not None
    assert command.given == {"path": "exchange-7.har", "filter": "~u /a", "id": 7}
