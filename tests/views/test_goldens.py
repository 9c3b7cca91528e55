"""Each view as approved, at two widths. UPDATE_GOLDENS=1 writes the files again: look at the changes then."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group

from coserver.views import exchange, held, live, traces, underway, waterfall
from coserver.views.dashboard import model, screen
from coserver.views.dashboard.keys import press
from coserver.views.samples import all_samples, failed, page
from coserver.views.svg.waterfall import waterfall_svg

GOLDENS = Path(__file__).with_name("goldens")

VIEWS: dict[str, Callable[[], Any]] = {
    "waterfall": lambda: Group(*[waterfall.render(trace) for trace in all_samples()]),
    "traces": lambda: traces.render(all_samples()),
    "exchange": lambda: Group(exchange.render(page()), exchange.render(failed())),
    "live": lambda: Group(*[part for view in live.TABLES for part in (view.render(live.example()), "")]),
    "held": lambda: held.render(held.example()),
    "underway": lambda: Group(*[part for row in underway.example() for part in (underway.render(row), "")]),
}

#: The dashboard's screens, by the keys that lead to them.
SCREENS: dict[str, tuple[str, ...]] = {
    "exchanges": (),
    "connections": ("2",),
    "upstreams": ("3",),
    "traces": ("4",),
    "held": ("enter",),
    "all held": ("5",),
    "live exchange": ("down", "enter"),
    "trace": ("4", "enter"),
    "help": ("?",),
    "a connection": ("2", "enter"),
    "wrong filter": ("f", *"~u /page & ~zz x", "enter"),
    "wrong at its end": ("f", *"~u /a/page/with/a/long/name & ~m POST & ~took >9x", "enter"),
    "edit": ("e", *"target=/b"),
}


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def compare(name: str, shown: str) -> None:
    path = GOLDENS / name
    if os.environ.get("UPDATE_GOLDENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("view", VIEWS)
def test_it_looks_as_it_did(view: str, width: int) -> None:
    console = Console(file=StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(VIEWS[view]())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in shown.splitlines())
    compare(f"{view}-{width}.txt", shown)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
def test_each_screen_of_the_dashboard(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (model, held):  # what is held is so for as long as it was
        monkeypatch.setattr(module, "monotonic", lambda: 1000.0)
    width, height = size
    seen = []
    for name, keys in SCREENS.items():
        board = screen.example_board()
        for key in keys:
            press(board, key)
        shown = screen.plain_lines(board, width, height)
        assert len(shown) == height
        assert all(len(line) <= width for line in shown)
        seen += [f"── {name} " + "─" * (width - len(name) - 4), *(line.rstrip() for line in shown)]
    compare(f"screen-{width}.txt", "\n".join(seen) + "\n")


def test_the_drawing_is_as_it_was() -> None:
    compare("waterfall.svg", waterfall_svg(page()))


@pytest.mark.parametrize("view", [*VIEWS, "svg.waterfall", "dashboard.screen"])
def test_every_view_has_a_demo(view: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"coserver.views.{view}"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"held": "POST /cart"}.get(view, "page") in done.stdout
