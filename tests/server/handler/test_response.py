"""Responses made of what handlers return, and errors made into answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coserver import App, HTTPException, Request, Response, testing
from coserver.protocol import jsons
from coserver.protocol.errors import LocalProtocolError
from coserver.server.handler.errors import phrase
from coserver.server.handler.response import encode_piece, error_response, to_response


def test_defaults() -> None:
    response = Response("x")
    assert (response.status, response.body, response.content_type) == (200, b"x", "text/plain; charset=utf-8")
    assert list(response.fields) == []
    assert response.trailers is None
    assert repr(response) == "<Response 200 text/plain; charset=utf-8, 1 bytes>"
    assert repr(Response(iter([]), 206, content_type="")) == "<Response 206 no type, a stream>"
    assert Response().body == b""


def test_responses_share_nothing() -> None:
    first, second = to_response("a"), to_response("b")
    first.status, first.fields = 404, [("x", "y")]
    assert (second.status, list(second.fields)) == (200, [])


@pytest.mark.parametrize("headers", [{"Content-Type": "a/b", "X": "1"}, [("X", "1"), ("content-type", "a/b")]])
def test_content_type_of_the_headers(headers: Any) -> None:
    response = Response("x", headers=headers)
    assert response.content_type == "a/b"
    assert response.fields == [("X", "1")]
    assert Response("x", headers=headers, content_type="c/d").content_type == "c/d"


@pytest.mark.parametrize("body", [5, None, {"a": 1}, ["x"], {1}, object()])
def test_bodies_that_are_none(body: Any) -> None:
    with pytest.raises(TypeError, match="a response's body is str, bytes"):
        Response(body)


def test_a_body_that_has_a_way_of_its_own() -> None:
    wrong: Any
    for wrong, way_out in ((Path("a.csv"), r"PosixPath: .*\(Response\.file\)"), ({"a": 1}, r"dict: .*Response\.json")):
        with pytest.raises(TypeError, match=way_out):
            Response(wrong)


@dataclass
class Point:
    x: int
    y: object = None


JSONS: list[tuple[Any, Any]] = [
    (42, 42), (1 << 70, 1 << 70), (1.5, 1.5), (float("nan"), None), (True, True), (False, False), (0, 0),
    (Point(1), {"x": 1, "y": None}), (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": None}}), ({5}, [5]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), JSONS, ids=lambda value: repr(value)[:20])
def test_values_for_json(value: Any, expected: Any) -> None:
    response = to_response(value)
    assert (response.status, response.content_type) == (200, "application/json")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == expected
    created = to_response((value, 201, {"x": "y"}))
    assert (created.status, created.body, created.fields) == (201, response.body, [("x", "y")])


def test_models_of_pydantic() -> None:
    pydantic = pytest.importorskip("pydantic")
    item = pydantic.create_model("Item", id=(int, ...), at=(str | None, None))
    assert to_response(item(id=3)).body == b'{"id":3,"at":null}'
    assert to_response([item(id=3, at=None)]).body == b'[{"id":3,"at":null}]'


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Path("a.csv"), r"got PosixPath: .*To send the file, return Response\.file\(path\)"),
        (object(), r"a handler returns str, bytes, .*a value for JSON: .*got object: <object"),
        ([Path("a.csv")], r"JSON has no PosixPath: "),
        ((1, 2), r"read as \(body, status\).* got \(1, 2\)\. For an array of JSON return a list"),
        (("a", "b"), r"read as \(body, status\).* got \('a', 'b'\)"),
        (("a", True), r"read as \(body, status\)"),
        ((1,), r"read as \(body, status\)"),
        (("a", 600), r"from 200 to 599; got \('a', 600\)"),
        (("a", 199), r"from 200 to 599"),
    ],
    ids=lambda value: str(value)[:20].partition(" at 0x")[0],
)
def test_values_that_are_no_response(value: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        to_response(value)


@pytest.mark.parametrize("mode", ["def", "async def"])
def test_a_wrong_value_is_told_where_a_person_looks(mode: str) -> None:
    """In the exception, in the repr of an answer whose exception is not raised, and in the debug page."""
    app = App()

    def wrong() -> Any:
        return Path("a.csv")

    async def wrong_async() -> Any:
        return wrong()

    app.get("/")(wrong if mode == "def" else wrong_async)
    with testing.sync_client(app, raise_errors=False) as client:
        answer = client.get("/")
        assert isinstance(answer.failure, TypeError)
        assert "TypeError: a handler returns" in repr(answer)
        assert client.get("/").status == 500
    with testing.sync_client(app, raise_errors=False, debug=True) as client:
        assert "return Response.file(path)" in client.get("/").text
    with testing.sync_client(app) as client, pytest.raises(TypeError, match=r"Response\.file"):
        client.get("/")


def test_html() -> None:
    response = Response.html("<h1>hé</h1>", 201, {"x": "y"})
    assert (response.status, response.content_type) == (201, "text/html; charset=utf-8")
    assert response.body == "<h1>hé</h1>".encode()
    assert response.fields == [("x", "y")]


def test_tuples() -> None:
    response = to_response((Response("x", 404, {"a": "b"}), 201, {"c": "d"}))
    assert (response.status, response.fields) == (201, [("a", "b"), ("c", "d")])


def test_subclasses() -> None:
    class Own(Response):
        pass

    own = Own("x")
    assert to_response(own) is own

    class Text(str):
        pass

    assert to_response(Text("x")).body == b"x"


def test_json() -> None:
    assert Response.json({"a": 1.5, "b": [True, None]}).body == b'{"a":1.5,"b":[true,null]}'
    assert Response.json([], 201, {"X": "1"}).fields == [("X", "1")]
    with pytest.raises(TypeError):
        Response.json(object())
    assert json.loads(jsons.encode_json_slowly({"a": 1 << 70})) == {"a": 1 << 70}
    assert jsons.encode_json_slowly(float("nan")) == jsons.encode_json(float("nan")) == b"null"
    assert json.loads(jsons.encode_json({"a": -(1 << 70)})) == {"a": -(1 << 70)}


def test_pieces() -> None:
    assert [encode_piece(piece) for piece in ("a", b"b", bytearray(b"c"), memoryview(b"d"))] == [b"a", b"b", b"c", b"d"]
    with pytest.raises(LocalProtocolError, match="yields str or bytes; got int: 5"):
        encode_piece(5)


def test_errors() -> None:
    assert error_response(HTTPException(404)).body == b"404 Not Found\n"
    response = error_response(HTTPException(405, "no", {"allow": "GET"}))
    assert (response.status, response.body) == (405, b"405 Method Not Allowed\nno\n")
    assert response.fields == [("allow", "GET")]
    assert str(HTTPException(404, "gone fishing")) == "404 gone fishing"
    assert HTTPException(404, "").detail == ""


@pytest.mark.parametrize("detail", [{"error": "no"}, [1, {"a": None}], {}, []])
def test_a_detail_for_json(detail: Any) -> None:
    error = HTTPException(404, detail, {"x": "y"})
    assert error.detail == detail
    response = error_response(error)
    assert (response.status, response.content_type) == (404, "application/json")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == detail
    assert response.fields == [("x", "y")]
    problem = error_response(HTTPException(404, detail, {"Content-Type": "application/problem+json"}))
    assert (problem.content_type, problem.fields) == ("application/problem+json", [])  # RFC 9457


def test_a_detail_that_json_does_not_have() -> None:
    with pytest.raises(TypeError, match="JSON has no object"):
        HTTPException(400, {"a": object()})
    assert error_response(HTTPException(400, ValueError("x"))).body == b"400 Bad Request\nx\n"  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [HTTPException, lambda **given: HTTPException(404, **given)])
def test_keywords_of_other_libraries(make: Callable[..., Any]) -> None:
    for given, meant in (
        ("status_code", "status"),
        ("code", "status"),
        ("description", "detail"),
        ("header", "headers"),
    ):
        with pytest.raises(TypeError, match=f"no option '{given}'; did you mean '{meant}'"):
            make(**{given: 1})


async def test_a_detail_for_json_on_the_wire() -> None:
    app = App()

    @app.get("/{id}")
    def item(id: int) -> None:
        raise HTTPException(404, {"error": "no", "id": id})

    @app.get("/seen")
    def seen(request: Request) -> None:
        raise HTTPException(409)

    @app.error(409)
    def conflict(error: HTTPException) -> Any:
        return {"detail": error.detail}

    async with testing.client(app) as client:
        answer = await client.get("/3")
        assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
        assert answer.json() == {"error": "no", "id": 3}
        assert (await client.get("/seen")).json() == {"detail": "Conflict"}


@pytest.mark.parametrize("status", [200, 302, 399, 600, 0])
def test_what_is_no_error(status: int) -> None:
    with pytest.raises(ValueError, match="from 400 to 599"):
        HTTPException(status)


def test_phrases() -> None:
    assert phrase(404) == "Not Found"
    assert phrase(499) == "Client Error"
    assert phrase(599) == "Server Error"
