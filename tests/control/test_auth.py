"""Who may ask the control over TCP."""

from __future__ import annotations

import http.client

import pytest

from coserver.control.client import Client, Refused

from .conftest import Controlled

TOKEN = "0123456789abcdef"


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
