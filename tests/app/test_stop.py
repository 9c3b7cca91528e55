"""``server.stop()``: from anywhere, as often as one likes, and what becomes of running requests."""

from __future__ import annotations

import http.client
import logging
import threading
import time

import anyio
import pytest

from coserver import App, Server, await_

from .get import TIMEOUT, get, refused


@pytest.fixture
def begun(app: App) -> threading.Event:
    """Set when a request for /slow (half a minute) runs; /while takes a moment."""
    begun = threading.Event()

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        await anyio.sleep(30)
        return "late"

    @app.get("/while")
    async def for_a_while() -> str:
        begun.set()
        await anyio.sleep(0.1)
        return "finished"

    return begun


def in_thread(server: Server, path: str) -> tuple[threading.Thread, list[object]]:
    """A client under way, and where its answer will be."""
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(get(server, path))
        except (OSError, http.client.HTTPException) as error:
            answers.append(type(error))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, answers


def test_what_runs_is_finished(app: App, backend: str, begun: threading.Event) -> None:
    server = app.start(backend=backend)
    client, answers = in_thread(server, "/while")
    begun.wait(TIMEOUT)
    assert server.exchanges == 1
    server.stop()
    client.join()
    assert answers == [(200, "finished")]


def test_what_outlives_the_grace_is_cancelled(
    app: App, backend: str, begun: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    server = app.start(backend=backend)
    client, answers = in_thread(server, "/slow")
    begun.wait(TIMEOUT)
    before = time.monotonic()
    server.stop(grace=0.05)
    assert time.monotonic() - before < 5
    client.join()
    assert answers != [(200, "late")]
    assert "the grace of 0.05 s is over" in caplog.text


def test_a_second_stop_may_shorten_the_grace(app: App, begun: threading.Event) -> None:
    server = app.start()
    client, _ = in_thread(server, "/slow")
    begun.wait(TIMEOUT)
    server.begin_stop(25)
    server.stop(grace=0)
    client.join()
    assert not server.running


def test_twice(app: App, backend: str) -> None:
    server = app.start(backend=backend)
    server.stop()
    server.stop()
    server.stop(grace=0)
    assert not server.running


@pytest.mark.parametrize("grace", [-1, float("nan")])
def test_a_grace_that_makes_no_sense(app: App, grace: float) -> None:
    with app.start() as server, pytest.raises(ValueError, match="grace must be 0 seconds or more"):
        server.stop(grace=grace)


def test_from_many_threads_at_once(app: App, backend: str) -> None:
    server = app.start(backend=backend)
    assert get(server) == (200, "ok")
    threads = [threading.Thread(target=server.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not server.running
    assert refused(server.port)


def test_right_after_the_start(backend: str) -> None:
    for _ in range(10):
        app = App()
        app.get("/")(lambda: "")
        app.start(backend=backend).stop()


@pytest.mark.parametrize("path", ["/stop", "/stop-plain"])
def test_from_a_handler(app: App, backend: str, path: str) -> None:
    servers: list[Server] = []

    @app.get("/stop")
    async def stop() -> str:
        servers[0].stop()
        return "stopping"

    @app.get("/stop-plain")
    def stop_plain() -> str:
        servers[0].stop()
        await_(anyio.sleep(0.01))
        return "stopping"

    servers.append(app.start(backend=backend))
    assert get(servers[0], path) == (200, "stopping")
    servers[0].stop()
    assert not servers[0].running


def test_idle_connections_do_not_keep_it(app: App, backend: str) -> None:
    server = app.start(backend=backend)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"ok"
    before = time.monotonic()
    server.stop()
    assert time.monotonic() - before < 2
    connection.close()


def test_an_idle_end_is_no_news(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = app.start()
    assert get(server) == (200, "ok")
    server.stop(grace=0)
    assert caplog.text == ""
