"""What an App was told: its routes, its TCP handlers, what is mounted in it; and the router that is made of them."""

from __future__ import annotations

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
    """One handler of one path, for these methods. ``limits`` are what it has in the place of its listener's."""

    path: str
    methods: tuple[str, ...]
    handler: Callable[..., Any]
    stream: bool = False
    limits: RouteLimits | None = None


@dataclass(frozen=True)
class TcpRoute:
    """What is None is the app's own; ``framing`` makes one for each connection, given frame_size."""

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
    """Where an app's routes stand in another: below ``prefix``, errors answered by ``tables``, its own first."""

    app: App
    prefix: str
    tables: tuple[ErrorHandlers, ...]


def places(app: App) -> Iterator[Place]:
    """The app itself, and all that is mounted in it, at any depth; an app before those that it mounts."""
    yield from _below(Place(app, "", (app.errors,)))


def _below(place: Place) -> Iterator[Place]:
    yield place
    for mount in place.app.mounts:
        yield from _below(Place(mount.app, place.prefix + mount.prefix, (mount.app.errors, *place.tables)))


def make_router(app: App) -> Router:
    """All routes of an app and of what it mounts; its own are added last, so they win.

    Raises SetupError for the first route whose handler asks for what nobody provides.
    """
    router = Router()
    for place in reversed(list(places(app))):
        router.answer_errors(place.prefix, place.tables)
        for route in place.app.routes:
            _add(router, route, place)
    return router


def _add(router: Router, route: Route, place: Place) -> None:
    names = tuple(text for text, kind in split_route(route.path) if kind is not None)
    endpoint = Endpoint(route.handler, "request", names, stream=route.stream)
    endpoint.app, endpoint.errors, endpoint.limits = place.app, place.tables, route.limits
    endpoint.route = place.prefix + route.path
    paths = [endpoint.route]
    if place.prefix and route.path == "/":
        paths.append(place.prefix)  # /api is where people look for what is at /api/
    for path in paths:
        router.add(path, list(route.methods), endpoint, annotated_types(route.handler))


def route_limits(path: str, limits: Mapping[str, Any] | None) -> RouteLimits | None:
    """What a route was given as ``limits=``. Raises SetupError."""
    if limits is None:
        return None
    if not isinstance(limits, Mapping):
        raise SetupError(f'route {path!r}: limits is a dict of what differs, {{"body_size": 1000}}; got {limits!r}')
    try:
        return RouteLimits(limits) if limits else None
    except (TypeError, ValueError) as error:
        raise SetupError(f"route {path!r}: {error}") from None


def check_prefix(prefix: str) -> str:
    """A mount's prefix. Raises SetupError."""
    if not prefix.startswith("/") or prefix.endswith("/") or any(kind is not None for _, kind in split_route(prefix)):
        raise SetupError(
            f"a prefix starts with '/', does not end with one and has no parameters: '/api'; got {prefix!r}"
        )
    return prefix


def find_framing(framing: str | Callable[[int], Framing]) -> Callable[[int], Framing]:
    """A framing by its name in FRAMINGS, or the class itself. Raises SetupError."""
    if isinstance(framing, str):
        if framing not in FRAMINGS:
            raise SetupError(f"unknown framing {framing!r}; it may be {', '.join(map(repr, FRAMINGS))}, or a class")
        return FRAMINGS[framing]
    return framing


def framing_name(framing: Callable[[int], Framing]) -> str:
    """Its name in FRAMINGS, or its class's."""
    for name, make in FRAMINGS.items():
        if make is framing:
            return name
    return getattr(framing, "__name__", "of its own")
