"""The query as a handler sees it; what a client left out or got wrong is a 400."""

from __future__ import annotations

import enum
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver import App, HTTPException, Limits, Request
from coserver.protocol.head import RequestHead
from coserver.server.handler.params import MissingValue, Params

from ..clients import get, talking


class Color(enum.Enum):
    RED = "red"


def request(query: str) -> Request:
    return Request(RequestHead("GET", f"/?{query}".encode(), 1, [(b"host", b"t")]), 1, "peer", {})


def test_values() -> None:
    made = request("q=a+b&tag=1&tag=2&empty&q=")
    assert made.query["q"] == "a b"
    assert made.query.get_all("tag") == ["1", "2"]
    assert made.query["empty"] == ""
    assert made.query.get("no") is None
    assert made.query.get("no", "x") == "x"
    assert made.query.pairs()[-1] == ("q", "")
    assert made.query is made.query
    assert not request("").query
    assert not Request(RequestHead("GET", b"/", 1, [(b"host", b"t")]), 1, "peer", {}).query


@pytest.mark.parametrize(
    ("text", "type", "value"),
    [
        ("5", int, 5), ("-5", int, -5), ("007", int, 7), ("0" * 32, UUID, UUID(int=0)), ("1e3", float, 1000.0),
        (".5", float, 0.5), ("1E-7", Decimal, Decimal("1E-7")),
        ("-1.5", float, -1.5), ("true", bool, True), ("OFF", bool, False), ("0", bool, False),
        ("red", Color, Color.RED), ("RED", Color.__getitem__, Color.RED), ("1.10", Decimal, Decimal("1.10")),
        ("2026-01-02", date.fromisoformat, date(2026, 1, 2)), ("a,b", lambda text: text.split(","), ["a", "b"]),
        ("00000000-0000-0000-0000-000000000001", UUID, UUID(int=1)), ("x", str, "x"),
    ],
)  # fmt: skip
def test_typed(text: str, type: Any, value: Any) -> None:
    assert request(urlencode({"x": text})).query.get("x", None, type=type) == value


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("1_000", int), ("٣", int), ("+5", int), (" 5", int), ("5\n", int), ("--5", int), ("0x5", int), ("५", int),
        ("1_0.5", float), ("٣.٥", float), ("+1.5", float), (" 1", float), ("infinity", float), ("1e+", float),
        ("1_0", Decimal), ("NaN", Decimal), ("Infinity", Decimal), ("٣", Decimal), ("+1", Decimal),
        ("{00000000-0000-0000-0000-000000000001}", UUID), ("٣" * 32, UUID), ("0000_000" * 4, UUID),
        ("x", int), ("", int), ("1.5", int), ("9" * 5000, int), ("nan", float), ("-inf", float), ("1e999", float),
        ("maybe", bool), ("blue", Color), ("BLUE", Color.__getitem__), ("x", Decimal),
        ("2026-13-01", date.fromisoformat), ("x", UUID),
    ],
)  # fmt: skip
def test_what_does_not_convert(text: str, type: Any) -> None:
    with pytest.raises(HTTPException, match="The query parameter 'x' is not a valid ") as caught:
        request(urlencode({"x": text})).query.get("x", 1, type=type)
    assert caught.value.status == 400
    assert len(caught.value.detail) < 150


def test_a_default_is_taken_as_it_is() -> None:
    assert request("").query.get("page", 1, type=int) == 1
    assert request("").query.get("page", "none", type=int) == "none"
    assert request("").query.get("page", type=int) is None


def test_a_bug_in_a_type_is_no_fault_of_the_client() -> None:
    with pytest.raises(TypeError):
        request("x=1").query.get("x", type=lambda text: text + 1)  # type: ignore[operator]


def test_a_missing_one() -> None:
    with pytest.raises(KeyError) as caught:
        request("a=1&b=2").query["page"]
    assert isinstance(caught.value, HTTPException)
    assert str(caught.value) == "400 The query parameter 'page' is missing; there are 'a', 'b'"
    with pytest.raises(MissingValue, match="there is none at all"):
        request("").query["page"]
    many = Params("field", [(f"{number}" * 200, "") for number in range(30)])
    with pytest.raises(MissingValue, match=r"and 20 more$") as missing:
        many["x" * 1000]
    assert len(missing.value.detail) < 800


async def test_on_the_wire(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.get("/need")(lambda request: request.query["page"])
    app.get("/page")(lambda request: {"page": request.query.get("page", 1, type=int)})

    @app.get("/all")
    async def everything(request: Request) -> Any:
        return [list(pair) for pair in request.query.pairs()]

    async with talking(app, limits=Limits(form_fields=3)) as (_, client):
        assert (await client.ask(get("/need?page=a%20b"))).text == "a b"
        answer = await client.ask(get("/need?q=1"))
        assert answer.status == 400
        assert answer.text == "400 Bad Request\nThe query parameter 'page' is missing; there are 'q'\n"
        assert (await client.ask(get("/page?page=7"))).text == '{"page":7}'
        answer = await client.ask(get("/page?page=%00%ED%A0%80x"))
        assert (answer.status, "is not a valid int: '\\x00\ufffd" in answer.text) == (400, True)
        assert (
            await client.ask(get("/all?a&b=%E9&a=%F0%9F%98%80"))
        ).text == '[["a",""],["b","\ufffd"],["a","\U0001f600"]]'
        answer = await client.ask(get("/all?a&b&c&d"))
        assert (answer.status, "at most 3" in answer.text) == (400, True)
    assert "failed" not in caplog.text  # nothing of this is the handlers' fault


@given(st.text([chr(c) for c in range(0x21, 0x7F) if c != 0x23], max_size=60), st.text(max_size=5))
def test_any_query(text: str, name: str) -> None:
    query = request(text).query
    for type in (int, float, bool, UUID, Color, Decimal):
        for each in [*query, name]:
            try:
                query.get(each, type=type)
            except HTTPException as error:
                assert error.status == 400  # noqa: PT017
                error.detail.encode()
    try:
        query["missing" + name]
    except MissingValue as error:
        error.detail.encode()
