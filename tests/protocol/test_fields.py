"""Headers as handlers see them."""

from __future__ import annotations

import pytest

from coserver.protocol.fields import Headers

HEADERS = Headers([(b"host", b"h"), (b"Accept", b"a"), (b"x", b""), (b"ACCEPT", b"b, c"), (b"y", b"caf\xc3\xa9")])


def test_names_ignore_case() -> None:
    assert HEADERS["host"] == HEADERS["HOST"] == HEADERS["Host"] == "h"
    assert "hOsT" in HEADERS
    assert "hos" not in HEADERS
    assert object() not in HEADERS
    assert HEADERS.get("nope") is None
    with pytest.raises(KeyError):
        HEADERS["nope"]


def test_repeated_fields_are_joined_or_apart() -> None:
    assert HEADERS["accept"] == "a, b, c"
    assert HEADERS.get_all("Accept") == ["a", "b, c"]
    assert HEADERS.get_all("nope") == []


def test_an_empty_value_is_a_value() -> None:
    assert HEADERS["x"] == ""
    assert "x" in HEADERS


def test_bytes_can_be_had_back() -> None:
    assert HEADERS["y"].encode("latin-1").decode() == "café"
    everything = bytes(range(0x20, 0x100))
    assert Headers([(b"x", everything)])["x"].encode("latin-1") == everything


def test_is_a_mapping_in_order() -> None:
    assert list(HEADERS) == ["host", "accept", "x", "y"]
    assert len(HEADERS) == 4
    assert dict(HEADERS)["accept"] == "a, b, c"
    assert dict(HEADERS) == HEADERS
    assert HEADERS.pairs() == (("host", "h"), ("accept", "a"), ("x", ""), ("accept", "b, c"), ("y", "cafÃ©"))
    assert not Headers()
    assert repr(Headers([(b"A", b"b")])) == "Headers([('a', 'b')])"
