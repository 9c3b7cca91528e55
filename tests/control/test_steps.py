"""Stepping over the control socket."""

from __future__ import annotations

import os
import socket

import pytest

from coserver.control.client import Refused, Stream, Unreachable

from .clients import Asking, ask, first, until
from .conftest import Controlled


def test_steppers_of_the_program_are_listed(controlled: Controlled, backend: str) -> None:
    """A stepper of a notebook is seen by ``top``: who holds, and what. Others can let its exchanges go."""
    server, client = controlled(backend=backend)
    with server.step("~u /items/", ["handler", "response"]) as step, client.step("/other") as other:
        asking = Asking(server.port, "/items/1")
        until(lambda: step.waiting)
        own, by_client = sorted(client.steps(), key=lambda one: one["step"] == other.number)
        assert own["by"] == "the server's own program"
        assert (own["filter"], own["at"]) == ("~u /items/", ["handler", "response"])
        assert [one["title"] for one in own["held"]] == ["GET /items/1"]
        assert by_client["step"] == other.number
        assert [one["step"] for one in client.steps()] == [one["step"] for one in client.steps()]
        client.ask("POST", f"/v1/steps/{own['step']}/next")
        until(lambda: [one.phase for one in step.waiting] == ["response"])
        client.ask("POST", f"/v1/steps/{own['step']}/resume_all")
        assert asking.done()[0] == 200
    until(lambda: client.steps() == [])
    with pytest.raises(Refused, match="no stepper"):
        client.ask("POST", f"/v1/steps/{own['step']}/next")


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
        with pytest.raises(Refused, match="cannot 'fly'"):
            client.ask("POST", f"/v1/steps/{step.number}/fly")
        with pytest.raises(Refused, match="takes no arguments"):
            client.ask("POST", f"/v1/steps/{step.number}/resume_all", {"held": 1})
        listed = client.ask("GET", "/v1/steps")["steps"]
        assert [one["held"][0]["title"] for one in listed] == ["GET /items/2"]
        (brief,) = client.steps()
        assert brief["by"] == listed[0]["by"] == f"a program, process {os.getpid()}"
        assert [list(one) for one in brief["held"]] == [["id", "title"]]
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
