"""The control: who is there, levels, metrics, certificates, the drain."""

from __future__ import annotations

import logging

import pytest

from coserver.control.client import Refused, Unreachable

from .clients import Asking, until
from .conftest import Controlled


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


def test_a_replay_with_changes(controlled: Controlled) -> None:
    server, client = controlled()
    client.record()
    Asking(server.port, "/items/1").done()
    until(client.traces)
    (trace,) = client.traces()
    assert client.replay(trace.id)["status"] == 200
    assert client.replay(trace.id, target="/nowhere", method="POST", headers={"x": "y"}, body={"a": 1})["status"] == 404
    until(lambda: len(client.traces()) == 3)
    found = client.traces(whole=True)
    assert [one.replay_of for one in found] == [0, trace.id, trace.id]
    assert (found[-1].method, found[-1].target, found[-1].request.get("x")) == ("POST", "/nowhere", "y")
    for wrong in ({"target": "/a b"}, {"method": "GE T"}, {"status": 3}, {"headers": 5}):
        with pytest.raises(Refused):
            client.replay(trace.id, **wrong)
