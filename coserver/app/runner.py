"""Runs an app: in the caller's loop, in a thread of its own, or in the foreground with signals."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ..hooks.watchdog import asked as watchdog_asked
from ..hooks.watchdog import watching
from ..server.handler.error_handlers import ErrorEndpoint
from ..server.handler.errors import SetupError
from ..server.http.head_log import make_head_log
from ..server.service import Service
from ..transport.cancellation import is_interrupt, where_raised
from ..transport.listener import Listener
from ..upstream.upstream import Upstream
from . import registry
from .config.settings import Settings, UpstreamSettings
from .config.validate import backend_arguments
from .lifespan import lifespans
from .listeners import ListenerPlan, plan_listeners
from .server import Server
from .signals import OnSignal, ends_the_start, handle_signals
from .sockets import BoundListener, CannotListen
from .standstill import loop_watched

if TYPE_CHECKING:
    from ..control.host import Control
    from ..server.handler.request import Request
    from ..server.handler.response import Response
    from ..server.router import Router
    from .app import App

#: While a command imports an app's module: called by ``App.run`` instead of serving.
ignore_run: Callable[[App], None] | None = None

log = logging.getLogger("coserver.app")
control_log = logging.getLogger("coserver.control")

OnStart = Callable[[Server], None]
Run = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(app: App, settings: Settings) -> AsyncIterator[Server]:
    """Serve in a task group of the caller's task. Drain at the end of the block; end at once if the block raised."""
    plans = plan_listeners(app, settings)
    configure_upstreams(app, settings.upstreams)
    apps = [part for one in (app, *(each.app for each in plans)) for part in one.parts()]
    server: Server | None = None
    try:
        async with lifespans(apps, settings.limits.grace):
            with registry.lock:
                services = [make_service(one, app, settings) for one in plans]
                predecessor = registry.running(app.name)
                bound = registry.bind(app.name, [one.spec for one in plans])
                server = Server(app.name, settings, services, tuple(one.address for one in bound))
                server.apps = list(dict.fromkeys(apps))
                with registry.closed_on_error(server.name, bound):
                    server.control = _make_control(server)
                registry.add(server, bound)
            if settings.record:
                server.traces.start()
            if any(one.measured for one in apps):
                server.measure()
            server.remove_files = partial(_remove_files, server, bound)
            async with _controlled(server), _accepting(plans, services, server, bound):
                if predecessor is not None:
                    await server.replace(predecessor)
                if (apart := registry.isolated.get(app.name)) is not None:
                    await anyio.to_thread.run_sync(apart.give_way)
                with (
                    watching() if settings.debug or watchdog_asked() else nullcontext(),
                    loop_watched(settings.stuck_after) as server.loop_watch,
                ):
                    yield server
    finally:
        if server is not None:
            server.ended()


def _remove_files(server: Server, bound: list[BoundListener]) -> None:
    """Remove the files of the server's sockets, as far as they are its own: the process is about to be ended."""
    for one in bound:
        one.close_and_remove()
    if server.control is not None:
        server.control.close()


@asynccontextmanager
async def _accepting(
    plans: list[ListenerPlan], services: list[Service], server: Server, bound: list[BoundListener]
) -> AsyncIterator[None]:
    """Run all listeners during the block, and drain them at its end."""
    for service in services:
        service.siblings = [one for one in services if one is not service]
        service.replaced = partial(registry.replaced, server, bound)
    runs: list[Run] = [
        partial(service.run, [(Listener(sock.dup(), service.loop), plan.make_connection) for sock in sockets.sockets])
        for service, plan, sockets in zip(services, plans, bound, strict=True)
    ]
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        server.on_drain = partial(registry.begin_drain, server, bound)
        tasks.start_soon(_run, runs, server, bound)
        try:
            yield
        except Exception as error:
            failure = error  # the block's own error is raised below: a task group would wrap it in an ExceptionGroup
            tasks.cancel_scope.cancel()
        except BaseException:
            tasks.cancel_scope.cancel()
            raise
        server.drain()
    if failure is not None:
        raise failure


async def _run(runs: list[Run], server: Server, bound: list[BoundListener]) -> None:
    """Run all listeners until the last of them has ended."""

    try:
        async with anyio.create_task_group() as tasks:
            for run, one in zip(runs, bound, strict=True):
                tasks.start_soon(run, partial(registry.stop_listening, server, bound, [one]))
    finally:
        registry.remove(server, bound)
        server.release()
        server.drained()


def make_service(plan: ListenerPlan, app: App, settings: Settings) -> Service:
    """The service of one listener, with the logs and the trusted peers of the settings."""
    service = Service(plan.router, plan.limits, settings.codec, app.emitter)
    service.proxy_protocol = plan.proxy_protocol
    service.certificates = plan.certificates
    if settings.trusted_peers:
        from ..server.handler.trusted_proxies import Trust

        service.trust = Trust(settings.trusted_peers, settings.forwarded_fields)
    if settings.access_log:
        from ..server.http.access_log import access_writer

        service.access = access_writer(settings.access_format)
    service.heads = make_head_log()
    if settings.debug:
        service.last_resort = _debug_endpoint()
        service.no_route = partial(_show_routes, plan.router)
    return service


def _show_routes(router: Router, request: Request) -> Response:
    from ..views.debug_page.no_route import no_route_page  # loads rich, so only at the first error

    return no_route_page(request, router)


def _debug_endpoint() -> ErrorEndpoint:
    """The error handler that shows the client what its handler raised."""

    async def show(request: Any, error: Exception) -> Any:
        from ..views.debug_page.page import debug_page  # loads rich, so only at the first error

        return debug_page(request, error)

    return ErrorEndpoint(show)


def configure_upstreams(app: App, upstreams: Iterable[UpstreamSettings]) -> None:
    """Configure the upstreams that the app, or an app mounted in it, declared. The configuration wins.

    An upstream that no app declared becomes the app's: ``app.upstreams["users"]``. Raises SetupError.
    """
    for one in upstreams:
        declared = next((part.upstreams[one.name] for part in app.parts() if one.name in part.upstreams), None)
        given: dict[str, Any] = {"policy": one.policy, "framing": one.framing, "limits": one.limits, "tls": one.tls}
        given["accept_bare_lf"] = one.accept_bare_lf
        try:
            if declared is not None:
                declared.configure(members=one.members or (), **given)
            elif one.members:
                app.upstreams[one.name] = upstream = Upstream(*one.members[:1], name=one.name, framing=one.framing)
                upstream.configure(members=one.members, **given)
            else:
                raise ValueError("it has no members, and the app declares none of that name")
        except (ValueError, TypeError, RuntimeError) as error:
            raise SetupError(f"upstream {one.name!r}: {error}") from None


# The control socket.


def _make_control(server: Server) -> Control | None:
    """The server's control, if the settings ask for one. It answers from ``_controlled`` on.

    With the usual path, a server that cannot have its control socket serves without, and logs that. Raises CannotListen
    for a path or a port that was named.
    """
    settings = server.settings
    path = "" if settings.control == "off" else settings.control
    if not path and settings.control_port is None:
        return None
    from ..control.host import Control, Where  # not loaded for a server without a control

    try:
        return Control(server, _version(), Where(path, "127.0.0.1", settings.control_port, settings.control_token))
    except OSError as error:
        why = error.strerror or str(error)
        if settings.control != "auto" or settings.control_port is not None:
            raise CannotListen(error.errno, f"no control socket: {why}") from error
        control_log.warning("%r cannot be controlled: %s", server.name, why)
        return None


@asynccontextmanager
async def _controlled(server: Server) -> AsyncIterator[None]:
    """Have the server's control answer during the block: from before the first client until after the last."""
    control = server.control
    if control is None:
        yield
        return
    # start and stop wait for the control's own thread; this loop has clients to serve meanwhile
    await anyio.to_thread.run_sync(control.start)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(control.stop)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # loads email, and 40 modules more

    try:
        return version("coserver")
    except PackageNotFoundError:  # a source tree on the path
        return "unknown"


# In a thread, in the foreground.


def start(app: App, settings: Settings) -> Server:
    """Serve in a daemon thread; return when the server listens. Raises the error that kept it from listening."""
    started = threading.Event()
    result: list[Server] = []
    failure: list[BaseException] = []

    async def main() -> None:
        async with serving(app, settings) as server:
            server.owns_block = True
            result.append(server)
            started.set()
            await server.wait()

    def thread() -> None:
        try:
            anyio.run(main, **backend_arguments(settings.backend))
        except BaseException as error:
            if started.is_set():
                raise
            failure.append(error)
        finally:
            started.set()

    threading.Thread(target=thread, name=f"coserver {app.name}", daemon=True).start()
    started.wait()
    if failure:
        raise failure[0]
    if "IPython" in sys.modules:
        from ..notebook.cell import show_at_end

        show_at_end(result[0])
    return result[0]


def _print_addresses(server: Server) -> None:
    """Say on stderr where the server listens."""
    where = ", ".join(address.url for address in server.addresses)
    try:
        print(f"{server.name} listens on {where} (Ctrl+C stops it)", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # the terminal is gone, or stderr is closed
        pass


@contextmanager
def runs_ignored(warn: Callable[[App], None]) -> Iterator[None]:
    """During the block, ``App.run`` calls ``warn`` and returns. For a command that imports a module for its app."""
    global ignore_run
    before, ignore_run = ignore_run, warn
    try:
        yield
    finally:
        ignore_run = before


def run(app: App, settings: Settings, on_start: OnStart | None, on_signal: OnSignal | None) -> int | None:
    """Serve in the foreground until a signal or ``stop``. Returns the number of the first signal, if there was one."""
    ended_by: list[int] = []

    async def main() -> None:
        async with serving(app, settings) as server, anyio.create_task_group() as tasks:
            server.owns_block = True
            if threading.current_thread() is threading.main_thread():
                # Before on_start: a person who reads that the server has started may send a signal at once.
                await tasks.start(handle_signals, server, ended_by, on_signal)
                server.interrupt_by(partial(signal.raise_signal, signal.SIGINT))
            (on_start or _print_addresses)(server)
            await server.wait()
            tasks.cancel_scope.cancel()

    try:
        with ends_the_start(ended_by):
            anyio.run(main, **backend_arguments(settings.backend))
    except BaseException as error:
        if not is_interrupt(error):
            raise
        if not ended_by:
            log.error("%s: KeyboardInterrupt was raised at %s: it has stopped", app.name, where_raised(error))
            ended_by.append(signal.SIGINT)
    return ended_by[0] if ended_by else None
