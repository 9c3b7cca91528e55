"""``coserver doctor``: what is installed, what is missing, and the command that installs it. It changes nothing.

A problem keeps coserver from working correctly, and makes the command fail. A note may be fine.
"""

from __future__ import annotations

import os
import platform
import re
import select
import sys
import sysconfig
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

#: The purposes of optional packages.
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
    "prometheus-client": "metrics",
    "opentelemetry-sdk": "traces for OpenTelemetry",
}
#: The extra of all extras.
_ALL = "all"
#: Modules whose names are not their distribution's, with "_" for "-".
_MODULES = {"python-dotenv": "dotenv"}
#: A requirement in a package's metadata: name, lowest version, extra.
_requirement = re.compile(r"([\w.-]+)(?:\[.*?\])?\s*(?:>=\s*([\d.]+))?.*?(?:extra\s*==\s*[\"']([\w-]+)[\"'].*)?$").match
#: Descriptors that a process needs besides its connections: listeners, log files, the app's files.
_SPARE = 64


@dataclass(frozen=True)
class Finding:
    """One finding. ``way_out`` is a command or a change that fixes it, or ""."""

    what: str
    state: str
    found: str
    way_out: str = ""


def examine() -> list[Finding]:
    """All findings about this machine. A check that fails is a finding, too."""
    findings: list[Finding] = []
    for look in (_python, _packages, _engines, _descriptors, _backlog, _system, _notebook):
        try:
            findings += look()
        except Exception as error:  # doctor must work on a broken machine
            findings.append(Finding(look.__name__.strip("_"), NOTE, f"cannot be checked: {error}"))
    return findings


def run(target: str | None = None, *, as_json: bool = False) -> int:
    """Print all findings, with those of the app ``target``. 1 if one is a problem, else 0."""
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
    """Blocking calls of the app that the hooks do not reach."""
    from .hooks import TargetError, escapes

    try:
        found = [Finding(what, NOTE, meant, way_out) for what, meant, way_out in escapes(target)]
    except TargetError as error:
        return [Finding(target, PROBLEM, str(error), error.way_out)]
    return found or [Finding(target, FINE, "no blocking call was found that the hooks do not reach")]


def _said(one: Finding) -> str:
    return f"{one.found}: {one.way_out}" if one.way_out else one.found


def _python() -> Iterator[Finding]:
    yield Finding("Python", FINE, f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        yield Finding("free threading", NOTE, "untested on such a build", "python -X gil=1 switches the GIL on")
    yield Finding("coserver", FINE, f"{__version__}, {Path(sys.modules['coserver'].__file__ or '').parent}")


def _packages() -> Iterator[Finding]:
    """The requirements in coserver's metadata, the extras last."""
    for requirement in metadata.requires("coserver") or ():
        match = _requirement(requirement)
        if match is None:
            continue
        name, least, extra = match.groups(default="")
        if extra == _ALL:
            continue  # each of its packages stands under its own extra
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
        return metadata.version(name) if find_spec(_MODULES.get(name, name.replace("-", "_"))) else ""
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version, to compare. An unreadable version counts as new enough."""
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
    # With a laptop's usual 1024 it serves; further clients wait.
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
        yield Finding("backlog", NOTE, f"somaxconn {most}: at most {most} new clients can wait", way_out)


def _system() -> Iterator[Finding]:
    has: dict[str, Callable[[], bool]] = {
        "epoll or kqueue": lambda: hasattr(select, "epoll") or hasattr(select, "kqueue"),
        "sendfile": lambda: hasattr(os, "sendfile"),
    }
    for name, there in has.items():
        without = "missing: coserver works without it, but more slowly"
        yield Finding(name, FINE, "available") if there() else Finding(name, NOTE, without)
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
