"""``%load_ext coserver``: ``%%serve`` makes a handler of a cell, ``%coserver`` lists servers, ``%request`` asks one.

The layer above passes in its functions. Wrong input raises UsageError: the cell shows the message without a traceback.
"""

from __future__ import annotations

import ast
import http.client
import re
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from ..observe.trace.waterfall import show_seconds
from ..server.handler.errors import SetupError
from ..server.router import split_route
from ..views.text import plain
from .cell import server_bundle

if TYPE_CHECKING:
    from ..app.app import App
    from ..app.server import Server

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
#: Seconds to wait for a response, so that a hanging handler does not hang the notebook.
_PATIENCE = 60
#: Characters of a body that are printed.
_SHOWN = 2000
#: The app that serves cells if none is named.
DEFAULT = "notebook"


class Magics:
    """The magics. ``make`` creates an App by name, ``running`` returns the servers of this process."""

    def __init__(self, shell: Any, make: Callable[[str], App], running: Callable[[], list[Server]]) -> None:
        self._shell, self._make, self._running = shell, make, running
        self._app: App | None = None

    def register(self) -> None:
        """Register the three magics in the shell."""
        for name, kind, function in (
            ("serve", "cell", self.serve),
            ("coserver", "line", self.coserver),
            ("request", "line", self.request),
        ):
            self._shell.register_magic_function(function, kind, name)

    def serve(self, line: str, cell: str) -> None:
        """``%%serve [METHOD] /path [-a APP]``: the cell is the body of a handler for that path.

        Its last expression is the response. It can use ``request``, the path's parameters, and all names of the
        notebook. Names that it assigns are local to the handler. A cell with ``await`` becomes an ``async def``.
        """
        asked = _parse(_SERVE, line)
        method, path = _method_and_path(asked.what, "%%serve")
        app = self._find_app(asked.app)
        try:
            names = [text for text, kind in split_route(path) if kind is not None]
            handler = self._make_handler(f"{method} {path}", names, cell)
            app.route(path, methods=[method])(handler)
        except (SetupError, SyntaxError) as error:
            raise UsageError(f"%%serve {method} {path}: {error}") from error
        server = self._server_of(app)
        print(f"{method} {path} is served at {server.public_url}")

    def coserver(self, line: str) -> None:
        """``%coserver`` lists the servers of this kernel; ``%coserver stop NAME`` stops one, ``stop all`` all."""
        words = _split(line)
        servers = self._running()
        if not words:
            self._list(servers)
            return
        if words[0] != "stop" or len(words) != 2:
            raise UsageError(f"%coserver, or %coserver stop NAME, or %coserver stop all; got {line.strip()!r}")
        chosen = servers if words[1] == "all" else [self._find_server(words[1])]
        for server in chosen:
            server.stop()
            print(f"{server.name} has stopped")

    def request(self, line: str) -> Any:
        """``%request [METHOD] /path [-s SERVER] [-d BODY] [-H 'Name: value']``: send it, show its waterfall.

        Returns the trace: ``trace = %request GET /x``.
        """
        asked = _parse(_REQUEST, line)
        method, target = _method_and_path(asked.what, "%request")
        server = self._find_server(asked.server)
        server.traces.start()
        status, reason, content = _send(server, method, target, asked.body, _fields(asked.field))
        print(f"{status} {reason}\n{_shown(content)}".rstrip())
        mine = [one for one in server.traces if (one.method, one.raw_target) == (method, target)]
        return mine[-1] if mine else None

    def _list(self, servers: list[Server]) -> None:
        from IPython.display import display

        if not servers:
            print("no server of this kernel is running; start one with app.start() or %%serve /path")
        for server in servers:
            shown, stop = server_bundle(server), f"%coserver stop {shlex.quote(plain(server.name))}"
            bundle = {
                "text/plain": f"{shown['text/plain']}  stop it: {stop}",
                "text/html": f"{shown['text/html']}<div>stop it: <code>{_escaped(stop)}</code></div>",
            }
            display(bundle, raw=True)  # type: ignore[no-untyped-call]

    def _find_server(self, name: str | None) -> Server:
        servers = self._running()
        found = [one for one in servers if name is None or one.name == name]
        if len(found) == 1:
            return found[0]
        there = ", ".join(plain(one.name) for one in servers) or "none"
        if name is not None:
            raise UsageError(f"no server of this kernel is named {name!r}; running are: {there}")
        if not servers:
            raise UsageError("no server of this kernel is running; start one with app.start() or %%serve /path")
        raise UsageError(f"several servers run, choose one with -s: {there}")

    def _find_app(self, name: str | None) -> App:
        """The app of a variable or of a running server's name; without a name, the app for cells."""
        if name is None:
            if self._app is None:
                self._app = self._make(DEFAULT)
            return self._app
        given = self._shell.user_ns.get(name)
        if given is not None and hasattr(given, "route") and hasattr(given, "start"):
            app: App = given
            return app
        return self._find_server(name).apps[0]

    def _server_of(self, app: App) -> Server:
        """The running server of the app; started if there is none."""
        for server in self._running():
            if app in server.apps:
                return server
        return app.start(record=True)

    def _make_handler(self, title: str, names: list[str], cell: str) -> Callable[..., Any]:
        """A function whose body is the cell, in the notebook's own namespace. Raises SyntaxError."""
        source = self._shell.transform_cell(cell)
        file = self._shell.compile.cache(source)  # so that tracebacks show the cell's lines
        body = ast.parse(source, file).body
        if not body:
            raise SyntaxError("the cell is empty; its last expression is the response")
        if isinstance(body[-1], ast.Expr):
            body[-1] = ast.copy_location(ast.Return(body[-1].value), body[-1])
        name = "serve_" + re.sub(r"\W+", "_", title).strip("_").lower()
        kind = "async def" if _awaits(body) else "def"
        module = ast.parse(f"{kind} {name}({', '.join(['request', *names])}): pass", file)
        module.body[0].body = body  # type: ignore[attr-defined]  # a function has one
        made: dict[str, Any] = {}
        exec(compile(module, file, "exec"), self._shell.user_ns, made)
        handler: Callable[..., Any] = made[name]
        return handler


def _awaits(body: list[ast.stmt]) -> bool:
    """Whether the cell itself has an ``await``, outside nested functions."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            return True
        waiting += ast.iter_child_nodes(node)
    return False


def _parser(name: str, options: tuple[tuple[str, str, str], ...]) -> Any:
    parser = MagicArgumentParser(prog=name, add_help=False)  # type: ignore[no-untyped-call]
    parser.add_argument("what", nargs="*")
    for short, long, told in options:
        more: dict[str, Any] = {"action": "append", "default": []} if short == "-H" else {}
        parser.add_argument(short, long, help=told, **more)
    return parser


_SERVE = _parser("%%serve", (("-a", "--app", "a variable that holds an App, or a running server's name"),))
_REQUEST = _parser(
    "%request",
    (
        ("-s", "--server", "a running server's name"),
        ("-d", "--body", "the request's body"),
        ("-H", "--field", "a field, 'Name: value'"),
    ),
)


def _parse(parser: Any, line: str) -> Any:
    asked = parser.parse_args(_split(line))  # raises UsageError
    if not asked.what:
        raise UsageError(f"give a path: {parser.prog} /hello")
    return asked


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{line.strip()!r} cannot be read: {error}") from error


def _method_and_path(what: list[str], magic: str) -> tuple[str, str]:
    method, path = (what[0].upper(), what[1]) if len(what) == 2 else ("GET", what[0])
    if len(what) > 2 or method not in METHODS or not path.startswith("/"):
        raise UsageError(f"{magic} [METHOD] /path, METHOD being one of {', '.join(METHODS)}; got {' '.join(what)!r}")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UsageError(f"{magic}: a path is printable ASCII without spaces; write others as %20; got {path!r}")
    return method, path


def _fields(given: list[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon or not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) or not value.isprintable():
            raise UsageError(f"a field is 'Name: value'; got {one!r}")
        found[name] = value.strip()
    return found


def _send(server: Server, method: str, target: str, body: str | None, fields: dict[str, str]) -> tuple[int, str, bytes]:
    place = urlsplit(server.url)
    if place.scheme != "http":
        raise UsageError(f"%request sends plain HTTP; {server.name} listens at {server.url}")
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=_PATIENCE)
    try:
        connection.request(method, target, None if body is None else body.encode(), fields)
        response = connection.getresponse()
        return response.status, response.reason, response.read()
    except (OSError, http.client.HTTPException) as error:
        why = f"within {show_seconds(_PATIENCE)}" if isinstance(error, TimeoutError) else f": {error!r}"
        raise UsageError(f"{method} {target} of {server.name} got no response {why}") from error
    finally:
        connection.close()


def _shown(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return f"{len(content)} bytes, not text"
    cut = "\n".join([plain(line) for line in text[:_SHOWN].split("\n")])
    return cut + (f"\n… {len(text) - _SHOWN} more characters" if len(text) > _SHOWN else "")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
