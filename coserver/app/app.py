"""App: routes, TCP handlers, upstreams and lifespans; and the four ways to run them, or any other application."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from importlib.util import find_spec
from os import PathLike
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import anyio
from anyio.abc import TaskStatus

from ..hooks.install import install_for
from ..hooks.offload import offload
from ..hooks.offload_drivers import check_drivers
from ..hooks.offload_drivers import offloaded as offload_drivers
from ..keywords import checked_keywords
from ..lifecycle.emitter import Emitter
from ..protocol.errors import LocalProtocolError
from ..protocol.framing import Framing
from ..server.handler.endpoint import describe
from ..server.handler.error_handlers import ErrorEndpoint, ErrorHandlers, check_error_key
from ..server.handler.errors import SetupError
from ..server.limits import Limits
from ..server.router import Router, split_route
from ..upstream.member import UpstreamMember
from ..upstream.upstream import Upstream, UpstreamOptions
from . import runner
from .config.settings import ListenerSettings, Options, Settings
from .config.tls import Tls
from .config.validate import check_tls
from .lifespan import Lifespan, make_lifespan
from .routes import Mount, Route, TcpRoute, check_prefix, find_framing, make_router, places, route_limits
from .server import Server
from .signals import OnSignal

if TYPE_CHECKING:
    from ..hosting.application import Hosted
    from .process.isolation import IsolatedServer

Handler = TypeVar("Handler", bound=Callable[..., Any])

log = logging.getLogger("coserver.app")

_numbers = itertools.count(1)
#: Arguments of other frameworks' applications, and those of ``start`` and ``run``.
_ELSEWHERE = {
    "title": "name", "import_name": "name", "lifespan": "it is a decorator: @app.lifespan",
    **dict.fromkeys(Options.__annotations__, "it is for app.start and app.run"),
    "limits": "limits",
}  # fmt: skip
#: Arguments of other frameworks' routes.
_of_route = checked_keywords(
    "a route",
    methods="write @app.route('/path', methods=[...])",
    status_code="the handler returns (body, status)",
    response_class="the handler returns Response.html(text) or another Response",
    response_model="the handler returns the value",
    endpoint="the handler's own name is shown",
    timeout="limits",
)


class App:
    """The handlers of a server. Starting an app replaces a running server of the same ``name``; apps without a name
    never replace each other.

    ``limits`` are the defaults for every way to run it. ``emitter`` takes observers and gates. ``state`` is for data
    that handlers share. ``hooks`` chooses the families of blocking calls that suspend only their ``def`` handler: all,
    those named, or none (see coserver.hooks.install). ``offloaded`` names drivers in C whose calls run in threads,
    ["sqlite3"] for example (see coserver.hooks.offload_drivers).
    Raises SetupError.
    """

    @checked_keywords("an App", **_ELSEWHERE)
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
        self.routes: list[Route] = []
        self.measured = False  # its servers count from their start on
        self.emitter = Emitter()
        self.state = SimpleNamespace()
        self.errors = ErrorHandlers()
        self.tcp_routes: list[TcpRoute] = []
        self.mounts: list[Mount] = []
        self.listeners: list[ListenerSettings] = []
        self.lifespans: list[Lifespan] = []
        self.upstreams: dict[str, Upstream] = {}
        self.hosted: Hosted | None = None  # the application that answers what no route does, see ``coserver.host``
        self._mounted_in: list[App] = []
        self._router: Router | None = None  # made at the first start

    if not TYPE_CHECKING:  # a checker shall find a misspelt name

        def __getattr__(self, name: str) -> Any:
            """Python asks this for a name that is not there: another framework's name has a message of its own."""
            if name[:1] != "_":
                from ..server.handler.other_frameworks import APP, missing_attribute

                if (error := missing_attribute(self, name, APP)) is not None:
                    raise error
            return object.__getattribute__(self, name)  # raises the usual error, or that of a property again

    @classmethod
    def hosting(
        cls, application: Any, name: str | None = None, *, hooks: bool | Iterable[str] = True, **options: Any
    ) -> App:
        """The App that ``coserver.host`` makes of an ASGI or WSGI application. Raises SetupError."""
        from ..hosting.application import Hosted, HostingSettings  # most apps host none

        hosted = Hosted(application, HostingSettings(**options))
        app = cls(name or hosted.name, hooks=hooks)
        app.hosted = hosted
        app.lifespans.append(hosted.run_lifespan)
        return app

    def __repr__(self) -> str:
        return f"<App {self.name!r} {len(self.routes)} routes, {len(self.tcp_routes)} tcp>"

    #: Decorator, or wrapper of a call: run this function in a thread (see coserver.hooks.offload).
    offload = staticmethod(offload)

    # Handlers.

    @_of_route
    def route(
        self,
        path: str,
        *,
        methods: Iterable[str] = ("GET",),
        stream: bool = False,
        limits: Mapping[str, Any] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorator: serve ``path`` by this handler. ``{name}`` and ``{name:type}`` are parameters; a type is str, int,
        float, uuid or, for the last segment, path. With ``stream`` the handler starts before the body has arrived.
        ``limits`` replaces fields of the listener's Limits, for this route: ``{"body_size": 5_000_000}``.

        Raises SetupError for a malformed route. An unknown parameter of the handler raises it when the app starts, and
        at once if the app runs.
        """
        if isinstance(methods, str):
            raise SetupError(f"methods is a list: methods=[{methods!r}]")
        if callable(path):
            way = "route" if isinstance(methods, tuple) else next(iter(methods)).lower()
            raise SetupError(f"a route needs its path: write @app.{way}('/{describe(path).rpartition('.')[2]}')")
        split_route(path)
        own = route_limits(path, limits)
        names = tuple(method.upper() for method in methods)

        def register(handler: Handler) -> Handler:
            replaced = [one for one in self.routes if one.path == path and set(one.methods) & set(names)]
            with self._change(self.routes):
                whole = [one for one in replaced if set(one.methods) <= set(names)]
                self.routes[:] = [one for one in self.routes if one not in whole]
                self.routes.append(Route(path, names, handler, stream, own))
            if replaced:
                old, new = describe(replaced[-1].handler), describe(handler)
                log.info("app %s: %s replaces %s on %s %s", self.name, new, old, names, path)
                if self._router is not None and "IPython" in sys.modules:
                    from ..notebook.cell import tell

                    tell(f"{' '.join(names)} {path} now uses {new}, in place of {old}")
            return handler

        return register

    @_of_route
    def get(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for GET. The handler answers HEAD as well."""
        return self.route(path, methods=["GET"], stream=stream, limits=limits)

    @_of_route
    def post(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for POST."""
        return self.route(path, methods=["POST"], stream=stream, limits=limits)

    @_of_route
    def put(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for PUT."""
        return self.route(path, methods=["PUT"], stream=stream, limits=limits)

    @_of_route
    def patch(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for PATCH."""
        return self.route(path, methods=["PATCH"], stream=stream, limits=limits)

    @_of_route
    def delete(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for DELETE."""
        return self.route(path, methods=["DELETE"], stream=stream, limits=limits)

    @_of_route
    def head(self, path: str, *, limits: Mapping[str, Any] | None = None) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for HEAD."""
        return self.route(path, methods=["HEAD"], limits=limits)

    @_of_route
    def options(self, path: str, *, limits: Mapping[str, Any] | None = None) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for OPTIONS."""
        return self.route(path, methods=["OPTIONS"], limits=limits)

    def static(
        self, prefix: str, folder: str | PathLike[str], *, index: str | None = "index.html", hidden: bool = False
    ) -> None:
        """Serve the files in ``folder`` below ``prefix``, "/files" or "/". ``index`` answers for a directory.

        Files outside the folder are not served, even through symbolic links. Names that begin with a dot are served
        only if ``hidden`` is true. Raises SetupError.
        """
        from .static import StaticFolder

        served = StaticFolder(folder, index, hidden)
        base = "" if prefix == "/" else check_prefix(prefix)
        self.get(base or "/")(served.serve_root)
        self.get(f"{base}/{{path:path}}")(served.serve)

    def metrics(self, path: str = "/metrics") -> None:
        """Serve the server's metrics at ``path``, as OpenMetrics text. The server counts from its start on.

        Raises SetupError without prometheus-client (``coserver[metrics]``).
        """
        if not find_spec("prometheus_client"):
            raise SetupError("metrics need prometheus-client; pip install 'coserver[metrics]'")
        from .metrics import answer_metrics

        self.measured = True
        self.get(path)(answer_metrics)

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
        """Decorator: this handler serves the connections to a TCP port, or to a UNIX socket (``uds``).

        ``framing`` is a row of FRAMINGS, or a class like them; it is called with ``Limits.frame_size`` for each
        connection. ``limits`` and ``tls`` replace those of the server; ``tls=False`` is plain TCP. With
        ``proxy_protocol`` each connection begins with a PROXY header. Raises SetupError.
        """
        make = find_framing(framing)
        check_tls(tls, "", (None, False))

        def register(handler: Handler) -> Handler:
            # A handler that is defined again (a cell that runs again) replaces its predecessor.
            own = name or describe(handler).rpartition(".")[2]
            route = TcpRoute(own, port, host, handler, make, uds, limits, proxy_protocol, tls)
            self.tcp_routes = [one for one in self.tcp_routes if one.name != route.name]
            self.tcp_routes.append(route)
            return handler

        return register

    # Error handlers, lifespans, mounts, listeners, upstreams.

    def error(self, what: int | type[Exception]) -> Callable[[Handler], Handler]:
        """Decorator: answer errors of this status, or exceptions of this class, by this handler.

        The handler may take ``request`` and ``error``. Its response has the error's status, unless it sets another;
        None stands for the usual answer. The nearest class wins; status 500 is for exceptions that match no class.
        Raises SetupError.
        """
        key = check_error_key(what)

        def register(handler: Handler) -> Handler:
            endpoint = ErrorEndpoint(handler)
            endpoint.app = self
            self.errors.add(key, endpoint)
            return handler

        return register

    def lifespan(self, function: Handler) -> Handler:
        """Decorator: a generator function with one ``yield``, or a function that returns a context manager.

        It is entered before the server listens, and left when the last connection has ended. It may take the app, to
        store something in ``app.state``. An app may have several. Raises SetupError.
        """
        self.lifespans.append(make_lifespan(function))
        return function

    def mount(self, prefix: str, app: Any) -> None:
        """Serve another app below ``prefix``, "/api" for example, with its error handlers and lifespans.

        It is an App, or any ASGI or WSGI application (see ``coserver.host``). Routes that it gets later are served too.
        Another app on the same prefix replaces it. Raises SetupError.
        """
        check_prefix(prefix)
        if not isinstance(app, App):
            if not callable(app):
                raise SetupError(f"mount takes an App, or an ASGI or WSGI application; got {app!r}")
            app = App.hosting(app, hooks=self.hooks)
        if self in app.parts():
            raise SetupError(f"app {app.name!r} contains app {self.name!r}, so it cannot be mounted in it")
        if app.tcp_routes or app.listeners:
            raise SetupError(f"app {app.name!r} has listeners of its own, so it cannot be mounted: start it by itself")
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
        """Declare an upstream for this app's handlers: ``users = app.upstream("users", "http://10.0.0.1:8080")``.

        Keywords: policy, limits, codec (see Upstream). The upstream is open while the app runs, in its lifespans too.
        Another of the same name replaces it at the next start. Raises SetupError.
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
        """Run in a daemon thread with a loop of its own. Returns when the server listens.

        Keywords: host, port, uds, backend, codec, limits (see Settings). The server replaces a running one of the same
        name, and takes over its listening sockets. ``with app.start() as server:`` stops it at the end of the block.
        With ``isolated`` a copy of the app runs in a process of its own, which ends with this one. If the start fails,
        the running server goes on.
        Raises SetupError, OSError.
        """
        settings = self.settings(options)
        if isolated:
            from .process.isolation import start

            return start(self, settings, dict(options))
        return runner.start(self, settings)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: the declarations, without the observers here."""
        return {name: value for name, value in vars(self).items() if name not in ("emitter", "_router")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, emitter=Emitter(), _router=None)
        for endpoint in self.errors:
            endpoint.app = self

    def serving(self, **options: Unpack[Options]) -> AbstractAsyncContextManager[Server]:
        """Run in the caller's loop: ``async with app.serving() as server:``. The server drains at the end of the block.

        Keywords: see Settings.
        """
        return runner.serving(self, self.settings(options))

    async def serve(
        self, *, task_status: TaskStatus[Server] = anyio.TASK_STATUS_IGNORED, **options: Unpack[Options]
    ) -> None:
        """Run in the caller's loop until cancelled or stopped. ``await tasks.start(app.serve)`` returns the Server.

        Keywords: see Settings.
        """
        async with self.serving(**options) as server:
            task_status.started(server)
            await server.wait()

    def run(
        self,
        *,
        on_start: runner.OnStart | None = None,
        on_signal: OnSignal | None = None,
        **options: Unpack[Options],
    ) -> int | None:
        """Serve until SIGINT or SIGTERM, then drain; a second signal stops at once. The default port is 8000.

        Returns the number of the first signal, or None after ``server.stop()``. ``on_start(server)`` is called when the
        server listens; without it, the addresses are printed to stderr. ``on_signal(server, count)`` is called at each
        signal, before it takes effect; ``count`` begins at 1. The server has a control socket, for ``coserver top``,
        unless ``control="off"``. Keywords: see Settings.

        While ``coserver serve`` imports the app's module, ``run`` does nothing but warn.
        """
        if runner.ignore_run is not None:
            runner.ignore_run(self)
            return None
        if not options.get("uds") and options.get("fd") is None:
            options.setdefault("port", 8000)
        options.setdefault("control", "auto")
        return runner.run(self, self.settings(options), on_start, on_signal)

    # For the running server.

    def _hook(self) -> None:
        try:
            install_for(self.hooks)
            if self.offloaded:
                check_drivers(self.offloaded)
                offload_drivers(*self.offloaded)
        except (ValueError, ModuleNotFoundError) as error:
            raise SetupError(str(error)) from None

    def settings(self, options: Options) -> Settings:
        """The settings of a server of this app: these options, with the app's limits as default."""
        self._hook()  # once more: the hooks may have been uninstalled since
        merged: Options = {"limits": self.limits, **options}
        return Settings(**merged)  # raises TypeError for an unknown option

    def compile(self) -> Router:
        """The router, made at the first call. Raises SetupError for a handler with an unknown parameter."""
        if self._router is None:
            self._router = make_router(self)
        return self._router

    def parts(self) -> list[App]:
        """This app, and all apps mounted in it, at any depth."""
        return list(dict.fromkeys(place.app for place in places(self)))

    @contextmanager
    def _change(self, entries: list[Any]) -> Iterator[None]:
        """Change routes or mounts. A running server serves the change at once; a change that fails is undone."""
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


def host(
    application: Any,
    name: str | None = None,
    *,
    interface: str = "auto",
    lifespan: Literal["auto", "on", "off"] = "auto",
    root_path: str = "",
    on_disconnect: Literal["tell", "cancel"] = "tell",
    blocking: Literal["workers", "threads"] = "workers",
    underscores: bool = False,
    hooks: bool | Iterable[str] = True,
) -> App:
    """An App whose requests an ASGI or WSGI application answers: FastAPI, Starlette, Django, Flask or a plain callable.

    ``interface`` overrides what is found by looking: auto, asgi, asgi2, wsgi. ``lifespan``: auto, on (an application
    without one is an error) or off. ``root_path`` is the prefix that a proxy takes away. ``on_disconnect``: tell the
    application that its client left, or cancel it. ``blocking``: where ``def`` endpoints of FastAPI and Starlette run,
    in workers or in threads. ``underscores``: fields with "_" in their names reach WSGI
    applications. An App is returned as it is. Raises SetupError.
    """
    if isinstance(application, App):
        return application
    if interface == "native":
        raise SetupError(f"interface='native' is for a coserver.App; got {type(application).__name__}")
    return App.hosting(
        application,
        name,
        hooks=hooks,
        interface=interface,
        lifespan=lifespan,
        root_path=root_path,
        on_disconnect=on_disconnect,
        blocking=blocking,
        underscores=underscores,
    )


def start(application: Any, **options: Unpack[Options]) -> Server:
    """Run any application in a thread: ``server = coserver.start(fastapi_app)``. Keywords: see ``App.start``."""
    return host(application).start(**options)


def serving(application: Any, **options: Unpack[Options]) -> AbstractAsyncContextManager[Server]:
    """Run any application in the caller's loop: ``async with coserver.serving(app):``. See ``App.serving``."""
    return host(application).serving(**options)
