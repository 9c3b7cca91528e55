"""The port that a notebook's page asks: who may, and that nobody else gets so much as an answer to read."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from coserver.control.page_port import TOKEN, PagePort


def answer(given: dict[str, Any]) -> dict[str, Any]:
    return {"re": given["id"]}


@pytest.fixture(scope="module")
def port() -> Iterator[PagePort]:
    one = PagePort(answer)
    yield one
    one.close()
    with pytest.raises(OSError, match="refused"):
        ask(one)


def ask(port: PagePort, method: str = "POST", body: Any = None, **fields: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port.port or 0, timeout=20)
    try:
        given = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, "/ask", json.dumps({"id": "1"} if body is None else body), given)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode()
    finally:
        connection.close()


def test_whoever_has_the_token_is_answered(port: PagePort) -> None:
    status, fields, said = ask(port, x_coserver_token=port.token)
    assert (status, json.loads(said)) == (200, {"re": "1"})
    assert "access-control-allow-origin" not in fields
    assert fields["cache-control"] == "no-store"


@pytest.mark.parametrize("token", [None, "", "x" * 43, "é"])
def test_nobody_else_is(port: PagePort, token: str | None) -> None:
    status, fields, said = ask(port, **({} if token is None else {"x_coserver_token": token}))
    assert status == 403
    assert port.token not in said
    assert "access-control-allow-origin" not in fields


@pytest.mark.parametrize("origin", ["http://localhost:8888", "http://127.0.0.1:8888", "http://[::1]:8888"])
def test_a_page_of_this_machine_may_read_the_answer(port: PagePort, origin: str) -> None:
    status, fields, _ = ask(port, x_coserver_token=port.token, origin=origin)
    assert (status, fields["access-control-allow-origin"]) == (200, origin)
    assert fields["vary"] == "origin"
    assert "access-control-allow-credentials" not in fields
    status, fields, _ = ask(port, "OPTIONS", origin=origin, access_control_request_private_network="true")
    assert (status, fields["access-control-allow-headers"]) == (204, f"{TOKEN}, content-type")
    assert fields["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null", "http://"])
def test_a_page_of_elsewhere_may_not_ask_even_with_the_token(port: PagePort, method: str, origin: str) -> None:
    status, fields, _ = ask(port, method, x_coserver_token=port.token, origin=origin)
    assert status == 403
    assert "access-control-allow-origin" not in fields


def test_the_page_of_a_proxy_in_front_is_the_same_origin(port: PagePort) -> None:
    far = {"origin": "https://hub.example", "x_coserver_token": port.token}
    assert ask(port, host="hub.example", **far)[0] == 200
    assert ask(port, x_forwarded_host="hub.example", **far)[0] == 200
    assert ask(port, host="hub.example", origin="https://hub.example")[0] == 403  # a name that was made lead here


def test_a_page_that_the_kernel_was_told_of_may_ask(port: PagePort) -> None:
    port.origins.add("https://lab.example")
    _, fields, _ = ask(port, x_coserver_token=port.token, origin="https://lab.example")
    assert fields["access-control-allow-origin"] == "https://lab.example"


@pytest.mark.parametrize("body", [[], "text", 7])
def test_a_question_is_an_object(port: PagePort, body: Any) -> None:
    status, _, said = ask(port, body=body, x_coserver_token=port.token)
    assert status == 400
    assert "JSON object" in said
