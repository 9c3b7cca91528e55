"""``coserver routes``: an app's routes, and where each handler is defined. Nothing is served."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from coserver import App
from coserver.app.routes import find_framing, framing_name
from coserver.protocol.framing import Framing
from coserver.server.handler.endpoint import AWAIT, DIRECT, describe, kind_of

from . import console, tables
from .serve.dev import with_target
from .serve.serve import Arguments, CommandFailed, configure, load_app
from .serve.target import TargetError


@dataclass(frozen=True)
class Row:
    """One route. A TCP handler has the methods ("tcp",) and its port as ``path``. ``where`` is file:line, or ""."""

    methods: tuple[str, ...]
    path: str
    handler: str
    kind: str
    where: str


def run(arguments: Arguments, *, as_json: bool) -> int:
    """Print the routes of the app that the command line names; the exit code."""
    try:
        arguments = with_target(arguments, "coserver routes")
        app = load_app(arguments, configure(arguments)).app
    except TargetError as error:
        console.error(str(error), error.way_out)
        return 1
    except CommandFailed:
        return 1
    show(app, as_json=as_json)
    return 0


def show(app: App, *, as_json: bool = False) -> None:
    """Print an app's routes, in the order in which they were added."""
    rows = list(read(app))
    if as_json:
        tables.show_json({"app": app.name, "routes": [asdict(row) for row in rows]})
    elif rows:
        cells = [(" ".join(row.methods), row.path, row.handler, row.kind, row.where) for row in rows]
        tables.show(("methods", "path", "handler", "kind", "where"), cells, fold=("path", "handler", "where"))
    else:
        print(f"{app.name} has no routes: add one with @app.get('/')")


def read(app: App, prefix: str = "") -> Iterator[Row]:
    """The app's routes, the routes of mounted apps, its TCP handlers, and its further listeners."""
    for route in app.routes:
        kind = _kind(route.handler) + (", stream" if route.stream else "")
        path = f"{prefix}{route.path}"
        yield Row(route.methods, path, describe(route.handler), kind, where(route.handler))
    for mount in app.mounts:
        yield from read(mount.app, prefix + mount.prefix)
    for tcp in app.tcp_routes:
        yield _tcp_row(tcp.handler, find_framing(tcp.framing), tcp.uds or "", tcp.port)
    for one in app.listeners:
        if one.handler is not None:
            yield _tcp_row(one.handler, find_framing(one.framing), one.uds or "", one.port or 0)
        elif one.app is not None and one.app is not app:
            yield from read(one.app)


def _tcp_row(handler: Callable[..., Any], framing: Callable[[int], Framing], path: str, port: int) -> Row:
    kind = f"{_kind(handler)}, {framing_name(framing)}"
    return Row(("tcp",), path or (f"port {port}" if port else "a free port"), describe(handler), kind, where(handler))


def where(handler: Callable[..., Any]) -> str:
    """The file and line that define a handler, relative to the current folder if the file lies there."""
    while isinstance(handler, partial):
        handler = handler.func
    function = inspect.unwrap(handler if inspect.isroutine(handler) else type(handler).__call__)
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    path = Path(code.co_filename)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}:{code.co_firstlineno}"


def _kind(handler: Callable[..., Any]) -> str:
    function = handler
    while isinstance(function, partial):
        function = function.func
    if inspect.isgeneratorfunction(function):
        return "generator"
    return {AWAIT: "async def", DIRECT: "async generator"}.get(kind_of(handler), "def")
