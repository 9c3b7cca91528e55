"""TCP messages held, changed, answered and aborted, in both kinds of handlers."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from coserver import App
from coserver.observe.step.held import NotHeld

from ...server.clients import talking, until


def make_app(kind: str) -> App:
    app = App()
    if kind == "async":

        @app.tcp(framing="lines", name="chat")
        async def chat(connection: Any) -> None:
            async for message in connection:
                await connection.send(b"you said " + message)

    else:

        @app.tcp(framing="lines", name="chat")
        def chat_def(connection: Any) -> None:
            for message in connection:
                connection.send(b"you said " + message)

    return app


@pytest.fixture(params=["async", "def"])
def app(request: pytest.FixtureRequest) -> App:
    return make_app(request.param)


async def line(client: Any) -> bytes:
    with anyio.fail_after(5):
        data = b""
        while not data.endswith(b"\n"):
            data += await client.stream.receive()
        return data


async def test_from_phase_to_phase(app: App) -> None:
    async with talking(app) as (server, client):
        with server.step("~tcp ~u chat", at="accept") as step:
            step.close()
        with server.step("~tcp", at="body") as step:
            await client.send(b"hello\n")
            seen = []
            for _ in range(4):
                one = await step.wait_async(5)
                seen.append(one.phase)
                assert one.title == "tcp://chat"
                assert one.body == b"hello"
                step.next()
            assert seen == ["body", "handler", "response", "recycle"]
            assert await line(client) == b"you said hello\n"


async def test_changed(app: App) -> None:
    async with talking(app) as (server, client):
        with server.step("", at=["handler", "response"]) as step:
            await client.send(b"hello\n")
            one = await step.wait_async(5)
            for wrong in ({"target": "/x"}, {"status": 200}, {"body": "two\nlines"}):
                with pytest.raises(ValueError, match=r"cannot be changed|line"):
                    one.edit(**wrong)
            one.edit(body="bye")
            one.resume()
            one = await step.wait_async(5)
            assert one.answer_body == b"you said bye"
            one.edit(body="longer than it was")
            one.resume()
            assert await line(client) == b"longer than it was\n"


async def test_answered(app: App) -> None:
    async with talking(app) as (server, client):
        for at, times in (("body", 20), ("handler", 3)):
            with server.step("", at=at) as step:
                await client.send(b"hello\n" * times)
                for _ in range(times):
                    one = await step.wait_async(5)
                    with pytest.raises(ValueError, match="no headers"):
                        one.respond(200, "x", {"a": "b"})
                    one.respond(200, "not now")
                    assert await line(client) == b"not now\n"
        with server.step("", at="response") as step:
            await client.send(b"hello\n")
            (await step.wait_async(5)).respond(200, "instead")
            assert await line(client) == b"instead\n"
        await client.send(b"hello\n")
        assert await line(client) == b"you said hello\n"


@pytest.mark.parametrize("at", ["accept", "body", "handler", "response", "recycle"])
async def test_aborted_or_left(app: App, at: str) -> None:
    for how in ("abort", "leave"):
        async with talking(app) as (server, client):
            await client.send(b"hello\n")
            await line(client)  # this connection's own accept is over
            with server.step("", at=at) as step:
                if at == "accept":
                    await client.stream.aclose()
                    await until(lambda server=server: not server.connections)
                    client.stream = await anyio.connect_tcp("127.0.0.1", server.port)
                await client.send(b"hello\n")
                one = await step.wait_async(5)
                if how == "abort":
                    one.abort()
                    await client.gone()
                else:
                    await client.stream.aclose()
                await until(lambda server=server: not server.connections)
                with pytest.raises(NotHeld):
                    one.next()
            await client.stream.aclose()
