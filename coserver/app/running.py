"""How an app is run: in the caller's loop, in a thread of its own, or in the foreground with signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskStatus

from ..server.connection import HttpConnection
from ..server.service import Service, Story
from ..server.tcp import tcp_story
from ..transport.listener import Listener
from . import registry
from .registry import Bound, Wanted
from .server import Server
from .settings import Settings, backend_arguments

if TYPE_CHECKING:
    from .app import App

OnStart = Callable[[Server], None]
OnSignal = Callable[[Server, int], None]


@asynccontextmanager
async def serving(app: App, settings: Settings) -> AsyncIterator[Server]:
    """Run in the caller's task group of one; drain at the end of the block, or end at once if it raised."""
    with registry.lock:
        service = Service(app.compile(), settings.limits, settings.codec, app.emitter)
        stories = _stories(app)
        old = registry.running(app.name)
        bound = registry.bind(app.name, _wanted(app, settings))
        server = Server(app.name, settings, service, tuple(one.address for one in bound))
        registry.enter(server, bound)
    listeners = [(Listener(sock.dup(), service.loop), stories[one.name]) for one in bound for sock in one.sockets]
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_run, service, listeners, server, bound)
        try:
            if old is not None:
                await server.replace(old)
            yield server
        except Exception as error:
            failure = error  # the block's own, raised below: a task group would wrap it in an ExceptionGroup
            tasks.cancel_scope.cancel()
        except BaseException:
            tasks.cancel_scope.cancel()
            raise
        service.stop()
    if failure is not None:
        raise failure


async def _run(service: Service, listeners: list[tuple[Listener, Story]], server: Server, bound: list[Bound]) -> None:
    try:
        await service.run(listeners, lambda: registry.close_door(server, bound))
    finally:
        registry.leave(server, bound)
        server.ended()


def _wanted(app: App, settings: Settings) -> list[Wanted]:
    """HTTP, unless the app has nothing but TCP handlers, and each of those.

    Without HTTP the port that was asked for is the first handler's, if that names none of its own.
    """
    wanted = [Wanted(route.name, route.host or settings.host, route.port) for route in app.tcp_routes]
    if app.routes or not wanted:
        wanted.insert(0, Wanted("http", settings.host, settings.port, settings.uds or ""))
    elif not wanted[0].port:
        wanted[0] = replace(wanted[0], port=settings.port)
    return wanted


def _stories(app: App) -> dict[str, Story]:
    stories: dict[str, Story] = {
        route.name: tcp_story(app.tcp_endpoint(route), route.framing) for route in app.tcp_routes
    }
    return {"http": HttpConnection, **stories}


def start(app: App, settings: Settings) -> Server:
    """Run in a daemon thread; returns when it listens. Raises what kept it from listening."""
    started = threading.Event()
    result: list[Server] = []
    failure: list[BaseException] = []

    async def main() -> None:
        async with serving(app, settings) as server:
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
    return result[0]


def run(app: App, settings: Settings, on_start: OnStart | None, on_signal: OnSignal | None) -> int | None:
    """Run in the foreground until a signal or ``stop``; which signal it was."""
    ended_by: list[int] = []

    async def main() -> None:
        async with serving(app, settings) as server, anyio.create_task_group() as tasks:
            if threading.current_thread() is threading.main_thread():
                # First of all: whoever reads that it has started may send a signal at once.
                await tasks.start(_heed_signals, server, ended_by, on_signal)
            if on_start is not None:
                on_start(server)
            await server.wait()
            tasks.cancel_scope.cancel()

    anyio.run(main, **backend_arguments(settings.backend))
    return ended_by[0] if ended_by else None


async def _heed_signals(
    server: Server, ended_by: list[int], on_signal: OnSignal | None, *, task_status: TaskStatus[None]
) -> None:
    """The first signal drains, the second ends at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            ended_by.append(number)
            if on_signal is not None:
                on_signal(server, len(ended_by))
            server.stop(None if len(ended_by) == 1 else 0)
