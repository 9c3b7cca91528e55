"""Check that each public name stands in the reference and has a docstring; otherwise the build fails.

mkdocs calls this file before it builds the site. A name is public by a module's ``__all__``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

#: Every name in the ``__all__`` of these modules is public.
MODULES = (
    "coserver", "coserver.hooks", "coserver.upstream", "coserver.observe", "coserver.control", "coserver.testing",
)  # fmt: skip
#: Methods that need no docstring because no user calls them: the connection does, or a filter, or the wire format.
_AS_SUBJECT = {"request_lines", "response_lines", "request_content", "response_content"}
OURS = {
    "coserver.Request": {"set_body", "set_body_file", "set_spool", "set_pieces"},
    "coserver.Subrequest": {"post", "expire"},
    "coserver.LiveTable": {"draw", "over"},
    "coserver.upstream.Gathered": {"post"},
    "coserver.TcpConnection": {"go_on", "parked", "unwatch"},
    "coserver.observe.Stepper": {"unwatch"},
    "coserver.observe.ExchangeState": _AS_SUBJECT,
    "coserver.observe.Trace": _AS_SUBJECT,
    "coserver.control.Client": {"connect", "fields", "unreachable"},
}


def names() -> list[tuple[str, str]]:
    """Every public name with its module; a name of two modules stands with the first."""
    found: dict[int, tuple[str, str]] = {}
    for path in MODULES:
        module = import_module(path)
        for name in module.__all__:
            if not inspect.ismodule(getattr(module, name)):  # coserver.observe.events has a page of its own
                found.setdefault(id(getattr(module, name)), (path, name))
    return list(found.values())


def pages(docs: Path) -> str:
    """The pages of the reference, one text."""
    return "\n".join(page.read_text(encoding="utf-8") for page in sorted((docs / "reference/api").glob("*.md")))


def wrong(page: str) -> Iterator[str]:
    """The faults of the reference: public names that it lacks or has twice, names that are not public, missing
    docstrings.
    """
    there = [line.removeprefix("::: ").strip() for line in page.splitlines() if line.startswith("::: ")]
    wanted = [f"{module}.{name}" for module, name in names()]
    yield from (f"{name} is in the reference twice" for name in sorted(set(there)) if there.count(name) > 1)
    yield from (f"{name} is public, and not in the reference" for name in wanted if name not in there)
    yield from (f"{name} is in the reference, and not public" for name in there if name not in wanted)
    for module, name in names():
        one = getattr(import_module(module), name)
        if not inspect.getdoc(one):
            yield f"{module}.{name} has no docstring"
        if inspect.isclass(one):
            bases = [base for base in reversed(one.__mro__) if _is_ours(base)]
            ours = {each: value for base in bases for each, value in vars(base).items()}
            silent = {each for each, value in ours.items() if not each.startswith("_") and not _says(value)}
            silent -= OURS.get(f"{module}.{name}", set())
            yield from (f"{name}.{each} has no docstring" for each in sorted(silent))


def _is_ours(base: type) -> bool:
    """Whether the class is one of coserver. The reference shows the inherited methods of these bases only."""
    return base.__module__.partition(".")[0] == "coserver"


def _says(value: Any) -> bool:
    """Whether the attribute has a docstring of its own. Only functions need one."""
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)
    return not inspect.isfunction(value) or bool(value.__doc__)


def on_pre_build(config: Any) -> None:
    """mkdocs calls it before the build. Raises PluginError with one line for each fault."""
    text = pages(Path(config.docs_dir))
    if text and (faults := list(wrong(text))):
        raise PluginError("\n".join(faults))
