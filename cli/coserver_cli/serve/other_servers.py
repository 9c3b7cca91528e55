"""Flags of uvicorn, gunicorn and hypercorn, as people type them: those that mean the same are taken.

``coserver serve`` stands in the place of the other program's name: ``uvicorn main:app --reload --host 0.0.0.0`` becomes
``coserver serve main:app --reload --host 0.0.0.0``. A flag that has no counterpart is dropped with a line that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: What a flag becomes: the own flags, and a line about what is different, "" if nothing is.
Meaning = tuple[list[str], str]


class WrongFlag(Exception):
    """A flag of another server has a value that it cannot have."""


@dataclass(frozen=True)
class Foreign:
    """A flag of another server. ``valued``: a value follows it. ``mean`` gets the value, "" for a switch."""

    valued: bool
    mean: Callable[[str], Meaning]


def _renamed(own: str, unit: str = "") -> Foreign:
    return Foreign(True, lambda value: ([own, f"{value}{unit}" if value.replace(".", "", 1).isdigit() else value], ""))


def _switch(*own: str) -> Foreign:
    return Foreign(False, lambda value: (list(own), ""))


def _dropped(why: str, *, valued: bool = True) -> Foreign:
    return Foreign(valued, lambda value: ([], why))


def _bind(value: str) -> Meaning:
    """host:port, [v6]:port, :port, port, unix:path, fd://3."""
    for scheme in ("unix://", "unix:"):
        if value.startswith(scheme):
            return ["--uds", value.removeprefix(scheme)], ""
    if value.startswith("fd://"):
        return ["--fd", value.removeprefix("fd://")], ""
    host, colon, port = value.rpartition(":")
    if value.endswith("]") or (not colon and not value.isdigit()):  # an address alone
        return ["--host", value.strip("[]")], ""
    if not port.isdigit():
        raise WrongFlag(f"an address is HOST:PORT, unix:PATH or fd://NUMBER; got {value!r}")
    return [*(["--host", host.strip("[]")] if host else []), "--port", port], ""


def _workers(value: str) -> Meaning:
    if not value.isdigit() or int(value) < 1:
        raise WrongFlag(f"--workers is a whole number from 1; got {value!r}")
    if int(value) == 1:
        return [], ""
    return [], f"--workers {value}: several processes are not there yet; one serves, with every blocking call apart"


def _worker_class(value: str) -> Meaning:
    return [], f"--worker-class {value} is not needed: blocking calls suspend only their own request"


def _loop(value: str) -> Meaning:
    known = {"auto": [], "none": [], "asyncio": ["--backend", "asyncio"], "uvloop": ["--backend", "uvloop"]}
    if value not in known:
        return [], f"--loop {value} is not known here; --backend takes asyncio, uvloop or trio"
    return list(known[value]), ""


def _http(value: str) -> Meaning:
    if value in ("h11", "httptools"):
        return ["--codec", value], ""
    return [], "" if value == "auto" else f"--http {value} is not known here; --codec takes h11 or httptools"


def _access_log(value: str) -> Meaning:
    if value == "-":
        return ["--access-log"], ""
    return ["--access-log"], f"the access log goes to stderr, not to {value}: redirect it, or let systemd keep it"


_LOGS = "logs go to stderr: redirect it, or let systemd keep it"
_NO_PRELOAD = "it is one process: there is nothing to load before a fork"

#: By flag, in the spelling of its server. Flags that coserver has itself are not here.
FOREIGN: dict[str, Foreign] = {
    # gunicorn and hypercorn: where to listen, and how many processes
    "-b": Foreign(True, _bind),
    "--bind": Foreign(True, _bind),
    "-w": Foreign(True, _workers),
    "--workers": Foreign(True, _workers),
    "-k": Foreign(True, _worker_class),
    "--worker-class": Foreign(True, _worker_class),
    "--threads": _dropped("--threads is not needed: blocking calls suspend only their own request"),
    "--worker-connections": _renamed("--max-connections"),
    "-t": _renamed("--handler-timeout", "s"),
    "--timeout": _renamed("--handler-timeout", "s"),
    "--graceful-timeout": _renamed("--grace", "s"),
    "--keep-alive": _renamed("--idle-timeout", "s"),
    "--max-requests": _dropped("--max-requests is not there: the process is not restarted"),
    "--max-requests-jitter": _dropped("--max-requests-jitter is not there: the process is not restarted"),
    "--chdir": _renamed("--app-dir"),
    "--preload": _dropped(f"--preload is not needed: {_NO_PRELOAD}", valued=False),
    "--certfile": _renamed("--ssl-certfile"),
    "--keyfile": _renamed("--ssl-keyfile"),
    "--ca-certs": _renamed("--ssl-ca-certs"),
    "--access-logfile": Foreign(True, _access_log),
    "--access-logformat": _renamed("--access-format"),
    "--error-logfile": _dropped(_LOGS),
    "--log-file": _dropped(_LOGS),
    "--limit-request-line": _renamed("--target-size"),
    "--limit-request-fields": _renamed("--head-fields"),
    "--limit-request-field_size": _renamed("--head-size"),
    "--name": _dropped("--name is not there: the server has the app's name"),
    # uvicorn
    "--loop": Foreign(True, _loop),
    "--http": Foreign(True, _http),
    "--ws": _dropped("--ws is not there: WebSocket has one implementation"),
    "--proxy-headers": _switch(),  # see ``translate``
    "--no-proxy-headers": _switch(),
    "--timeout-keep-alive": _renamed("--idle-timeout", "s"),
    "--timeout-graceful-shutdown": _renamed("--grace", "s"),
    "--limit-concurrency": _renamed("--max-connections"),
    "--limit-max-requests": _dropped("--limit-max-requests is not there: the process is not restarted"),
    "--backlog": _dropped("--backlog is not there: the system's largest is used"),
    "--log-config": _dropped("--log-config is not there: --log-level, --log-format and --access-format are"),
    "--use-colors": _switch(),
    "--no-use-colors": _dropped("--no-use-colors: set NO_COLOR=1", valued=False),
    "--date-header": _switch(),
    "--no-date-header": _dropped("--no-date-header is not there: RFC 9110 §6.6.1 asks for Date", valued=False),
    "--server-header": _dropped("--server-header is not there: an app may set Server itself", valued=False),
    "--no-server-header": _switch(),
    "--reload-include": _dropped("--reload-include is not there: Python files, and what the app has opened, count"),
    "--reload-exclude": _dropped("--reload-exclude is not there; --reload-dir chooses the folders"),
    "--reload-delay": _dropped("--reload-delay is not there: changes are told by the system"),
    "--h11-max-incomplete-event-size": _renamed("--head-size"),
}
#: Values of flags that are coserver's own, in uvicorn's words.
_WORDS = {("--log-level", "trace"): "debug", ("", "--log-level=trace"): "--log-level=debug"}
#: Of uvicorn: the peers whose X-Forwarded-* count, unless others are named.
_PROXY = "127.0.0.1"
_TRUST = ("--forwarded-allow-ips", "--trusted-peers")


def translate(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments with the flags of other servers in coserver's own words, and lines about what is different.

    Raises WrongFlag.
    """
    own: list[str] = []
    lines: list[str] = []
    rest = list(arguments)
    proxied = "--proxy-headers" in rest
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            own += [argument, *rest]
            break
        name, equals, value = argument.partition("=")
        foreign = FOREIGN.get(name)
        if foreign is None and len(argument) > 2 and argument[:2] in ("-b", "-w", "-k", "-t"):
            name, value, foreign, equals = argument[:2], argument[2:], FOREIGN[argument[:2]], "="
        if foreign is None:
            own.append(_WORDS.get((own[-1] if own else "", argument), argument))
            continue
        if foreign.valued and not equals:
            if not rest:
                raise WrongFlag(f"{name} needs a value")
            value = rest.pop(0)
        given, line = foreign.mean(value)
        own += given
        if line:
            lines.append(line)
    if proxied and not any(one.partition("=")[0] in _TRUST for one in own):
        own += [_TRUST[0], _PROXY]
    return own, lines
