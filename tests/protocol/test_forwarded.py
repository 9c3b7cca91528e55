"""The Forwarded field, read from the right: what a proxy appended is found, whatever the client wrote before it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.forwarded_field import elements_from_right


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("", []),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", [{"for": "192.0.2.60", "proto": "http", "by": "203.0.113.43"}]),
        ('For="[2001:db8:cafe::17]:4711"', [{"for": "[2001:db8:cafe::17]:4711"}]),
        ("for=a, for=b,for=c", [{"for": "c"}, {"for": "b"}, {"for": "a"}]),
        ('for="_a, for=1.2.3.4"', [{"for": "_a, for=1.2.3.4"}]),  # a comma in quotes parts nothing
        (r'for="a\"b\\c"', [{"for": r'a"b\c'}]),
        ("for=a ; proto=http", [{"for": "a", "proto": "http"}]),
        (",,for=a, ,", [{"for": "a"}]),
        ("for=a;for=b", []),
        ("for=a;FOR=b", []),
        ("for=a;;proto=http", []),
        ("for", []),
        ("for=", []),
        ('for="a', []),
        ("for=a b", []),
        ("for=\x01", []),
        ("for=1.1.1.1, nonsense, for=2.2.2.2", [{"for": "2.2.2.2"}]),
        ('for="an open quote, for=2.2.2.2', [{"for": "2.2.2.2"}]),  # it hides nothing that came after it
        ('for="an open quote, for="[::1]"', [{"for": "[::1]"}]),
        (f"for={'a' * 600}, for=b", [{"for": "b"}]),
    ],
)
def test_read(text: str, elements: list[dict[str, str]]) -> None:
    assert list(elements_from_right(text, 32)) == elements


def test_at_most_so_many() -> None:
    assert len(list(elements_from_right("for=a," * 100, 32))) <= 32


_writable = st.characters(min_codepoint=32, max_codepoint=255, blacklist_characters="\x7f")


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["for", "by", "proto", "host"]), st.text(_writable, max_size=30), min_size=1),
        max_size=6,
    ),
    st.text(max_size=60),
)
def test_what_proxies_append_is_found(elements: list[dict[str, str]], before: str) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    written = ", ".join(";".join(f"{name}={quoted(value)}" for name, value in one.items()) for one in elements)
    assert list(elements_from_right(written, 32)) == elements[::-1]
    # A client's own part comes first and cannot hide them; it may only add what stands further left.
    found = list(elements_from_right(f"{before}, {written}", 32))
    assert found[: len(elements)] == elements[::-1]


_PIECES = [",", "for=a,", ',a="', ',a="\\', "a=b;", ",a=b;", ", ", ", ;", "a", ';"', " ;", "\t"]


@pytest.mark.parametrize("piece", _PIECES)
@pytest.mark.parametrize("end", ["", '"', " "])
def test_32_kib_of_anything_cost_little(piece: str, end: str) -> None:
    text = piece * (32_000 // len(piece)) + end
    began = time.process_time()
    list(elements_from_right(text, 32))
    assert time.process_time() - began < 0.05  # a millisecond, as a rule
