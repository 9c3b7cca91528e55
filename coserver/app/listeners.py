"""Plans the listeners of an app: each with its address, its protocol, its routes and its limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..server.handler.endpoint import Endpoint, describe
from ..server.handler.errors import SetupError
from ..server.http.alpn import PROTOCOLS
from ..server.http.http1 import HttpConnection
from ..server.limits import Limits
from ..server.router import Router
from ..server.service import MakeConnection
from ..server.tcp import tcp_connection_factory
from ..transport.certificates import Certificates
from .config.settings import ListenerSettings, Settings
from .config.tls import Tls
from .routes import TcpRoute, find_framing, framing_name
from .sockets import ListenerSpec

if TYPE_CHECKING:
    from .app import App


@dataclass(frozen=True)
class ListenerPlan:
    """A listener that is to be bound. ``app`` has the routes, or the TCP handler; ``router`` is empty for TCP."""

    spec: ListenerSpec
    app: App
    make_connection: MakeConnection
    router: Router
    limits: Limits
    proxy_protocol: bool
    certificates: Certificates | None = None


def plan_listeners(app: App, settings: Settings) -> list[ListenerPlan]:
    """All listeners of an app: those of the settings, or else one for HTTP if the app has routes; and those of
    ``app.listen`` and ``app.tcp``.

    A number makes a name unique. Raises SetupError for a route that cannot be served.
    """
    plans: list[ListenerPlan] = []
    names: set[str] = set()
    loaded: dict[tuple[Tls, bool], Certificates] = {}  # several listeners may share certificates
    for one, tls in _all(app, settings):
        name, number = one.spec.name, 2
        while name in names:
            name, number = f"{one.spec.name}-{number}", number + 1
        names.add(name)
        certificates = None
        if tls is not None:
            key = (tls, one.spec.protocol == "http")
            certificates = loaded[key] = loaded.get(key) or tls.load(tuple(PROTOCOLS) if key[1] else ())
        spec = replace(one.spec, name=name, tls=tls is not None)
        plans.append(replace(one, spec=spec, certificates=certificates))
    return plans


def _all(app: App, settings: Settings) -> Iterator[tuple[ListenerPlan, Tls | None]]:
    asked = [*settings.listeners, *app.listeners]
    tcp_routes = list(app.tcp_routes)
    if not settings.listeners and (app.routes or app.mounts or app.hosted or not (asked or tcp_routes)):
        place = ListenerSettings(host=settings.host, port=settings.port, uds=settings.uds, fd=settings.fd)
        yield _http(place, app, settings), settings.tls
    elif not asked and not tcp_routes[0].port and not tcp_routes[0].uds:
        # Without HTTP the address of the settings goes to the first handler, if that names no address of its own.
        tcp_routes[0] = replace(tcp_routes[0], port=settings.port, uds=settings.uds, fd=settings.fd)
    for one in asked:
        if one.protocol == "http":
            yield _http(one, app, settings), _tls(one, settings)
        else:
            assert one.handler is not None
            name = one.name or describe(one.handler).rpartition(".")[2]
            framing = find_framing(one.framing)
            route = TcpRoute(
                name, one.port or 0, one.host, one.handler, framing, one.uds, one.limits, one.proxy_protocol, one.tls,
                one.uds_permissions, one.fd,
            )  # fmt: skip
            yield _tcp(route, app, settings), _tls(route, settings)
    for route in tcp_routes:
        yield _tcp(route, app, settings), _tls(route, settings)


def _http(one: ListenerSettings, app: App, settings: Settings) -> ListenerPlan:
    served = one.app or app
    name = one.name or "http"
    routes = sum(len(place.routes) for place in served.parts())
    what = f"HTTP, {routes} route{'' if routes == 1 else 's'}{'' if served is app else f' of {served.name}'}"
    if served.hosted is not None:
        what = f"HTTP, {served.hosted.kind.upper()} {served.hosted.name}"
    permissions = one.uds_permissions or settings.uds_permissions or ""
    spec = ListenerSpec(
        name, one.host or settings.host, one.port or 0, one.uds or "", "http", what, fd=one.fd, permissions=permissions
    )
    limits, proxied = one.limits or settings.limits, _proxied(one, settings)
    return ListenerPlan(spec, served, HttpConnection, served.compile(), limits, proxied)


def _tcp(route: TcpRoute, app: App, settings: Settings) -> ListenerPlan:
    endpoint = Endpoint(route.handler, "connection", ())
    what = f"{route.name}, framing {framing_name(route.framing)}"
    permissions = route.uds_permissions or settings.uds_permissions or ""
    host = route.host or settings.host
    spec = ListenerSpec(
        route.name, host, route.port, route.uds or "", "tcp", what, fd=route.fd, permissions=permissions
    )
    make = tcp_connection_factory(endpoint, route.framing)
    return ListenerPlan(spec, app, make, Router(), route.limits or settings.limits, _proxied(route, settings))


def _proxied(one: ListenerSettings | TcpRoute, settings: Settings) -> bool:
    """Whether the listener expects PROXY headers. Raises SetupError if no peer is trusted to send one."""
    wanted = settings.proxy_protocol if one.proxy_protocol is None else one.proxy_protocol
    if wanted and not settings.trusted_peers:
        raise SetupError(
            "with proxy_protocol only trusted peers are served, and there are none; name the proxies in trusted_peers"
        )
    return wanted


def _tls(one: ListenerSettings | TcpRoute, settings: Settings) -> Tls | None:
    """The listener's own TLS, or the server's: only ``tls=False`` makes a listener plain."""
    if isinstance(one.tls, Tls):
        return one.tls
    return None if one.tls is False else settings.tls
