"""The public names: whatever a public call gives or raises can be imported from a public path."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PATHS = ("coserver", "coserver.hooks", "coserver.upstream", "coserver.observe", "coserver.control", "coserver.testing")
#: Given by a public call, and yet nothing to import; each with its reason.
PRIVATE = {
    "coserver.app.inspect.display.ShownTrace": "a Trace, with what shows it in a notebook",
    "coserver.app.inspect.display.ShownTraces": "a list of them",
    "coserver.app.process.remote.RemoteStepper": "stands in for a Stepper of another process",
    "coserver.app.process.remote.RemoteTraces": "stands in for Traces of another process",
    "coserver.observe.filters.And": "a part of a filter, which is only passed on",
    "coserver.observe.filters.Not": "the same",
    "coserver.observe.filters.Or": "the same",
    "coserver.observe.filters.Term": "the same",
    "coserver.testing.response.Lines": "an iterator",
}
#: Not public yet. An entry that is not needed any more fails the test.
OPEN: set[str] = set()


def public() -> dict[str, Any]:
    """Every public name by its path, the first one if it has two."""
    found: dict[int, tuple[str, Any]] = {}
    for path in PATHS:
        module = importlib.import_module(path)
        for name in module.__all__:
            value = getattr(module, name)
            found.setdefault(id(value), (f"{path}.{name}", value))
    return dict(found.values())


@cache
def hidden() -> dict[str, list[str]]:
    """By public path, the patterns of the reference that say which attributes are the house's own."""
    page = "\n".join(one.read_text() for one in (ROOT / "docs/reference/api").glob("*.md"))
    blocks = re.findall(r"^::: (\S+)\n(?:    options:\n      (\w+): (\[.*\])\n)?", page, re.MULTILINE)
    return {name: [option, *re.findall(r"[^\s\",]+", values[1:-1])] for name, option, values in blocks}


def is_shown(path: str, name: str) -> bool:
    option, *values = hidden().get(path, [""])
    if option == "members":
        return name in values
    special = re.fullmatch(r"__(init|call|iter|enter|aenter|getitem|len|next|anext|aiter|await)__", name)
    return bool(special) or not (name.startswith("_") or any(re.search(one[1:], name) for one in values))


def namespace(module: ModuleType) -> dict[str, Any]:
    """What the module's annotations may name: its own names, and what it imports for the checker alone."""
    names = dict(vars(module))
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            exec(ast.unparse(ast.Module(node.body, [])), names)
    return names


def hints(owner: Any, annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    return eval(annotation, namespace(sys.modules[owner.__module__]))


def ours(hint: Any) -> Iterator[type]:
    """The project's classes in a hint, whatever it nests."""
    if inspect.isclass(hint) and hint.__module__.partition(".")[0] == "coserver":
        yield hint
    for one in hint if isinstance(hint, list) else [typing.get_origin(hint), *typing.get_args(hint)]:
        if one is not None and one is not hint:
            yield from ours(one)


@cache
def exceptions() -> dict[str, list[type]]:
    """Every exception of the project by its name."""
    found: dict[str, list[type]] = {}
    for path in (ROOT / "coserver").rglob("*.py"):
        for name in re.findall(r"^class (\w+)\(.*(?:Error|Exception|Refused)", path.read_text(), re.MULTILINE):
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found.setdefault(name, []).append(getattr(module, name))
    return found


def raised(docstring: str) -> Iterator[type]:
    """What "Raises A, B for ..." names, as far as it is the project's."""
    for sentence in re.findall(r"Raises\s+([^.]*)", docstring):
        for name in re.findall(r"\b[A-Z]\w*[a-z]\w*\b", sentence):
            if not hasattr(builtins, name):
                yield from exceptions().get(name, [])


def given(path: str, one: Any) -> Iterator[tuple[str, type]]:
    """What a public name gives or raises, each with the place that says so."""
    if not inspect.isclass(one):
        if inspect.isfunction(one):
            yield from ((path, each) for each in _of_function(one))
        return
    yield from ((path, each) for each in raised(one.__doc__ or ""))
    for base in one.__mro__:
        if base.__module__.partition(".")[0] != "coserver":
            continue
        own = vars(base)
        fields = {each.name: each.type for each in dataclasses.fields(base)} if dataclasses.is_dataclass(base) else {}
        for name in filter(lambda each: is_shown(path, each), {**own, **fields}):
            value = own.get(name)
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            function = inspect.unwrap(function) if callable(function) else function
            found = _of_function(function) if inspect.isfunction(function) else ours(hints(base, fields.get(name)))
            yield from ((f"{path}.{name}", each) for each in found)


def _of_function(function: Any) -> Iterator[type]:
    yield from ours(hints(function, function.__annotations__.get("return")))
    yield from raised(inspect.getdoc(function) or "")


def missing() -> dict[str, list[str]]:
    there = {id(one) for one in public().values()}
    there |= {id(each) for one in public().values() if inspect.ismodule(one) for each in vars(one).values()}
    found: dict[str, list[str]] = {}
    for path, one in public().items():
        for place, each in given(path, one):
            name = f"{each.__module__}.{each.__qualname__}"
            if id(each) not in there and name not in PRIVATE:
                found.setdefault(name, []).append(place)
    return found


def test_whatever_is_given_or_raised_is_public() -> None:
    found = missing()
    assert {name: places for name, places in found.items() if name not in OPEN} == {}
    assert set(found) == OPEN, "not needed any more"


def test_it_sees_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import coserver

    names = {"Address", "TooDeep", "Traces"}
    monkeypatch.setattr(coserver, "__all__", [name for name in coserver.__all__ if name not in names])
    monkeypatch.setattr("coserver.upstream.__all__", [])
    assert {"coserver.app.address.Address", "coserver.upstream.errors.TooDeep"} <= set(missing())
    assert "coserver.Server.traces" in missing()["coserver.app.inspect.traces.Traces"]


@pytest.mark.parametrize("path", PATHS)
def test_a_package_has_what_it_says(path: str) -> None:
    module = importlib.import_module(path)
    assert list(module.__all__) == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
        # A late name gives way to a file of its name, once that is imported.
        late = hasattr(module, "__getattr__")
        assert not (late and (ROOT / path.replace(".", "/") / f"{name}.py").exists()), name
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_what_is_not_used_is_not_loaded() -> None:
    late = ("coserver.app.inspect", "coserver.app.process", "coserver.notebook", "coserver.observe.trace",
            "coserver.server.handler.forms", "coserver.deprecated", "rich", "anywidget")  # fmt: skip
    code = "import sys, coserver; dir(coserver); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {name for name in done.stdout.split() if name.startswith(late)}
