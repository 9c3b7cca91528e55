"""App: routes and TCP handlers, and the four ways to run them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar, Unpack

import anyio
from anyio.abc import TaskStatus

from ..lifecycle.emitter import Emitter
from ..protocol.framing import FRAMINGS, Framing
from ..server.endpoint import Endpoint, annotated_types, describe
from ..server.errors import AppError
from ..server.limits import Limits
from ..server.routes import Router, split_route
from . import running
from .server import Server
from .settings import Options, Settings

Handler = TypeVar("Handler", bound=Callable[..., Any])

log = logging.getLogger("coserver.app")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Route:
    path: str
    methods: tuple[str, ...]
    handler: Callable[..., Any]
    stream: bool = False


@dataclass(frozen=True)
class TcpRoute:
    """``host`` None means the app's own; ``framing`` makes one framing for each connection, given ``frame_size``."""

    name: str
    port: int
    host: str | None
    handler: Callable[..., Any]
    framing: Callable[[int], Framing]


class App:
    """A server's handlers. ``name`` is its key: starting an app of the same name again replaces the running server.

    Apps without a name are never replaced by one another. ``limits`` are the defaults of every way to run it;
    ``emitter`` takes observers and gates.
    """

    def __init__(self, name: str | None = None, *, limits: Limits | None = None) -> None:
        self.name = name or f"app-{next(_numbers)}"
        self.limits = limits or Limits()
        self.emitter = Emitter()
        self.routes: list[Route] = []
        self.tcp_routes: list[TcpRoute] = []
        self._router: Router | None = None

    def __repr__(self) -> str:
        return f"<App {self.name!r} {len(self.routes)} routes, {len(self.tcp_routes)} tcp>"

    # Handlers.

    def route(
        self, path: str, *, methods: Iterable[str] = ("GET",), stream: bool = False
    ) -> Callable[[Handler], Handler]:
        """Decorator: serve ``path`` by this handler. ``{name}`` or ``{name:type}`` is a parameter; types are str, int,
        float, uuid and, as the last segment, path. With ``stream`` the handler starts before the body is there.

        Raises AppError for a malformed route, and at start (at once, if the app runs) for a parameter nobody provides.
        """
        if isinstance(methods, str):
            raise AppError(f"methods is a list: methods=[{methods!r}]")
        split_route(path)
        names = tuple(method.upper() for method in methods)

        def register(handler: Handler) -> Handler:
            route = Route(path, names, handler, stream)
            if self._router is not None:
                _add_route(self._router, route)
            before = [one for one in self.routes if one.path == path and set(one.methods) & set(names)]
            if before:
                log.info(
                    "app %s: %s replaces %s on %s %s",
                    self.name,
                    describe(handler),
                    describe(before[-1].handler),
                    names,
                    path,
                )
            self.routes.append(route)
            return handler

        return register

    def get(self, path: str, *, stream: bool = False) -> Callable[[Handler], Handler]:
        """``route`` for GET; HEAD is answered by it as well."""
        return self.route(path, methods=["GET"], stream=stream)

    def post(self, path: str, *, stream: bool = False) -> Callable[[Handler], Handler]:
        return self.route(path, methods=["POST"], stream=stream)

    def put(self, path: str, *, stream: bool = False) -> Callable[[Handler], Handler]:
        return self.route(path, methods=["PUT"], stream=stream)

    def patch(self, path: str, *, stream: bool = False) -> Callable[[Handler], Handler]:
        return self.route(path, methods=["PATCH"], stream=stream)

    def delete(self, path: str, *, stream: bool = False) -> Callable[[Handler], Handler]:
        return self.route(path, methods=["DELETE"], stream=stream)

    def head(self, path: str) -> Callable[[Handler], Handler]:
        return self.route(path, methods=["HEAD"])

    def options(self, path: str) -> Callable[[Handler], Handler]:
        return self.route(path, methods=["OPTIONS"])

    def tcp(
        self,
        *,
        port: int = 0,
        framing: str | Callable[[int], Framing] = "raw",
        host: str | None = None,
        name: str | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorator: this handler holds the conversation with each client of a TCP port.

        ``framing`` is a row of FRAMINGS or a class like them, called with ``Limits.frame_size`` for each connection.
        Raises AppError.
        """
        if isinstance(framing, str):
            if framing not in FRAMINGS:
                raise AppError(f"unknown framing {framing!r}; it may be {', '.join(map(repr, FRAMINGS))}, or a class")
            framing = FRAMINGS[framing]
        make = framing

        def register(handler: Handler) -> Handler:
            # A handler defined again (a cell run again) takes its predecessor's place.
            route = TcpRoute(name or describe(handler).rpartition(".")[2], port, host, handler, make)
            self.tcp_routes = [one for one in self.tcp_routes if one.name != route.name]
            self.tcp_routes.append(route)
            return handler

        return register

    # Four ways to run.

    def start(self, **options: Unpack[Options]) -> Server:
        """Run in a daemon thread with a loop of its own; returns when it listens.

        Keywords: host, port, uds, backend, codec, limits (see Settings). A running server of the same name is replaced,
        its listening sockets taken over. ``with app.start() as server:`` stops it at the end. Raises AppError, OSError.
        """
        return running.start(self, self.settings(options))

    def serving(self, **options: Unpack[Options]) -> AbstractAsyncContextManager[Server]:
        """``async with app.serving() as server:`` runs it in the caller's loop, and drains it at the block's end."""
        return running.serving(self, self.settings(options))

    async def serve(
        self, *, task_status: TaskStatus[Server] = anyio.TASK_STATUS_IGNORED, **options: Unpack[Options]
    ) -> None:
        """Run in the caller's loop until cancelled or stopped; ``await tasks.start(app.serve)`` gives the Server."""
        async with self.serving(**options) as server:
            task_status.started(server)
            await server.wait()

    def run(
        self,
        *,
        on_start: running.OnStart | None = None,
        on_signal: running.OnSignal | None = None,
        **options: Unpack[Options],
    ) -> int | None:
        """Block until SIGINT or SIGTERM, then drain; a second signal stops at once. On port 8000 if none is given.

        Returns the signal's number, None if ``server.stop()`` ended it. ``on_start(server)`` is called when it listens,
        ``on_signal(server, count)`` before each signal is heeded, ``count`` being 1 for the first.
        """
        if not options.get("uds"):
            options.setdefault("port", 8000)
        return running.run(self, self.settings(options), on_start, on_signal)

    # What the running server asks.

    def settings(self, options: Options) -> Settings:
        merged: Options = {"limits": self.limits, **options}
        return Settings(**merged)

    def compile(self) -> Router:
        """Make ready to serve. Raises AppError for the first route whose handler asks for what nobody provides."""
        if self._router is None:
            router = Router()
            for route in self.routes:
                _add_route(router, route)
            self._router = router
        return self._router

    def tcp_endpoint(self, route: TcpRoute) -> Endpoint:
        """Raises AppError."""
        return Endpoint(route.handler, "connection", ())


def _add_route(router: Router, route: Route) -> None:
    names = tuple(text for text, kind in split_route(route.path) if kind is not None)
    endpoint = Endpoint(route.handler, "request", names, stream=route.stream)
    router.add(route.path, list(route.methods), endpoint, annotated_types(route.handler))
