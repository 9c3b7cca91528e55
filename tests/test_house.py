"""The rules of the house that a test can keep: names, sizes, folders, maps, imports of the documentation.

Each rule has its exceptions, with reasons. ``OPEN`` holds what is still to be mended; the list may only shrink.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .test_public import PATHS

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "coserver", ROOT / "cli/coserver_cli")

#: Files whose name is a gerund or a participle.
PARTICIPLES = {
    "coserver/protocol/framing.py": "the field's noun: where a message ends",
    "coserver/observe/step/held.py": "the public type Held",
    "coserver/lifecycle/frozen_dataclass.py": "Python's own word",
    "coserver/deprecated.py": "Python's own word",
    "coserver/control/feed.py": "a noun",
    "coserver/protocol/forwarded_field.py": "the field Forwarded (RFC 7239)",
    "coserver/server/handler/trusted_proxies.py": "the option's name",
    "coserver/views/held.py": "the table of what is held, as the type is called",
}
IRREGULAR = {"held", "sent", "given", "frozen", "shown", "kept", "told", "taken", "lost", "broken", "spoken", "begun"}
#: Base names that occur more than once: the same thing on two sides (server, upstream), or on two layers.
SHARED = {
    "cancellation": "of a task (transport), of a worker (hooks)",
    "child": "the process of an isolated server, of a reload",
    "client": "of an upstream, of the control socket, of a test",
    "cookies": "their text, and a test client's jar",
    "dns": "the shim, and the names of members",
    "edit": "of a request's exchange, of a subrequest",
    "endpoint": "a handler, a hosted application",
    "errors": "of each layer",
    "exchange": "the live one, and its page",
    "held": "the live one, and its table",
    "hold": "of a connection, of a subrequest",
    "http1": "received bytes, and the connection",
    "lifespan": "of an App, of an ASGI application",
    "limits": "of a server, of an upstream",
    "live": "the tables, and who shows them: a notebook, the command",
    "metrics": "the figures, and the handler that serves them",
    "request": "a handler's, a test's",
    "request_body": "received, and sent to a member",
    "response": "a handler's, an upstream's, a test's",
    "response_head": "read, and written",
    "routes": "of an app, and the command that lists them",
    "sockets": "the shims, and an app's listening sockets",
    "step": "in a shell, in a notebook",
    "text": "of a message, and of a table",
    "tls": "of a listener, an upstream, a stream, the shim",
    "trace": "the trace, and the command",
    "traces": "of a server, and their table",
    "underway": "the trace, and its table",
    "values": "of a query or form, of a setting",
    "waterfall": "its rows, and the drawings",
}
#: Folders of more files than FILES.
CROWDED = {
    "coserver/hooks/shims": "one file for each family of calls",
    "coserver/protocol": "one file for each part of the grammar; it gets folders when HTTP/2 comes",
}
FILES = 14
DEEP = 3
#: Short files with one importer.
SHORT = {
    "cli/coserver_cli/dev_cert.py": "a command, loaded when it is given",
    "cli/coserver_cli/serve/systemd.py": "a protocol of its own",
    "coserver/app/metrics.py": "loaded late: prometheus-client",
    "coserver/notebook/widget.py": "loaded late: anywidget",
    "coserver/server/http/alpn.py": "a table",
}
LINES = 60
#: Classes that nobody names but the one class which they are a base of.
BASES = {
    "coserver/protocol/values.py:Values": "the layer above adds the errors that clients get",
    "coserver/upstream/encode.py:EncodeOptions": "the keywords of encode_request, typed",
}
#: Modules that the documentation imports though they are no public path.
DOCUMENTED = {
    "coserver.views": "a view is a file with a demo, which python -m shows",
    "coserver.views.svg": "the same",
    "coserver.views.svg.waterfall": "the same",
}
#: By rule, what breaks it today.
OPEN: dict[str, set[str]] = {
    "names": set(),
    "folders": set(),
    "shorts": set(),
    "bases": set(),
    "maps": set(),
}


@cache
def files() -> dict[str, ast.Module]:
    """The product's files by their path, but for the maps."""
    found = sorted(path for folder in FOLDERS for path in folder.rglob("*.py") if path.name != "__init__.py")
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in found}


def module(path: str) -> str:
    return path.removeprefix("cli/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def packages() -> dict[str, Path]:
    return {str(path.parent.relative_to(ROOT)): path.parent for one in FOLDERS for path in one.rglob("__init__.py")}


def broken_names() -> Iterator[str]:
    for path in files():
        words = Path(path).stem.split("_")
        if any(word in IRREGULAR or re.fullmatch(r"\w{2,}(ing|ed)", word) for word in words):
            yield path


def broken_twins() -> Iterator[str]:
    counted = Counter(Path(path).stem for path in files())
    yield from (name for name, number in counted.items() if number > 1 and name != "__main__")


def broken_folders() -> Iterator[str]:
    for name, path in packages().items():
        if len([one for one in path.glob("*.py") if one.name != "__init__.py"]) > FILES:
            yield name


def broken_depths() -> Iterator[str]:
    yield from (name for name in packages() if len(module(name).split(".")) > DEEP)


def importers() -> dict[str, set[str]]:
    """By module, the files that import it, late or not; imports for the type checker alone are none."""
    found: dict[str, set[str]] = {module(path): set() for path in files()}
    maps = {f"{name}/__init__.py": ast.parse((path / "__init__.py").read_text()) for name, path in packages().items()}
    for path, tree in {**files(), **maps}.items():
        parts = module(path).split(".")
        package = parts if path.endswith("__init__.py") else parts[:-1]
        tests = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "CHECKING" in ast.unparse(node.test)]
        checked = {id(each) for node in tests for one in node.body for each in ast.walk(one)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in checked:
                start = package[: len(package) - node.level + 1] if node.level else []
                place = ".".join([*start, *filter(None, [node.module])])
                for name in (place, *(f"{place}.{each.name}" for each in node.names)):
                    if name in found:
                        found[name].add(path)
    return found


def broken_shorts() -> Iterator[str]:
    by_module = importers()
    for path in files():
        lines = len((ROOT / path).read_text().splitlines())
        if lines < LINES and len(by_module[module(path)]) == 1:
            yield path


def broken_bases() -> Iterator[str]:
    """A class is named elsewhere if it is called, tested, annotated with, or a base of a second one."""
    classes = {
        node.name: (f"{path}:{node.name}", node)
        for path, tree in files().items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }  # fmt: skip
    bases: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for tree in files().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases.update({_name_of(base) for base in node.bases})
            if isinstance(node, ast.Name):
                named[node.id] += 1
            if isinstance(node, ast.Attribute):
                named[node.attr] += 1
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                named.update(re.findall(r"\b[A-Z]\w+", node.value))
    for name, (place, node) in classes.items():
        words = {_name_of(base) for base in node.bases}
        if "Protocol" in words or any(word.endswith(("Error", "Exception")) for word in words):
            continue
        if bases[name] == named[name] == 1:
            yield place


def _name_of(base: ast.expr) -> str:
    return re.sub(r"\[.*", "", ast.unparse(base)).rpartition(".")[2]


def broken_maps() -> Iterator[str]:
    """Packages whose docstring leaves out a file or a folder of theirs."""
    for name in packages():
        if list(unnamed(name)):
            yield name


def unnamed(package: str) -> Iterator[str]:
    path = packages()[package]
    docstring = ast.get_docstring(ast.parse((path / "__init__.py").read_text())) or ""
    for one in path.iterdir():
        inside = one.suffix == ".py" or (one / "__init__.py").exists()
        if inside and one.stem not in ("__init__", "__main__"):
            wanted = rf"\b{one.stem}/" if one.is_dir() else rf"\b{one.stem}\b"
            if not re.search(wanted, docstring):
                yield one.name


def broken_pages() -> Iterator[str]:
    """What pages and lessons import that is not a public path."""
    imported = re.compile(r"^\s*(?:from (coserver[\w.]*) import|import (coserver[\w.]+))", re.MULTILINE)
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    for page in pages:
        for code in _code(page):
            for place, name in imported.findall(code):
                if (place or name) not in PATHS:
                    yield f"{page.relative_to(ROOT)}: {place or name}"


def _code(page: Path) -> Iterator[str]:
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text())["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    else:
        yield from re.findall(r"^\s*```[^\n]*\n(.*?)^\s*```", page.read_text(), re.MULTILINE | re.DOTALL)


RULES = {
    "names": (broken_names, PARTICIPLES),
    "twins": (broken_twins, SHARED),
    "folders": (broken_folders, CROWDED),
    "depths": (broken_depths, {}),
    "shorts": (broken_shorts, SHORT),
    "bases": (broken_bases, BASES),
    "maps": (broken_maps, {}),
    "pages": (broken_pages, {}),
}


def test_no_exception_is_left_over() -> None:
    assert {one.rpartition(": ")[2] for one in broken_pages()} == set(DOCUMENTED)
    assert set(OPEN) <= set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_kept(rule: str) -> None:
    look, exceptions = RULES[rule]
    broken = {one for one in look() if not any(one == each or one.endswith(f": {each}") for each in DOCUMENTED)}
    assert broken - set(exceptions) == OPEN.get(rule, set()), "what is mended leaves the list"
    assert set(exceptions) <= broken, "an exception that is none"
