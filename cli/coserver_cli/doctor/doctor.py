"""``coserver doctor``: what is here, what is missing, and the command that brings it. It changes nothing.

A problem keeps coserver from working as it is meant to, and makes the command fail; a note may be as it should.
"""

from __future__ import annotations

import os
import platform
import re
import select
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rich.text import Text

from coserver import Limits, __version__
from coserver.protocol.codecs import CODECS
from coserver.transport.listener import BACKLOG
from coserver.views.text import counted

from .. import tables
from . import notebook

FINE, NOTE, PROBLEM = "ok", "note", "problem"
_STYLES = {FINE: "green", NOTE: "yellow", PROBLEM: "bold red"}

#: What the optional packages are for.
PURPOSES = {
    "httptools": "the fast HTTP parser",
    "uvloop": "the backend uvloop",
    "orjson": "fast JSON",
    "trio": "the backend trio",
    "watchfiles": "coserver dev and --reload",
    "trustme": "coserver dev-cert",
    "psutil": "who holds a busy port",
    "python-dotenv": "--env-file",
    "ipykernel": "notebooks",
    "anywidget": "the live table in notebooks",
    "cloudpickle": "handlers of notebooks in another process",
}
#: The module of a distribution, where its name is another.
_MODULES = {"python-dotenv": "dotenv", "python-multipart": "python_multipart"}
#: A requirement as a package's metadata have it: name, least version, extra.
_requirement = re.compile(r"([\w.-]+)(?:\[.*?\])?\s*(?:>=\s*([\d.]+))?.*?(?:extra\s*==\s*[\"']([\w-]+)[\"'].*)?$").match
#: Descriptors that a process needs beside its connections: listeners, log files, the app's own.
_SPARE = 64


@dataclass(frozen=True)
class Finding:
    """``way_out`` is a command or a change that mends it, "" if there is nothing to mend."""

    what: str
    state: str
    found: str
    way_out: str = ""


def examine() -> list[Finding]:
    """Everything that was looked at. An examination that fails is itself a finding."""
    findings: list[Finding] = []
    for look in (_python, _packages, _engines, _descriptors, _backlog, _system, _notebook):
        try:
            findings += look()
        except Exception as error:  # a doctor is called when things are odd
            findings.append(Finding(look.__name__.strip("_"), NOTE, f"cannot be told: {error}"))
    return findings


def run(target: str | None = None, *, as_json: bool = False) -> int:
    """Print the findings, of an app too if one is named; 1 if there is a problem among them, else 0."""
    findings = examine() if target is None else examine() + _of_app(target)
    problems = sum(one.state == PROBLEM for one in findings)
    if as_json:
        tables.show_json({"problems": problems, "findings": [asdict(one) for one in findings]})
        return bool(problems)
    rows = [(one.what, Text(one.state, _STYLES[one.state]), _said(one)) for one in findings]
    tables.show(("what", "state", "found"), rows, fold=("found",))
    print(f"\n{counted(problems, 'problem')}" if problems else "\nno problems")
    return bool(problems)


def _of_app(target: str) -> list[Finding]:
    """What of the app the hooks do not reach."""
    from .hooks import TargetError, escapes

    try:
        found = [Finding(what, NOTE, meant, way_out) for what, meant, way_out in escapes(target)]
    except TargetError as error:
        return [Finding(target, PROBLEM, str(error), error.way_out)]
    return found or [Finding(target, FINE, "nothing was found that the hooks do not reach")]


def _said(one: Finding) -> str:
    return f"{one.found}: {one.way_out}" if one.way_out else one.found


def _python() -> Iterator[Finding]:
    yield Finding("Python", FINE, f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}")
    yield Finding("coserver", FINE, f"{__version__}, {Path(sys.modules['coserver'].__file__ or '').parent}")


def _packages() -> Iterator[Finding]:
    """What coserver's own metadata ask for, the extras last."""
    for requirement in metadata.requires("coserver") or ():
        match = _requirement(requirement)
        if match is None:
            continue
        name, least, extra = match.groups(default="")
        version = _version(name)
        command = f"pip install 'coserver[{extra}]'" if extra else f"pip install '{name}>={least or 0}'"
        if not version:
            purpose = f" ({PURPOSES[name]})" if name in PURPOSES else ""
            yield Finding(name, NOTE if extra else PROBLEM, f"not installed{purpose}", command)
        elif _numbers(version) < _numbers(least or "0"):
            yield Finding(name, PROBLEM, f"{version}, older than {least}", f"pip install -U '{name}>={least}'")
        else:
            yield Finding(name, FINE, version)


def _version(name: str) -> str:
    try:
        return metadata.version(name) if find_spec(_MODULES.get(name, name)) else ""
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers, for a comparison; what cannot be read is taken for new enough."""
    parts = [*version.split("."), "0"][:2]
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else (sys.maxsize,)


def _engines() -> Iterator[Finding]:
    yield Finding("codecs", FINE, ", ".join(sorted(CODECS)))
    backends = ["asyncio", *(name for name in ("uvloop", "trio") if find_spec(name))]
    yield Finding("backends", FINE, ", ".join(backends))


def _descriptors() -> Iterator[Finding]:
    import resource

    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = Limits().max_connections
    if limit == resource.RLIM_INFINITY or limit >= connections + _SPARE:
        yield Finding("open files", FINE, f"{limit} allowed, {connections} connections")
        return
    way_out = f"ulimit -n {connections + _SPARE}, or a max_connections of at most {max(limit - _SPARE, 1)}"
    if hard != resource.RLIM_INFINITY and hard < connections + _SPARE:
        way_out += f" (the system allows {hard})"
    # A laptop's usual 1024: it serves, and clients beyond that wait.
    state = PROBLEM if limit < 2 * _SPARE else NOTE
    yield Finding("open files", state, f"{limit} allowed, fewer than the {connections} connections", way_out)


def _backlog() -> Iterator[Finding]:
    file = Path("/proc/sys/net/core/somaxconn")
    if not file.exists():
        return
    most = int(file.read_text())
    if most >= BACKLOG:
        yield Finding("backlog", FINE, f"somaxconn {most}")
    else:
        way_out = f"sysctl -w net.core.somaxconn={BACKLOG}"
        yield Finding("backlog", NOTE, f"somaxconn {most}: no more clients than that may wait", way_out)


def _system() -> Iterator[Finding]:
    has: dict[str, Callable[[], bool]] = {
        "epoll or kqueue": lambda: hasattr(select, "epoll") or hasattr(select, "kqueue"),
        "sendfile": lambda: hasattr(os, "sendfile"),
    }
    for name, there in has.items():
        without = "not here: it works without, more slowly"
        yield Finding(name, FINE, "here") if there() else Finding(name, NOTE, without)
    usual = sys.platform == "linux" or sys.platform == "darwin"
    found = f"{platform.system()} {platform.release()}"
    yield Finding("system", FINE if usual else NOTE, found if usual else f"{found}: untested")


def _notebook() -> Iterator[Finding]:
    names = ("ipykernel", "jupyterlab", "jupyter-server-proxy")
    for what, fine, found, way_out in notebook.examine({name: _distribution(name) for name in names}):
        yield Finding(what, FINE if fine else NOTE, found, way_out)


def _distribution(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
