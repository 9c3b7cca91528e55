"""What may be asked of a running server over its control socket, and what may not."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coserver import App, SetupError
from coserver.control.api import object_json
from coserver.control.client import Client, Ended, Refused, Stream, Unreachable, find
from coserver.control.feed import WAITING_MAX

from .conftest import Controlled

TOKEN = "0123456789abcdef"


def ask(port: int, path: str, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Asking(threading.Thread):
    """A request in a thread of its own; ``answer`` when it has ended, None if it was cut."""

    def __init__(self, port: int, path: str, method: str = "GET", body: str | None = None) -> None:
        super().__init__()
        self.answer: tuple[int, str] | None = None
        self._given = (port, path, method, body)
        self.start()

    def run(self) -> None:
        try:
            self.answer = ask(*self._given)
        except (OSError, http.client.HTTPException):
            pass

    def done(self) -> tuple[int, str] | None:
        self.join(20)
        assert not self.is_alive()
        return self.answer


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def first(changes: Iterator[list[dict[str, Any]]], phase: str) -> dict[str, Any]:
    """What is held at this phase, as soon as it is."""
    return next(held[0] for held in changes if held and held[0]["phase"] == phase)


def test_who_is_there_and_what_it_does(controlled: Controlled, backend: str) -> None:
    server, client = controlled(backend=backend)
    assert client.about["server"] == "shop"
    assert client.about["state"] == "running"
    slow = Asking(server.port, "/slow")
    until(lambda: client.snapshot().exchanges)
    (exchange,) = client.snapshot("~u slow").exchanges
    assert exchange.target == "/slow"
    assert not client.snapshot("~u items").connections
    assert client.snapshot().listeners[0].address == f"127.0.0.1:{server.port}"
    server.stop(0)
    slow.done()
    with pytest.raises(Unreachable, match="no server is reachable at"):
        client.snapshot()


def test_stepping(controlled: Controlled, backend: str) -> None:
    server, client = controlled(backend=backend)
    with client.step("/items/", ["head", "response"]) as step:
        asking = Asking(server.port, "/items/1")
        changes = step.changes()
        held = first(changes, "head")
        assert held["title"] == "GET /items/1"
        assert held["request"]["method"] == "GET"
        step.edit(held, target="/items/2", headers={"x-a": "b", "accept-encoding": None})
        with pytest.raises(Refused, match="cannot be changed at 'head'"):
            step.edit(held, body="x")
        with pytest.raises(Refused, match="takes an object with"):
            client.ask("POST", f"/v1/steps/{step.number}/next", {"wrong": 1})
        with pytest.raises(Refused, match="'fly' is no action"):
            client.ask("POST", f"/v1/steps/{step.number}/fly")
        with pytest.raises(Refused, match="takes nothing"):
            client.ask("POST", f"/v1/steps/{step.number}/resume_all", {"held": 1})
        listed = client.ask("GET", "/v1/steps")["steps"]
        assert [one["held"][0]["title"] for one in listed] == ["GET /items/2"]
        step.until("handler")
        held = first(changes, "handler")
        step.next(held)
        held = first(changes, "response")
        assert held["response"]["body"] == {"size": 8, "text": '{"id":2}'}
        step.edit(status=202, body={"changed": True})
        assert step.resume_all() == 1
        assert asking.done() == (202, '{"changed":true}')
        with pytest.raises(Refused, match="nothing is held") as refused:
            step.next()
        assert refused.value.status == 409
        with pytest.raises(Refused, match="'7' is not held") as refused:
            client.ask("POST", f"/v1/steps/{step.number}/next", {"held": "7"})
        assert refused.value.status == 409
        answered = Asking(server.port, "/items/1")
        first(changes, "head")
        step.respond(418, "teapot", {"x-tea": "1"})
        first(changes, "response")
        step.resume()
        assert answered.done() == (418, "teapot")
        aborted = Asking(server.port, "/items/1")
        first(changes, "head")
        step.abort()
        assert aborted.done() is None
    until(lambda: not server.emitter.gates)
    assert ask(server.port, "/items/1") == (200, '{"id":1}')


def test_a_stepper_that_is_opened_wrongly(controlled: Controlled) -> None:
    server, client = controlled()
    for given, why in (({"filter": "~zz"}, "column"), ({"at": "suspend"}, "can be observed"), ({"limit": -1}, "limit"),
                       ({"limit": 10**400}, "limit may not be"),
                       ({"at": []}, "name a phase"), ({"filter": 5}, "may not be"), ({"unknown": 5}, "not known"),
                       ({"at": [5]}, "held")):  # fmt: skip
        with pytest.raises(Refused, match=why) as refused:
            Stream(client, "POST", "/v1/steps", given)
        assert refused.value.status == 400
    assert not server.emitter.gates
    with pytest.raises(Refused, match="no stepper 99 is open"):
        client.ask("POST", "/v1/steps/99/next")


def test_a_controller_that_vanishes_holds_nothing(controlled: Controlled, backend: str) -> None:
    server, client = controlled(backend=backend)
    for how in ("shutdown", "reset"):
        stream = Stream(client, "POST", "/v1/steps", {"filter": "", "at": "handler"})
        asking = Asking(server.port, "/items/1")
        until(lambda: server.steps[-1].waiting)
        sock = stream._connection.sock
        assert sock is not None
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.close()
        assert asking.done() == (200, '{"id":1}')
        until(lambda: not server.emitter.gates)


def test_a_step_closed_by_another(controlled: Controlled) -> None:
    server, client = controlled()
    step = client.step("", "handler")
    asking = Asking(server.port, "/items/1")
    until(lambda: server.steps[-1].waiting)
    client.ask("DELETE", f"/v1/steps/{step.number}")
    assert asking.done() == (200, '{"id":1}')
    assert list(step.changes())[-1] == []
    step.close()


def test_the_server_stops_while_something_is_held(controlled: Controlled) -> None:
    server, client = controlled()
    step = client.step("", "handler")
    asking = Asking(server.port, "/items/1")
    changes = step.changes()
    first(changes, "handler")
    client.drain(5)
    assert asking.done() == (200, '{"id":1}')
    try:
        for _ in changes:
            pass
    except Unreachable:
        pass
    step.close()
    server.stop()


def test_events_and_traces_as_they_come(controlled: Controlled) -> None:
    server, client = controlled()
    with client.events("/items") as events, client.follow("~c 2xx", whole=True) as traces, client.events() as all_:
        assert server.traces.recording
        ask(server.port, "/nowhere")
        ask(server.port, "/items/7")
        kinds = []
        for event in events:
            kinds.append(event["event"])
            if event["event"] == "ResponseFinished":
                break
        assert kinds == ["RequestHead", "RequestRead", "HandlerStarted", "HandlerFinished", "ResponseStarted",
                         "ResponseFinished"]  # fmt: skip
        trace = next(iter(traces))
        assert (trace["status"], trace["target"]) == (200, "/items/7")
        assert trace["response"]["body"]["text"] == '{"id":7}'
        assert next(iter(all_))["event"] == "ConnectionOpened"
    until(lambda: not server.traces.recording)
    (trace,) = client.traces("~c 2xx")
    assert client.trace(trace.id).response.body.content == b'{"id":7}'
    client.mark(trace.id)
    assert [one.id for one in client.traces("~marked")] == [trace.id]
    with pytest.raises(Refused, match="no trace"):
        client.trace(10**9)
    client.record()
    assert server.traces.recording
    client.record(False)
    assert not server.traces.recording
    assert len(client.traces(last=1)) == 1


def test_what_utf_8_cannot_say_breaks_no_stream(
    app: App, controlled: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file's name that is no text stands in an error's words and in what a handler waits for."""
    # What is logged goes with pytest's report to another process, which such words would break too.
    monkeypatch.setattr(logging.getLogger("coserver.server"), "disabled", True)

    @app.get("/odd")
    def odd() -> Any:
        raise FileNotFoundError("caf\udce9.txt")

    server, client = controlled()
    with client.events() as events, client.follow(whole=True) as traces:
        assert ask(server.port, "/odd")[0] == 500
        (failed,) = (one for one in _until_closed(events) if one["event"] == "HandlerFailed")
        assert failed["error"] == r"FileNotFoundError: caf\udce9.txt"
        assert next(iter(traces))["error"] == failed["error"]
    (kept,) = client.traces("~e")
    assert client.trace(kept.id).error == failed["error"]
    assert object_json({"on": "caf\udce9"}).body == rb'{"on": "caf\udce9"}'


def test_a_client_that_stops_reading_loses_visibly(controlled: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not notice; whoever reads on later is told how much it has missed."""
    server, client = controlled()
    stream = client.events()
    stream._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for _ in range(WAITING_MAX):  # eight events each
        connection.request("GET", "/items/1")
        connection.getresponse().read()
    connection.close()
    until(lambda: not server.snapshot().connections)
    lost = sum(each["lost"] for each in _until_closed(stream) if "lost" in each)
    assert lost > 0
    stream.close()


def _until_closed(stream: Stream) -> Iterator[dict[str, Any]]:
    for each in stream:
        yield each
        if each.get("event") == "ConnectionClosed":
            return


def test_however_many_follow_others_are_answered(controlled: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coserver.control.api.STREAMS", 3)
    _, client = controlled()
    with client.events(), client.follow(), client.step("~u nowhere"):
        for another in (client.events, client.follow, client.step):
            with pytest.raises(Refused, match="3 streams of events") as refused:
                another()
            assert refused.value.status == 503
        assert client.snapshot().state == "running"
    until(lambda: not client.ask("GET", "/v1/steps")["steps"])
    until(lambda: _can(client.events))


def _can(follow: Callable[[], Stream]) -> bool:
    try:
        follow().close()
    except Refused:
        return False
    return True


def test_a_filter_that_takes_too_long_ends_what_asked_for_it(controlled: Controlled, backend: str) -> None:
    """The server waits for it once, a moment, and goes on; whoever asked is told why."""
    server, client = controlled(backend=backend)
    slow = "'(a|aa)+$'"
    with client.events(slow) as events, client.follow(slow) as traces, client.step(slow, "head") as step:
        assert ask(server.port, f"/{'a' * 3000}!")[0] == 404
        assert ask(server.port, "/items/1")[0] == 200
        for stream in (events, traces, step.changes()):
            with pytest.raises(Ended, match=r"takes more than 0.1 s"):
                for _ in stream:
                    pass
    until(lambda: not server.emitter.gates)
    client.record()
    ask(server.port, f"/{'a' * 3000}!")
    with pytest.raises(Refused, match=r"takes more than 0.1 s"):
        client.traces(slow)


def test_levels_and_the_drain(controlled: Controlled) -> None:
    server, client = controlled()
    logger = logging.getLogger("coserver.tried")
    try:
        client.set_level("debug", "coserver.tried")
        assert logger.level == logging.DEBUG
        assert client.ask("GET", "/v1/log")["coserver.tried"] == "debug"
    finally:
        logger.setLevel(logging.NOTSET)
    for level, name in (("loud", "coserver"), ("debug", "root"), ("debug", "coserverx")):
        with pytest.raises(Refused):
            client.set_level(level, name)
    with pytest.raises(Refused, match="logger must be coserver"):
        client.set_level("debug", "coserver.x\n2026-01-01 ERROR made up")
    with pytest.raises(Refused, match="grace"):
        client.drain(-1)
    with pytest.raises(Refused, match="grace may not be 1000"):
        client.drain(10**400)  # more than a clock can add
    client.drain(0)
    until(lambda: not server.running)


def test_metrics_and_certificates(controlled: Controlled) -> None:
    _, client = controlled()
    assert "# EOF" in client.metrics()
    with pytest.raises(Refused, match="no listener of this server speaks TLS"):
        client.reload_certificates()


# Who may ask.


def raw(port: int, **fields: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/v1", headers=fields)
        return connection.getresponse().status
    finally:
        connection.close()


def test_tcp_only_with_the_token_and_no_page(controlled: Controlled) -> None:
    server, _ = controlled(control_port=0, control_token=TOKEN)
    assert server.control is not None
    port = server.control.port
    assert port is not None
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert raw(port, **right) == 200
    assert Client(f"http://127.0.0.1:{port}", TOKEN).about["server"] == "shop"
    with pytest.raises(Refused, match="token"):
        Client(f"http://127.0.0.1:{port}")
    assert raw(port, Authorization="Bearer wrong") == 401
    assert raw(port, Authorization=f"Basic {TOKEN}") == 401
    assert raw(port, Authorization="Bearer é") == 401
    assert raw(port, **right, Host="rebound.example") == 403
    assert raw(port, **right, Host=f"localhost:{port}") == 200
    assert raw(port, **right, Host=f"[::1]:{port}") == 200
    assert raw(port, **right, Host=f"LocalHost:{port}") == 200
    assert raw(port, **right, Origin="http://[") == 403
    assert raw(port, **right, Origin="http://evil.example") == 403
    assert raw(port, **right, Origin="null") == 403
    assert raw(port, **right, Origin="http://localhost:8888") == 200


def test_settings_that_cannot_be(app: App) -> None:
    for wrong in ({"control": ""}, {"control": 5}, {"control_port": 70000}, {"control_port": 0},
                  {"control_port": 0, "control_token": "short"},
                  {"control_port": 0, "control_token": "ü" * 30}):  # fmt: skip
        with pytest.raises(SetupError, match="control"):
            app.start(**wrong)


def test_none_unless_asked(app: App) -> None:
    with app.start() as server:
        assert server.control is None


async def test_in_the_callers_loop(app: App, runtime: Any) -> None:
    import anyio

    from coserver import testing

    async with testing.serving(app, control="auto") as server:
        assert server.control is not None
        client = await anyio.to_thread.run_sync(find, "shop")
        assert (await anyio.to_thread.run_sync(client.snapshot)).server == "shop"
        assert json.loads(await anyio.to_thread.run_sync(client._bytes, "GET", "/v1"))["state"] == "running"
    assert not list(runtime.iterdir())
