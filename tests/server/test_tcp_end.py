"""How a TCP connection ends: by its client, by a deadline, by the drain."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from coserver import App, Limits, await_, testing

from .clients import connect, until
from .messages import echoing, frame, read


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("reset", [False, True])
async def test_hang_up_while_the_handler_works(kind: str, reset: bool) -> None:
    app, events = App(), []

    @app.tcp(framing="lines", name="async")
    async def handler(connection: Any) -> None:
        try:
            async for _ in connection:
                events.append("started")
                await anyio.sleep(60)
        finally:
            events.append("finally")

    @app.tcp(framing="lines", name="def")
    def handler_def(connection: Any) -> None:
        try:
            for _ in connection:
                events.append("started")
                await_(anyio.sleep(60))
        finally:
            events.append("finally")

    async with testing.serving(app) as server, connect(server.port_of(kind)) as client:
        await client.send(b"x\n")
        await until(lambda: events)
        if reset:
            await client.reset()
        else:
            await client.stream.aclose()
        await until(lambda: events == ["started", "finally"], 2)
        await until(lambda: not server.connections)


async def test_a_client_that_leaves_while_it_is_sent_to() -> None:
    app, events = App(), []

    @app.tcp(framing="raw")
    async def handler(connection: Any) -> None:
        try:
            while True:
                await connection.send(b"x" * 100_000)
        finally:
            events.append("finally")

    async with testing.serving(app) as server:
        async with connect(server.port) as client:
            await client.stream.receive()
        await until(lambda: events)
        await until(lambda: not server.connections)


async def test_a_half_message_has_a_deadline_and_silence_has_none() -> None:
    app = echoing("length", "async")
    async with testing.serving(app, limits=Limits(body_timeout=0.1, head_timeout=0.1, idle_timeout=0.1)) as server:  # noqa: SIM117
        async with connect(server.port) as client, connect(server.port) as silent:
            await client.send(b"\0\0")
            assert await client.gone() == b""
            await silent.send(frame("length", b"still here"))
            assert await read(silent, 14)


async def test_handler_timeout_counts_for_one_message(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.tcp(framing="lines")
    async def handler(connection: Any) -> None:
        async for message in connection:
            await anyio.sleep(float(message))
            await connection.send("done")

    async with testing.serving(app, limits=Limits(handler_timeout=0.5)) as server, connect(server.port) as client:
        for _ in range(3):
            await client.send(b"0.2\n")
            await read(client, 5)
        await client.send(b"60\n")
        assert await client.gone() == b""
    assert "handler_timeout" in caplog.text


async def test_a_reader_that_stalls_is_cut() -> None:
    app, events, reasons = App(), [], []
    app.emitter.add_observer(lambda event: reasons.append(getattr(event, "reason", "")))

    @app.tcp(framing="raw")
    async def handler(connection: Any) -> None:
        try:
            await connection.receive()
            await connection.send(b"x" * 30_000_000)
        finally:
            events.append("finally")

    async with testing.serving(app, limits=Limits(write_timeout=0.2)) as server, connect(server.port) as client:
        await client.send(b"go")
        await until(lambda: events, 5)
    assert "write_timeout" in reasons[-1]


async def test_a_slow_reader_is_no_stall() -> None:
    """It takes longer than the write timeout in all, but never that long without taking anything."""
    app = App()

    @app.tcp(framing="raw")
    async def handler(connection: Any) -> None:
        await connection.receive()
        await connection.send(b"x" * 12_000_000)

    async with testing.serving(app, limits=Limits(write_timeout=0.3)) as server, connect(server.port) as client:
        await client.send(b"go")
        size = 0
        try:
            while True:
                size += len(await client.stream.receive(200_000))
                await anyio.sleep(0.01)
        except anyio.EndOfStream:
            pass
        assert size == 12_000_000


async def test_a_deadline_of_before_a_send_does_not_come_back() -> None:
    """A message is half there while a long send goes on; when it is whole its deadline is gone for good."""
    app = App()

    @app.tcp(framing="length")
    async def handler(connection: Any) -> None:
        await connection.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say, connection)
            await connection.receive()
            await connection.receive()

    async def say(connection: Any) -> None:
        await anyio.sleep(0.05)
        await connection.send(b"x" * 20_000_000)

    async with testing.serving(app, limits=Limits(body_timeout=0.3)) as server, connect(server.port) as client:
        await client.send(frame("length", b"go") + b"\0\0")
        await anyio.sleep(0.1)
        await client.send(b"\0\1x")
        await read(client, 20_000_004)
        await anyio.sleep(0.5)
        assert server.connections == 1
        await client.send(frame("length", b"end"))
        await client.closed()


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_drain(kind: str) -> None:
    app, go_on = App(), anyio.Event()

    @app.tcp(framing="lines", name="async")
    async def handler(connection: Any) -> None:
        async for message in connection:
            if message == b"wait":
                await go_on.wait()
            await connection.send(message)

    @app.tcp(framing="lines", name="def")
    def handler_def(connection: Any) -> None:
        for message in connection:
            if message == b"wait":
                await_(go_on.wait())
            connection.send(message)

    async with testing.serving(app) as server:
        port = server.port_of(kind)
        async with connect(port) as fresh, connect(port) as idle, connect(port) as busy, connect(port) as sent:
            await idle.send(b"x\n")
            await read(idle, 2)
            await busy.send(b"wait\n")
            await sent.send(b"y\n")
            await read(sent, 2)
            await until(lambda: server.connections == 4)
            await sent.send(b"z\n")
            server.stop()
            await idle.closed()
            await fresh.closed()
            assert await sent.rest() == b"z\n"
            go_on.set()
            assert await busy.rest() == b"wait\n"
            await until(lambda: not server.running)


async def test_a_chat_that_never_ends_is_cancelled_after_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    app, events = App(), []

    @app.tcp(framing="raw")
    async def handler(connection: Any) -> None:
        try:
            await connection.receive()
            await anyio.sleep(60)
        finally:
            events.append("finally")

    async with testing.serving(app, limits=Limits(grace=0.1)) as server, connect(server.port) as client:
        await client.send(b"x")
        await anyio.sleep(0.02)
        server.stop()
        assert await client.gone() == b""
        await until(lambda: events)
    assert "grace of 0.1 s" in caplog.text


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_handler_that_never_receives_ends_with_its_client(kind: str) -> None:
    ended = anyio.Event()
    app = App()

    if kind == "async":

        @app.tcp()
        async def clock(connection: object) -> None:
            try:
                await anyio.sleep(60)
            finally:
                ended.set()
    else:

        @app.tcp(name="clock")
        def blocking_clock(connection: object) -> None:
            try:
                await_(anyio.sleep(60))
            finally:
                ended.set()

    async with testing.serving(app) as server:
        async with await anyio.connect_tcp("127.0.0.1", server.port_of("clock")):
            await anyio.sleep(0.05)
        with anyio.fail_after(5):
            await ended.wait()


async def test_the_last_message_arrives_though_the_client_sent_more() -> None:
    app = App()

    @app.tcp(framing="lines", name="bye")
    async def bye(connection) -> None:  # type: ignore[no-untyped-def]
        await connection.receive()
        await anyio.sleep(0.05)  # what the client goes on sending is there now, and nobody will read it
        await connection.send("bye")

    async with testing.serving(app) as server, await anyio.connect_tcp("127.0.0.1", server.port_of("bye")) as client:
        await client.send(b"first\n")
        await anyio.sleep(0.02)
        await client.send(b"more\n" * 1000)
        assert await client.receive() == b"bye\n"
        with pytest.raises(anyio.EndOfStream):
            await client.receive()
