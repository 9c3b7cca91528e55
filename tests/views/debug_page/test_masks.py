"""The debug page never shows secrets, nor a client's markup as markup."""

from __future__ import annotations

import dataclasses
import html
import time

from hypothesis import given
from hypothesis import strategies as st

from coserver.views.debug_page.masks import MASK, Masks

from .render import raised, request, shown


@dataclasses.dataclass
class User:
    name: str
    password: str


SECRET = "s3cr3t-v4lu3"


def test_no_secret_is_shown() -> None:
    asked = request(
        f"/x?token={SECRET}1&page=2",
        authorization=f"Bearer {SECRET}2",
        cookie=f"sid={SECRET}3; theme=dark",
        x_api_key=SECRET + "4",
    )

    def fail() -> None:
        user = User("ann", SECRET + "5")
        api_key = SECRET + "6"  # noqa: F841
        settings = {"db": {"password": SECRET + "7", b"Client-Secret": SECRET + "8"}, "port": 1}
        pairs = [("cookie", SECRET + "9"), (b"authorization", b"Basic " + SECRET.encode())]
        raw = f"GET / HTTP/1.1\r\nCookie: sid={SECRET}10; b={SECRET}11\r\nHost: x\r\n".encode()
        header = asked.headers["authorization"]
        sid = SECRET + "3"
        url = f"https://x/?access_token={SECRET}12&n=1"
        raise ValueError(f"bad header {header} {sid} {url}", user, settings, pairs, raw)

    text, page = shown(raised(fail), asked)
    assert "'port': 1" in text
    assert "page=2" in text
    assert "User(name='ann'" in text
    for shown_text in (text, page):
        assert SECRET not in shown_text
        assert MASK in shown_text


def test_a_long_secret_is_masked_before_it_is_cut() -> None:
    long = SECRET * 500
    asked = request(authorization=f"Bearer {long}")

    def fail() -> None:
        value = asked.headers["authorization"]
        raise ValueError(value)

    text, page = shown(raised(fail), asked)
    assert SECRET not in text
    assert SECRET not in page


def test_masking_takes_no_quadratic_time() -> None:
    started = time.perf_counter()
    for text in ("token" * 20_000, "token:" * 20_000, "'" * 100_000, "password='" * 10_000, "\\" * 100_000):
        Masks(None).text(text)
    assert time.perf_counter() - started < 5


@given(st.text(), st.text(), st.text())
def test_whatever_a_client_sends_is_escaped(path: str, value: str, message: str) -> None:
    from urllib.parse import quote

    asked = request("/" + quote(path, safe="<>'\""), x_field=quote(value, safe="<>&'\" "))
    _, page = shown(ValueError(message), asked)
    assert "<script" not in page.lower()
    assert html.escape(quote(value, safe="<>&'\" "))[:20] in page
