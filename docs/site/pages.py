"""Fill the marks of the site's pages: ``{{ name }}`` stands for a table or a drawing that is made from the code.

mkdocs calls this file while it builds the site. So no page repeats what the code knows, and no table is out of date.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from public import MODULES, names

from coserver.lifecycle import events as ev
from coserver.lifecycle.order import FIRST, FOLLOWS, HOLDABLE, OPENING, TRACKS
from coserver.lifecycle.phases import PHASES
from coserver.views.samples import page as sample
from coserver.views.svg.lifecycle import events_of, lifecycle_svg
from coserver.views.svg.waterfall import waterfall_svg
from coserver_cli.commands import cli

_ROOT = Path(__file__).parents[2]
_NEWS = _ROOT / "newsfragments"
_MARK = re.compile(r"^\{\{ *(\w+) *\}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls it for each page. An unknown name raises KeyError, which ends the build."""
    return _MARK.sub(lambda found: MADE[found[1]](), markdown)


def life() -> str:
    """The drawing of a connection's phases."""
    return drawn(lifecycle_svg())


def waterfall() -> str:
    """The waterfall of a request with two subrequests."""
    return drawn(waterfall_svg(sample()))


def drawn(svg: str) -> str:
    """An SVG drawing as HTML for a page."""
    # The SVG chooses dark colours by the reader's system. On the site the page's own switch chooses them.
    dark = re.search(r"@media\(prefers-color-scheme:dark\)\{(.*?\})\}</style>", svg)
    assert dark is not None
    rules = re.sub(r"(^|\})(\.)", r'\1[data-md-color-scheme="slate"] \2', dark[1])
    svg = svg.replace(dark[0], f"{rules}</style>")
    return '<div class="drawing">' + svg.replace("\n", "") + "</div>"


def events() -> str:
    """Every event: its docstring, its fields, and the events that may follow it."""
    return "\n".join(_events())


def _events() -> Iterator[str]:
    holds = {kind: phase for phase, kind in HOLDABLE.items()}
    own = set(ev.Event.__dataclass_fields__)
    for track, kinds in TRACKS.items():
        yield f"## The {track} track\n"
        yield f"The track begins with {_either(FIRST[track])}.\n"
        for kind in kinds:
            yield f"### {kind.__name__}\n"
            yield " ".join((kind.__doc__ or "").split()) + "\n"
            fields = [f"`{name}`" for name in kind.__dataclass_fields__ if name not in own]
            yield f"- Fields: {', '.join(fields)}" if fields else "- No fields of its own."
            if kind in holds:
                yield f'- A gate may hold it: `at="{holds[kind]}"`'
            if kind in OPENING:
                yield "- Exactly one of the events that may follow closes it, whatever happens."
            then = f"The next event is {_either(FOLLOWS[kind])}." if FOLLOWS[kind] else "It is the track's last event."
            yield f"- {then}\n"


def _either(kinds: tuple[type[ev.Event], ...]) -> str:
    names = [f"[{kind.__name__}](#{kind.__name__.lower()})" for kind in kinds]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def phases() -> str:
    """The table of phases and their events."""
    lines = ["| phase | events | a gate may hold |", "|---|---|---|"]
    for phase in PHASES:
        kinds = ", ".join(f"[{kind.__name__}](#{kind.__name__.lower()})" for kind in events_of(phase))
        lines.append(f"| `{phase}` | {kinds or 'none'} | {'yes' if phase in HOLDABLE else 'no, observed only'} |")
    return "\n".join(lines)


def public_names() -> str:
    """A table for each public package: every name, and the first sentence of its docstring."""
    return "\n".join(_public_names())


def _public_names() -> Iterator[str]:
    for package in MODULES:
        yield f"## {package}\n\n| name | what it is |\n|---|---|"
        module = import_module(package)
        for name in sorted((name for path, name in names() if path == package), key=str.lower):
            first = re.split(r"(?<=\.)\s", inspect.getdoc(getattr(module, name)) or "", maxsplit=1)[0]
            yield f"| [`{name}`][{package}.{name}] | {_cell(first).replace('``', '`').rstrip(':')} |"
        yield ""


def speed() -> str:
    """The README's table of speed, without the columns of a browser's head."""
    rows = re.findall(r"^\|.*\|$", (_ROOT / "README.md").read_text().partition("\n## Speed\n")[2], re.MULTILINE)
    return "\n".join("|".join(row.split("|")[:6]) + "|" for row in rows)


def commands() -> str:
    """Every command with its flags, as ``--help`` prints them."""
    group = typer.main.get_command(cli)
    return "\n".join(_command(group, "coserver"))


def _command(command: Any, name: str) -> Iterator[str]:
    context = command.context_class(command, info_name=name)
    inner = getattr(command, "commands", {})
    if name != "coserver":
        yield f"## {name}\n" if name.count(" ") == 1 else f"### {name}\n"
        yield f"{_prose(command.help or command.short_help or '')}\n"
        if not inner:
            usage = " ".join(piece for piece in command.collect_usage_pieces(context))
            yield f"```text\n{name} {usage}\n```\n"
            yield from _flags(command, context)
    for each in sorted(inner.values(), key=lambda one: str(one.name)):
        if not each.hidden:
            yield from _command(each, f"{name} {each.name}")


def _flags(command: Any, context: Any) -> Iterator[str]:
    rows = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    if rows:
        yield "| flag | meaning |\n|---|---|"
        for flag, what in rows:
            yield f"| `{_cell(flag)}` | {_cell(what).replace('<', '&lt;')} |"
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _prose(text: str) -> str:
    return "\n".join(line.strip() for line in text.replace("\b", "").splitlines())


def changes() -> str:
    """The changes since the last release, read from the newsfragments and sorted by kind."""
    kinds = {"removal": "Removed", "feature": "New", "bugfix": "Fixed"}
    parts: list[str] = []
    for kind, heading in kinds.items():
        news = [one.read_text(encoding="utf-8") for one in sorted(_NEWS.glob(f"*.{kind}.md"))]
        parts += [f"## {heading}\n", *("- " + " ".join(text.split()) for text in news), ""] if news else []
    return "\n".join(parts)


#: Each name that a page may write in a mark.
MADE: dict[str, Callable[[], str]] = {
    "life": life,
    "waterfall": waterfall,
    "events": events,
    "phases": phases,
    "commands": commands,
    "speed": speed,
    "public_names": public_names,
    "changes": changes,
}
