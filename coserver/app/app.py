"""App: routes and TCP handlers, and the four ways to run them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import anyio
from anyio.abc import TaskStatus

from ..hooks.install import install_for
from ..hooks.offload import offload
from ..hooks.offload_drivers import check_drivers
from ..hooks.offload_drivers import offloaded as offload_drivers
from ..lifecycle.emitter import Emitter
from ..protocol.errors import LocalProtocolError
from ..protocol.framing import Framing
from ..server.handler.endpoint import describe
from ..server.handler.error_handlers import ErrorEndpoint, ErrorHandlers, check_error_key
from ..server.handler.errors import SetupError
from ..server.limits import Limits
from ..server.router import Router
from ..upstream.member import UpstreamMember
from ..upstream.upstream import Upstream, UpstreamOptions
from . import runner as running
from .config.settings import ListenerSettings, Options, Settings
from .config.tls import Tls
from .config.validate import check_tls
from .lifespan import Lifespan, make_lifespan
from .routes import Mount, TcpRoute, check_prefix, find_framing, make_router, places
from .routing import Handler, Routing
from .server import Server
from .signals import OnSignal

if TYPE_CHECKING:
    from .process.isolation import IsolatedServer

_numbers = itertools.count(1)


class App(Routing):
    """A server's handlers. ``name`` is its key: starting an app of the same name again replaces the running server.

    Apps without a name are never replaced by one another. ``limits`` are the defaults of every way to run it;
    ``emitter`` takes observers and gates; ``state`` holds whatever the handlers share. ``hooks`` has the process's
    blocking calls hooked, in its ``def`` handlers alone: all families, those named, or none (coserver.hooks.install);
    ``offloaded`` names drivers in C that are to run in threads there, ["sqlite3"] say (see
    coserver.hooks.offload_drivers).
    Raises SetupError.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        limits: Limits | None = None,
        hooks: bool | Iterable[str] = True,
        offloaded: Iterable[str] = (),
    ) -> None:
        self.name = name or f"app-{next(_numbers)}"
        self.limits = limits or Limits()
        self.hooks = hooks if isinstance(hooks, bool) else tuple(hooks)
        self.offloaded = offloaded if isinstance(offloaded, str) else tuple(offloaded)  # a text is refused by name
        self._hook()
        super().__init__()
        self.emitter = Emitter()
        self.state = SimpleNamespace()
        self.errors = ErrorHandlers()
        self.tcp_routes: list[TcpRoute] = []
        self.mounts: list[Mount] = []
        self.listeners: list[ListenerSettings] = []
        self.lifespans: list[Lifespan] = []
        self.upstreams: dict[str, Upstream] = {}
        self._mounted_in: list[App] = []

    def __repr__(self) -> str:
        return f"<App {self.name!r} {len(self.routes)} routes, {len(self.tcp_routes)} tcp>"

    #: Decorator, or wrapper of a call: in a handler this function runs in a thread (see coserver.hooks.offload).
    offload = staticmethod(offload)

    # Handlers.

    def tcp(
        self,
        *,
        port: int = 0,
        framing: str | Callable[[int], Framing] = "raw",
        host: str | None = None,
        uds: str | None = None,
        name: str | None = None,
        limits: Limits | None = None,
        proxy_protocol: bool | None = None,
        tls: Tls | bool | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorator: this handler holds the conversation with each client of a TCP port, or of a UNIX socket (``uds``).

        ``framing`` is a row of FRAMINGS or a class like them, called with ``Limits.frame_size`` for each connection.
        ``limits`` are its own; with ``proxy_protocol`` each connection begins with a PROXY header. ``tls`` is its
        own Tls, False for none; None: as the server that it is part of. Raises SetupError.
        """
        make = find_framing(framing)
        check_tls(tls, "", (None, False))

        def register(handler: Handler) -> Handler:
            # A handler defined again (a cell run again) takes its predecessor's place.
            own = name or describe(handler).rpartition(".")[2]
            route = TcpRoute(own, port, host, handler, make, uds, limits, proxy_protocol, tls)
            self.tcp_routes = [one for one in self.tcp_routes if one.name != route.name]
            self.tcp_routes.append(route)
            return handler

        return register

    # What belongs to handlers.

    def error(self, what: int | type[Exception]) -> Callable[[Handler], Handler]:
        """Decorator: answer errors of this status, or exceptions of this class, by this handler.

        It may ask for ``request`` and ``error``. What it returns has the error's status, unless it says another; None
        is the usual answer. The nearest class counts; 500 is for what no class fits. Raises SetupError.
        """
        key = check_error_key(what)

        def register(handler: Handler) -> Handler:
            endpoint = ErrorEndpoint(handler)
            endpoint.app = self
            self.errors.add(key, endpoint)
            return handler

        return register

    def lifespan(self, function: Handler) -> Handler:
        """Decorator: a generator function of one ``yield``, or what returns a context manager, around the serving.

        Entered before the server listens, left when its last connection has ended; an app may have several. It may
        take the app, to leave something in ``app.state``. Raises SetupError.
        """
        self.lifespans.append(make_lifespan(function))
        return function

    def mount(self, prefix: str, app: App) -> None:
        """Serve all routes of another app below ``prefix``, "/api" say; its error handlers and lifespans count there.

        What it is told later counts too, and another app on the same prefix takes its place. Raises SetupError.
        """
        check_prefix(prefix)
        if not isinstance(app, App):
            raise SetupError(f"mount takes an App; got {app!r}")
        if self in app.parts():
            raise SetupError(f"app {app.name!r} holds app {self.name!r} already: mounted here it would hold itself")
        if app.tcp_routes or app.listeners:
            raise SetupError(f"app {app.name!r} has listeners of its own, which have no place below a prefix; start it")
        with self._change(self.mounts):
            self.mounts[:] = [*(one for one in self.mounts if one.prefix != prefix), Mount(prefix, app)]
            app._mounted_in.append(self)

    def listen(self, **options: Any) -> None:
        """Listen on one more address: keywords name, host, port, uds, app, limits, tls, and for TCP protocol="tcp",
        handler, framing (see ListenerSettings). Raises SetupError.
        """
        settings = ListenerSettings(**options)
        same = [one for one in self.listeners if settings.name and one.name == settings.name]
        self.listeners = [*(one for one in self.listeners if one not in same), settings]

    def upstream(self, name: str, *members: str | UpstreamMember, **options: Unpack[UpstreamOptions]) -> Upstream:
        """What this app's handlers may ask: ``users = app.upstream("users", "http://10.0.0.1:8080")``.

        Keywords: policy, limits, codec (see Upstream). It is open while the app runs, its lifespans included; another
        of the same name takes its place at the next start. Raises SetupError.
        """
        try:
            self.upstreams[name] = Upstream(*members, name=name, **options)
        except (ValueError, TypeError, LocalProtocolError) as error:
            raise SetupError(f"upstream {name!r}: {error}") from None
        return self.upstreams[name]

    # Four ways to run.

    @overload
    def start(self, *, isolated: Literal[True], **options: Unpack[Options]) -> IsolatedServer: ...
    @overload
    def start(self, *, isolated: Literal[False] = False, **options: Unpack[Options]) -> Server: ...
    def start(self, *, isolated: bool = False, **options: Unpack[Options]) -> Server | IsolatedServer:
        """Run in a daemon thread with a loop of its own; returns when it listens.

        Keywords: host, port, uds, backend, codec, limits (see Settings). A running server of the same name is replaced,
        its listening sockets taken over. ``with app.start() as server:`` stops it at the end. With ``isolated`` it runs
        in a process of its own, as the app is now, and ends with this one. Raises SetupError, OSError.
        """
        settings = self.settings(options)
        if isolated:
            from .process.isolation import start

            make_router(self)  # what nobody provides is said here
            return start(self, settings, dict(options))
        if f"{__package__}.process.isolation" in sys.modules:
            from .process.isolation import give_way

            give_way(self.name)
        return running.start(self, settings)

    def __getstate__(self) -> dict[str, Any]:
        """To another process: as it was declared, without who observes it here."""
        return {name: value for name, value in vars(self).items() if name not in ("emitter", "_router")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, emitter=Emitter(), _router=None)
        for endpoint in self.errors:
            endpoint.app = self

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
        on_signal: OnSignal | None = None,
        **options: Unpack[Options],
    ) -> int | None:
        """Block until SIGINT or SIGTERM, then drain; a second signal stops at once. On port 8000 if none is given.

        Returns the signal's number, None if ``server.stop()`` ended it. ``on_start(server)`` is called when it listens,
        ``on_signal(server, count)`` before each signal is heeded, ``count`` being 1 for the first.
        """
        if not options.get("uds") and options.get("fd") is None:
            options.setdefault("port", 8000)
        return running.run(self, self.settings(options), on_start, on_signal)

    # What the running server asks.

    def _hook(self) -> None:
        try:
            install_for(self.hooks)
            if self.offloaded:
                check_drivers(self.offloaded)
                offload_drivers(*self.offloaded)
        except (ValueError, ModuleNotFoundError) as error:
            raise SetupError(str(error)) from None

    def settings(self, options: Options) -> Settings:
        """What counts for a server of this app: these options, and its own limits where they name none."""
        self._hook()  # once more: they may have been uninstalled since
        merged: Options = {"limits": self.limits, **options}
        return Settings(**merged)

    def compile(self) -> Router:
        """Make ready to serve. Raises SetupError for the first route whose handler asks for what nobody provides."""
        if self._router is None:
            self._router = make_router(self)
        return self._router

    def parts(self) -> list[App]:
        """This app, and all that is mounted in it."""
        return list(dict.fromkeys(place.app for place in places(self)))

    @contextmanager
    def _change(self, entries: list[Any]) -> Iterator[None]:
        """Change routes or mounts; a running server serves them at once. What cannot be served is taken back."""
        before = list(entries)
        yield
        try:
            self._remake()
        except BaseException:
            entries[:] = before
            raise

    def _remake(self) -> None:
        if self._router is not None:
            self._router.become(make_router(self))
        for app in dict.fromkeys(self._mounted_in):
            app._remake()
