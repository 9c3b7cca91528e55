"""Events and traces over the control socket."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coserver import App
from coserver.control.api import object_json
from coserver.control.client import Ended, Refused, Stream
from coserver.control.feed import WAITING_MAX

from .clients import ask, until
from .conftest import Controlled


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
