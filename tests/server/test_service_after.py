"""Work after the response."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, HTTPException, Limits, Request, await_

from .clients import connect, get, talking, until


async def test_the_client_does_not_wait() -> None:
    app, done, may_end = App(), [], anyio.Event()

    async def work(number: int, *, say: str) -> None:
        await may_end.wait()
        done.append((number, say))

    def blocking() -> None:
        await_(anyio.lowlevel.checkpoint())
        done.append("def")

    @app.get("/")
    def index(request: Request) -> str:
        request.after(work, 1, say="hello")
        request.after(blocking)
        request.after(lambda: work(2, say="lambda"))
        return "ok"

    app.get("/plain")(lambda: "plain")
    async with talking(app) as (server, client):
        assert (await client.ask(get())).text == "ok"
        assert (await client.ask(get("/plain"))).text == "plain"
        assert done == []
        may_end.set()
        await until(lambda: len(done) == 3)
        assert done == [(1, "hello"), "def", (2, "lambda")]
        assert server.connections == 1


async def test_a_drain_waits_for_it() -> None:
    app, done = App(), []

    async def work() -> None:
        await anyio.sleep(0.2)
        done.append(1)

    @app.get("/")
    async def index(request: Request) -> str:
        request.after(work)
        return "ok"

    async with talking(app) as (_, client):
        await client.ask(get())
    assert done == [1]


async def test_the_grace_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def index(request: Request) -> str:
        request.after(anyio.sleep_forever)
        request.after(print)
        return "ok"

    with anyio.fail_after(8):
        async with talking(app, limits=Limits(grace=0.1)) as (_, client):
            await client.ask(get())
    assert "cancelled at the end of the grace: sleep_forever and 1 more" in caplog.text


async def test_one_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    app, done = App(), []

    def broken() -> None:
        raise ValueError("in the work")

    @app.get("/")
    async def index(request: Request) -> str:
        request.after(broken)
        request.after(done.append, 1)
        return "ok"

    async with talking(app) as (_, client):
        await client.ask(get())
        await until(lambda: done)
        assert (await client.ask(get())).text == "ok"
    assert "in the work" in caplog.text


async def test_not_for_a_handler_that_failed() -> None:
    app, done = App(), []

    @app.get("/{what}")
    async def index(request: Request, what: str) -> str:
        request.after(done.append, what)
        if what == "error":
            raise ValueError("x")
        if what == "http":
            raise HTTPException(409)
        return "ok"

    async with talking(app) as (_, client):
        for what in ("error", "http", "fine"):
            await client.ask(get(f"/{what}"))
    assert done == ["fine"]


async def test_after_a_stream_and_after_a_client_that_left() -> None:
    app, done = App(), []

    @app.get("/{what}")
    async def stream(request: Request, what: str) -> Any:
        request.after(done.append, what)
        yield "begin"
        if what == "endless":
            while True:
                yield "x" * 100_000
        if what == "broken":
            raise ValueError("after the first piece")

    async with talking(app) as (server, client):
        assert (await client.ask(get("/short"))).text == "begin"
        async with connect(server.port) as other:
            await other.send(get("/endless"))
            await other.stream.receive()
            await other.reset()
        await until(lambda: len(done) == 2)
        async with connect(server.port) as other:
            await other.send(get("/broken"))
            await other.gone()
    assert done == ["short", "endless"]


async def test_too_much_of_it_holds_the_client() -> None:
    """Above the limit a connection does its own work before it reads on: the work cannot pile up without bound."""
    app, running, most = App(), [0], [0]

    async def work() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await anyio.sleep(0.05)
        running[0] -= 1

    @app.get("/")
    async def index(request: Request) -> str:
        request.after(work)
        return "ok"

    async with talking(app, limits=Limits(after_tasks=3)) as (server, _):

        async def client() -> None:
            async with connect(server.port) as one:
                for _ in range(5):
                    assert (await one.ask(get())).text == "ok"

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(client)
    assert 3 <= most[0] <= 3 + 4


async def test_too_late() -> None:
    app, kept = App(), []

    @app.get("/")
    async def index(request: Request) -> str:
        kept.append(request)
        return "ok"

    async with talking(app) as (_, client):
        await client.ask(get())
        await until(lambda: kept)
        with pytest.raises(RuntimeError, match="has been sent already"):
            kept[0].after(print)
        await client.ask(get())
        with pytest.raises(RuntimeError, match="has been sent already"):
            kept[0].after(print)


async def test_contextvars_are_the_handlers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app, seen = App(), []
    user: ContextVar[str] = ContextVar("user", default="nobody")

    @app.get("/{name}")
    async def index(request: Request, name: str) -> str:
        user.set(name)
        request.after(lambda: seen.append(user.get()))
        return "ok"

    async with talking(app) as (_, client):
        await client.ask(get("/a"))
        await client.ask(get("/b"))
        await until(lambda: len(seen) == 2)
    assert seen == ["a", "b"]
