"""The reference of the Python interface: every public name stands there, and each says what it is."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import coserver
from coserver import testing

PAGE = Path(__file__).parents[2] / "docs/reference/api.md"
NAMES = [(module, name) for module in (coserver, testing) for name in module.__all__]

#: Methods that carry no docstring because they are no user's: the connection's story calls them.
OURS = {
    "Request": {"set_body", "set_body_file", "set_spool", "set_pieces"},
    "Subrequest": {"post", "expire"},
}


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda each: getattr(each, "__name__", each))
def test_a_public_name_stands_there_and_says_what_it_is(module: Any, name: str) -> None:
    assert f"::: {module.__name__}.{name}\n" in PAGE.read_text() + "\n"
    one = getattr(module, name)
    assert inspect.getdoc(one)
    if inspect.isclass(one):
        silent = {each for each, value in vars(one).items() if not each.startswith("_") and not says(value)}
        assert silent == OURS.get(name, set())


def says(value: Any) -> bool:
    """Whether it has a docstring of its own; what is no function needs none."""
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)
    return not inspect.isfunction(value) or bool(value.__doc__)


def test_nothing_else_stands_there() -> None:
    named = {line[4:] for line in PAGE.read_text().splitlines() if line.startswith("::: ")}
    assert named == {f"{module.__name__}.{name}" for module, name in NAMES}
