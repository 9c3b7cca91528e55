"""The waterfall of any trace: no text from a client breaks it, and each bar is in its place."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from coserver.observe.trace.trace import Span, Trace
from coserver.observe.trace.waterfall import LINES_MAX, rows_of, show_seconds, show_tick, ticks
from coserver.views.exchange import render as render_exchange
from coserver.views.samples import page, quick
from coserver.views.svg.waterfall import WIDTH, waterfall_svg
from coserver.views.text import readable
from coserver.views.traces import line_of, show_size
from coserver.views.traces import render as render_traces
from coserver.views.waterfall import render

ANY_TEXT = st.text(st.characters(max_codepoint=0x2FFF), max_size=40)
MOMENT = st.floats(0, 10, allow_nan=False)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    seconds = draw(st.sampled_from([0.0, 1e-9, 0.001, 3.0]))
    spans = []
    for _ in range(draw(st.integers(0, 6))):
        start, end = sorted((draw(st.floats(0, 1)) * seconds, draw(st.floats(0, 1)) * seconds))
        kind = draw(st.sampled_from(["handler", "suspend", "subrequest", "response", "step"]))
        outcome = draw(st.sampled_from(["ok", "failed", "cancelled", "open"]))
        spans.append(Span(kind=kind, name=draw(ANY_TEXT), start=start, end=end, outcome=outcome, detail=draw(ANY_TEXT)))
    request = Span(kind="request", name="", start=0.0, end=0.0)
    return replace(
        quick(), raw_target=draw(ANY_TEXT), error=draw(ANY_TEXT), seconds=seconds, spans=(request, *spans),
        handler=draw(ANY_TEXT), src=draw(ANY_TEXT), status=draw(st.sampled_from([0, 200, 404, 500])),
    )  # fmt: skip


@settings(deadline=None)  # a busy machine
@given(traces(), st.sampled_from([20, 40, 80, 200]))
def test_no_text_breaks_a_view(trace: Trace, width: int) -> None:
    console = Console(file=StringIO(), width=width, color_system=None)
    for view in (render(trace), render_exchange(trace), render_traces([trace])):
        console.print(view)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(each.isprintable() or each == "\n" for each in shown)
    drawn = waterfall_svg(trace)
    root = ElementTree.fromstring(drawn)
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.get("x", "0")) + float(bar.get("width", "0")) <= WIDTH + 2
    tags = {element.tag.partition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "style", "rect", "text", "title"}


def test_what_a_handler_waited_for_stands_below_it() -> None:
    rows = rows_of(page())
    assert [(row.depth, row.kind) for row in rows] == [
        (0, "request"), (0, "handler"), *[(1, "subrequest")] * 3, *[(1, "suspend")] * 2, (0, "response"),
    ]  # fmt: skip
    handler = rows[1]
    assert [bar.kind for bar in handler.bars] == ["handler", "suspend", "suspend"]
    assert [bar.kind for bar in rows[2].bars] == ["subrequest", "connect", "send", "first byte", "body"]


def test_a_thousand_waits_share_lines() -> None:
    handler = Span(kind="handler", name="h", start=0.0, end=1.0)
    waits = [Span(kind="suspend", name="recv", start=n / 1000, end=n / 1000, detail="x.py:1") for n in range(1000)]
    subs = [Span(kind="subrequest", name=f"GET /{n}", start=n / 200 + 0.1, end=1.0, upstream="u") for n in range(100)]
    rows = rows_of(replace(page(), seconds=1.0, spans=(handler, *waits, *subs)))
    assert len(rows) == LINES_MAX + 2
    assert rows[1].label == "recv ×1000"
    assert rows[-1].label == "and 61 more"


@given(st.floats(1e-7, 1e5), st.integers(2, 12))
def test_ticks_are_few_and_round(seconds: float, most: int) -> None:
    found = ticks(seconds, most)
    assert 1 <= len(found) <= most
    assert found[0] == 0.0
    assert found[-1] <= seconds * 1.000001
    assert all(len(show_tick(at, seconds)) < 14 for at in found)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.00 µs"), (7.8e-5, "78.0 µs"), (0.000999, "999 µs"), (0.0009999, "1.00 ms"), (0.1243, "124 ms"),
     (1.5, "1.50 s"), (12.34, "12.3 s"), (3600, "3600 s")],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1024, "1.0 KB"), (64 * 1024, "64 KB"), (1 << 30, "1.0 GB"), (1 << 60, "1048576 TB")],
)
def test_sizes(size: int, shown: str) -> None:
    assert show_size(size) == shown


def test_a_long_target_hides_no_status() -> None:
    trace = replace(page(), raw_target="/" + "x" * 300)
    for width in (60, 80, 120):
        console = Console(width=width, color_system=None)
        with console.capture() as captured:
            console.print(render(trace))
        assert "…  200  124 ms" in captured.get().splitlines()[0]
    line = line_of(replace(trace, error="KeyError: 'price'"), 80).plain
    assert len(line) <= 80
    assert line.endswith("…  KeyError: 'price'")
    assert "x" * 300 in line_of(trace).plain


@pytest.mark.parametrize(("target", "shown"), [
    ("/items/%E6%9D%B1", "/items/東"), ("/a%2Fb%20c?x=%C3%A9", "/a%2Fb%20c?x=é"), ("/%ff%C3%A9", "/%ff%C3%A9"),
    ("/%E2%80%AEx", "/%E2%80%AEx"), ("/%C2%A0", "/%C2%A0"), ("/%1b%5B2J", "/%1b%5B2J"), ("/plain", "/plain"),
])  # fmt: skip
def test_encoded_letters_are_readable(target: str, shown: str) -> None:
    assert readable(target) == shown
