"""What an isolated server's traces and steppers are here: over its control socket, as if they were its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver import App, Server
from coserver.app.process.remote import RemoteStepper, RemoteTraces
from coserver.control.client import Client
from coserver.observe.filters import FilterError
from coserver.observe.step.held import NotHeld

from ..get import get


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    app = App(name="shop")

    @app.get("/items/{id}")
    def item(id: int) -> str:
        return f"item {id}"

    with app.start(control=str(tmp_path / "control.sock")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    assert server.control is not None
    return Client(server.control.path)


def test_traces(server: Server, client: Client) -> None:
    traces = RemoteTraces(client, "shop")
    assert not traces.recording
    assert repr(traces) == "<RemoteTraces of 'shop'>"
    traces.start()
    for number in (1, 2, 3):
        get(server, f"/items/{number}")
    assert traces.recording
    assert len(traces) == 3
    assert [trace.target for trace in traces] == ["/items/1", "/items/2", "/items/3"]
    assert traces[-1].target == "/items/3"
    assert [one.target for one in traces[:2]] == ["/items/1", "/items/2"]
    assert [one.target for one in traces("~u /items/2")] == ["/items/2"]
    with pytest.raises(FilterError):
        traces("~nothing")
    one = traces[0]
    assert traces.find(one.id).response.body.content == b"item 1"
    with pytest.raises(KeyError):
        traces.find(10**9)
    assert [each.target for each in traces.latest(1)[1]] == ["/items/2", "/items/3"]
    assert traces.latest(3) == (3, [])
    assert len(traces.har()["log"]["entries"]) == 3
    assert len(traces.har(one)["log"]["entries"]) == 1
    assert "/items/3" in traces._repr_mimebundle_()["text/html"]
    traces.stop()
    assert not traces.recording


def asking(server: Server, path: str) -> tuple[threading.Thread, list[tuple[int, str]]]:
    answers: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: answers.append(get(server, path)))
    thread.start()
    return thread, answers


def test_a_stepper(server: Server, client: Client) -> None:
    seen = threading.Event()
    with RemoteStepper(client, "shop", "~u /items", ["handler", "response"], 30) as steps:
        steps.watch(seen.set)
        thread, answers = asking(server, "/items/1")
        held = steps.wait(10)
        assert held.phase == "handler"
        assert "held at handler" in repr(held)
        assert "GET /items/1" in held.title
        assert seen.wait(10)
        steps.unwatch(seen.set)
        held.edit(target="/items/9")
        held.next()
        held = steps.wait(10)
        assert (held.phase, len(steps.waiting)) == ("response", 1)
        held.resume()
        thread.join(10)
        assert answers == [(200, "item 9")]
        for status in (418, 200):
            thread, answers = asking(server, "/items/2")
            held = steps.wait(10)
            if status == 418:
                held.respond(418, "tea")
            else:
                held.until("response")
            with pytest.raises(NotHeld):
                held.next()
            while thread.is_alive():
                for one in steps.waiting:
                    one.resume()
                time.sleep(0.005)
            assert answers[0][0] == status
    steps.close()  # twice is fine
    assert "at handler, response: closed" in repr(steps)
