"""Resolves settings from all sources: a flag wins over the environment, that over the file, the app and the default.

``resolve`` alone decides, and keeps the origin of each value. It returns a Configuration; it imports no app and starts
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from ...hosting.application import HostingSettings
from ...server.handler.errors import SetupError
from ...server.limits import Limits
from ...upstream.limits import UpstreamLimits
from ...upstream.tls import UpstreamTls
from .file import USUAL, ConfigError, ConfigFile, ListenerTable, Sourced, UpstreamTable, nearest, read
from .process_settings import HookSettings, LogSettings
from .settings import ListenerSettings, Options, Settings, UpstreamSettings
from .table import PREFIX, Option, table
from .tls import Tls

#: Variables that are no settings.
CONFIG, APP = f"{PREFIX}CONFIG", f"{PREFIX}APP"
#: Named by the platform that starts the program, not for coserver alone.
PORT = "PORT"
#: The prefix of variables for the command's own child processes; not for people.
INTERNAL = f"{PREFIX}INHERIT"

#: Imports the object that a listener names: called with the kind ("app", "handler" or "framing"), and ``module:name``
#: with its origin.
Find = Callable[[str, Sourced], Any]


@dataclass(frozen=True)
class Configuration:
    """The settings in force. ``given`` holds the sources' values, by option key. ``file`` is None without a file."""

    app: Sourced | None
    given: Mapping[str, Sourced]
    listeners: tuple[ListenerTable, ...]
    file: ConfigFile | None
    warnings: tuple[str, ...]
    upstreams: tuple[UpstreamTable, ...] = ()

    def limits(self, own: Limits) -> Limits:
        """The app's own limits, with the given values in their place."""
        return replace(own, **self._of("limits"))

    def log(self) -> LogSettings:
        return LogSettings(**self._of("log"))

    def hosting(self) -> HostingSettings:
        return HostingSettings(**self._of("hosting"))

    def hooks(self) -> HookSettings:
        return HookSettings(**self._of("hooks"))

    def options(self, own: Limits, find: Find) -> Options:
        """The keywords of ``App.run``. Raises ConfigError, and what ``find`` raises."""
        limits, tls = self.limits(own), self._of("tls")
        listeners = tuple(_listener(one, limits, tls, find) for one in self.listeners)
        made = {"tls": Tls(**tls)} if tls else {}
        upstreams = tuple(_upstream(one, find) for one in self.upstreams)
        whole = {**self._of(""), **made, "limits": limits, "listeners": listeners}
        return cast(Options, {**whole, "upstreams": upstreams} if upstreams else whole)

    def rows(self, own: Limits, defaults: Mapping[str, Any]) -> Iterator[tuple[Option, Any, str]]:
        """Each option with its value and origin. ``own`` are the app's limits; ``defaults`` replaces the fields'."""
        for key, row in table().items():
            if key in self.given:
                yield row, self.given[key].value, self.given[key].where
            elif row.section == "limits" and getattr(own, row.name) != row.default:
                yield row, getattr(own, row.name), "the app"
            else:
                yield row, defaults.get(key, row.default), "default"

    def _of(self, section: str) -> dict[str, Any]:
        rows = ((table()[key], given) for key, given in self.given.items())
        return {row.name: given.value for row, given in rows if row.section == section}


def resolve(
    *, flags: Mapping[str, Any], environ: Mapping[str, str], config: Path | None = None, target: str | None = None
) -> Configuration:
    """Combine all sources. ``flags`` holds parsed values by option key; ``config`` and ``target`` are from the command
    line. Raises ConfigError with all problems.
    """
    problems: list[str] = []
    variables, warnings = _environment(environ, problems)
    path = config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    if path is None and target is None and Path(USUAL).exists():
        path = Path(USUAL)
    file = read(path) if path is not None else None
    if file is not None:
        problems += file.problems
    from_flags = {key: Sourced(value, "flag", table()[key].flag) for key, value in flags.items()}
    by_rank = [from_flags, variables, file.given if file else {}]
    for given in by_rank:
        _check_address(given, problems)
    listeners = tuple(file.listeners) if file else ()
    if not listeners and not any({"port", "uds", "fd"} & given.keys() for given in by_rank):
        by_rank.append(_usual_port(environ, problems))
    chosen = _chosen(by_rank)
    _check_listeners(listeners, chosen, problems)
    upstreams = tuple(file.upstreams) if file else ()
    for each in upstreams:
        try:
            _upstream(each, lambda kind, given: None)
        except ConfigError as error:
            problems += error.problems
    _check_installed(chosen, problems)
    _check_tls(listeners, chosen, problems)
    _check_control(chosen, problems)
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: _line(problem, path)))
    app = _app(target, environ, file)
    return Configuration(app, chosen, listeners, file, tuple(warnings), upstreams)


def _line(problem: str, path: Path | None) -> int:
    """The problem's line in the file; 0 for another source, which sorts first."""
    place = re.match(rf"{re.escape(str(path))}:(\d+): ", problem)
    return int(place[1]) if place else 0


def _app(target: str | None, environ: Mapping[str, str], file: ConfigFile | None) -> Sourced | None:
    if target is not None:
        return Sourced(target, "flag", "the command line")
    if environ.get(APP):
        return Sourced(environ[APP], "environment", APP)
    return file.app if file else None


def _environment(environ: Mapping[str, str], problems: list[str]) -> tuple[dict[str, Sourced], list[str]]:
    """The values of the variables, and a warning for each unknown one. An empty variable counts as not set."""
    rows = {row.variable: row for row in table().values()}
    given: dict[str, Sourced] = {}
    warnings: list[str] = []
    for name in sorted(one for one in environ if one.startswith(PREFIX)):
        if name in (CONFIG, APP) or name.startswith(INTERNAL):
            continue
        row = rows.get(name)
        if row is None:
            warnings.append(f"{name} is no variable of coserver's; {_suggestion(name, [*rows, CONFIG, APP])}")
        elif environ[name]:
            try:
                given[row.key] = Sourced(row.text(environ[name]), "environment", name)
            except ValueError as error:
                problems.append(f"{name}: {error}")
    return given, warnings


def _usual_port(environ: Mapping[str, str], problems: list[str]) -> dict[str, Sourced]:
    """The port of the variable PORT, by which many platforms tell a program where to listen. All others win."""
    if not environ.get(PORT):
        return {}
    try:
        return {"port": Sourced(table()["port"].text(environ[PORT]), "environment", PORT)}
    except ValueError as error:
        problems.append(f"{PORT}: {error}; COSERVER_PORT or --port wins over it")
        return {}


def _suggestion(name: str, variables: Sequence[str]) -> str:
    """The way out for an unknown variable. The common prefix is left out of the comparison."""
    close = nearest(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in variables], PREFIX)
    return close or "'coserver config reference' lists them"


def _check_address(given: Mapping[str, Sourced], problems: list[str]) -> None:
    """Check that one source names one address only."""
    places = [key for key in ("uds", "fd") if key in given]
    others = [given[key].where for key in ("host", "port", *places[1:]) if key in given]
    if places and others:
        where = given[places[0]].where
        rule = f"a server listens on one address: give {places[0]}, or host and port"
        problems.append(f"{where}: {rule}; {others[0]} is given too")


def _chosen(by_rank: Sequence[Mapping[str, Sourced]]) -> dict[str, Sourced]:
    """The value of the first source, for each option. The address is one choice, of the first source that has one."""
    chosen = {key: given for source in reversed(by_rank) for key, given in source.items()}
    for source in by_rank:
        named = next((keys for keys in _ADDRESSES if any(key in source for key in keys)), None)
        if named is not None:
            for keys in _ADDRESSES:
                for key in keys if keys is not named else ():
                    if key != "host":  # other listeners may use it
                        chosen.pop(key, None)
            break
    return chosen


#: The keys that name an address, in three exclusive groups.
_ADDRESSES = (("uds",), ("fd",), ("port", "host"))


def _check_installed(chosen: Mapping[str, Sourced], problems: list[str]) -> None:
    """Check that the chosen backend and codec are installed."""
    for key, given in chosen.items():
        if table()[key].of:
            try:
                table()[key].rule(given.value)
            except (SetupError, ValueError) as error:
                problems.append(f"{given.where}: {error}")


def _check_tls(listeners: tuple[ListenerTable, ...], chosen: Mapping[str, Sourced], problems: list[str]) -> None:
    """Check that the TLS values fit together, at the top and for each listener."""
    top = {table()[key].name: given for key, given in chosen.items() if table()[key].section == "tls"}
    asked = [(next(iter(top.values())).where, top)] if top else []
    asked += [(one.where, _with_own(top, one.tls)) for one in listeners if one.tls is not None]
    for where, given in asked:
        try:
            Tls(**{name: one.value for name, one in given.items()}).check()
        except SetupError as error:
            problems.append(f"{where}: {error}")


def _check_control(chosen: Mapping[str, Sourced], problems: list[str]) -> None:
    """Check that a control port has a token, from whichever sources."""
    both = {key: chosen[key].value for key in ("control_port", "control_token") if key in chosen}
    try:
        Settings(**both)
    except SetupError as error:
        problems.append(f"{chosen[next(iter(both))].where}: {error}")


def _with_own(top: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The TLS values of a listener: the server's, replaced by its own. Its own certificate needs its own keys."""
    keys = ("keyfile", "keyfile_password") if "certfile" in own else ()
    return {**{name: value for name, value in top.items() if name not in keys}, **own}


def _check_listeners(listeners: tuple[ListenerTable, ...], chosen: Mapping[str, Sourced], problems: list[str]) -> None:
    for key in ("port", "uds", "fd"):
        if listeners and key in chosen:
            problems.append(
                f"{chosen[key].where}: the [[listener]] tables say where to listen ({listeners[0].where}): "
                f"change them, or leave {key} out"
            )
    places: dict[Any, str] = {}
    for one in listeners:
        problems += [f"{one.where}: {message}" for message in _wrong_with(one)]
        host = one.value("host") or (chosen["host"].value if "host" in chosen else "")
        place = one.value("uds") or one.value("fd") or (one.value("port") and (host, one.value("port")))
        if place and place in places:
            problems.append(f"{one.where}: another listener has this address already ({places[place]})")
        places[place] = one.where


def _wrong_with(one: ListenerTable) -> Iterator[str]:
    given = [keys[0] for keys in _ADDRESSES if any(key in one.named for key in keys)]
    if len(given) > 1:
        yield "a listener has one address: give uds, or fd, or host and port, not both"
    elif not any(key in one.named for key in ("uds", "fd", "port")):
        yield "a listener needs an address: port = 8000 (0 takes a free one), or uds = 'shop.sock'"
    if "protocol" in one.named and "protocol" not in one.given:
        return  # the invalid protocol has been reported
    protocol = one.value("protocol") or "http"
    if protocol == "tcp" and "handler" not in one.named:
        yield "a tcp listener needs handler = 'module:function'"
    for name in ("handler", "framing") if protocol == "http" else ("app",):
        if name in one.named:
            other = "tcp" if protocol == "http" else "http"
            yield f"{name} is for protocol = '{other}'; this listener speaks {protocol}"


def _listener(one: ListenerTable, limits: Limits, tls: Mapping[str, Any], find: Find) -> ListenerSettings:
    """The settings of a listener. Its limits and its TLS values start from those at the top."""
    named = {name: given.value for name, given in one.given.items()}
    for kind in ("app", "handler", "framing"):
        if ":" in named.get(kind, ""):
            named[kind] = find(kind, one.given[kind])
    own = {name: given.value for name, given in one.limits.items()}
    if one.tls is not None:
        named["tls"] = Tls(**_with_own(tls, {name: given.value for name, given in one.tls.items()}))
    try:
        return ListenerSettings(**named, limits=replace(limits, **own))
    except (SetupError, ValueError) as error:
        raise ConfigError([f"{one.where}: {error}"]) from None


def _upstream(one: UpstreamTable, find: Find) -> UpstreamSettings:
    """The settings of an upstream. Its limits are in the same table."""
    known = {each.name for each in fields(UpstreamLimits)}
    limits = {name: given.value for name, given in one.given.items() if name in known}
    own = {name: given.value for name, given in one.given.items() if name not in known}
    if ":" in own.get("framing", ""):
        own["framing"] = find("framing", one.given["framing"])
    try:
        if one.tls:
            own["tls"] = UpstreamTls(**{name: given.value for name, given in one.tls.items()})
            if not any(str(each).startswith("https:") for each in own.get("members", ("https:",))):
                raise ValueError(f"[upstreams.{one.name}.tls] is for https members, 'https://users.example'")
            own["tls"].check()
        return UpstreamSettings(name=one.name, limits=limits, **own)
    except (SetupError, ValueError, TypeError) as error:
        raise ConfigError([f"{one.where}: {error}"]) from None
