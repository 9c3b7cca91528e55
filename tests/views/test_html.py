"""Static tables of a saved notebook: complete without a kernel, no scripts, no markup from clients."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any
from urllib.request import urlopen

from coserver import App
from coserver.observe.trace.trace import Trace
from coserver.views.html import MOST, snapshot_bundle, traces_bundle
from coserver.views.live import example
from coserver.views.samples import all_samples, page

#: What GitHub's sanitizer and nbconvert's keep of a table.
_KEPT = {"p", "strong", "em", "table", "thead", "tbody", "tr", "th", "td", "span"}


def changed(trace: Trace, **changes: Any) -> Trace:
    return Trace(**{**{each.name: getattr(trace, each.name) for each in fields(trace)}, **changes})


def test_a_snapshot_has_its_tables_as_html_and_as_text() -> None:
    shown = snapshot_bundle(example())
    for kind in ("text/html", "text/plain"):
        for word in ("shop", "exchanges", "connections", "upstreams", "/items/7", "127.0.0.1:50311", "round-robin"):
            assert word in shown[kind], (kind, word)
        assert "abcdef" not in shown[kind]  # the token of the example


def test_only_what_is_kept_everywhere_is_written() -> None:
    for shown in (snapshot_bundle(example()), traces_bundle(all_samples())):
        assert set(re.findall(r"</?([a-z0-9]+)", shown["text/html"])) <= _KEPT
        assert set(re.findall(r" ([a-z]+)=", shown["text/html"])) <= {"align", "style"}


def test_what_a_client_sends_is_no_markup() -> None:
    evil = changed(page(), raw_target="/<script>alert(1)</script>\x1b[2J\u202e", error='<img src=x onerror="x()">')
    shown = traces_bundle([evil])
    assert "<script" not in shown["text/html"]
    assert "<img" not in shown["text/html"]
    assert "&lt;script&gt;" in shown["text/html"]
    assert not {"\x1b", "\u202e"} & set(shown["text/html"] + shown["text/plain"])


def test_long_tables_are_cut_and_say_so() -> None:
    many = [changed(page(), id=number) for number in range(1, MOST + 31)]
    shown = traces_bundle(many)
    assert shown["text/html"].count("<tr>") == MOST + 1
    assert shown["text/html"].startswith("<p>30 older ones are not shown</p>")
    assert f"<strong>{many[-1].method}</strong>" in shown["text/html"]
    rows = tuple(example().connections) * 20
    big = snapshot_bundle(replace(example(), connections=rows))
    assert big["text/html"].count(f"<p>and {len(rows) - MOST} more</p>") == 2
    assert big["text/plain"].count(f"\nand {len(rows) - MOST} more") == 2


def test_nothing_is_said_where_nothing_is() -> None:
    shown = traces_bundle([], "nothing is recorded")
    assert "nothing is recorded" in shown["text/html"]
    assert "<table" not in shown["text/html"]


def test_what_a_server_hands_out_shows_itself() -> None:
    app = App("frozen")

    @app.get("/items/{id}")
    def item(id: int) -> Any:
        return {"id": id}

    with app.start(record=True) as server:
        for number in range(3):
            urlopen(f"{server.url}/items/{number}").read()
        assert "/items/1" in server.traces._repr_mimebundle_()["text/html"]
        assert "/items/2" not in server.traces[:2]._repr_mimebundle_()["text/plain"]
        assert "/items/2" in server.traces("~u items/2")._repr_mimebundle_()["text/plain"]
        assert "/items/2" in server.traces("~u items/2")[-5:]._repr_mimebundle_()["text/plain"]
        assert "frozen: running" in server.snapshot()._repr_mimebundle_()["text/plain"]
        assert server.snapshot().from_json(server.snapshot().to_json()).server == "frozen"
        last = server.traces[-1]
        assert last.har()["log"]["entries"][0]["request"]["url"].endswith("/items/2")
        assert last.curl().startswith("curl ")
        assert last._repr_mimebundle_()["image/svg+xml"].startswith("<svg")
    assert "/items/1" in server.traces._repr_mimebundle_()["text/html"]  # it has stopped
