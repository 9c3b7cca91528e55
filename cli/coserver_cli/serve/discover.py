"""Find an app in a folder for ``coserver dev`` without a target, by reading source; nothing is imported."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coserver.hosting.kind import KNOWN

from .target import TargetError

#: Usual file names of an app, in this order; in a folder, then in its packages.
USUAL = ("app.py", "main.py", "server.py", "api.py", "wsgi.py", "asgi.py")
#: Files that are read in a package.
_IN_PACKAGE = ("__init__.py", *USUAL)
#: Files whose apps are for tests.
_TESTS = ("test_", "conftest")
#: Bytes; a longer file is data written as Python.
_TOO_LONG = 1 << 20

#: The classes of apps, and the functions that make one, by package.
_CLASSES: dict[str, tuple[str, ...]] = {
    "coserver": ("App", "host"),
    "django": ("get_asgi_application", "get_wsgi_application"),
}
for _package, _name in KNOWN:
    _CLASSES[_package] = (*_CLASSES.get(_package, ()), _name)

HOW_TO = "write one in app.py:  from coserver import App;  app = App();  @app.get('/') ..."


@dataclass(frozen=True)
class Candidate:
    """An App at a module's top level; ``target`` is module:name. ``broken`` is the syntax error of its file, or ""."""

    file: Path
    target: str
    broken: str = ""

    @property
    def usual(self) -> bool:
        return self.file.name in USUAL


@dataclass
class Search:
    """The files that were read, and the apps and factories in them."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    found: list[Candidate] = field(default_factory=list)
    factories: list[str] = field(default_factory=list)


def choose(folder: Path, command: str) -> tuple[str, list[str]]:
    """The chosen target, and the other candidates. Raises TargetError, which lists what was found."""
    search = look(folder)
    sound = [one for one in search.found if not one.broken]
    # A usual file with a syntax error is chosen: its error is shown, and a reload serves it when it is fixed.
    candidates = sound or [one for one in search.found if one.usual]
    chosen = _preferred(candidates)
    if chosen is not None:
        return chosen.target, [one.target for one in candidates if one is not chosen]
    if not candidates:
        raise TargetError(f"no App was found in {folder}", _what_was_seen(search, command))
    commands = "\n  ".join(f"{command} {one.target}" for one in candidates)
    raise TargetError(f"there are {len(candidates)} apps in {folder}; name one of them", commands)


def look(folder: Path) -> Search:
    """All Apps that modules of this folder, and of its packages, create at their top level."""
    search = Search(folder)
    for file in _files(folder):
        search.files.append(file)
        module = ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        try:
            with warnings.catch_warnings(action="ignore"):  # a warning about an old string escape is not useful here
                tree = ast.parse(file.read_bytes() if file.stat().st_size <= _TOO_LONG else b"")
        except (SyntaxError, ValueError, RecursionError, OSError) as error:
            search.found.append(Candidate(file, f"{module}:app", str(error)))
            continue
        search.found += [Candidate(file, f"{module}:{name}") for name in _apps(tree)]
        search.factories += [f"{module}:{name}" for name in _factories(tree)]
    return search


def _preferred(candidates: list[Candidate]) -> Candidate | None:
    """The only candidate; else the only one in a usual file; else the one named ``app`` in the only usual file."""
    usual = [one for one in candidates if one.usual]
    for some in (candidates, usual):
        if len(some) == 1:
            return some[0]
    named = [one for one in usual if one.target.endswith(":app")]
    return named[0] if len(named) == 1 and len({one.file for one in usual}) == 1 else None


def _files(folder: Path) -> Iterator[Path]:
    usual = [folder / name for name in USUAL]
    yield from (file for file in usual if file.is_file())
    yield from (f for f in sorted(folder.glob("*.py")) if f not in usual and not f.name.startswith(_TESTS))
    for package in sorted(path.parent for path in folder.glob("*/__init__.py")):
        if package.name.isidentifier() and package.name != "tests":
            yield from (package / name for name in _IN_PACKAGE if (package / name).is_file())


def _apps(tree: ast.Module) -> list[str]:
    """Top-level names that are assigned a call of a class of apps, or annotated as one."""
    known = _names_of_app(tree)
    names: dict[str, None] = {}
    for statement in _top_level(tree.body):
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign) and _called(statement.value) in known:
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            spelled = {_spelled(statement.annotation), _called(statement.value)}
            targets = [statement.target] if spelled & known else []
        names.update((target.id, None) for target in targets if isinstance(target, ast.Name))
    return list(names)


def _factories(tree: ast.Module) -> list[str]:
    known = _names_of_app(tree)
    functions = (one for one in _top_level(tree.body) if isinstance(one, ast.FunctionDef))
    return [one.name for one in functions if one.returns is not None and _spelled(one.returns) in known]


def _names_of_app(tree: ast.Module) -> set[str]:
    """The names of the classes of apps in this module, and of the module's subclasses of them."""
    known: set[str] = set()
    for statement in _top_level(tree.body):
        if isinstance(statement, ast.ImportFrom) and (package := (statement.module or "").split(".")[0]) in _CLASSES:
            classes = (*_CLASSES[package], *(("*",) if package == "coserver" else ()))
            known |= {alias.asname or alias.name for alias in statement.names if alias.name in classes}
        elif isinstance(statement, ast.Import):
            found = [(alias.asname or alias.name, alias.name) for alias in statement.names if alias.name in _CLASSES]
            known |= {f"{spelled}.{name}" for spelled, package in found for name in _CLASSES[package]}
        elif isinstance(statement, ast.ClassDef) and any(_spelled(base) in known for base in statement.bases):
            known.add(statement.name)
    return {"App" if name == "*" else name for name in known}


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The module's statements, including those under ``if``, ``try`` and ``with``."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _top_level(statement.body)
            yield from _top_level(getattr(statement, "orelse", []))


def _called(value: ast.expr) -> str:
    return _spelled(value.func) if isinstance(value, ast.Call) else ""


def _spelled(expression: ast.expr) -> str:
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value  # an annotation in quotes
    if isinstance(expression, ast.Attribute) and isinstance(expression.value, ast.Name):
        return f"{expression.value.id}.{expression.attr}"
    return expression.id if isinstance(expression, ast.Name) else ""


def _what_was_seen(search: Search, command: str) -> str:
    ways = []
    if search.factories:
        ways.append(f"a function returns an App: {command} {search.factories[0]} --factory")
    if broken := [one for one in search.found if one.broken]:
        ways.append(f"{broken[0].file.name} has an error: {broken[0].broken}")
    names = [str(file.relative_to(search.folder)) for file in search.files]
    more = " and more" if len(names) > 8 else ""
    ways.append(f"looked at {', '.join(names[:8])}{more}" if names else "the folder has no modules")
    return "\n  ".join([*ways, HOW_TO])
