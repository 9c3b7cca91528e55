"""Cookies both ways; the standard library's readers judge what is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from http.cookies import CookieError, SimpleCookie
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from coserver.protocol.cookies import encode_cookie, parse_cookies

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize(
    ("field", "pairs"),
    [
        (b"", []),
        (b"a=1; b=2", [("a", "1"), ("b", "2")]),
        (b"a=1;b=2;", [("a", "1"), ("b", "2")]),
        (b" a = 1 ;\tb=2", [("a", "1"), ("b", "2")]),
        (b"a=1; a=2", [("a", "1")]),
        (b"a=", [("a", "")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a", []),
        (b"=a", []),
        (b'a=1; ; ;=; bad; [x]=2; b c=3; d={"e": 1}', [("a", "1"), ("[x]", "2"), ("b c", "3"), ("d", '{"e": 1}')]),
        (b'a="b c"', [("a", "b c")]),
        (b'a="', [("a", '"')]),
        (b'a="b', [("a", '"b')]),
        (b'a=""', [("a", "")]),
        (b'a="\\"\\\\\\054\\073"', [("a", '"\\,;')]),
        (b'a="\\303\\251"; b=2', [("a", "é"), ("b", "2")]),
        (b'a="\\351"', [("a", "é")]),
        (b'a="\\9\\400x\\"', [("a", "9400x\\")]),
        (b"a=\\054", [("a", "\\054")]),
        ("a=é€".encode(), [("a", "é€")]),
        (b"a=\xe9", [("a", "é")]),
        (b"Path=1; $Version=1", [("Path", "1"), ("$Version", "1")]),
        (b"a=%20+", [("a", "%20+")]),
    ],
)
def test_reading(field: bytes, pairs: list[tuple[str, str]]) -> None:
    assert parse_cookies([field]) == pairs


def test_several_fields() -> None:
    assert parse_cookies([b"a=1", b"b=2; a=3"]) == [("a", "1"), ("b", "2")]


def test_writing() -> None:
    assert encode_cookie("a", "b", {}) == "a=b"
    assert encode_cookie("a", "", {}) == "a="
    assert encode_cookie("a", 'b c;é"\\', {}) == '"'.join(("a=", "b\\040c\\073\\303\\251\\042\\134", ""))
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    written = encode_cookie("a", "b", {
        "max_age": 60, "expires": moment, "domain": "t.example", "path": "/x", "secure": True, "httponly": True,
        "samesite": "None",
    })  # fmt: skip
    assert written == (
        "a=b; Max-Age=60; Expires=Wed, 02 Jan 2030 02:04:05 GMT; Domain=t.example; Path=/x; Secure; HttpOnly; "
        "SameSite=None"
    )
    assert encode_cookie("__Host-a", "b", {"secure": True, "path": "/"}) == "__Host-a=b; Path=/; Secure"
    apart = encode_cookie("a", "b", {"secure": True, "samesite": "none", "partitioned": True})
    assert apart == "a=b; Secure; SameSite=None; Partitioned"
    assert encode_cookie("a", "b", {"partitioned": False}) == "a=b"


@pytest.mark.parametrize(
    ("name", "value", "attributes", "message"),
    [
        ("", "", {}, "name must be a token"),
        ("a b", "", {}, "name must be a token"),
        ("a=b", "", {}, "name must be a token"),
        ("a;b", "", {}, "name must be a token"),
        ("é", "", {}, "name must be a token"),
        ("a\r\n", "", {}, "name must be a token"),
        ("a", "\ud800", {}, "UTF-8"),
        ("a", "", {"path": "x"}, "begin with '/'"),
        ("a", "", {"path": ""}, "begin with '/'"),
        ("a", "", {"path": "/;x"}, "without ';'"),
        ("a", "", {"path": "/\r\nx: y"}, "path"),
        ("a", "", {"path": "/é"}, "path"),
        ("a", "", {"path": "/\n"}, "path"),
        ("a", "", {"domain": ""}, "domain must be"),
        ("a", "", {"domain": "t.example; path=/"}, "domain must be"),
        ("a", "", {"domain": "é.example"}, "IDNA"),
        ("a", "", {"domain": "t.example\n"}, "domain must be"),
        ("a", "", {"max_age": 1.5}, "whole number of seconds"),
        ("a", "", {"max_age": True}, "whole number of seconds"),
        ("a", "", {"expires": datetime(2030, 1, 1)}, "time zone"),
        ("a", "", {"samesite": "none"}, "secure=True"),
        ("a", "", {"partitioned": True}, "partitioned=True only with secure=True"),
        ("a", "", {"samesite": "yes"}, "'lax', 'strict', 'none'"),
        ("__Secure-a", "", {}, "secure=True"),
        ("__Host-a", "", {"secure": True}, "path='/'"),
        ("__host-a", "", {"secure": True, "path": "/", "domain": "t.example"}, "no domain"),
    ],
)
def test_what_browsers_would_not_take(name: str, value: str, attributes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_cookie(name, value, attributes)


@given(texts)
@example('"')
@example('"a"')
@example("\\054")
@example(" ")
@example("\0\r\n")
def test_any_text_comes_back(value: str) -> None:
    written = encode_cookie("a", value, {"path": "/"})
    assert written.isascii()
    assert written.isprintable()
    pair = written.removesuffix("; Path=/")
    assert ";" not in pair
    assert parse_cookies([b"x=y; " + pair.encode() + b"; z=\xff"]) == [("x", "y"), ("a", value), ("z", "ÿ")]


def _reads(written: str) -> bool:
    try:
        SimpleCookie().load(written)
    except CookieError:
        return False
    return True


#: Newer releases of Python refuse control characters in cookies, also quoted ones.
_takes_controls = _reads('a="\\037"')


@given(texts)
def test_the_standard_library_reads_it(value: str) -> None:
    """It takes each octet for a character; the octets are those of UTF-8."""
    jar: SimpleCookie = SimpleCookie()
    assume(_takes_controls or value.isprintable())
    jar.load(encode_cookie("a", value, {"expires": datetime.now(UTC), "path": "/x", "samesite": "lax"}))
    assert jar["a"].value.encode("latin-1").decode() == value
    assert (jar["a"]["path"], jar["a"]["samesite"]) == ("/x", "Lax")


@given(st.lists(st.binary(max_size=60), max_size=3))
@example([b'a="' + b'\\"' * 10_000 + b'"'])
def test_any_octets(fields: list[bytes]) -> None:
    for name, value in parse_cookies(fields):
        assert name
        (name + value).encode()


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_one_broken_pair_does_not_lose_the_others(before: bytes, after: bytes) -> None:
    assert ("sound", "1") in parse_cookies([before.replace(b"sound", b"") + b"; sound=1; " + after])
