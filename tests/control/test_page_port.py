"""The desk that a notebook's page asks: who may, and that nobody else gets so much as an answer to read."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from coserver.control.page_port import TOKEN, Desk


def answer(given: dict[str, Any]) -> dict[str, Any]:
    return {"re": given["id"]}


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    one = Desk(answer)
    yield one
    one.close()
    with pytest.raises(OSError, match="refused"):
        ask(one)


def ask(desk: Desk, method: str = "POST", body: Any = None, **fields: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", desk.port or 0, timeout=20)
    try:
        given = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, "/ask", json.dumps({"id": "1"} if body is None else body), given)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode()
    finally:
        connection.close()


def test_whoever_has_the_token_is_answered(desk: Desk) -> None:
    status, fields, said = ask(desk, x_coserver_token=desk.token)
    assert (status, json.loads(said)) == (200, {"re": "1"})
    assert "access-control-allow-origin" not in fields
    assert fields["cache-control"] == "no-store"


@pytest.mark.parametrize("token", [None, "", "x" * 43, "é"])
def test_nobody_else_is(desk: Desk, token: str | None) -> None:
    status, fields, said = ask(desk, **({} if token is None else {"x_coserver_token": token}))
    assert status == 403
    assert desk.token not in said
    assert "access-control-allow-origin" not in fields


@pytest.mark.parametrize("origin", ["http://localhost:8888", "http://127.0.0.1:8888", "http://[::1]:8888"])
def test_a_page_of_this_machine_may_read_the_answer(desk: Desk, origin: str) -> None:
    status, fields, _ = ask(desk, x_coserver_token=desk.token, origin=origin)
    assert (status, fields["access-control-allow-origin"]) == (200, origin)
    assert fields["vary"] == "origin"
    assert "access-control-allow-credentials" not in fields
    status, fields, _ = ask(desk, "OPTIONS", origin=origin, access_control_request_private_network="true")
    assert (status, fields["access-control-allow-headers"]) == (204, f"{TOKEN}, content-type")
    assert fields["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null", "http://"])
def test_a_page_of_elsewhere_may_not_ask_even_with_the_token(desk: Desk, method: str, origin: str) -> None:
    status, fields, _ = ask(desk, method, x_coserver_token=desk.token, origin=origin)
    assert status == 403
    assert "access-control-allow-origin" not in fields


def test_the_page_of_a_proxy_in_front_is_the_same_origin(desk: Desk) -> None:
    far = {"origin": "https://hub.example", "x_coserver_token": desk.token}
    assert ask(desk, host="hub.example", **far)[0] == 200
    assert ask(desk, x_forwarded_host="hub.example", **far)[0] == 200
    assert ask(desk, host="hub.example", origin="https://hub.example")[0] == 403  # a name that was made lead here


def test_a_page_that_the_kernel_was_told_of_may_ask(desk: Desk) -> None:
    desk.origins.add("https://lab.example")
    _, fields, _ = ask(desk, x_coserver_token=desk.token, origin="https://lab.example")
    assert fields["access-control-allow-origin"] == "https://lab.example"


@pytest.mark.parametrize("body", [[], "text", 7])
def test_a_question_is_an_object(desk: Desk, body: Any) -> None:
    status, _, said = ask(desk, body=body, x_coserver_token=desk.token)
    assert status == 400
    assert "JSON object" in said
