"""The request as a handler sees it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from coserver import App, HTTPException, Request, run_blocking
from coserver.protocol.head import RequestHead

from ..clients import get, talking


def make(method: str = "GET", target: bytes = b"/a%20b?x=1", fields: Any = (), body: bytes = b"") -> Request:
    head = RequestHead(method, target, 1, [(b"host", b"t.example:81"), *fields])
    request = Request(head, 7, "127.0.0.1:5", {"p": 1})
    request.set_body(body)
    return request


def test_facts() -> None:
    request = make(fields=[(b"x-a", b"1"), (b"x-a", b"2")])
    assert (request.method, request.target, request.path) == ("GET", "/a%20b?x=1", "/a b")
    assert (request.query_string, request.http_version, request.host) == ("x=1", "1.1", "t.example:81")
    assert (request.id, request.peer, request.params) == (7, "127.0.0.1:5", {"p": 1})
    assert request.headers["X-A"] == "1, 2"
    assert request.headers is request.headers
    assert dict(request.trailers) == {}
    assert repr(request) == "<Request 7 GET /a%20b?x=1 from 127.0.0.1:5>"


def test_a_field_that_is_missing() -> None:
    """The client's fault, as a missing parameter is."""
    request = make(fields=[(b"authorization", b"secret")])
    with pytest.raises(KeyError) as caught:
        request.headers["X-Token"]
    assert isinstance(caught.value, HTTPException)
    assert str(caught.value) == "400 The field 'X-Token' is missing"
    assert request.headers.get("x-token") is None
    assert request.headers.get("x-token", "none") == "none"
    assert request.headers.get("AUTHORIZATION") == "secret"
    assert "x-token" not in request.headers


def test_body_in_memory() -> None:
    request = make(body=b"hello")
    assert request.body == b"hello"
    assert request.body_file.read(2) == b"he"
    assert request.body_file.read() == b"hello"
    assert request.body == b"hello"


def test_body_on_disk() -> None:
    request = make()
    request.set_body_file(io.BytesIO(b"hello"))
    assert request.body_file.read() == b"hello"
    assert request.body == b"hello"
    assert request.body is request.body
    assert request.text() == "hello"


def test_text() -> None:
    assert make(body="é".encode()).text() == "é"
    latin = [(b"content-type", b'text/plain; charset="ISO-8859-1"; x=y')]
    assert make(body=b"\xe9", fields=latin).text() == "é"
    with pytest.raises(HTTPException) as caught:
        make(body=b"\xe9").text()
    assert caught.value.status == 400
    with pytest.raises(HTTPException, match="no-such-charset"):
        make(body=b"x", fields=[(b"content-type", b"text/plain; charset=no-such-charset")]).text()


@pytest.mark.parametrize("codec", ["hex", "rot13", "zlib", "base64", "undefined", "idna", "punycode", "unicode_escape"])
def test_a_charset_that_is_none_is_the_clients_fault(codec: str) -> None:
    """Python knows codecs that turn no bytes into text; naming one must not be an error of the server's."""
    request = make(body=b"x", fields=[(b"content-type", f"text/plain; charset={codec}".encode())])
    try:
        assert isinstance(request.text(), str)
    except HTTPException as error:
        assert error.status == 400  # noqa: PT017


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": }', b"1" * 5000])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(HTTPException) as caught:
        make(body=body).json()
    assert caught.value.status == 400


def test_json() -> None:
    assert make(body=b'{"a": [1, "\xc3\xa9"]}').json() == {"a": [1, "é"]}


async def test_stream_of_a_whole_body() -> None:
    assert [piece async for piece in make(body=b"hello").stream()] == [b"hello"]
    assert [piece async for piece in make().stream()] == []

    def read() -> list[bytes]:
        return [*make(body=b"x" * 70_000).stream()]

    assert [len(piece) for piece in await run_blocking(read)] == [65536, 4464]


def test_stream_outside_a_worker() -> None:
    with pytest.raises(RuntimeError, match="run_blocking"):
        next(make(body=b"x").stream())


async def test_without_a_host() -> None:
    app = App()
    app.get("/")(lambda request: f"{request.host!r} {request.http_version}")
    async with talking(app) as (_, client):
        assert (await client.ask(b"GET / HTTP/1.0\r\n\r\n")).text == "'' 1.0"


async def test_each_request_is_its_own() -> None:
    app = App()
    app.get("/{p}")(lambda request, p: {"id": request.id, "p": request.params["p"], "h": request.headers.get("x-h")})
    async with talking(app) as (_, client):
        first = await client.ask(get("/a", "X-H: 1"))
        second = await client.ask(get("/b"))
        assert first.body != second.body
        assert second.text.endswith('"p":"b","h":null}')
