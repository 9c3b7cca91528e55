"""Handlers that swallow every cancellation: the shutdown goes on without them, and so does everything else."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, Limits, Request, await_, testing

from ..clients import connect, get, post, until

pytestmark = pytest.mark.filterwarnings("error")


#: An async handler's place, or the whole stack of a blocking one.
GIVEN_UP = re.compile(r"given up at line \d+ of \S+test_cancellation.py, in Stubborn\.|(?s:given up:.*in swallow_def)")


class Stubborn:
    """Handlers of each kind that catch whatever is thrown into them and wait on."""

    def __init__(self) -> None:
        self.app = App()
        self.begun: list[str] = []
        self.caught = 0
        self.app.get("/")(self.index)
        self.app.get("/async")(self.swallow)
        self.app.get("/def")(self.swallow_def)
        self.app.get("/stream")(self.stream)
        self.app.get("/stream-def")(self.stream_def)
        self.app.get("/group")(self.group)
        self.app.get("/scope")(self.scope)
        self.app.get("/after")(self.after)
        self.app.post("/body", stream=True)(self.body)
        self.app.post("/reads", stream=True)(self.reads)
        self.app.tcp(name="tcp")(self.tcp)
        self.app.tcp(name="tcp-def")(self.tcp_def)
        self.app.tcp(name="tcp-reads")(self.tcp_reads)
        self.app.tcp(name="tcp-def-reads")(self.tcp_def_reads)

    async def index(self) -> str:
        return "ok"

    async def wait(self) -> None:
        self.begun.append("begun")
        while True:
            try:
                await anyio.sleep(60)
            except BaseException:
                self.caught += 1

    async def swallow(self) -> str:
        await self.wait()
        return "never"

    def swallow_def(self) -> str:
        self.begun.append("begun")
        while True:
            try:
                await_(anyio.sleep(60))
            except BaseException:
                self.caught += 1

    async def stream(self) -> AsyncIterator[str]:
        yield "first"
        await self.wait()

    def stream_def(self) -> Iterator[str]:
        yield "first"
        self.swallow_def()

    async def group(self) -> str:
        async with anyio.create_task_group():
            await self.wait()
        return "never"

    async def scope(self) -> str:
        with anyio.CancelScope(), anyio.move_on_after(60):
            await self.wait()
        return "never"

    async def after(self, request: Request) -> str:
        request.after(self.wait)
        return "answered"

    async def body(self, request: Request) -> str:
        self.begun.append("begun")
        while True:
            try:
                async for _ in request.stream():
                    pass
                await anyio.sleep(60)
            except BaseException:
                self.caught += 1

    async def reads(self, request: Request) -> str:
        self.begun.append("begun")
        while True:
            try:
                async for _ in request.stream():
                    pass
            except BaseException:
                self.caught += 1

    async def tcp(self, connection: Any) -> None:
        await self.wait()

    def tcp_def(self, connection: Any) -> None:
        self.swallow_def()

    async def tcp_reads(self, connection: Any) -> None:
        await connection.receive()
        await self.wait()

    def tcp_def_reads(self, connection: Any) -> None:
        connection.receive()
        self.swallow_def()


@pytest.mark.parametrize(
    "path", ["/async", "/def", "/stream", "/stream-def", "/scope", "/group", "/after", "/body", "tcp", "tcp-def"]
)
async def test_a_stop_goes_on_without_it(path: str, caplog: pytest.LogCaptureFixture) -> None:
    stubborn = Stubborn()
    async with testing.serving(stubborn.app, limits=Limits(grace=0.05)) as server:
        async with connect(server.port_of(path) if path.startswith("tcp") else server.port) as client:
            request = post(path, b"12345")[:-1] if path == "/body" else get(path)
            await client.send(b"hello" if path.startswith("tcp") else request)
            await until(lambda: stubborn.begun)
            server.stop()
            await client.gone()
        await until(lambda: not server.running)
    assert GIVEN_UP.search(caplog.text)
    assert stubborn.caught > 1


@pytest.mark.parametrize("path", ["/async", "/def"])
async def test_a_client_that_leaves_it_keeps_no_core_busy(path: str, caplog: pytest.LogCaptureFixture) -> None:
    stubborn = Stubborn()
    async with testing.serving(stubborn.app) as server:
        async with connect(server.port) as client:
            await client.send(get(path))
            await until(lambda: stubborn.begun)
        await until(lambda: not server.connections)
        assert GIVEN_UP.search(caplog.text)
        began, caught = time.process_time(), stubborn.caught
        async with connect(server.port) as client:
            for _ in range(3):
                assert (await client.ask(get())).text == "ok"
            await anyio.sleep(0.1)
        assert time.process_time() - began < 0.1
        assert stubborn.caught == caught


@pytest.mark.parametrize("path", ["/async", "/def", "/stream", "/stream-def", "/reads", "tcp-reads", "tcp-def-reads"])
async def test_no_sweep_looks_at_it_any_more(path: str, caplog: pytest.LogCaptureFixture) -> None:
    stubborn = Stubborn()
    limits = Limits(body_timeout=0.3, handler_timeout=0.3)
    async with testing.serving(stubborn.app, limits=limits) as server:
        port = server.port_of(path) if path.startswith("tcp") else server.port
        async with connect(port) as client:
            request = post(path, b"12345")[:-1] if path == "/reads" else get(path)
            await client.send(b"hello\n" if path.startswith("tcp") else request)
            await until(lambda: stubborn.begun)
            (connection,) = [one for service in server._services for one in service.connections.values()]
            await anyio.sleep(0.02)
            connection.abort("enough")
            await client.gone()
        await until(lambda: not server.connections)
        assert GIVEN_UP.search(caplog.text)
        sweeper = server._services[0].loop.sweeper
        assert sweeper.running == set()
        assert sweeper.subjects == set()
        await anyio.sleep(0.5)
        assert server.breaches == {}
    assert "at its deadline" not in caplog.text


@pytest.mark.parametrize("path", ["/async", "/def"])
async def test_a_deadline(path: str) -> None:
    stubborn = Stubborn()
    limits = Limits(handler_timeout=0.1)
    async with testing.serving(stubborn.app, limits=limits) as server, connect(server.port) as client:
        await client.send(get(path))
        said = await client.gone()
        assert said == b"" if path == "/async" else said.startswith(b"HTTP/1.1 503 ")
        await until(lambda: not server.connections)


async def test_cancelled_from_outside() -> None:
    stubborn = Stubborn()
    with anyio.fail_after(10), anyio.CancelScope() as scope:
        async with testing.serving(stubborn.app) as server, connect(server.port) as client:
            await client.send(get("/async"))
            await until(lambda: stubborn.begun)
            scope.cancel()
            await anyio.sleep(60)
    assert not server.running


async def test_what_cancels_only_parts_of_itself_is_never_given_up(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def poll() -> str:
        for _ in range(1000):
            with anyio.move_on_after(0):
                await anyio.sleep(60)
        return "polled"

    async with testing.serving(app) as server, connect(server.port) as client:
        for _ in range(3):
            assert (await client.ask(get())).text == "polled"
    assert caplog.text == ""


async def test_a_long_unwinding_is_let_run(caplog: pytest.LogCaptureFixture) -> None:
    """A ``finally`` meets the cancellation again at each await in it."""
    app, undone, begun = App(), [], anyio.Event()

    async def unwind(depth: int) -> None:
        try:
            if depth:
                await unwind(depth - 1)
            else:
                begun.set()
                await anyio.sleep(60)
        finally:
            undone.append(depth)
            await anyio.lowlevel.checkpoint()

    @app.get("/")
    async def nested() -> None:
        await unwind(40)

    async with testing.serving(app, limits=Limits(grace=0)) as server, connect(server.port) as client:
        await client.send(get())
        await begun.wait()
        server.stop()
        await client.gone()
        await until(lambda: not server.running)
    assert len(undone) == 41
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_server_in_its_own_thread(backend: str) -> None:
    stubborn = Stubborn()
    with testing.leak_check():
        server = stubborn.app.start(backend=backend)
        import socket

        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(get("/def"))
            while not stubborn.begun:
                time.sleep(0.005)
            began = time.monotonic()
            server.stop(grace=0.05)
            assert time.monotonic() - began < 5
        assert not server.running
