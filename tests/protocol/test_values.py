"""The mapping of names with several values, and the urlencoded text it comes in."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coserver.protocol.errors import RemoteProtocolError
from coserver.protocol.values import Values, decode_octets, decode_text, parse_urlencoded

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_values() -> None:
    values = Values([("a", "1"), ("b", "2"), ("a", "3")])
    assert values["a"] == "1"
    assert values.get("a") == "1"
    assert values.get("c") is None
    assert values.get("c", 5) == 5
    assert values.get_all("a") == ["1", "3"]
    assert values.get_all("c") == []
    assert values.pairs() == (("a", "1"), ("b", "2"), ("a", "3"))
    assert list(values) == ["a", "b"]
    assert len(values) == 2
    assert "a" in values
    assert "c" not in values
    assert values == {"a": "1", "b": "2"}
    assert dict(values.items()) == {"a": "1", "b": "2"}
    assert repr(values) == "Values([('a', '1'), ('b', '2'), ('a', '3')])"
    with pytest.raises(KeyError, match="c"):
        values["c"]
    assert not Values()


def test_a_list_that_was_given_away_is_not_the_mapping_s() -> None:
    values = Values([("a", "1")])
    values.get_all("a").append("2")
    assert values.get_all("a") == ["1"]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        (b"", []),
        (b"&&", []),
        (b"a", [("a", "")]),
        (b"a=", [("a", "")]),
        (b"=b", [("", "b")]),
        (b"=", [("", "")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a=1&a=2", [("a", "1"), ("a", "2")]),
        (b"a+b=c+d", [("a b", "c d")]),
        (b"a%2Bb=%2b%26%3d", [("a+b", "+&=")]),
        (b"q=%C3%A9%e2%82%ac", [("q", "é€")]),
        (b"q=%E9", [("q", "\ufffd")]),
        (b"q=\xc3\xa9", [("q", "é")]),
        (b"q=\xc3%A9", [("q", "é")]),
        (b"q=%", [("q", "%")]),
        (b"q=%zz%4", [("q", "%zz%4")]),
        (b"q=%%41", [("q", "%A")]),
        (b"q=%00%0a", [("q", "\0\n")]),
        (b"q=%ED%A0%80", [("q", "\ufffd" * 3)]),
        (b"q=%EF%BB%BFa", [("q", "\ufeffa")]),
        (b"a=1;b=2", [("a", "1;b=2")]),
    ],
)
def test_urlencoded(text: bytes, pairs: list[tuple[str, str]]) -> None:
    assert parse_urlencoded(text, 1000) == pairs


def test_no_more_than_that() -> None:
    assert len(parse_urlencoded(b"a&" * 9 + b"a", 10)) == 10
    with pytest.raises(RemoteProtocolError, match="at most 10 names with values are accepted; got 11"):
        parse_urlencoded(b"a&" * 10, 10)
    with pytest.raises(RemoteProtocolError):
        parse_urlencoded(b"&" * 10_000_000, 10)  # and costs neither time nor memory


@given(st.lists(st.tuples(texts, texts), max_size=8))
def test_round_trip(pairs: list[tuple[str, str]]) -> None:
    assert parse_urlencoded(urlencode(pairs).encode(), 1000) == pairs


@given(st.binary(max_size=100))
def test_any_octets(text: bytes) -> None:
    for name, value in parse_urlencoded(text, 1000):
        (name + value).encode()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
@example("a=%&%2=&+=%20")
def test_the_standard_library_reads_the_same(text: str) -> None:
    assert parse_urlencoded(text.encode(), 1000) == parse_qsl(text, keep_blank_values=True)


@pytest.mark.parametrize(
    "charset", ["utf-7", "unicode_escape", "raw_unicode_escape", "idna", "undefined", "hex", "no", "\0"]
)
def test_no_charset(charset: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each codec has its own words
        decode_text(b"+2AA-\\ud800", charset)


def test_charsets() -> None:
    assert decode_text(b"\xe9", "ISO-8859-1") == "é"
    assert decode_text(b"\xe9", "utf-8", "replace") == "\ufffd"
    with pytest.raises(ValueError, match="utf-8"):
        decode_text(b"\xe9", "UTF-8")
    assert [decode_octets(octets) for octets in (b"a", "é".encode(), b"\xe9")] == ["a", "é", "é"]
