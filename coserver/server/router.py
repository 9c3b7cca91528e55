"""The router finds the handler of a request, in a tree of path segments. Literal segments go before parameters.

A path without parameters costs one dictionary look-up. The router also decides on 404, 405 (with Allow), and the
automatic HEAD and OPTIONS, before a byte of the body is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote
from uuid import UUID

from .handler.endpoint import Endpoint
from .handler.error_handlers import ErrorHandlers
from .handler.errors import HTTPException, SetupError
from .handler.response import Response

#: The types of path parameters: a test of the text, and its conversion. Text that fails the test is another path: 404.
CONVERTERS: dict[str, tuple[Callable[[str], object], Callable[[str], Any]]] = {
    "str": (lambda text: text, str),
    "int": (re.compile(r"-?[0-9]{1,4000}", re.ASCII).fullmatch, int),  # CPython refuses longer integers
    "float": (re.compile(r"-?[0-9]{1,300}(?:\.[0-9]+)?", re.ASCII).fullmatch, float),  # more would be infinity
    "uuid": (re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII).fullmatch, UUID),
    "path": (lambda text: True, str),
}
#: The methods of RFC 9110 §9 and RFC 5789: 405 if the path has another; 501 for any other method that no route knows.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})

# Parameters as others write them: <id>, <int:id> and <any(a, b):id> of Flask, :id of Express.
_in_angles = re.compile(r"<(?:(\w+)(?:\([^)]*\))?:)?(\w+)>").search
_after_colon = re.compile(r":([A-Za-z_]\w*)").match
_OTHER_TYPES = {"int": "int", "float": "float", "path": "path", "uuid": "uuid"}

_parameter = re.compile(r"\{([A-Za-z_]\w*)(?::(\w+))?\}").fullmatch

Found = tuple[Endpoint, dict[str, Any]]
Tables = tuple[ErrorHandlers, ...]
_NO_PARAMS: dict[str, Any] = {}


class RouteError(HTTPException):
    """A failed look-up: 404, 405, 501. ``tables`` are the error handlers for this path, in the order to ask them."""

    def __init__(self, status: int, detail: str | None, headers: dict[str, str], tables: Tables) -> None:
        super().__init__(status, detail, headers)
        self.tables = tables


class Listed(NamedTuple):
    """A route, to be shown: ``segments`` as those of ``split_route``, but each parameter with its type."""

    path: str
    methods: str
    handler: str
    segments: tuple[tuple[str, str | None], ...]


class Node:
    """One segment of the tree. ``endpoints`` are by method, each with the names of its parameters in order.

    ``hosted`` takes every request from here on that no endpoint takes.
    """

    __slots__ = ("endpoints", "hosted", "literal", "parameters")

    def __init__(self) -> None:
        self.literal: dict[str, Node] = {}
        self.parameters: dict[str, Node] = {}  # by type, in the order in which they were added
        self.endpoints: dict[str, tuple[Endpoint, tuple[str, ...]]] = {}
        self.hosted: Endpoint | None = None


class Router:
    """All routes of one app. A new route replaces that of the same path and method. Other threads may look up then."""

    def __init__(self) -> None:
        self._root = Node()
        self._plain: dict[tuple[str, str], Found] = {}
        self._known = set(METHODS)
        self._hosts = False  # whether there is any hosted application
        self._sole: Found | None = None  # a hosted application at the root, without any route beside it
        #: The error handlers, each with the prefix that they answer below and its segments; the longest first.
        self._tables: list[tuple[str, list[str], Tables]] = [("", [], ())]

    def become(self, other: Router) -> None:
        """Take over the routes of ``other``. A look-up of another thread sees either the old tree or the new one."""
        self._root, self._plain, self._known, self._sole = other._root, other._plain, other._known, other._sole
        self._hosts = other._hosts
        self._tables = other._tables

    def answer_errors(self, prefix: str, tables: Tables) -> None:
        """Answer a failed look-up below ``prefix``, "" for all, by these error handlers."""
        others = [one for one in self._tables if one[0] != prefix]
        self._tables = sorted(
            [*others, (prefix, prefix.split("/")[1:], tables)], key=lambda one: len(one[0]), reverse=True
        )

    def allowed(self, path: str) -> list[str]:
        """The methods that a percent-encoded path has, sorted; of "*" those of all paths. Empty for an unknown path."""
        if path == "*":
            return sorted(self._known)
        allowed: set[str] = set()
        segments = _split(path)
        self._search(self._root, segments, 0, "", [], allowed)  # no route has this method, so the search sees them all
        if "GET" in allowed:
            allowed.add("HEAD")
        return sorted(allowed | {"OPTIONS"}) if allowed else []

    def listed(self) -> Iterator[Listed]:
        """All routes, those of mounted apps too. Each handler of a path has a row, with its methods."""
        nodes: list[tuple[Node, tuple[tuple[str, str | None], ...]]] = [(self._root, ())]
        while nodes:
            node, before = nodes.pop()
            nodes += [(inner, (*before, (text, None))) for text, inner in node.literal.items()]
            nodes += [(inner, (*before, ("", kind))) for kind, inner in node.parameters.items()]
            found: dict[tuple[Endpoint, tuple[str, ...]], list[str]] = {}
            for method, given in node.endpoints.items():
                found.setdefault(given, []).append(method)
            for (endpoint, names), methods in found.items():
                each = iter(names)
                segments = tuple((text if kind is None else next(each), kind) for text, kind in before)
                shown = [text if kind is None else f"{{{text}:{kind}}}" for text, kind in segments]
                path = "/" + "/".join(one.replace(":str}", "}") for one in shown)
                yield Listed(path, " ".join(sorted(methods)), endpoint.name, segments)

    def mount_of(self, endpoint: Endpoint, path: str) -> str:
        """The prefix of the mounted app whose error handler ``endpoint`` is; "" for the app itself.

        ``path`` is that of the request, percent-encoded: an app may be mounted at several places.
        """
        segments = _split(path)
        for prefix, above, tables in self._tables:
            if tables and segments[: len(above)] == above and any(one is endpoint for one in tables[0]):
                return prefix
        return ""

    def host(self, prefix: str, endpoint: Endpoint) -> None:
        """Give ``endpoint`` every request below ``prefix`` that no route takes, whatever its method is."""
        node = self._root
        for segment in prefix[1:].split("/") if prefix else ():
            node = node.literal.setdefault(segment, Node())
        node.hosted = endpoint
        self._hosts = True
        if not prefix and not self._root.literal and not self._root.parameters:
            self._sole = (endpoint, _NO_PARAMS)

    def add(self, path: str, methods: list[str], endpoint: Endpoint, types: dict[str, str]) -> None:
        """Add a route. ``types`` by name are for parameters whose type the path does not give. Raises SetupError."""
        node, names = self._root, []
        self._sole = None
        segments = split_route(path)
        for at, (text, kind) in enumerate(segments):
            if kind is None:
                node = node.literal.setdefault(text, Node())
                continue
            kind = kind or types.get(text, "str")
            if kind not in CONVERTERS:
                raise SetupError(f"route {path!r}: unknown type {kind!r}; use one of {', '.join(sorted(CONVERTERS))}")
            if kind == "path" and at < len(segments) - 1:
                raise SetupError(f"route {path!r}: {{{text}:path}} takes the rest of the path, so it must come last")
            node = node.parameters.setdefault(kind, Node())
            names.append(text)
        for method in methods:
            node.endpoints[method] = (endpoint, tuple(names))
            self._known.add(method)
            if not names:
                self._plain[method, path] = (endpoint, _NO_PARAMS)

    def find(self, method: str, path: str) -> Found:
        """The endpoint for a percent-encoded path, and its parameters. Raises RouteError."""
        found = self._plain.get((method, path))
        if found is not None:
            return found
        if path == "*":
            return _options(self._known), _NO_PARAMS
        if self._sole is not None:
            return self._sole
        allowed: set[str] = set()
        segments = _split(path)
        found = self._search(self._root, segments, 0, method, [], allowed)
        if found is None and method == "HEAD":
            found = self._search(self._root, segments, 0, "GET", [], allowed)
        if found is not None:
            return found
        if not allowed:
            raise self._refusal(segments, 404)
        if "GET" in allowed:
            allowed.add("HEAD")
        allowed.add("OPTIONS")
        if method == "OPTIONS":
            return _options(allowed), _NO_PARAMS
        if method not in self._known:
            raise self._refusal(segments, 501, f"Method {method} is not known here")
        raise self._refusal(segments, 405, allow=", ".join(sorted(allowed)))

    def _refusal(self, segments: list[str], status: int, detail: str | None = None, **headers: str) -> RouteError:
        found = (tables for _, above, tables in self._tables if segments[: len(above)] == above)
        return RouteError(status, detail, headers, next(found))

    def _search(
        self, node: Node, segments: list[str], at: int, method: str, values: list[str | Any], allowed: set[str]
    ) -> Found | None:
        if at == len(segments):
            found = self._at_end(node, method, values, allowed)
            return (node.hosted, _NO_PARAMS) if found is None and node.hosted is not None else found
        literal = node.literal.get(segments[at])
        if literal is not None:
            found = self._search(literal, segments, at + 1, method, values, allowed)
            if found is not None:
                return found
        for kind, child in node.parameters.items():
            fits, convert = CONVERTERS[kind]
            rest = kind == "path"
            text = "/".join(segments[at:]) if rest else segments[at]
            if fits(text):
                after = len(segments) if rest else at + 1
                found = self._search(child, segments, after, method, [*values, convert(text)], allowed)
                if found is not None:
                    return found
        return None if node.hosted is None else (node.hosted, _NO_PARAMS)

    def _at_end(self, node: Node, method: str, values: list[Any], allowed: set[str]) -> Found | None:
        here = node.endpoints.get(method)
        if here is None and method == "HEAD" and self._hosts:  # before a hosted application takes it
            here = node.endpoints.get("GET")
        if here is not None:
            return here[0], dict(zip(here[1], values, strict=True))
        allowed.update(node.endpoints)
        return None


def _split(path: str) -> list[str]:
    """The segments of a percent-encoded path, decoded."""
    return [unquote(segment) for segment in path[1:].split("/")]


def split_route(path: str) -> list[tuple[str, str | None]]:
    """Split a route into segments: (literal, None) or (parameter, type), "" for no type. Raises SetupError."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise SetupError(f"a route is a text that must start with '/'; got {path!r}")
    segments: list[tuple[str, str | None]] = []
    for segment in path[1:].split("/"):
        match = _parameter(segment)
        if match:
            if any(match[1] == name for name, kind in segments if kind is not None):
                raise SetupError(f"route {path!r}: two parameters are named {match[1]!r}; rename one")
            segments.append((match[1], match[2] or ""))
        elif found := _in_angles(segment):
            way_out = f"{found[2]}:{_OTHER_TYPES[found[1]]}" if found[1] in _OTHER_TYPES else found[2]
            raise SetupError(f"route {path!r}: a parameter stands in braces: write {{{way_out}}}; got {segment!r}")
        elif found := _after_colon(segment):
            raise SetupError(f"route {path!r}: a parameter stands in braces: write {{{found[1]}}}; got {segment!r}")
        elif "{" in segment or "}" in segment:
            raise SetupError(
                f"route {path!r}: a parameter is a whole segment, {{name}} or {{name:type}}; got {segment!r}"
            )
        elif "?" in segment or "#" in segment:
            raise SetupError(f"route {path!r}: a route is a path alone; read the query from request.query")
        else:
            segments.append((segment, None))
    return segments


def _options(allowed: set[str]) -> Endpoint:
    """Make the endpoint of the automatic answer to OPTIONS (RFC 9110 §9.3.7)."""

    async def options() -> Response:
        return Response(b"", 204, {"allow": ", ".join(sorted(allowed))})

    return Endpoint(options, "request", ())
