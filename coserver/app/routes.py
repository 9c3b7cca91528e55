"""The declarations of an App: routes, TCP handlers, mounts; and the router made from them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..protocol.framing import FRAMINGS, Framing
from ..server.handler.endpoint import Endpoint, annotated_types
from ..server.handler.error_handlers import ErrorHandlers
from ..server.handler.errors import SetupError
from ..server.limits import Limits, RouteLimits
from ..server.router import Router, split_route
from .config.tls import Tls

if TYPE_CHECKING:
    from .app import App


@dataclass(frozen=True)
class Route:
    """The handler of a path, for these methods. ``limits`` replaces fields of the listener's limits."""

    path: str
    methods: tuple[str, ...]
    handler: Callable[..., Any]
    stream: bool = False
    limits: RouteLimits | None = None


@dataclass(frozen=True)
class TcpRoute:
    """A TCP handler and its address. Fields that are None are as in Settings.

    ``framing`` is called with frame_size for each connection.
    """

    name: str
    port: int
    host: str | None
    handler: Callable[..., Any]
    framing: Callable[[int], Framing]
    uds: str | None = None
    limits: Limits | None = None
    proxy_protocol: bool | None = None
    tls: Tls | bool | None = None
    uds_permissions: str | None = None
    fd: int | None = None


@dataclass(frozen=True)
class Mount:
    """Another app below a prefix."""

    prefix: str
    app: App


@dataclass(frozen=True)
class Place:
    """An app in the tree of mounts: its whole prefix, and the error handlers that apply there, its own first."""

    app: App
    prefix: str
    tables: tuple[ErrorHandlers, ...]


def places(app: App) -> Iterator[Place]:
    """The app itself, and all apps mounted in it, at any depth; an app comes before those that it mounts."""
    yield from _below(Place(app, "", (app.errors,)))


def _below(place: Place) -> Iterator[Place]:
    yield place
    for mount in place.app.mounts:
        yield from _below(Place(mount.app, place.prefix + mount.prefix, (mount.app.errors, *place.tables)))


def make_router(app: App) -> Router:
    """The router for all routes of an app and of its mounts. The app's own are added last, so they win.

    Raises SetupError for the first route whose handler has an unknown parameter.
    """
    router = Router()
    for place in reversed(list(places(app))):
        router.answer_errors(place.prefix, place.tables)
        if place.app.hosted is not None:
            endpoint = place.app.hosted.endpoint(place.prefix)
            endpoint.app, endpoint.errors = place.app, place.tables
            router.host(place.prefix, endpoint)
        for route in place.app.routes:
            _add(router, route, place)
    return router


def _add(router: Router, route: Route, place: Place) -> None:
    names = tuple(text for text, kind in split_route(route.path) if kind is not None)
    try:
        endpoint = Endpoint(route.handler, "request", names, stream=route.stream)
    except SetupError as error:
        if code := getattr(inspect.unwrap(route.handler), "__code__", None):
            error.add_note(f"{code.co_filename}:{code.co_firstlineno}: {route.path}")
        raise
    endpoint.app, endpoint.errors, endpoint.limits = place.app, place.tables, route.limits
    endpoint.mount, endpoint.route = place.prefix, place.prefix + route.path
    paths = [endpoint.route]
    if place.prefix and route.path == "/":
        paths.append(place.prefix)  # people write /api for /api/
    for path in paths:
        router.add(path, list(route.methods), endpoint, annotated_types(route.handler))


def route_limits(path: str, limits: Mapping[str, Any] | None) -> RouteLimits | None:
    """The RouteLimits of a route's ``limits=``. Raises SetupError."""
    if limits is None:
        return None
    if not isinstance(limits, Mapping):
        raise SetupError(f'route {path!r}: limits is a dict of fields of Limits, {{"body_size": 1000}}; got {limits!r}')
    try:
        return RouteLimits(limits) if limits else None
    except (TypeError, ValueError) as error:
        raise SetupError(f"route {path!r}: {error}") from None


def check_prefix(prefix: str) -> str:
    """Check the prefix of a mount. Raises SetupError."""
    if not prefix.startswith("/") or prefix.endswith("/") or any(kind is not None for _, kind in split_route(prefix)):
        raise SetupError(
            f"a prefix starts with '/', does not end with '/', and has no parameters: '/api'; got {prefix!r}"
        )
    return prefix


def find_framing(framing: str | Callable[[int], Framing]) -> Callable[[int], Framing]:
    """The framing with this name in FRAMINGS; a class is returned as it is. Raises SetupError."""
    if isinstance(framing, str):
        if framing not in FRAMINGS:
            raise SetupError(f"unknown framing {framing!r}; it may be {', '.join(map(repr, FRAMINGS))}, or a class")
        return FRAMINGS[framing]
    return framing


def framing_name(framing: Callable[[int], Framing]) -> str:
    """The framing's name in FRAMINGS, or the name of its class."""
    for name, make in FRAMINGS.items():
        if make is framing:
            return name
    return getattr(framing, "__name__", "of its own")
