"""Places: a full server makes its clients wait, and lets idle connections go for them; nobody is reset or told 503."""

from __future__ import annotations

import logging
import resource
import socket
from time import process_time
from typing import Any

import anyio
import pytest

from coserver import App, Limits, testing
from coserver.server.capacity import Capacity

from .clients import answers, connect, get, until


@pytest.fixture
def app() -> App:
    app = App()
    app.state.go = None

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/held")
    async def held() -> str:
        app.state.go = app.state.go or anyio.Event()
        await app.state.go.wait()
        return "held"

    @app.get("/fails")
    async def fails() -> Any:
        app.state.go = app.state.go or anyio.Event()
        await app.state.go.wait()

        async def broken() -> Any:
            raise RuntimeError("before its first piece")
            yield ""

        return broken()

    @app.tcp(framing="lines", name="chat")
    async def chat(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    return app


async def test_the_longest_idle_gives_way(app: App, codec: str) -> None:
    async with (
        testing.serving(app, codec=codec, limits=Limits(max_connections=2)) as server,
        connect(server.port) as first,
        connect(server.port) as second,
        connect(server.port) as third,
    ):
        assert (await first.ask(get())).status == 200
        assert (await second.ask(get())).status == 200
        assert (await third.ask(get())).status == 200
        await first.closed()  # by a FIN, having been answered
        assert (await second.ask(get())).status == 200
        assert server.breaches == {"max_connections": 1, "gave_way": 1}


async def test_a_place_is_claimed_once_an_exchange(app: App) -> None:
    """A stream that fails before its first piece is answered anew; that answer claims no second place."""
    async with testing.serving(app, limits=Limits(max_connections=1)) as server:  # noqa: SIM117
        async with connect(server.port) as first, connect(server.port) as second, connect(server.port) as third:
            await first.send(get("/fails"))
            await until(lambda: app.state.go)
            service = server._services[0]
            for waiting in (second, third):
                await waiting.send(get())
            await until(lambda: service.capacity.wanted == 2)
            app.state.go.set()
            answer = await first.answer()
            assert (answer.status, answer.headers["connection"]) == (500, "close")
            assert server.breaches == {"max_connections": 1, "gave_way": 1}
            assert (await second.answer()).text == "ok"
            assert (await third.answer()).text == "ok"


async def test_who_is_served_keeps_its_place(app: App) -> None:
    async with testing.serving(app, limits=Limits(max_connections=1)) as server:  # noqa: SIM117
        async with connect(server.port) as first, connect(server.port) as second:
            await first.send(get("/held"))
            await until(lambda: app.state.go)
            await second.send(get())
            before = process_time()
            with anyio.move_on_after(0.5):
                await second.stream.receive()
                pytest.fail("served beyond the limit")
            assert process_time() - before < 0.25  # waiting costs next to nothing
            assert server.connections == 1
            app.state.go.set()
            answer = await first.answer()
            assert (answer.text, answer.headers["connection"]) == ("held", "close")
            assert (await second.answer()).text == "ok"
            assert server.breaches == {"max_connections": 1, "gave_way": 1}


async def test_waiting_is_no_busy_loop(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = Capacity._make_places
    monkeypatch.setattr(Capacity, "_make_places", lambda self, count: (looks.append(count), look(self, count))[1])
    async with testing.serving(app, limits=Limits(max_connections=1)) as server, connect(server.port) as first:
        await first.send(get("/held"))
        await until(lambda: app.state.go)
        await anyio.sleep(0.15)
        assert not looks  # nobody waits
        async with connect(server.port) as second, connect(server.port) as third:
            await second.send(get())
            await third.send(get())
            await anyio.sleep(0.5)
            assert 2 <= len(looks) <= 10
            app.state.go.set()
            assert (await second.answer()).status == 200
            assert (await third.answer()).status == 200


async def test_busy_connections_say_close(app: App) -> None:
    """Clients that ask without a pause are never idle: their next answer is their connection's last."""
    async with testing.serving(app, limits=Limits(max_connections=2)) as server:
        stop = anyio.Event()

        async def hammer() -> None:
            while not stop.is_set():
                async with connect(server.port) as client:
                    try:
                        while not stop.is_set() and (await client.ask(get())).headers.get("connection") != "close":
                            pass
                    except (AssertionError, anyio.BrokenResourceError, anyio.EndOfStream):
                        pass  # it was idle for a moment, and gave way

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hammer)
            tasks.start_soon(hammer)
            await until(lambda: server.connections == 2)
            for _ in range(5):
                async with connect(server.port) as client:
                    assert (await client.ask(get())).status == 200
            stop.set()
        assert server.connections <= 2


async def test_a_request_that_arrives_as_it_gives_way(app: App) -> None:
    async with testing.serving(app) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.send(get())
            await anyio.wait_readable(client)
            client.recv(65536)
            (connection,) = server._services[0].connections.values()
            await until(lambda: connection.idle(0))
            client.send(get())  # without a turn of the loop: the server has not read it yet
            connection.give_way()
            await anyio.wait_readable(client)
            (answer,) = answers(client.recv(65536))
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            anyio.notify_closing(client)
        await until(lambda: not server.connections)


async def test_who_never_says_a_word_gives_way(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coserver.server.http.http1._SILENT", 0.2)
    async with testing.serving(app, limits=Limits(max_connections=1)) as server, connect(server.port) as silent:
        await until(lambda: server.connections)
        async with connect(server.port) as client:
            assert (await client.ask(get())).status == 200
        await silent.closed()


async def test_a_chat_does_not_give_way(app: App) -> None:
    """Of a TCP conversation nobody but its handler knows whether it is over."""
    async with testing.serving(app, limits=Limits(max_connections=1)) as server:
        port = server.port_of("chat")
        async with connect(port) as first, connect(port) as second:
            await first.send(b"a\n")
            assert await first.stream.receive() == b"a\n"
            await second.send(b"b\n")
            with anyio.move_on_after(0.3):
                await second.stream.receive()
                pytest.fail("served beyond the limit")
            await first.stream.aclose()
            assert await second.stream.receive() == b"b\n"
            await second.stream.aclose()


async def test_a_flood_of_200_on_a_cap_of_100(app: App, codec: str) -> None:
    """All are served, though each keeps its connection until the last has been answered."""
    limits = Limits(max_connections=100, linger_timeout=0.2)
    async with testing.serving(app, codec=codec, limits=limits) as server:
        served, most = 0, 0
        all_served = anyio.Event()

        async def one() -> None:
            nonlocal served, most
            async with connect(server.port) as client:
                assert (await client.ask(get())).status == 200
                served, most = served + 1, max(most, server.connections)
                if served == 200:
                    all_served.set()
                await all_served.wait()
                assert await client.gone() == b""

        with anyio.fail_after(8):
            async with anyio.create_task_group() as tasks:
                for _ in range(200):
                    tasks.start_soon(one)
                await all_served.wait()
                server.stop(1)
        assert (served, most) == (200, 100)
        assert server.breaches["gave_way"] >= 100


async def test_in_memory(app: App) -> None:
    async with testing.client(app, limits=Limits(max_connections=1)) as client:
        for _ in range(3):
            assert (await client.get("/")).status == 200
        async with testing.client(app) as other:
            assert (await other.get("/")).status == 200


# The system's own limit.


@pytest.fixture
def few_descriptors() -> Any:
    """``few_descriptors(n)``: no more than n new descriptors from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(number: int) -> None:
        with socket.socket() as probe:
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + number, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_out_of_descriptors(app: App, few_descriptors: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Logged once, no busy loop, and idle connections give way: all are served in the end."""
    async with testing.serving(app) as server:
        clients = [socket.socket() for _ in range(30)]
        few_descriptors(10)
        before = process_time()
        for each in clients:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", server.port))
        raws = [b""] * len(clients)

        async def one(number: int) -> None:
            sock = clients[number]
            await anyio.wait_writable(sock)
            sock.send(get())
            while not raws[number].endswith(b"ok"):
                await anyio.wait_readable(sock)
                data = sock.recv(65536)
                assert data, "closed without an answer"
                raws[number] += data

        with anyio.fail_after(8):
            async with anyio.create_task_group() as tasks:
                for number in range(len(clients)):
                    tasks.start_soon(one, number)
        assert process_time() - before < 2
        assert all(answers(raw)[0].status == 200 for raw in raws)
        assert server.breaches["descriptors"] >= 1
        for each in clients:
            anyio.notify_closing(each)
            each.close()
        await until(lambda: not server.connections)
    told = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(told) == 1
    assert "ulimit -n" in told[0].getMessage()


async def test_descriptors_that_do_not_come_back(app: App, few_descriptors: Any) -> None:
    """Nobody is idle: the client waits until somebody leaves."""
    async with testing.serving(app) as server:
        busy = [socket.socket() for _ in range(4)]
        late = socket.socket()
        few_descriptors(4)
        for each in busy:
            each.connect(("127.0.0.1", server.port))
            each.send(get("/held"))
        await until(lambda: server.exchanges == 4)
        late.connect(("127.0.0.1", server.port))
        late.setblocking(False)
        late.send(get())
        before = process_time()
        await anyio.sleep(0.4)
        assert process_time() - before < 0.2
        assert server.breaches == {"descriptors": 1}
        busy.pop().close()
        with anyio.fail_after(5):
            await anyio.wait_readable(late)
        assert b"200 OK" in late.recv(65536)
        app.state.go.set()
        for each in (*busy, late):
            anyio.notify_closing(each)
            each.close()
