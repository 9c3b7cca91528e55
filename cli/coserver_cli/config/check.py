"""``coserver config check`` and ``show``: check all sources of options, and show the resulting values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from coserver import Limits
from coserver.app.config import values
from coserver.app.config.file import USUAL, ListenerTable
from coserver.app.config.resolve import Configuration
from coserver.app.config.table import listener_table, table, upstream_table, upstream_tls_table
from coserver.protocol.framing import FRAMINGS
from coserver.views.text import counted

from .. import console, tables
from ..options import DEFAULTS
from ..serve.serve import Arguments, CommandFailed, configure, load_app, validate

Row = tuple[str, Any, str, str]  # key, value, origin, unit


def check(arguments: Arguments, imports: bool) -> int:
    """Print all errors, or what was checked; the exit code."""
    try:
        configuration = configure(arguments)
        if imports and (configuration.app or configuration.listeners):
            validate(load_app(arguments, configuration))
    except CommandFailed:
        return 1
    for warning in configuration.warnings:
        console.warning(warning)
    for line in _checked(configuration, imports):
        print(line)
    return 0


def _checked(configuration: Configuration, imports: bool) -> Iterator[str]:
    file = configuration.file
    if file is not None:
        counts = [counted(file.keys, "key"), counted(len(file.listeners), "listener")]
        if file.upstreams:
            counts.append(counted(len(file.upstreams), "upstream"))
        yield f"ok  {file.path}: {', '.join(counts)}"
    variables = [one.where for one in configuration.given.values() if one.source == "environment"]
    if variables:
        yield f"ok  environment: {', '.join(variables)}"
    named = [configuration.app, *(one.given.get(kind) for one in configuration.listeners for kind in _NAMING)]
    references = list(dict.fromkeys(one.value for one in named if one is not None and one.value not in FRAMINGS))
    if references:
        yield f"{'ok  imported' if imports else '--  not imported'}: {', '.join(references)}"
    if file is None and not variables:
        yield f"nothing to check: there is no {USUAL} here, and no environment variable sets an option"


#: A listener's keys that name something to import.
_NAMING = ("app", "handler", "framing")


def show(arguments: Arguments, *, imports: bool, as_json: bool) -> int:
    """Print the effective values, each with its origin; the exit code."""
    own = Limits()
    try:
        configuration = configure(arguments)
        if imports and (configuration.app or configuration.listeners):
            own = load_app(arguments, configuration).app.limits
    except CommandFailed:
        return 1
    for warning in configuration.warnings:
        console.warning(warning)
    rows = list(_rows(configuration, own))
    listeners = [list(_listener_rows(one)) for one in configuration.listeners]
    if as_json:
        tables.show_json(_as_json(rows, listeners))
    else:
        _print(rows, listeners)
    return 0


def _rows(configuration: Configuration, own: Limits) -> Iterator[Row]:
    app = configuration.app
    yield "app", app.value if app else None, app.where if app else "default", ""
    place = "uds" in configuration.given or "fd" in configuration.given
    elsewhere = ("port", "uds", "fd") if configuration.listeners else ("port",) if place else ()
    for row, value, where in configuration.rows(own, DEFAULTS):
        if row.key not in elsewhere:
            yield row.key, "(secret)" if row.secret and value else value, where, row.unit
    for upstream in configuration.upstreams:
        for name, row in upstream_table().items():
            if name in upstream.given:
                given = upstream.given[name]
                yield f"upstreams.{upstream.name}.{name}", given.value, given.where, row.unit
        for name, given in upstream.tls.items():
            value = "(secret)" if upstream_tls_table()[name].secret else given.value
            yield f"upstreams.{upstream.name}.tls.{name}", value, given.where, ""


def _listener_rows(one: ListenerTable) -> Iterator[Row]:
    for name, row in listener_table().items():
        if name in one.given:
            yield name, one.given[name].value, one.given[name].where, row.unit
    if one.value("tls") is False:
        yield "tls", False, one.given["tls"].where, ""
    for name, given in (one.tls or {}).items():
        secret = table()[f"tls.{name}"].secret
        yield f"tls.{name}", "(secret)" if secret else given.value, given.where, ""
    for name, given in one.limits.items():
        yield f"limits.{name}", given.value, given.where, table()[f"limits.{name}"].unit


def _as_json(rows: list[Row], listeners: list[list[Row]]) -> dict[str, Any]:
    return {
        "options": {key: {"value": _plain(value), "from": where} for key, value, where, _ in rows},
        "listeners": [
            {key: {"value": _plain(value), "from": where} for key, value, where, _ in one} for one in listeners
        ],
    }


def _plain(value: Any) -> Any:
    """JSON has no infinity; "inf" can be read back from a file, a variable or a flag."""
    return "inf" if value == math.inf else value


def _print(rows: list[Row], listeners: list[list[Row]]) -> None:
    """Print one table; defaults are dim."""
    for number, one in enumerate(listeners, 1):
        rows = [*rows, *((f"listener {number}: {row[0]}", *row[1:]) for row in one)]
    cells = []
    for key, value, where, unit in rows:
        style = "dim" if where == "default" else "bold"
        cells.append((Text(key, style), Text(values.written(value, unit), style), Text(where, "dim")))
    tables.show(("key", "value", "from"), cells, fold=("value", "from"))
