"""Responses made of what handlers return, and errors made into answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coserver import HTTPException, Response
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


def test_tuples() -> None:
    with pytest.raises(TypeError, match=r"\(body, status\)"):
        to_response((1,))
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


@pytest.mark.parametrize("status", [200, 302, 399, 600, 0])
def test_what_is_no_error(status: int) -> None:
    with pytest.raises(ValueError, match="from 400 to 599"):
        HTTPException(status)


def test_phrases() -> None:
    assert phrase(404) == "Not Found"
    assert phrase(499) == "Client Error"
    assert phrase(599) == "Server Error"
