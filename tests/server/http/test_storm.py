"""Cancellation at random moments: clients that reset, servers that are cut off, and nothing may be left of either."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Request, await_, testing

from ..clients import Client, chunked, connect, get, post

#: Of the same seed in every run: what fails once fails again.
SEEDS = range(4)


def make() -> App:
    app = App(limits=Limits(grace=0.05, linger_timeout=0.1, write_timeout=0.5, body_buffer=1000))

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/sleep")
    async def sleep() -> str:
        await anyio.sleep(0.005)
        return "slept"

    @app.get("/sleep/def")
    def sleep_def() -> str:
        for _ in range(3):
            await_(anyio.sleep(0.002))
        return "slept"

    @app.post("/echo")
    def echo(request: Request) -> bytes:
        return request.body

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> Any:
        async def pieces() -> Any:
            async for piece in request.stream():
                yield piece

        return pieces()

    @app.post("/stream/def", stream=True)
    def stream_def(request: Request) -> Any:
        yield from request.stream()

    @app.get("/large")
    async def large() -> bytes:
        return b"x" * 3_000_000

    @app.get("/endless")
    def endless() -> Any:
        while True:
            yield b"x" * 10_000

    @app.get("/fail")
    async def fail() -> None:
        raise ValueError("expected")

    @app.tcp(framing="lines", name="tcp")
    async def lines(connection: Any) -> None:
        async for message in connection:
            await anyio.sleep(0.001)
            await connection.send(message * 100)

    @app.tcp(framing="length", name="tcp-def")
    def lengths(connection: Any) -> None:
        for message in connection:
            await_(anyio.sleep(0.001))
            connection.send(message)

    return app


HTTP = [
    get(), get("/sleep"), get("/sleep/def"), get("/none"), get("/large"), get("/endless"), get("/fail"),
    get() * 20, get("/sleep") * 3 + get(), post("/echo", b"x" * 100), post("/echo", b"x" * 100_000),
    chunked("/echo", b"a" * 1000, b"b" * 10), chunked("/stream", b"a" * 1000, b"b" * 10), post("/stream/def", b"x" * 70_000),  # noqa: E501
    post("/echo", b"hello", "Expect: 100-continue"), b"garbage\r\n\r\n", get(method="BREW"), post("/none", b"x" * 70_000),  # noqa: E501
]  # fmt: skip
TCP = [b"a\n", b"a\nb\nc\n" * 10, b"x" * 50_000 + b"\n", b"half"]
TCP_DEF = [b"\0\0\0\1a" * 10, b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\1"]


async def misbehave(dice: random.Random, client: Client, requests: list[bytes]) -> None:
    """Say something, perhaps not all of it; listen, perhaps; leave, in one way or another."""
    for _ in range(dice.randint(1, 3)):
        request = dice.choice(requests)
        if dice.random() < 0.3:
            request = request[: dice.randrange(len(request))]
        await client.send(request)
        with anyio.move_on_after(dice.choice([0, 0.001, 0.005, 0.02])):
            while True:
                await client.stream.receive(dice.choice([100, 65536]))
    if dice.random() < 0.5:
        await client.reset()
    elif dice.random() < 0.3:
        await client.stream.send_eof()


async def one(dice: random.Random, server: Any) -> None:
    name, requests = dice.choice([("http", HTTP), ("http", HTTP), ("tcp", TCP), ("tcp-def", TCP_DEF)])
    try:
        async with connect(server.port_of(name)) as client:
            await misbehave(dice, client, requests)
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
        pass  # the server was faster
    except (RuntimeError, AttributeError):
        pass  # ... and uvloop says so in its own way, on the client's side


def unexpected(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Errors that are logged without a handler having raised."""
    return [
        message
        for record in caplog.records
        if record.levelno >= logging.ERROR and record.name.startswith("coserver")
        if "handler make.<locals>.fail" not in (message := record.getMessage())
    ]


@pytest.mark.parametrize("seed", SEEDS)
async def test_clients_that_leave_at_any_moment(codec: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    async with testing.serving(make(), codec=codec) as server:
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(one, random.Random(dice.random()), server)
        async with connect(server.port) as client:
            assert (await client.ask(get())).body == b"ok"
    assert not unexpected(caplog)


@contextmanager
def checked(app: App) -> Iterator[None]:
    """Both checks, around the clients as well: some outlive the server for a moment."""
    with testing.leak_check(), testing.order_check(app):
        yield


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_server_cut_off_at_any_moment(codec: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    for _ in range(8):
        app = make()
        with checked(app):
            async with anyio.create_task_group() as clients:
                with anyio.CancelScope() as scope:
                    async with app.serving(codec=codec) as server:
                        for _ in range(15):
                            clients.start_soon(one, random.Random(dice.random()), server)
                        await anyio.sleep(dice.choice([0, 0.001, 0.003, 0.01, 0.03]))
                        scope.cancel()
                assert not server.running
    assert not unexpected(caplog)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_drain_at_any_moment(codec: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    for _ in range(5):
        app = make()
        with checked(app):
            async with anyio.create_task_group() as clients, app.serving(codec=codec) as server:
                for _ in range(15):
                    clients.start_soon(one, random.Random(dice.random()), server)
                await anyio.sleep(dice.choice([0, 0.001, 0.003, 0.01, 0.03]))
                server.stop(dice.choice([0, 0.01, 0.05]))
    assert not unexpected(caplog)


@pytest.mark.parametrize("seed", SEEDS)
async def test_held_and_cut_off(codec: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Gates that hold for a moment, here and there, make more places for a cancellation to strike in."""
    dice = random.Random(seed)
    app = make()

    def gate(event: Any) -> Any:
        return anyio.sleep(dice.choice([0, 0.001, 0.01])) if dice.random() < 0.3 else None

    app.emitter.add_gate(gate)
    with checked(app):
        async with anyio.create_task_group() as clients, app.serving(codec=codec) as server:
            for _ in range(30):
                clients.start_soon(one, random.Random(dice.random()), server)
            await anyio.sleep(dice.choice([0.01, 0.05]))
            server.stop(0.02)
    assert not unexpected(caplog)


async def several(dice: random.Random, client: testing.Streams) -> None:
    """One exchange of a connection with many, which its client leaves at any moment, or never."""
    method = dice.choice(["GET", "GET", "HEAD", "POST", "POST"])
    path = dice.choice(["/echo", "/stream", "/stream/def"] if method == "POST" else GETS)
    await anyio.sleep(dice.random() * 0.02)
    stream = client.request(method, path, body=None if method == "POST" else b"")
    for _ in range(dice.randrange(4) if method == "POST" else 0):
        stream.send(b"y" * dice.choice([0, 10, 70_000]))
        await anyio.sleep(dice.random() * 0.01)
    if dice.random() < 0.7:
        stream.end()
    with anyio.move_on_after(dice.random() * 0.05):
        try:
            await stream.answer()
        except ConnectionResetError:
            assert path in ("/fail", "/endless", "/stream", "/stream/def", "/echo")
    if dice.random() < 0.7:
        stream.leave()


GETS = ["/", "/sleep", "/sleep/def", "/none", "/large", "/endless", "/fail"]


@pytest.mark.parametrize("seed", SEEDS)
async def test_exchanges_of_one_connection_end_at_any_moment(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    async with testing.serving(make()) as server:
        server.traces.start()
        sweeper = server._services[0].loop.sweeper
        for _ in range(3):
            async with testing.streams(server) as client, anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(several, random.Random(dice.random()), client)
            assert client.connection.exchanges == []
            assert sweeper.running == set()
            assert [one for one in sweeper.subjects if hasattr(one, "limits") or hasattr(one, "exchange")] == []
            assert server.traces._recorder._drafts == {}
    assert not unexpected(caplog)
