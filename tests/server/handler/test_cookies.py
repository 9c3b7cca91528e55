"""Cookies both ways on the wire, with the clients that keep them."""

from __future__ import annotations

import http.cookiejar
import json
import urllib.request
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
import httpx
import pytest
import requests

from coserver import App, Request, Response, testing

from ..clients import get, talking

VALUES = {
    "plain": "a-b",
    "blank": "a b",
    "hard": 'a;b,c"\\=\té€\U0001f600\n',
    "empty": "",
    "quoted": '"x"',
    "json": '{"a": [1]}',
}


def make() -> App:
    app = App()

    @app.get("/set")
    def set_all() -> Response:
        response = Response("set")
        for name, value in VALUES.items():
            response.set_cookie(name, value, max_age=100)
        return response

    @app.get("/show")
    async def show(request: Request) -> dict[str, str]:
        return dict(request.cookies)

    @app.get("/forget")
    async def forget() -> Response:
        response = Response("forgotten")
        for name in VALUES:
            response.delete_cookie(name)
        return response

    @app.get("/need")
    def need(request: Request) -> str:
        return request.cookies["session"]

    return app


def test_set_cookie() -> None:
    response = Response("x", headers={"x": "y"})
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", path=None, samesite=None, secure=True, httponly=True, domain="t.example", max_age=5)
    assert response.fields == [
        ("x", "y"),
        ("set-cookie", "a=1; Path=/; SameSite=Lax"),
        ("set-cookie", "b=2; Max-Age=5; Domain=t.example; Secure; HttpOnly"),
    ]
    assert list(Response("other").fields) == []


def test_expires() -> None:
    response = Response()
    response.set_cookie("a", "1", expires=datetime(2030, 1, 1, tzinfo=UTC))
    response.set_cookie("a", "1", expires=3600)
    assert "Expires=Tue, 01 Jan 2030 00:00:00 GMT" in response.fields[0][1]
    expires = http.cookiejar.http2time(response.fields[1][1].partition("Expires=")[2].partition(";")[0])
    assert expires is not None
    assert 3500 < expires - datetime.now(UTC).timestamp() < 3700
    for wrong in (1e18, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"expires|NaN"):
            response.set_cookie("a", "1", expires=wrong)
    assert len(response.fields) == 2


def test_delete_cookie() -> None:
    response = Response()
    response.delete_cookie("__Host-a")
    ((_, written),) = response.fields
    assert written.startswith("__Host-a=; Max-Age=0; Expires=")
    assert written.endswith("; Path=/; Secure; SameSite=Lax")
    response.delete_cookie("a", path="/x", domain="t.example")
    assert "Domain=t.example; Path=/x; SameSite=Lax" in response.fields[1][1]


EMBEDDED: dict[str, Any] = {
    "path": "/x", "domain": "t.example", "secure": True, "httponly": True, "samesite": "none", "partitioned": True,
}  # fmt: skip


@pytest.mark.parametrize(
    "attributes",
    [
        EMBEDDED,
        {**EMBEDDED, "partitioned": False},
        {"samesite": "none", "secure": True},
        {"samesite": "strict"},
        {"samesite": None, "path": None},
        {"secure": True},
    ],
)
def test_a_deletion_says_what_the_cookie_said(attributes: dict[str, Any]) -> None:
    """Chromium takes no SameSite=Lax, nor one without Partitioned, from an embedded page: the cookie would stay."""
    response = Response()
    response.set_cookie("a", "1", **attributes)
    response.delete_cookie("a", **attributes)
    kept, deleted = (value.split("; ") for _, value in response.fields)
    assert deleted[:2] == ["a=", "Max-Age=0"]
    assert deleted[2].startswith("Expires=")
    assert deleted[3:] == kept[1:]


def test_a_deletion_that_browsers_would_not_take() -> None:
    for wrong in ({"samesite": "none"}, {"partitioned": True}, {"domain": "é"}, {"path": "x"}):
        with pytest.raises(ValueError, match=r"secure=True|domain|path"):
            Response().delete_cookie("a", **wrong)  # type: ignore[arg-type]
    prefixed = Response()
    prefixed.delete_cookie("__Secure-a", samesite="none", partitioned=True)
    assert prefixed.fields[0][1].endswith("; Path=/; Secure; SameSite=None; Partitioned")


async def test_on_the_wire(caplog: pytest.LogCaptureFixture) -> None:
    async with talking(make()) as (_, client):
        await client.send(get("/set", "Connection: close"))
        raw = (await client.rest()).decode()
        assert raw.count("set-cookie: ") == len(VALUES)
    async with talking(make()) as (_, client):
        sent = get("/show", 'Cookie: a=1; broken; b="\\303\\251"', "X: y", "Cookie: a=2; c=3")
        assert json.loads((await client.ask(sent)).body) == {"a": "1", "b": "é", "c": "3"}
        raw_octets = get("/show", "Cookie: a=@").replace(b"@", b"\xff\xe9 \xc3\xa9")
        assert json.loads((await client.ask(raw_octets)).body) == {"a": "ÿé Ã©"}
        assert (await client.ask(get("/show"))).text == "{}"
        answer = await client.ask(get("/need", "Cookie: a=secret"))
        assert (answer.status, "'session' is missing; there are 'a'" in answer.text) == (400, True)
        assert "secret" not in answer.text
        assert (await client.ask(get("/need", "Cookie: session=s"))).text == "s"
    assert "failed" not in caplog.text


def _requests(url: str) -> list[Any]:
    with requests.Session() as session:
        return [session.get(url + path, timeout=10) and session.get(url + "/show", timeout=10).json() for path in PATHS]


def _httpx(url: str) -> list[Any]:
    with httpx.Client() as client:
        return [client.get(url + path) and client.get(url + "/show").json() for path in PATHS]


def _urllib(url: str) -> list[Any]:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def ask(path: str) -> bytes:
        with opener.open(url + path, timeout=10) as answer:
            return bytes(answer.read())

    return [ask(path) and json.loads(ask("/show")) for path in PATHS]


PATHS = ("/show", "/set", "/forget")


@pytest.mark.parametrize("session", [_requests, _httpx, _urllib])
async def test_clients_with_a_jar(session: Any) -> None:
    async with testing.serving(make()) as server:
        assert await anyio.to_thread.run_sync(session, server.url) == [{}, VALUES, {}]
