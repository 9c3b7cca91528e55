"""The request serialiser: whatever is asked for, nothing leaves the line that it belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.errors import LocalProtocolError
from coserver.protocol.http1 import Http1Reader
from coserver.protocol.requests import check_method, encode_request_fields, encode_target


@pytest.mark.parametrize(
    ("target", "params", "raw"),
    [
        ("/", None, b"/"),
        ("*", None, b"*"),
        ("/a/b?c=d", None, b"/a/b?c=d"),
        ("/a b", None, b"/a%20b"),
        ("/ä", None, b"/%C3%A4"),
        ("/%C3%A4", None, b"/%C3%A4"),
        ("/", {"a": 1, "b": [2, 3]}, b"/?a=1&b=2&b=3"),
        ("/?x", [("a", "ü&"), ("a", "")], b"/?x&a=%C3%BC%26&a="),
        ("/a\r\nX: y", None, b"/a%0D%0AX:%20y"),
    ],
)
def test_targets(target: str, params: object, raw: bytes) -> None:
    assert encode_target(target, params) == raw  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["", "a", "http://a/b", "/a#b", "?a"])
def test_what_is_no_target(target: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_target(target)


@given(st.text(), st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_any_target_is_one_that_a_server_takes(text: str, params: dict[str, object]) -> None:
    try:
        raw = encode_target("/" + text.replace("#", ""), params)
    except UnicodeEncodeError:  # half of a surrogate pair, in a parameter
        return
    head = Http1Reader("h11").read_head(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % raw)
    assert head is not None
    assert head.target.encode() == raw


@pytest.mark.parametrize("method", ["", "G T", "GET\r\n", "CONNECT", "GÉT", "X" * 25])
def test_what_is_no_method(method: str) -> None:
    with pytest.raises(LocalProtocolError):
        check_method(method)


def test_fields() -> None:
    assert encode_request_fields({"A": "b", "c": "dé"}) == b"A: b\r\nc: d\xe9\r\n"
    assert encode_request_fields([("A", "b"), ("A", "c")]) == b"A: b\r\nA: c\r\n"
    for name in ("Connection", "Content-Length", "Transfer-Encoding", "TE", "Upgrade", "Expect"):
        with pytest.raises(LocalProtocolError, match="belongs to the connection"):
            encode_request_fields({name: "x"})
    for fields in ({"a b": "c"}, {"a": "b\nc"}, {"a": "b\x00"}, {"": "x"}):
        with pytest.raises(LocalProtocolError):
            encode_request_fields(fields)
