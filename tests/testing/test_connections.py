"""The in-memory client's connections: kept, shared out, left, ended; streams and TCP."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import current_token

from coserver import App, Limits, Request, Response, testing
from coserver.lifecycle import events as ev
from coserver.server.tcp import TcpConnection
from coserver.testing import Disconnected, LeakError, OutOfOrder

MB = 1024 * 1024


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(8):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)


@pytest.fixture
def app() -> App:
    app = App()
    app.get("/")(lambda: "ok")
    app.get("/close")(lambda: Response("bye", headers={"connection": "close"}))

    @app.post("/both", stream=True)
    async def both(request: Request) -> AsyncIterator[bytes]:
        async for piece in request.stream():
            yield piece.upper()

    @app.tcp(framing="lines")
    async def upper(connection: TcpConnection) -> None:
        async for message in connection:
            if message == b"fail":
                raise ZeroDivisionError("told to")
            await connection.send(message.upper())

    @app.tcp(framing="length")
    def lengths(connection: Any) -> None:
        for message in connection:
            connection.send(b"%d" % len(message))

    return app


async def test_one_connection_serves_many_requests(app: App) -> None:
    ports = set()
    app.get("/peer")(lambda request: request.peer)
    async with testing.client(app) as c:
        for _ in range(20):
            ports.add((await c.get("/peer")).text)
            assert c.connections == 1
        assert len(ports) == 1
        assert (await c.get("/close")).text == "bye"
        await until(lambda: c.connections == 0)
        assert (await c.get("/")).text == "ok"


async def test_a_connection_that_the_server_closed_is_not_used_again(app: App) -> None:
    async with testing.client(app, limits=Limits(idle_timeout=0.01)) as c:
        for _ in range(3):
            assert (await c.get("/")).text == "ok"
            await until(lambda: c.connections == 0)


async def test_requests_at_once_take_a_connection_each(app: App) -> None:
    arrived, go = [], anyio.Event()

    @app.get("/wait/{n}")
    async def wait(n: int) -> str:
        arrived.append(n)
        await go.wait()
        return str(n)

    answers: list[str] = []

    async with testing.client(app) as c:

        async def ask(n: int) -> None:
            answers.append((await c.get(f"/wait/{n}")).text)

        async with anyio.create_task_group() as tasks:
            for n in range(50):
                tasks.start_soon(ask, n)
            await until(lambda: len(arrived) == 50)
            assert c.connections == 50
            go.set()
        assert sorted(answers, key=int) == [str(n) for n in range(50)]
        assert (await c.get("/")).text == "ok"


async def test_a_full_server_lets_clients_wait(app: App) -> None:
    async with testing.client(app, limits=Limits(max_connections=2, idle_timeout=0.05)) as c:
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(c.get, "/")
        assert c.connections <= 2


async def test_large_bodies_both_ways(app: App) -> None:
    """More than all buffers hold, so that both sides must read and write at once."""
    async with testing.client(app) as c:
        r = await c.post("/both", body=b"x" * (3 * MB))
        assert r.body == b"X" * (3 * MB)
        r = await c.post("/both", body=(b"y" * 50_000 for _ in range(60)))
        assert r.body == b"Y" * 3_000_000
        assert c.connections == 1


async def test_a_conversation_over_one_request(app: App) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](1)
    await send.send(b"zero")
    async with testing.client(app, timeout=5) as c, c.stream("POST", "/both", body=receive) as r:
        assert await r.receive() == b"ZERO"
        for word in (b"one", b"two"):
            await send.send(word)
            assert await r.receive() == word.upper()
        send.close()
        assert await r.receive() is None


async def test_back_pressure_reaches_the_handler(app: App) -> None:
    sent = 0

    @app.get("/endless")
    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            yield b"x" * 10_000

    async with testing.client(app) as c, c.stream("GET", "/endless") as r:
        await r.receive()
        await anyio.sleep(0.05)
        assert sent < 200_000


async def test_a_client_that_does_not_read_is_cut(app: App) -> None:
    @app.get("/endless")
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    async with testing.client(app, limits=Limits(write_timeout=0.05)) as c:
        with pytest.raises(Disconnected, match="write_timeout"):  # noqa: PT012
            async with c.stream("GET", "/endless") as r:
                await until(lambda: c.connections == 0)
                await r.read()


@pytest.mark.parametrize("quiet", [True, False])
async def test_leaving_a_stream_cancels_the_handler(app: App, quiet: bool) -> None:
    ended: list[str] = []

    @app.get("/ticks")
    async def ticks() -> AsyncIterator[str]:
        try:
            yield "tick\n"
            while True:
                await anyio.sleep(100 if quiet else 0.001)
                yield "tick\n"
        finally:
            ended.append("ended")

    async with testing.client(app) as c:
        async with c.stream("GET", "/ticks") as r:
            assert r.status == 200
            async for line in r.lines():
                assert line == "tick"
                break
        await until(lambda: ended)
        await until(lambda: c.connections == 0)


async def test_a_cancelled_request_is_a_client_that_left(app: App) -> None:
    cancelled, begun = anyio.Event(), anyio.Event()

    @app.get("/never")
    async def never() -> None:
        begun.set()
        try:
            await anyio.sleep(100)
        finally:
            cancelled.set()

    async with testing.client(app) as c:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(c.get, "/never")
            await begun.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            await cancelled.wait()
        assert (await c.get("/")).text == "ok"


async def test_half_close_means_answer_if_the_limits_say_so(app: App) -> None:
    @app.get("/slow")
    async def slow() -> str:
        await anyio.sleep(0.1)
        return "slow"

    request = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    async with testing.client(app, limits=Limits(on_half_close="answer")) as c, c.tcp("http") as raw:
        await raw.send(request)
        await raw.send_eof()
        assert b"slow" in await raw.receive()
    async with testing.client(app) as c, c.tcp("http") as raw:
        await raw.send(request)
        await raw.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await raw.receive()


async def test_a_streamed_answer(app: App) -> None:
    @app.get("/three")
    def three() -> Any:
        yield "a\r\nb\n"
        yield "c"

    app.get("/trailers")(lambda: Response(iter(["x"]), trailers={"x-sum": "1"}))
    async with testing.client(app) as c:
        async with c.stream("GET", "/three") as r:
            assert [line async for line in r.lines()] == ["a", "b", "c"]
            assert await r.receive() is None
        async with c.stream("GET", "/three") as r:
            assert await r.read() == b"a\r\nb\nc"
        async with c.stream("GET", "/three") as r:
            assert b"".join([piece async for piece in r]) == b"a\r\nb\nc"
        assert c.connections == 1
        assert (await c.get("/trailers")).trailers["x-sum"] == "1"
        with pytest.raises(TimeoutError):
            async with c.stream("GET", "/three") as r:
                raise TimeoutError
        assert (await c.get("/")).ok


async def test_a_stream_that_falls_silent(app: App) -> None:
    @app.get("/silent")
    async def silent() -> AsyncIterator[str]:
        yield "a"
        await anyio.sleep(100)

    async with testing.client(app) as c, c.stream("GET", "/silent", timeout=0.05) as r:
        assert await r.receive() == b"a"
        with pytest.raises(TimeoutError, match=r"nothing came within 0\.05 s"):
            await r.receive()


async def test_tcp_handlers(app: App) -> None:
    async with testing.client(app) as c:
        async with c.tcp() as conversation:
            await conversation.send("hello")
            await conversation.send("you")
            assert await conversation.receive() == b"HELLO"
            assert await conversation.receive() == b"YOU"
            await conversation.send_eof()
            assert [message async for message in conversation] == []
        async with c.tcp("lengths") as conversation:
            await conversation.send(b"x" * 100_000)
            assert await conversation.receive() == b"100000"
        message = "there is no listener named 'nobody'; the listeners are http, upper, lengths"
        with pytest.raises(KeyError, match=message):
            async with c.tcp("nobody"):
                pass
        async with c.tcp("upper") as conversation:
            await conversation.send("fail")
            with pytest.raises(ZeroDivisionError, match="told to"):
                await conversation.receive()
    async with testing.client(app, raise_errors=False, timeout=0.05) as c, c.tcp("upper") as conversation:
        with pytest.raises(TimeoutError, match="no whole message"):
            await conversation.receive()
        await conversation.send("fail")
        with pytest.raises(anyio.EndOfStream):
            await conversation.receive()


async def test_raw_bytes_to_the_http_listener(app: App) -> None:
    async with testing.client(app) as c, c.tcp("http") as raw:
        await raw.send(b"NONSENSE\r\n\r\n")
        assert (await raw.receive()).startswith(b"HTTP/1.1 400 ")


async def test_leaving_a_tcp_handler_cancels_it(app: App) -> None:
    ended = anyio.Event()

    @app.tcp(name="busy")
    async def busy(connection: TcpConnection) -> None:
        await connection.receive()
        try:
            await anyio.sleep(100)
        finally:
            ended.set()

    async with testing.client(app) as c:
        async with c.tcp("busy") as conversation:
            await conversation.send(b"x")
            await anyio.sleep(0.05)
        with anyio.fail_after(5):
            await ended.wait()


async def test_the_end_of_the_block_drains(app: App) -> None:
    begun, answers = anyio.Event(), []

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        await anyio.sleep(0.1)
        return "finished"

    async def ask(c: testing.Client) -> None:
        answers.append((await c.get("/slow")).text)

    async with anyio.create_task_group() as tasks:
        async with testing.client(app) as c:
            tasks.start_soon(ask, c)
            await begun.wait()
        assert answers == ["finished"]
        with pytest.raises(ConnectionRefusedError, match="is stopping"):
            await c.get("/")


async def test_a_cancelled_block_cancels_its_requests(app: App) -> None:
    ended, begun = anyio.Event(), anyio.Event()

    @app.get("/never")
    async def never() -> None:
        begun.set()
        try:
            await anyio.sleep(100)
        finally:
            ended.set()

    with anyio.CancelScope() as scope:
        async with testing.client(app) as c, anyio.create_task_group() as tasks:
            tasks.start_soon(c.get, "/never")
            await begun.wait()
            scope.cancel()
    assert ended.is_set()


async def test_a_grace_that_is_over(app: App, caplog: pytest.LogCaptureFixture) -> None:
    begun = anyio.Event()

    @app.get("/never")
    async def never() -> None:
        begun.set()
        await anyio.sleep(100)

    async def ask(c: testing.Client) -> None:
        with pytest.raises(Disconnected):
            await c.get("/never")

    async with anyio.create_task_group() as tasks:
        with caplog.at_level(logging.WARNING):
            async with testing.client(app, limits=Limits(grace=0.05)) as c:
                tasks.start_soon(ask, c)
                await begun.wait()
    assert "the grace of 0.05 s is over" in caplog.text


async def test_a_leak_is_found(app: App) -> None:
    files = []

    @app.get("/leak")
    def leak() -> str:
        files.append(open(__file__))  # noqa: SIM115
        return "leaked"

    with pytest.raises(LeakError, match=r"test_connections\.py"):
        async with testing.client(app) as c:
            await c.get("/leak")
    async with testing.client(app, checks=False) as c:
        await c.get("/leak")
    for file in files:
        file.close()


async def test_two_clients_of_one_app(app: App) -> None:
    """Each with cookies, connections and checks of its own."""
    app.get("/boom")(lambda: 1 / 0)
    async with testing.client(app) as alice:
        await alice.get("/")
        async with testing.client(app) as bob:
            alice.cookies["name"] = "alice"
            assert not bob.cookies
            assert (await alice.get("/")).text == (await bob.get("/")).text == "ok"
            with pytest.raises(ZeroDivisionError):
                await bob.get("/boom")
            assert (await alice.get("/")).text == "ok"
        assert (await alice.get("/")).text == "ok"
        assert alice.connections == 1


async def test_a_task_left_behind_is_found(app: App) -> None:
    tasks: list[Any] = []

    @app.get("/leak")
    async def leak() -> str:
        native: Any = current_token().native_token
        if hasattr(native, "call_soon"):
            tasks.append(native.create_task(anyio.sleep(60), name="left over"))
        else:
            import trio

            tasks.append(trio.lowlevel.spawn_system_task(trio.sleep, 0.5, name="left over"))
        return "leaked"

    with pytest.raises(LeakError, match="tasks left behind: left over"):
        async with testing.client(app) as c:
            await c.get("/leak")
    for task in tasks:
        if hasattr(task, "cancel"):
            task.cancel()


async def test_two_apps_in_one_loop(app: App) -> None:
    """One poller serves both: its descriptor is no leak of the second."""
    other = App()
    other.get("/")(lambda: "other")
    async with testing.client(app) as c, testing.client(other) as d, testing.serving(App()):
        assert ((await c.get("/")).text, (await d.get("/")).text) == ("ok", "other")


async def test_an_event_out_of_order_is_found(app: App) -> None:
    with pytest.raises(OutOfOrder):  # noqa: PT012
        async with testing.client(app) as c:
            await c.get("/")
            app.emitter.tell(ev.HandlerFinished(at=0, connection=999_999, exchange=999_999))
