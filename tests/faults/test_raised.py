"""Whatever a user's code raises, and wherever: its own request fails, it is logged, and the server goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import anyio
import pytest

from coserver import App, Request, RequestCancelled, Upstream, await_, testing
from tests.conftest import BACKENDS
from tests.server.clients import connect, get, until


class Odd(BaseException):
    pass


#: ``anyio``'s own among them: a handler has other streams than its client's.
RAISED: dict[str, Callable[[], BaseException]] = {
    "exit": lambda: SystemExit(3),
    "generator-exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "request-cancelled": lambda: RequestCancelled("made up"),
    "odd": Odd,
    "group": lambda: BaseExceptionGroup("x", [Odd(), ValueError()]),
    "group-of-exits": lambda: BaseExceptionGroup("x", [GeneratorExit(), SystemExit()]),
    "group-of-cancelled": lambda: BaseExceptionGroup("x", [asyncio.CancelledError()]),
    "memory": MemoryError,
    "recursion": RecursionError,
    "stop": StopIteration,
    "stop-async": StopAsyncIteration,
    "broken": anyio.BrokenResourceError,
    "closed": anyio.ClosedResourceError,
    "end": anyio.EndOfStream,
    "reset": ConnectionResetError,
}


def errors(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.levelno >= logging.ERROR for record in caplog.records)


def fail(name: str) -> Any:
    raise KeyboardInterrupt if name == "interrupt" else RAISED[name]()


def make() -> App:
    app = App()

    @app.get("/async/{name}")
    async def in_async(name: str) -> Any:
        await anyio.lowlevel.checkpoint()
        fail(name)

    @app.get("/def/{name}")
    def in_def(name: str) -> Any:
        time.sleep(0)
        fail(name)

    @app.get("/await_/{name}")
    def in_await(name: str) -> Any:
        return await_(in_async(name))

    @app.get("/before/{name}")
    def before(name: str) -> Iterator[str]:
        fail(name)
        yield ""

    @app.get("/async-before/{name}")
    async def async_before(name: str) -> Any:
        async def pieces() -> AsyncIterator[str]:
            fail(name)
            yield ""

        return pieces()

    @app.get("/later/{name}")
    def later(name: str) -> Iterator[str]:
        yield "a"
        fail(name)

    @app.get("/async-later/{name}")
    async def async_later(name: str) -> Any:
        async def pieces() -> AsyncIterator[str]:
            yield "a"
            await anyio.lowlevel.checkpoint()
            fail(name)

        return pieces()

    @app.get("/after/{name}")
    async def after(name: str, request: Request) -> str:
        request.after(fail, name)
        return "a"

    @app.get("/async-after/{name}")
    async def async_after(name: str, request: Request) -> str:
        request.after(in_async, name)
        return "a"

    @app.get("/ok")
    async def ok() -> str:
        return "ok"

    return app


@pytest.mark.parametrize("place", ["async", "def", "await_", "before", "async-before"])
async def test_a_500(place: str, caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(make()) as server:
        for name in RAISED:
            caplog.clear()
            async with connect(server.port) as client:
                await client.send(get(f"/{place}/{name}") + get("/ok"))
                answer, following = await client.answer("GET"), await client.answer("GET")
                assert (answer.status, following.text) == (500, "ok"), name
            told = [record for record in caplog.records if record.levelno >= logging.ERROR]
            assert len(told) == 1, (name, told)
            assert told[0].exc_info, name


@pytest.mark.parametrize("place", ["later", "async-later"])
async def test_a_stream_that_is_broken_off(place: str, caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(make()) as server:
        for name in RAISED:
            caplog.clear()
            async with connect(server.port) as client:
                await client.send(get(f"/{place}/{name}"))
                assert (await client.gone()).endswith(b"\r\n\r\n1\r\na\r\n"), name
            told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            assert ["broke off" in message for message in told] == [True], (name, told)
        async with connect(server.port) as client:
            await client.send(get("/ok"))
            assert (await client.answer("GET")).text == "ok"


@pytest.mark.parametrize("place", ["after", "async-after"])
async def test_work_after_the_response(place: str, caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(make()) as server, connect(server.port) as client:
        for number, name in enumerate(RAISED):
            await client.send(get(f"/{place}/{name}"))
            assert (await client.answer("GET")).text == "a", name
            await until(lambda number=number: errors(caplog) > number)
        await client.send(get("/ok"))
        assert (await client.answer("GET")).text == "ok"


async def test_the_body_of_a_subrequest() -> None:
    """What its pieces raise is for whoever asked, and for nobody else."""

    def pieces(name: str) -> Iterator[bytes]:
        yield b"a"
        fail(name)

    async with testing.serving(make()) as server, Upstream(server.url) as upstream:
        for name in RAISED:
            with pytest.raises(RuntimeError if name == "stop" else type(RAISED[name]())):
                await upstream.post("/ok", content=pieces(name))
        assert (await upstream.get("/ok")).body == b"ok"


async def test_what_is_told_of_a_detached_one(caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(make()) as server, Upstream(server.url) as upstream:
        for number, name in enumerate(RAISED):
            upstream.get("/ok", detach=True, on_done=lambda _, name=name: fail(name))
            await until(lambda number=number: errors(caplog) > number)
        assert (await upstream.get("/ok")).body == b"ok"


def test_what_ctrl_c_would_raise_if_this_were_the_main_thread(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    with make().start(backend=backend) as server:
        for place in ("async", "def", "before", "async-before"):
            with pytest.raises(HTTPError, match="500"):
                urlopen(f"{server.url}/{place}/interrupt")
        assert urlopen(f"{server.url}/after/interrupt").read() == b"a"
        assert urlopen(f"{server.url}/ok").read() == b"ok"


@pytest.mark.parametrize("anyio_backend", BACKENDS[:2])
async def test_a_task_that_is_cancelled_between_two_requests(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's own task, which a handler may have kept for longer than its request: no other connection ends."""
    app = App()
    kept: list[Any] = []

    @app.get("/keep")
    async def keep() -> str:
        kept.append(asyncio.current_task())
        return "kept"

    @app.get("/cancel")
    async def cancel() -> str:
        kept.pop().cancel()
        return "cancelled"

    async with testing.serving(app) as server, connect(server.port) as first, connect(server.port) as second:
        await first.send(get("/keep"))
        assert (await first.answer("GET")).text == "kept"
        await second.send(get("/cancel"))
        assert (await second.answer("GET")).text == "cancelled"
        assert await first.gone() == b""
        await second.send(get("/keep") + get("/cancel"))  # its own, as it returns
        assert (await second.answer("GET")).text == "kept"
        assert (await second.answer("GET")).text == "cancelled"
        assert await second.gone() == b""
        async with connect(server.port) as third:
            await third.send(get("/keep"))
            assert (await third.answer("GET")).text == "kept"
    assert [record.levelname for record in caplog.records if "none of the server's" in record.getMessage()] == [
        "WARNING",
        "WARNING",
    ]


async def test_a_tcp_handler(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises ends its own connection and is logged, though anyio's errors might be thought the client's."""
    app = App()

    @app.tcp(port=0, framing="lines")
    async def in_async(connection: Any) -> None:
        async for message in connection:
            await connection.send("told")
            fail(message.decode())

    @app.tcp(port=0, framing="lines")
    def in_def(connection: Any) -> None:
        for message in connection:
            connection.send("told")
            fail(message.decode())

    async with testing.serving(app) as server:
        for address in server.addresses:
            for name in RAISED:
                caplog.clear()
                async with connect(address.port) as client:
                    await client.send(name.encode() + b"\n")
                    assert await client.gone() == b"told\n", name
                assert errors(caplog) == 1, (address, name)
