"""The live table without a page: drawings of a real server, changes between two, questions of a page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from coserver import App
from coserver.app.server import Server
from coserver.notebook import clicks
from coserver.notebook.clicks import Questions, Wrong
from coserver.notebook.live import LiveTable
from coserver.notebook.table_rows import MOST, TableDrawer
from coserver.observe.filters import FilterError
from coserver.views.live import example

EVIL = "/<script>alert(1)</script>"


@pytest.fixture
def server() -> Iterator[Server]:
    app, go = App("live"), threading.Event()
    app.state.go = go

    @app.get("/slow")
    def slow() -> str:
        go.wait(30)
        return "late"

    @app.get("/items/{id}")
    def item(id: int) -> dict[str, int]:
        return {"id": id}

    with app.start() as one:
        yield one
        go.set()


def get(server: Server, path: str) -> None:
    with urlopen(server.url + path, timeout=20) as response:
        response.read()


def wait_until(done: Callable[[], Any]) -> None:
    """Poll a condition."""
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def rows(table: LiveTable, name: str = "requests") -> list[list[Any]]:
    found = table.draw().since(None)
    assert found is not None
    return list(found["tables"][name].values())


def test_requests_under_way_and_over_are_one_list(server: Server) -> None:
    table = server.live()
    get(server, "/items/7?token=abcdef")
    client = threading.Thread(target=get, args=(server, "/slow"))
    client.start()
    wait_until(lambda: len(rows(table)) >= 2)
    before = table.draw()
    assert table.draw().since(before) is None  # a second that passes is no change
    server.apps[0].state.go.set()
    client.join()
    wait_until(lambda: table.draw().since(before))
    change = table.draw().since(before)
    wait_until(lambda: any(row[2][0] == "/slow" and row[5][0] == "200" for row in rows(table)))
    assert change["gone"].get("requests") is None
    assert "abcdef" not in repr(rows(table))


def test_a_filter_is_heeded_and_a_wrong_one_is_shown_where(server: Server) -> None:
    table = server.live("~u items")
    get(server, "/items/7")
    with pytest.raises(OSError, match="404"):
        get(server, "/nothing")
    wait_until(lambda: len(rows(table)) == 1)
    assert table.answer("filter", {"filter": "~c 404"}) == {"filter": "~c 404"}
    wait_until(lambda: [row[2] for row in rows(table)] == [["/nothing"]])
    with pytest.raises(Wrong, match=r"column 4"):
        table.answer("filter", {"filter": "~u (~q"})
    assert table.filter == "~c 404"
    with pytest.raises(FilterError):
        server.live("~c (")


def test_a_row_under_way_opens_with_its_waterfall_up_to_now(server: Server) -> None:
    table = server.live()
    client = threading.Thread(target=get, args=(server, "/slow"))
    client.start()
    wait_until(lambda: rows(table))
    found = table.draw().since(None)
    assert found is not None
    (key,) = found["tables"]["requests"]
    wait_until(lambda: "/slow" in table.answer("open", {"key": key})["html"])
    shown = table.answer("open", {"key": key})["html"]
    assert "<svg" in shown
    server.apps[0].state.go.set()
    client.join()
    wait_until(lambda: "200" in table.answer("open", {"key": key})["html"])


def test_a_row_opens_as_the_exchange_in_full(server: Server) -> None:
    table = server.live()
    get(server, "/items/7?token=abcdef")
    with pytest.raises(OSError, match="404"):
        get(server, EVIL)
    wait_until(lambda: len(rows(table)) >= 2)
    found = table.draw().since(None)
    assert found is not None
    first, second = sorted(found["tables"]["requests"], key=int)
    html = table.answer("open", {"key": first})["html"]
    for word in ("<svg", "200", "item on /items/{id}", "&quot;id&quot;: 7", "<b>content-type:</b> application/json"):
        assert word in html.lower() if word != "item on /items/{id}" else word in html, word
    assert "abcdef" not in html
    assert "<script" not in table.answer("open", {"key": second})["html"]
    assert table.draw().since(None)["opened"]["key"] == second  # type: ignore[index]
    with pytest.raises(Wrong, match="no longer kept"):
        table.answer("open", {"key": "999999"})
    with pytest.raises(Wrong, match="it has filter, open, hello"):
        table.answer("shutdown", {})


def test_more_rows_than_are_sent_are_counted() -> None:
    cells = [["1"]]
    many = [(f"x{number}", cells) for number in range(MOST + 30)]
    drawn = TableDrawer().draw(example(), many)
    assert len(drawn.tables["requests"]) == MOST
    assert drawn.more["requests"] == 30 + 4
    assert f"x{MOST + 29}" in drawn.tables["requests"]  # the newest are kept
    assert {"41", "42", "43", "44"} <= set(drawn.tables["requests"])


def test_a_change_names_what_was_put_and_what_is_gone() -> None:
    drawer = TableDrawer()
    first = drawer.draw(example(), [("a", [["1"]]), ("b", [["2"]])])
    second = drawer.draw(example(), [("b", [["3"]]), ("c", [["4"]])])
    change = second.since(first)
    assert change is not None
    assert change["put"] == {"requests": {"b": [["3"]], "c": [["4"]]}}
    assert change["gone"] == {"requests": ["a"]}
    assert second.since(second) is None


class Panel:
    mark = "p"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, what: str, given: dict[str, Any]) -> Any:
        self.asked.append(what)
        if what == "bad":
            raise Wrong("no")
        return given.get("held")


def test_a_question_that_comes_by_both_ways_is_done_once() -> None:
    questions, panel = Questions(), Panel()
    page_port = questions.enter(panel)
    assert page_port is not None
    question = {"id": "1", "to": "p", "what": "next", "held": 3}
    assert questions.by_port(question) == {"re": "1", "way": "port", "answer": 3}
    assert questions.by_kernel(question) == {"re": "1", "way": "port", "answer": 3}
    assert panel.asked == ["next"]
    assert questions.by_kernel({"id": "2", "to": "p", "what": "bad"}) == {"re": "2", "way": "kernel", "error": "no"}
    assert "closed" in questions.by_kernel({"id": "3", "to": "q", "what": "next"})["error"]
    questions.leave(panel)
    assert questions.page_port is None
    assert clicks.questions.page_port is None


def test_without_a_kernel_the_frozen_tables_are_shown(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("IPython")
    server.live().show()
    assert "live: running" in capsys.readouterr().out


def test_without_anywidget_the_frozen_tables_say_how_to_get_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("IPython")
    monkeypatch.setattr("coserver.notebook.panel.find_spec", lambda name: None)
    monkeypatch.setattr("coserver.notebook.panel.kernel_shell", object)
    server.live().show()
    said = capsys.readouterr().out
    assert "live: running" in said
    assert "pip install 'coserver[notebook]'" in said
    assert clicks.questions.page_port is None


class Sent:
    """A widget without a page."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.model_id = "m"

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state":
            self.states.append(value)
        super().__setattr__(name, value)

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def on_msg(self, call: Any) -> None:
        self.heard = call


class Shell:
    """The part of IPython's shell that a panel needs."""

    def __init__(self) -> None:
        self.events = self
        self.calls: dict[str, list[Any]] = {}

    def register(self, name: str, call: Any) -> None:
        self.calls.setdefault(name, []).append(call)

    def unregister(self, name: str, call: Any) -> None:
        self.calls[name].remove(call)


@pytest.fixture
def widget(monkeypatch: pytest.MonkeyPatch) -> Sent:
    pytest.importorskip("anywidget")
    one, shell = Sent(), Shell()
    monkeypatch.setattr("coserver.notebook.panel.kernel_shell", lambda: shell)
    monkeypatch.setattr("coserver.notebook.widget.make", lambda **given: one)
    monkeypatch.setattr("coserver.notebook.panel._BEGIN", 0.0)
    return one


def test_what_changed_is_pushed_while_somebody_looks_and_no_longer(server: Server, widget: Sent) -> None:
    table = server.live()
    table.show()
    get(server, "/items/1")

    def pushed(path: str) -> bool:
        """Whether it was pushed, in a state or as a change."""
        tables = [one.get("put") or one.get("tables") or {} for one in (*widget.sent, *widget.states)]
        return any(row[2] == [path] for one in tables for row in one.get("requests", {}).values())

    wait_until(lambda: pushed("/items/1"))
    numbers = sorted(one["n"] for one in (*widget.sent, *widget.states))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    widget.heard(widget, {"what": "away"}, [])
    table.wake()
    wait_until(lambda: not table._wake.is_set())  # its thread has seen that nobody looks
    get(server, "/items/2")
    count = len(widget.sent)
    wait_until(lambda: server.traces.latest()[0] == 2)
    assert not pushed("/items/2")
    widget.heard(widget, {"id": "7", "to": table.mark, "what": "hello"}, [])  # somebody looks again
    assert widget.sent[count]["re"] == "7"

    def whole(path: str) -> bool:
        return any(row[2] == [path] for one in widget.states for row in one["tables"]["requests"].values())

    wait_until(lambda: whole("/items/2"))  # all of it, since it was away
    states = len(widget.states)
    widget.heard(widget, {"what": "missed"}, [])
    wait_until(lambda: len(widget.states) > states)
    server.apps[0].state.go.set()
    server.stop()
    wait_until(lambda: widget.states[-1].get("over"))
    wait_until(lambda: clicks.questions.page_port is None)
