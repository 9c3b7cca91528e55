"""The client for plain functions: the same words, the app in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Request, SetupError, testing
from coserver.testing import LeakError


@pytest.fixture
def app() -> App:
    app = App()
    app.get("/")(lambda: "ok")

    @app.route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def echo(request: Request) -> Any:
        return f"{request.method} ".encode() + request.body

    @app.get("/boom")
    async def boom() -> None:
        raise ZeroDivisionError("boom")

    @app.tcp(framing="lines")
    def upper(connection: Any) -> None:
        for message in connection:
            connection.send(message.upper())

    return app


def test_requests(app: App, backend: str) -> None:
    with testing.sync_client(app, backend=backend) as c:
        assert c.get("/").text == "ok"
        for method in ("get", "post", "put", "patch", "delete", "options"):
            assert getattr(c, method)("/echo").text == f"{method.upper()} "
        assert c.head("/").headers["content-length"] == "2"
        assert c.post("/echo", body=(f"{n}," for n in range(3))).text == "POST 0,1,2,"
        c.cookies["a"] = "b"
        assert c.connections == 1
        assert c.app is app
        assert "1 connections" in repr(c)
        with pytest.raises(ZeroDivisionError, match="boom"):
            c.get("/boom")


def test_streams(app: App, backend: str) -> None:
    ended = threading.Event()

    @app.get("/ticks")
    async def ticks() -> AsyncIterator[str]:
        try:
            yield "one\ntwo\n"
            await anyio.sleep(100)
        finally:
            ended.set()

    app.get("/three")(lambda: iter(["a\n", "b\n", "c"]))
    with testing.sync_client(app, backend=backend) as c:
        with c.stream("GET", "/ticks") as r:
            assert r.status == 200
            assert next(r.lines()) == "one"
        assert ended.wait(5)
        with c.stream("GET", "/three") as r:
            assert b"".join(r) == b"a\nb\nc"
        with c.stream("GET", "/three") as r:
            assert list(r.lines()) == ["a", "b", "c"]
        with c.stream("GET", "/three") as r:
            assert r.read() == b"a\nb\nc"
            assert r.receive() is None


def test_tcp(app: App, backend: str) -> None:
    with testing.sync_client(app, backend=backend) as c, c.tcp("upper") as conversation:
        conversation.send("hello")
        assert conversation.receive() == b"HELLO"
        conversation.send("you")
        conversation.send_eof()
        assert list(conversation) == [b"YOU"]


def test_from_several_threads(app: App, backend: str) -> None:
    together = threading.Barrier(8)

    def ask(c: testing.SyncClient) -> str:
        together.wait(10)
        return c.get("/").text

    with testing.sync_client(app, backend=backend) as c, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, [c] * 8)) == ["ok"] * 8


def test_a_notebooks_cell(app: App) -> None:
    """A cell's thread runs a loop of its own."""

    async def cell() -> str:
        with testing.sync_client(app) as c:
            return c.get("/").text

    assert anyio.run(cell) == "ok"


def test_what_is_wrong_is_said(app: App) -> None:
    with pytest.raises(SetupError, match="backend must be"), testing.sync_client(app, backend="gevent"):
        pass
    app.get("/x")(lambda nobody: "")
    with pytest.raises(SetupError, match="nobody"), testing.sync_client(app):
        pass


def test_a_leak_is_found(app: App) -> None:
    go = threading.Event()

    @app.get("/leak")
    def leak() -> str:
        threading.Thread(target=go.wait, name="left over").start()
        return "leaked"

    with pytest.raises(LeakError, match="thread left over"), testing.sync_client(app) as c:
        c.get("/leak")
    go.set()


def test_the_end_of_the_block_drains(app: App) -> None:
    begun = threading.Event()

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        await anyio.sleep(0.1)
        return "finished"

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its thread begins here, and is none of the block's
        with testing.sync_client(app) as c:
            answer = pool.submit(c.get, "/slow")
            assert begun.wait(5)
        assert answer.result(5).text == "finished"


def test_limits_and_timeouts(app: App) -> None:
    @app.get("/never")
    async def never() -> None:
        await anyio.sleep(100)

    with testing.sync_client(app, limits=Limits(body_size=1), timeout=0.05) as c:
        assert c.post("/echo", body=b"12").status == 413
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            c.get("/never")
        assert time.monotonic() - begun < 5
