"""Redirects: where to, in what words, and that nothing gets out of the field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver import App, Request, Response

from ..clients import get, talking


def location(target: str) -> str:
    return dict(Response.redirect(target).fields)["location"]


@pytest.mark.parametrize(
    ("target", "written"),
    [
        ("/items/7?a=b&c=d#e", "/items/7?a=b&c=d#e"),
        ("https://example.org:8443/a;b=(c)*'!$,@~", "https://example.org:8443/a;b=(c)*'!$,@~"),
        ("http://[::1]/", "http://[::1]/"),
        ("/münchen/日本", "/m%C3%BCnchen/%E6%97%A5%E6%9C%AC"),
        ("/already%20encoded", "/already%20encoded"),
        ("/a b", "/a%20b"),
        ("/a\r\nSet-Cookie: x=y", "/a%0D%0ASet-Cookie:%20x=y"),
        ("/a\0\x7f\x85\u2028", "/a%00%7F%C2%85%E2%80%A8"),
        ('/"><script>', "/%22%3E%3Cscript%3E"),
        ("/a\\b", "/a%5Cb"),
        ("\\\\evil.example", "%5C%5Cevil.example"),
        ("/half\ud800", "/half?"),
        ("../up", "../up"),
    ],
)
def test_targets(target: str, written: str) -> None:
    assert location(target) == written


@given(st.text(min_size=1))
def test_any_text_stays_in_its_field_and_its_text(target: str) -> None:
    response = Response.redirect(target)
    written = location(target)
    assert written.isascii()
    assert written.isprintable()
    assert not set(written) & set(' <>"\\')
    assert response.body == f"302 Found\n{written}\n".encode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_statuses(status: int) -> None:
    assert Response.redirect("/", status).status == status


@pytest.mark.parametrize("status", [200, 300, 304, 305, 306, 309, 400, "302"])
def test_no_other_status(status: int) -> None:
    with pytest.raises(ValueError, match="301, 302, 303, 307 or 308"):
        Response.redirect("/", status)


@pytest.mark.parametrize("target", ["", None, b"/", 7])
def test_no_other_target(target: str) -> None:
    with pytest.raises(ValueError, match="a URL or a path"):
        Response.redirect(target)


async def test_on_the_wire() -> None:
    app = App()

    @app.get("/old")
    async def old(request: Request) -> Response:
        return Response.redirect(f"/new?{request.query_string}", 308)

    async with talking(app) as (_, client):
        answer = await client.ask(get("/old?q=1"))
        assert (answer.status, answer.headers["location"]) == (308, "/new?q=1")
        assert answer.text == "308 Permanent Redirect\n/new?q=1\n"
        answer = await client.ask(get("/old?q=1", method="HEAD"))
        assert answer.headers["location"] == "/new?q=1"
