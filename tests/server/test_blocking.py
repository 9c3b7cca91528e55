"""Blocking handlers: what is cancelled where, what finally may do, who is parked, and what is told of a suspension."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from coserver import App, Limits, RequestCancelled, testing
from coserver.hooks import workers
from coserver.hooks.describe import place_of, show, where
from coserver.lifecycle import events as ev
from coserver.lifecycle import phases

from .clients import connect, get, until


@contextmanager
def quiet_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


class Blocking:
    """An app whose handler runs ``body``; ``events`` is what happened in it."""

    def __init__(self, body: Callable[[list[str]], Any], **limits: Any) -> None:
        self.app = App(limits=Limits(**limits))
        self.events: list[str] = []
        self.app.get("/")(lambda: body(self.events) or "done")


async def test_a_sleep_is_not_broken_by_a_client_that_leaves() -> None:
    with quiet_pair() as (one, _):

        def body(events: list[str]) -> None:
            events.append("sleeps")
            time.sleep(0.2)
            events.append("slept")
            try:
                one.recv(1)
            except RequestCancelled as error:
                events.append(str(error))
                raise

        blocking = Blocking(body)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            await client.stream.aclose()
            await until(lambda: not server.connections)
    assert blocking.events == ["sleeps", "slept", "the client left"]


async def test_io_is_broken_by_a_client_that_leaves() -> None:
    with quiet_pair() as (one, _):

        def body(events: list[str]) -> None:
            events.append("receives")
            try:
                one.recv(1)
            except Exception:
                events.append("never")
            finally:
                events.append("finally")

        blocking = Blocking(body)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            await client.stream.aclose()
            await until(lambda: not server.connections)
    assert blocking.events == ["receives", "finally"]


@pytest.mark.parametrize("call", ["recv", "sleep"])
async def test_the_handler_timeout(call: str) -> None:
    with quiet_pair() as (one, _):

        def body(events: list[str]) -> None:
            if call == "recv":
                one.recv(1)
            time.sleep(0.4)
            events.append("slept")

        blocking = Blocking(body, handler_timeout=0.05)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            answer = await client.ask(get())
            assert answer.status == 503
        assert blocking.events == (["slept"] if call == "sleep" else [])


async def test_the_end_of_the_grace_breaks_a_sleep() -> None:
    def body(events: list[str]) -> None:
        events.append("sleeps")
        try:
            time.sleep(60)
        except RequestCancelled:
            events.append("broken")
            raise

    blocking = Blocking(body, grace=0.1)
    async with testing.serving(blocking.app) as server, connect(server.port) as client:
        await client.send(get())
        await until(lambda: blocking.events)
        server.stop()
        await until(lambda: not server.running)
    assert blocking.events == ["sleeps", "broken"]


async def test_the_grace_breaks_a_sleep_that_outlived_its_client() -> None:
    def body(events: list[str]) -> None:
        events.append("sleeps")
        try:
            time.sleep(60)
        finally:
            events.append("finally")

    blocking = Blocking(body, grace=0.1)
    async with testing.serving(blocking.app) as server, connect(server.port) as client:
        await client.send(get())
        await until(lambda: blocking.events)
        await client.stream.aclose()
        await anyio.sleep(0.1)
        assert blocking.events == ["sleeps"]
        server.stop()
        await until(lambda: not server.running)
    assert blocking.events == ["sleeps", "finally"]


async def test_a_cancellation_of_the_whole_server_breaks_a_sleep() -> None:
    def body(events: list[str]) -> None:
        events.append("sleeps")
        time.sleep(60)

    blocking = Blocking(body)
    with anyio.CancelScope() as scope:
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            scope.cancel()
            await anyio.sleep(60)
    assert not server.running


async def test_finally_may_do_io() -> None:
    with quiet_pair() as (one, other), quiet_pair() as (log, its_peer):

        def body(events: list[str]) -> None:
            events.append("receives")
            try:
                one.recv(1)
            finally:
                time.sleep(0.01)
                events.append(log.recv(10).decode())
                log.sendall(b"bye")

        blocking = Blocking(body)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            await client.stream.aclose()
            await anyio.sleep(0.05)
            its_peer.sendall(b"go on")
            await until(lambda: not server.connections)
        assert its_peer.recv(10) == b"bye"
        assert other
    assert blocking.events == ["receives", "go on"]


async def test_finally_may_not_do_io_for_ever() -> None:
    with quiet_pair() as (one, other):

        def body(events: list[str]) -> None:
            events.append("receives")
            try:
                one.recv(1)
            finally:
                try:
                    one.recv(1)
                finally:
                    events.append("inner")
                    for _ in range(5):
                        try:
                            one.recv(1)
                        except RequestCancelled:
                            events.append("again")

        blocking = Blocking(body, cleanup_timeout=0.05)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            await client.stream.aclose()
            await until(lambda: not server.connections)
        assert other
    assert blocking.events == ["receives", "inner", *["again"] * 5]


async def test_swallowing_is_told_again_and_then_parked(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_pair() as (one, other):

        def body(events: list[str]) -> None:
            events.append("receives")
            while True:
                try:
                    one.recv(1)
                except BaseException as error:
                    events.append(type(error).__name__)
                time.sleep(0.01)

        blocking = Blocking(body)
        before = len(workers.parked)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            await client.stream.aclose()
            await until(lambda: not server.connections)
            async with connect(server.port) as another:
                await another.send(get())
                await until(lambda: blocking.events.count("receives") == 2)
        assert other
        assert blocking.events[:4] == ["receives", *["RequestCancelled"] * 3]
        assert len(workers.parked) == before + 2
        assert "caught its cancellation again and again" in caplog.text
        assert "one.recv(1)" in caplog.text
    del workers.parked[before:]


async def test_swallowed_once_it_comes_again() -> None:
    with quiet_pair() as (one, other):

        def body(events: list[str]) -> None:
            events.append("receives")
            try:
                one.recv(1)
            except BaseException:
                events.append("swallowed")
            other.sendall(b"x")  # would not have to wait
            events.append("never")

        blocking = Blocking(body)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            await client.stream.aclose()
            await until(lambda: not server.connections)
    assert blocking.events == ["receives", "swallowed"]


async def test_an_error_of_finally_wins(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_pair() as (one, other):

        def body(events: list[str]) -> None:
            events.append("receives")
            try:
                one.recv(1)
            finally:
                events.append("finally")
                raise ValueError("of finally")

        blocking = Blocking(body)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            await client.stream.aclose()
            await until(lambda: not server.connections)
        assert other
    assert "of finally" in caplog.text


async def test_work_after_the_response_sleeps_on_until_the_grace_is_over() -> None:
    app, events = App(limits=Limits(grace=0.1)), []

    def work() -> None:
        events.append("sleeps")
        try:
            time.sleep(60)
        finally:
            events.append("finally")

    @app.get("/")
    def index(request: Any) -> str:
        request.after(work)
        return "ok"

    async with testing.serving(app) as server, connect(server.port) as client:
        assert (await client.ask(get())).text == "ok"
        await until(lambda: events)
        server.stop()
        await until(lambda: not server.running)
    assert events == ["sleeps", "finally"]


async def test_a_stream_of_a_blocking_generator() -> None:
    app = App()

    @app.get("/")
    def index() -> Iterator[str]:
        for n in range(3):
            time.sleep(0.01)
            yield str(n)

    async with testing.serving(app) as server, connect(server.port) as client:
        assert (await client.ask(get())).text == "012"


# What is told.


async def test_events() -> None:
    def body(events: list[str]) -> None:
        time.sleep(0.03)
        time.sleep(0.01)

    blocking, seen = Blocking(body), []
    blocking.app.emitter.add_observer(seen.append)
    async with testing.serving(blocking.app) as server, connect(server.port) as client:
        await client.ask(get())
    told = [event for event in seen if isinstance(event, ev.Suspended | ev.Resumed)]
    assert [type(event) for event in told] == [ev.Suspended, ev.Resumed] * 2
    first, over = told[0], told[1]
    assert (first.call, first.on) == ("sleep", "0.03 s")
    line = test_events.__code__.co_firstlineno + 2
    assert first.where == f"{__file__}:{line} in body"
    assert first.exchange == over.exchange is not None
    assert 0.03 <= over.seconds < 3


async def test_what_a_suspended_connection_shows() -> None:
    with quiet_pair() as (one, other):
        go_on = False

        def body(events: list[str]) -> None:
            events.append("receives")
            one.recv(1)
            events.append("received")

        blocking = Blocking(body)
        async with testing.serving(blocking.app) as server, connect(server.port) as client:
            await client.send(get())
            await until(lambda: blocking.events)
            [connection] = server._services[0].connections.values()
            await until(lambda: connection.phase == phases.SUSPEND)
            worker = connection.suspended
            assert worker is not None
            assert (worker.call, worker.on) == ("recv", one)
            assert worker.since <= time.monotonic()
            assert where(worker).endswith("in body")
            assert __file__ in where(worker)
            other.sendall(b"x")
            assert (await client.answer()).text == "done"
            assert connection.suspended is None
            assert worker.call is None
            assert connection.phase == phases.RECYCLE
        assert not go_on


def test_show() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        assert show(sock) == f"127.0.0.1:{listener.getsockname()[1]}"
        assert show(listener) == f"127.0.0.1:{listener.getsockname()[1]}"
    assert show(sock) == "descriptor -1"
    assert show("x") == "x"
    assert show(2) == "2 s"
    assert show([1]) == "[1]"
    assert place_of(None) == ""
    with quiet_pair() as (one, _):
        assert show(one).startswith("descriptor")


async def test_each_suspension_is_logged_where_asked(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("DEBUG", logger="coserver.hooks")
    blocking = Blocking(lambda events: time.sleep(0.01))
    async with testing.serving(blocking.app) as server, connect(server.port) as client:
        await client.ask(get())
    assert "sleep on 0.01 s" in caplog.text
    assert os.path.basename(__file__) in caplog.text
