"""Startup and shutdown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, Request, SetupError, await_
from coserver.testing import leak_check
from tests.server.clients import connect, get, talking

from .get import get as ask
from .get import refused


def kinds(told: list[str]) -> dict[str, Any]:
    async def async_generator(app: App) -> AsyncIterator[None]:
        told.append("begin")
        app.state.value = 7
        await anyio.lowlevel.checkpoint()
        yield
        await anyio.lowlevel.checkpoint()
        told.append("end")

    def generator(app: App) -> Iterator[None]:
        told.append("begin")
        app.state.value = 7
        await_(anyio.lowlevel.checkpoint())
        yield
        await_(anyio.lowlevel.checkpoint())
        told.append("end")

    return {
        "async generator": async_generator,
        "generator": generator,
        "async context manager": asynccontextmanager(async_generator),
        "context manager": contextmanager(generator),
    }


@pytest.mark.parametrize("kind", kinds([]))
async def test_around_the_serving(kind: str) -> None:
    told: list[str] = []
    app = App()
    app.lifespan(kinds(told)[kind])

    @app.get("/")
    async def index(request: Request) -> str:
        told.append("request")
        return str(request.app.state.value)

    async with talking(app) as (_, client):
        assert (await client.ask(get())).text == "7"
    assert told == ["begin", "request", "end"]
    async with talking(app):  # and again
        pass
    assert told[3:] == ["begin", "end"]


async def test_order_and_sub_apps() -> None:
    told: list[str] = []
    apps = {name: App(name) for name in ("outer", "inner", "other")}
    for name, app in apps.items():

        def generator(name: str = name) -> Iterator[None]:
            told.append(f"+{name}")
            yield
            told.append(f"-{name}")

        app.lifespan(generator)
        app.get("/")(lambda: "ok")
    apps["outer"].mount("/a", apps["inner"])
    apps["outer"].mount("/b", apps["inner"])
    apps["outer"].listen(name="side", port=0, app=apps["other"])
    async with apps["outer"].serving():
        assert told == ["+outer", "+inner", "+other"]
    assert told[3:] == ["-other", "-inner", "-outer"]


async def test_a_startup_that_fails() -> None:
    told: list[str] = []
    app = App()

    @app.lifespan
    def first() -> Iterator[None]:
        try:
            yield
        finally:
            told.append("first left")

    @app.lifespan
    async def second() -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    with leak_check(), pytest.raises(OSError, match="no database"):
        async with app.serving():
            raise AssertionError("it must not serve")
    assert told == ["first left"]
    with pytest.raises(OSError, match="no database"):
        app.start()


async def test_the_servers_task_group_is_left_whole() -> None:
    """A task group around the yield: what runs in it ends with the server."""
    app = App()
    ticks: list[int] = []

    @app.lifespan
    async def background() -> AsyncIterator[None]:
        async def tick() -> None:
            while True:
                ticks.append(1)
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            yield
            tasks.cancel_scope.cancel()

    async with talking(app):
        while len(ticks) < 3:  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def test_shutdown_comes_after_the_last_request() -> None:
    app = App()
    told: list[str] = []

    @app.lifespan
    def life() -> Iterator[None]:
        yield
        told.append("closed")

    @app.get("/")
    async def index() -> str:
        begun.set()
        await anyio.sleep(0.1)
        told.append("answered")
        return "ok"

    begun = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def client(port: int) -> None:
            async with connect(port) as one:
                assert (await one.ask(get())).text == "ok"

        async with app.serving() as server:
            tasks.start_soon(client, server.port)
            await begun.wait()
    assert told == ["answered", "closed"]


async def test_a_block_that_raises_still_shuts_down() -> None:
    told: list[str] = []
    app = App()

    @app.lifespan
    def life() -> Iterator[None]:
        try:
            yield
        finally:
            told.append("closed")

    with pytest.raises(KeyError):
        async with app.serving():
            raise KeyError("x")
    assert told == ["closed"]


def test_in_a_thread(backend: str) -> None:
    told: list[str] = []
    app = App()
    app.lifespan(kinds(told)["generator"])
    app.get("/")(lambda: "ok")
    with app.start(backend=backend) as server:
        assert ask(server) == (200, "ok")
        port = server.port
    assert told == ["begin", "end"]
    assert refused(port)


def test_what_is_no_lifespan() -> None:
    app = App()

    async def coroutine() -> None: ...

    with pytest.raises(SetupError, match="without a yield"):
        app.lifespan(coroutine)
    with pytest.raises(SetupError, match="2 parameters"):
        app.lifespan(lambda one, two: None)
    app.lifespan(lambda: 3)
    with pytest.raises(SetupError, match="returned int"):
        app.start()


@pytest.mark.parametrize("make", ["async def", "def"])
async def test_a_generator_that_never_yields_is_named(make: str) -> None:
    names: dict[str, Any] = {}
    exec(f"{make} opened():\n    if False:\n        yield\n", names)  # the same body, both ways
    app = App()
    app.lifespan(names["opened"])
    with pytest.raises(SetupError, match="lifespan opened ended without a yield: yield once"):
        async with app.serving():
            pass
