"""Every deadline, with the default limits and a clock that is turned: nobody sleeps, and each strikes when it should.

A deadline is an attribute, and the sweeper is told what time it is: here it is told the future.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, Limits, Request, Server, testing
from coserver.transport.loop import Loop
from tests.server.clients import Client, connect, get, post, until

#: All as they are, but for the two that would make the test wait, and the one that is off.
LIMITS = Limits(linger_timeout=0.2, grace=0.5, handler_timeout=20)
#: Seconds that a test may have taken on its way: less than any of the deadlines.
SLACK = 4.0


@pytest.fixture
def app() -> App:
    app = App(limits=LIMITS)

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.post("/")
    def take(request: Request) -> str:
        return str(len(request.body))

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> str:
        return str(sum([len(piece) async for piece in request.stream()]))

    @app.get("/sleep")
    async def sleep() -> None:
        await anyio.sleep_forever()

    @app.get("/large")
    async def large() -> bytes:
        return b"x" * 30_000_000

    @app.tcp(framing="lines", name="lines")
    async def lines(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    return app


def sweep(seconds: float) -> None:
    """The sweeper looks at its deadlines as if so many seconds had passed from now."""
    Loop.current().sweeper.sweep(monotonic() + seconds)


async def _silent(client: Client, server: Server) -> None:
    await until(lambda: server.connections)


async def _half_a_head(client: Client, server: Server) -> None:
    await client.send(get()[:-2])
    await phase(server, "head")


async def _half_a_second_head(client: Client, server: Server) -> None:
    await client.ask(get())
    await client.send(get()[:-2])
    await phase(server, "head")


async def _half_a_body(client: Client, server: Server) -> None:
    await client.send(post("/", b"x" * 1000)[:-10])
    await phase(server, "body")


async def _half_a_streamed_body(client: Client, server: Server) -> None:
    await client.send(post("/stream", b"x" * 1000)[:-10])
    await phase(server, "body")


async def _handler(client: Client, server: Server) -> None:
    await client.send(get("/sleep"))
    await phase(server, "handler")


async def _idle(client: Client, server: Server) -> None:
    await client.ask(get())
    await phase(server, "recycle")


async def _stalled(client: Client, server: Server) -> None:
    await client.send(get("/large"))
    sweeper = Loop.current().sweeper
    await until(lambda: len(sweeper.subjects | sweeper.patient) == 2)  # the connection, and its writing


async def phase(server: Server, name: str) -> None:
    await until(lambda: [str(one.phase) for one in server._services[0].connections.values()] == [name])


Row = tuple[Callable[[Client, Server], Any], float, int, str]
ROWS: dict[str, Row] = {
    "nothing said": (_silent, LIMITS.head_timeout, 0, "head_timeout"),
    "half a head": (_half_a_head, LIMITS.head_timeout, 408, "head_timeout"),
    "half a second head": (_half_a_second_head, LIMITS.head_timeout, 408, "head_timeout"),
    "half a body": (_half_a_body, LIMITS.body_timeout, 408, "body_timeout"),
    "half a streamed body": (_half_a_streamed_body, LIMITS.body_timeout, 408, "body_timeout"),
    "a handler": (_handler, LIMITS.handler_timeout, 503, "handler_timeout"),
    "idle": (_idle, LIMITS.idle_timeout, 0, ""),
    "a stalled reader": (_stalled, LIMITS.write_timeout, 0, "write_timeout"),
}


@pytest.mark.parametrize("name", ROWS)
async def test_each_deadline(app: App, codec: str, name: str) -> None:
    reach, seconds, status, reason = ROWS[name]
    async with testing.serving(app, codec=codec) as server, connect(server.port) as client:
        await reach(client, server)
        sweep(seconds - SLACK)
        await anyio.lowlevel.checkpoint()
        assert server.connections == 1
        assert not server.breaches
        sweep(seconds + 0.1)
        if name == "a stalled reader":
            await until(lambda: not server.connections)
        elif status:
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            await client.stream.send_eof()
            await client.closed()
        else:
            await client.closed()
        assert server.breaches == ({reason: 1} if reason else {})


async def test_a_message_half_sent(app: App) -> None:
    async with testing.serving(app) as server, connect(server.port_of("lines")) as client:
        await client.send(b"whole\nhal")
        assert await client.stream.receive() == b"whole\n"
        (service,) = [one for one in server._services if one.connections]
        (connection,) = service.connections.values()
        await until(lambda: connection.deadline < math.inf)
        sweep(LIMITS.body_timeout + 0.1)
        await client.gone()
        assert server.breaches == {"body_timeout": 1}


async def test_a_chat_may_be_silent(app: App) -> None:
    async with testing.serving(app) as server, connect(server.port_of("lines")) as client:
        await client.send(b"one\n")
        assert await client.stream.receive() == b"one\n"
        sweep(1e6)
        await client.send(b"two\n")
        assert await client.stream.receive() == b"two\n"


async def test_a_deadline_that_is_off(app: App) -> None:
    limits = replace(LIMITS, handler_timeout=math.inf)
    async with testing.serving(app, limits=limits) as server, connect(server.port) as client:
        await _handler(client, server)
        sweep(1e6)
        await anyio.lowlevel.checkpoint()
        assert server.exchanges == 1
        await client.stream.aclose()
        await until(lambda: not server.connections)


async def test_many_at_once(app: App, codec: str) -> None:
    """Their clients are told one by one what happened, and the log a few times."""
    async with testing.serving(app, codec=codec) as server:
        clients: list[Client] = []
        for _ in range(50):
            clients.append(Client(await anyio.connect_tcp("127.0.0.1", server.port)))
            await clients[-1].send(get()[:-2])
        connections = server._services[0].connections
        await until(lambda: [str(one.phase) for one in connections.values()] == ["head"] * 50)
        sweep(LIMITS.head_timeout + 0.1)
        for client in clients:
            assert (await client.answer()).status == 408
            await client.stream.aclose()
        assert server.breaches == {"head_timeout": 50}
