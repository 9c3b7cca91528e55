"""The drawing of a connection's life: the order table's events, and the marked phases."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from coserver.lifecycle import events as ev
from coserver.lifecycle.order import HOLDABLE, TRACKS
from coserver.lifecycle.phases import PHASES
from coserver.views.svg.lifecycle import events_of, render

SVG = "{http://www.w3.org/2000/svg}"


def words(drawing: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_each_phase_stands_there_once_with_its_mark() -> None:
    shown = words(render())
    for phase in PHASES:
        assert shown.count(phase + " ‖" if phase in HOLDABLE else phase) == 1


def test_each_event_stands_there_once() -> None:
    told = [kind for phase in PHASES for kind in events_of(phase)]
    assert len(told) == len(set(told))
    assert set(told) == {kind for kinds in TRACKS.values() for kind in kinds}
    shown = words(render())
    assert all(shown.count(kind.__name__) == 1 for kind in told)
    assert events_of("handler")[0] is ev.HandlerStarted


def test_where_it_stands_and_came_from() -> None:
    shapes = re.findall(r'<rect class="cw-(\w+)" x="(\d+)"', render("handler", "body"))
    assert [kind for kind, _ in shapes].count("now") == 1
    assert [kind for kind, _ in shapes].count("before") == 1
    assert "now at handler" in render("handler")


def test_a_phase_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no phase 'midst'; there are accept, head"):
        render("midst")
