"""Stopping: what is idle goes at once, what runs may end, nothing that was sent is thrown away."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Response, Server, await_, testing

from .clients import connect, get, post, until


class Held:
    """An app whose handlers wait until they are let go."""

    def __init__(self) -> None:
        self.app = App()
        self.go_on = anyio.Event()
        self.events: list[str] = []
        self.app.get("/")(self.index)
        self.app.get("/async")(self.wait)
        self.app.get("/def")(self.wait_def)

    async def index(self) -> str:
        return "ok"

    async def wait(self) -> str:
        self.events.append("started")
        try:
            await self.go_on.wait()
        finally:
            self.events.append("finally")
        return "waited"

    def wait_def(self) -> str:
        self.events.append("started")
        try:
            await_(self.go_on.wait())
        finally:
            self.events.append("finally")
        return "waited"


async def test_idle_connections_are_closed_at_once() -> None:
    held = Held()
    async with testing.serving(held.app) as server, connect(server.port) as used, connect(server.port) as unused:
        await used.ask(get())
        await until(lambda: server.connections == 2)
        server.stop()
        await used.closed()
        await unused.closed()
        await until(lambda: not server.running, 2)


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_what_runs_may_end(kind: str) -> None:
    held = Held()
    async with testing.serving(held.app) as server, connect(server.port) as client:
        await client.send(get(f"/{kind}"))
        await until(lambda: held.events)
        server.stop()
        await anyio.sleep(0.05)
        with pytest.raises(OSError, match=r"."):
            await anyio.connect_tcp("127.0.0.1", server.port)
        assert server.running
        held.go_on.set()
        answer = await client.answer()
        assert (answer.text, answer.headers["connection"]) == ("waited", "close")
        await client.closed()
        await until(lambda: not server.running, 2)


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_after_the_grace_it_is_cancelled(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    async with testing.serving(held.app, limits=Limits(grace=0.1)) as server, connect(server.port) as client:
        await client.send(get(f"/{kind}"))
        await until(lambda: held.events)
        server.stop()
        assert await client.gone() == b""
        await until(lambda: held.events == ["started", "finally"])
        await until(lambda: not server.running)
    assert "grace of 0.1 s" in caplog.text


async def test_no_grace_at_all() -> None:
    held = Held()
    async with testing.serving(held.app) as server, connect(server.port) as client:
        await client.send(get("/async"))
        await until(lambda: held.events)
        server.stop(0)
        assert await client.gone() == b""
        await until(lambda: held.events == ["started", "finally"])


async def test_a_second_stop_may_shorten_the_grace() -> None:
    held = Held()
    async with testing.serving(held.app) as server, connect(server.port) as client:
        await client.send(get("/async"))
        await until(lambda: held.events)
        server.stop()
        server.stop(60)
        await anyio.sleep(0.02)
        assert server.running
        started = time.monotonic()
        server.stop(0.05)
        await until(lambda: not server.running)
        assert time.monotonic() - started < 5
        server.stop()
        assert held.events == ["started", "finally"]


async def test_stop_from_a_handler() -> None:
    held = Held()
    box: list[Server] = []

    @held.app.get("/stop")
    async def stop() -> str:
        box[0].stop()
        return "stopping"

    @held.app.get("/stop/def")
    def stop_def() -> str:
        box[0].stop()
        await_(anyio.sleep(0.01))
        return "stopping"

    for path in ("/stop", "/stop/def"):
        async with testing.serving(held.app) as server, connect(server.port) as client:
            box[:] = [server]
            answer = await client.ask(get(path))
            assert (answer.text, answer.headers["connection"]) == ("stopping", "close")
            await client.closed()
            await until(lambda s=server: not s.running)  # type: ignore[misc]


async def test_a_request_already_sent_is_served() -> None:
    held = Held()
    async with testing.serving(held.app) as server, connect(server.port) as used, connect(server.port) as unused:
        await used.ask(get())
        await until(lambda: server.connections == 2)
        # On the wire before the stop; the server has had no turn to read it.
        os.write(used.socket.fileno(), get())
        os.write(unused.socket.fileno(), get() * 3)
        server.stop()
        answer = await used.answer()
        assert (answer.text, answer.headers["connection"]) == ("ok", "close")
        await used.closed()
        assert (await unused.answer()).text == "ok"
        await unused.closed()


async def test_pipelined_behind_what_runs() -> None:
    """The one that runs is answered with close: the client sends the others again, elsewhere."""
    held = Held()
    async with testing.serving(held.app) as server, connect(server.port) as client:
        await client.send(get("/async") + get())
        await until(lambda: held.events)
        server.stop()
        await anyio.sleep(0.02)
        await client.send(get())
        held.go_on.set()
        answer = await client.answer()
        assert (answer.text, answer.headers["connection"]) == ("waited", "close")
        await client.closed()


async def test_the_backlog_is_served() -> None:
    held = Held()
    async with testing.serving(held.app) as server, connect(server.port) as first:
        await first.ask(get())
        streams = [await anyio.connect_tcp("127.0.0.1", server.port) for _ in range(5)]
        for stream in streams:
            await stream.send(get())
        server.stop()
        for stream in streams:
            assert (await stream.receive()).endswith(b"ok")
            await stream.aclose()
        await first.closed()


async def test_a_stop_in_the_middle_of_a_head() -> None:
    held = Held()
    async with testing.serving(held.app) as server, connect(server.port) as client:
        await client.ask(get())
        await client.send(get()[:20])
        await anyio.sleep(0.03)
        server.stop()
        await anyio.sleep(0.03)
        await client.send(get()[20:])
        answer = await client.answer()
        assert (answer.text, answer.headers["connection"]) == ("ok", "close")


async def test_a_stop_in_the_middle_of_a_body() -> None:
    held = Held()

    @held.app.post("/echo")
    async def echo(request: Any) -> bytes:
        return request.body  # type: ignore[no-any-return]

    async with testing.serving(held.app) as server, connect(server.port) as client:
        request = post("/echo", b"hello")
        await client.send(request[:-2])
        await anyio.sleep(0.03)
        server.stop()
        await anyio.sleep(0.03)
        await client.send(request[-2:])
        assert (await client.answer()).text == "hello"


async def test_a_stop_in_the_middle_of_a_long_response() -> None:
    """It had promised to keep the connection: what the client has sent in that trust is answered."""
    held = Held()

    @held.app.get("/large")
    async def large() -> bytes:
        return b"x" * 8_000_000

    async with testing.serving(held.app) as server, connect(server.port) as client:
        await client.send(get("/large"))
        await anyio.sleep(0.05)
        server.stop()
        await anyio.sleep(0.05)
        await client.send(get())
        assert len((await client.answer()).body) == 8_000_000
        answer = await client.answer()
        assert (answer.text, answer.headers["connection"]) == ("ok", "close")
        await client.closed()


async def test_a_stream_until_close_that_is_cut_ends_in_a_reset() -> None:
    """An HTTP/1.0 client would take an orderly end for the whole."""
    app = App(limits=Limits(grace=0.1))

    @app.get("/stream")
    async def stream() -> Any:
        while True:
            yield "piece"
            await anyio.sleep(0.01)

    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(get("/stream", minor=0))
        await client.stream.receive()
        server.stop()
        with pytest.raises(anyio.BrokenResourceError):
            await client.rest()


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_an_endless_stream_has_the_grace_and_no_more(kind: str) -> None:
    app, closed = App(), []

    @app.get("/async")
    async def stream() -> Any:
        try:
            while True:
                yield "piece"
                await anyio.sleep(0.01)
        finally:
            closed.append(True)

    @app.get("/def")
    def stream_def() -> Any:
        try:
            while True:
                yield "piece"
                await_(anyio.sleep(0.01))
        finally:
            closed.append(True)

    async with testing.serving(app, limits=Limits(grace=0.3)) as server, connect(server.port) as client:
        await client.send(get(f"/{kind}"))
        await client.stream.receive()
        began = time.monotonic()
        server.stop()
        said = await client.gone()
        assert time.monotonic() - began >= 0.25
        assert said.count(b"piece") > 5
        assert not said.endswith(b"0\r\n\r\n")  # a part must not look like the whole
        await until(lambda: not server.running, 3)
    assert closed


async def test_a_gate_is_not_asked_any_more() -> None:
    held = Held()
    asked: list[Any] = []
    async with testing.serving(held.app) as server, connect(server.port) as client:
        await client.send(get("/async"))
        await until(lambda: held.events)
        server.stop()
        held.app.emitter.add_gate(asked.append)
        held.go_on.set()
        assert (await client.answer()).text == "waited"
    assert asked == []


async def test_an_error_in_the_block_ends_at_once() -> None:
    held = Held()
    with pytest.raises(ValueError, match="in the block"):  # noqa: PT012
        async with testing.serving(held.app) as server, connect(server.port) as client:
            await client.send(get("/async"))
            await until(lambda: held.events)
            raise ValueError("in the block")
    assert held.events == ["started", "finally"]


async def test_cancellation_of_the_whole_ends_at_once() -> None:
    held = Held()
    with anyio.CancelScope() as scope:
        async with testing.serving(held.app) as server, connect(server.port) as client:
            await client.send(get("/def"))
            await until(lambda: held.events)
            scope.cancel()
            await anyio.sleep(60)
    assert held.events == ["started", "finally"]
    assert not server.running


async def test_serve_until_stopped() -> None:
    held = Held()
    async with anyio.create_task_group() as tasks:
        server = await tasks.start(held.app.serve)
        async with connect(server.port) as client:
            assert (await client.ask(get())).text == "ok"
        server.stop()
    assert not server.running


async def test_fifty_starts_and_stops_under_load() -> None:
    held = Held()
    held.go_on.set()
    answered = 0

    with testing.leak_check(), testing.order_check(held.app):
        for n in range(50):

            async def load(port: int) -> None:
                nonlocal answered
                try:
                    async with connect(port) as client:
                        while True:
                            answer = await client.ask(get(["/", "/async", "/def"][answered % 3]))
                            answered += answer.status == 200
                            if answer.headers.get("connection") == "close":
                                return
                except (OSError, anyio.BrokenResourceError, AssertionError):
                    pass  # the door was closed before a request was sent

            async with anyio.create_task_group() as tasks, held.app.serving() as server:
                for _ in range(4):
                    tasks.start_soon(load, server.port)
                await anyio.sleep(0.002 * (n % 5))
                server.stop(5 if n % 2 else 0)
                await until(lambda s=server: not s.running)  # type: ignore[misc]
    assert answered > 50


def test_stop_from_another_thread(backend: str) -> None:
    app, release, events = App(), threading.Event(), []

    @app.get("/wait")
    async def wait() -> Response:
        events.append("started")
        while not release.is_set():  # noqa: ASYNC110
            await anyio.sleep(0.01)
        return Response("waited")

    import http.client

    with testing.leak_check():
        server = app.start(backend=backend)
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        client.request("GET", "/wait")
        while not events:
            time.sleep(0.005)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        time.sleep(0.05)
        assert stopper.is_alive()
        release.set()
        assert client.getresponse().read() == b"waited"
        stopper.join(5)
        assert not server.running
        client.close()
