"""``app.serving()`` and ``app.serve()``: in the caller's own loop, on every backend."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from coserver import App, Server, SetupError, testing

from .get import refused


async def ask(server: Server, path: str = "/") -> bytes:
    async with await anyio.connect_tcp(server.host, server.port) as client:
        return await ask_on(client, path)


async def ask_on(client: SocketStream, path: str = "/") -> bytes:
    """The answer's body; what the test servers say fits into one receive."""
    await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    with anyio.fail_after(10):
        return (await client.receive()).partition(b"\r\n\r\n")[2]


async def test_in_the_callers_loop(app: App, codec: str) -> None:
    async with app.serving(codec=codec) as server:
        assert await ask(server) == b"ok"
        assert await ask(server, "/plain") == b"plain"
        assert server.running
    assert not server.running
    assert refused(server.port)


async def test_an_error_in_the_block_ends_it_and_goes_on_its_way(app: App) -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group on one backend, bare on the other
        async with app.serving() as server:
            raise ZeroDivisionError
    assert isinstance(caught.value, ZeroDivisionError)
    assert not server.running
    assert refused(server.port)


async def test_several_apps_in_one_loop() -> None:
    first, second = App(), App()
    first.get("/")(lambda: "first")
    second.get("/")(lambda: "second")
    async with first.serving() as one, second.serving() as two:
        assert await ask(one) == b"first"
        assert await ask(two) == b"second"
    async with second.serving() as two:
        async with first.serving() as one:
            assert await ask(one) == b"first"
        assert await ask(two) == b"second"


async def test_serve_until_cancelled(app: App) -> None:
    async with anyio.create_task_group() as tasks:
        server: Server = await tasks.start(app.serve)
        assert await ask(server) == b"ok"
        tasks.cancel_scope.cancel()
    assert not server.running
    assert refused(server.port)


async def test_serve_until_stopped(app: App) -> None:
    async with anyio.create_task_group() as tasks:
        server: Server = await tasks.start(app.serve)
        assert await ask(server) == b"ok"
        server.stop()  # on the server's own loop: it begins the drain and returns
    assert not server.running


async def test_a_cancelled_block_cancels_its_requests(app: App) -> None:
    cancelled = anyio.Event()
    begun = anyio.Event()

    @app.get("/slow")
    async def slow() -> None:
        begun.set()
        try:
            await anyio.sleep(100)
        finally:
            cancelled.set()

    with anyio.CancelScope() as scope:
        async with app.serving() as server, anyio.create_task_group() as tasks:
            tasks.start_soon(_swallow, server)
            await begun.wait()
            scope.cancel()
    assert cancelled.is_set()
    assert not server.running


async def _swallow(server: Server) -> None:
    try:
        await ask(server, "/slow")
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass


async def test_the_end_of_the_block_drains(app: App) -> None:
    begun = anyio.Event()

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        await anyio.sleep(0.1)
        return "finished"

    answers: list[bytes] = []

    async def client(server: Server) -> None:
        answers.append(await ask(server, "/slow"))

    async with anyio.create_task_group() as tasks, app.serving() as server:
        tasks.start_soon(client, server)
        await begun.wait()
    assert answers == [b"finished"]


async def test_both_checks_at_once(app: App) -> None:
    async with testing.serving(app) as server, await anyio.connect_tcp(server.host, server.port) as client:
        assert await ask_on(client) == b"ok"
        assert await ask_on(client, "/plain") == b"plain"
        assert server.connections == 1
        assert "1 connections" in repr(server)
        peer = client.extra(SocketAttribute.remote_port)
        assert peer == server.port
    assert "stopped" in repr(server)


async def test_what_is_wrong_is_said_before_it_starts(app: App) -> None:
    with pytest.raises(SetupError, match="backend must be"):
        app.serving(backend="gevent")
    app.get("/x")(lambda nobody: "")
    with pytest.raises(SetupError, match="nobody"):
        async with app.serving():
            pass


async def test_a_handler_on_the_same_loop_sees_the_callers_world(app: App) -> None:
    """One loop: an event of the caller's is set by a handler, and the other way round."""
    asked, answer = anyio.Event(), anyio.Event()

    @app.get("/meet")
    async def meet() -> str:
        asked.set()
        await answer.wait()
        return "met"

    answers: list[bytes] = []

    async def client(server: Server) -> None:
        answers.append(await ask(server, "/meet"))

    async with app.serving() as server, anyio.create_task_group() as tasks:
        tasks.start_soon(client, server)
        await asked.wait()
        answer.set()
    assert answers == [b"met"]
