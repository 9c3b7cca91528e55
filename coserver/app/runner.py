"""How an app is run: in the caller's loop, in a thread of its own, or in the foreground with signals."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ..hooks.watchdog import asked as watchdog_asked
from ..hooks.watchdog import watching
from ..server.handler.error_handlers import ErrorEndpoint
from ..server.http.head_log import heads_writer
from ..server.service import Service
from ..transport.listener import Listener
from . import registry
from .config.settings import Settings
from .config.validate import backend_arguments
from .controlling import controlling, make_control
from .lifespan import lifespans
from .listeners import Listening, listening
from .registry import Bound
from .server import Server
from .signals import OnSignal, ends_the_start, heed_signals
from .upstreams import configure_upstreams

if TYPE_CHECKING:
    from .app import App

log = logging.getLogger("coserver.app")

OnStart = Callable[[Server], None]
Run = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(app: App, settings: Settings) -> AsyncIterator[Server]:
    """Run in the caller's task group of one; drain at the end of the block, or end at once if it raised."""
    wanted = listening(app, settings)
    configure_upstreams(app, settings.upstreams)
    apps = [part for one in (app, *(each.app for each in wanted)) for part in one.parts()]
    server: Server | None = None
    try:
        async with lifespans(apps, settings.limits.grace):
            with registry.lock:
                services = [make_service(one, app, settings) for one in wanted]
                old = registry.running(app.name)
                bound = registry.bind(app.name, [one.wanted for one in wanted])
                server = Server(app.name, settings, services, tuple(one.address for one in bound))
                server.apps = list(dict.fromkeys(apps))
                with registry.given_back(server.name, bound):
                    server.control = make_control(server)
                registry.enter(server, bound)
            if settings.record:
                server.traces.start()
            if any(one.measured for one in apps):
                server.measure()
            async with controlling(server), _accepting(wanted, services, server, bound):
                if old is not None:
                    await server.replace(old)
                with watching() if settings.debug or watchdog_asked() else nullcontext():
                    yield server
    finally:
        if server is not None:
            server.ended()


@asynccontextmanager
async def _accepting(
    wanted: list[Listening], services: list[Service], server: Server, bound: list[Bound]
) -> AsyncIterator[None]:
    """All listeners run during the block, and drain at its end."""
    runs: list[Run] = [
        partial(service.run, [(Listener(sock.dup(), service.loop), one.story) for sock in sockets.sockets])
        for service, one, sockets in zip(services, wanted, bound, strict=True)
    ]
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_run, runs, server, bound)
        try:
            yield
        except Exception as error:
            failure = error  # the block's own, raised below: a task group would wrap it in an ExceptionGroup
            tasks.cancel_scope.cancel()
        except BaseException:
            tasks.cancel_scope.cancel()
            raise
        for service in services:
            service.stop()
    if failure is not None:
        raise failure


async def _run(runs: list[Run], server: Server, bound: list[Bound]) -> None:
    """All listeners, until the last of them has ended."""

    def closed() -> None:
        registry.close_door(server, bound)
        server.release()

    try:
        async with anyio.create_task_group() as tasks:
            for run in runs:
                tasks.start_soon(run, closed)
    finally:
        registry.leave(server, bound)
        server.release()
        server.drained()


def make_service(one: Listening, app: App, settings: Settings) -> Service:
    """One listener's service, with what the settings ask to be written and believed."""
    service = Service(one.router, one.limits, settings.codec, app.emitter)
    service.proxy_protocol = one.proxy_protocol
    service.certificates = one.certificates
    if settings.trusted_peers:
        from ..server.handler.trusted_proxies import Trust

        service.trust = Trust(settings.trusted_peers, settings.forwarded_fields)
    if settings.access_log:
        from ..server.http.access_log import access_writer

        service.access = access_writer(settings.access_format)
    service.heads = heads_writer()
    if settings.debug:
        service.last_resort = debug_endpoint()
    return service


def debug_endpoint() -> ErrorEndpoint:
    """Shows what a handler raised to whoever asked."""

    async def show(request: Any, error: Exception) -> Any:
        from ..views.debug_page.page import debug_page  # rich, loaded only when there is something to show

        return debug_page(request, error)

    return ErrorEndpoint(show)


def start(app: App, settings: Settings) -> Server:
    """Run in a daemon thread; returns when it listens. Raises what kept it from listening."""
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


def run(app: App, settings: Settings, on_start: OnStart | None, on_signal: OnSignal | None) -> int | None:
    """Run in the foreground until a signal or ``stop``; which signal it was."""
    ended_by: list[int] = []

    async def main() -> None:
        async with serving(app, settings) as server, anyio.create_task_group() as tasks:
            server.owns_block = True
            if threading.current_thread() is threading.main_thread():
                # First of all: whoever reads that it has started may send a signal at once.
                await tasks.start(heed_signals, server, ended_by, on_signal)
            if on_start is not None:
                on_start(server)
            await server.wait()
            tasks.cancel_scope.cancel()

    try:
        with ends_the_start(ended_by):
            anyio.run(main, **backend_arguments(settings.backend))
    except KeyboardInterrupt:
        if not ended_by:
            raise
    return ended_by[0] if ended_by else None
