"""Range fields to spans, and spans to multipart bodies (RFC 9110 §14)."""

from __future__ import annotations

import email
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.ranges import (
    PART_OVERHEAD,
    RANGES_MAX,
    Span,
    content_range,
    frame_parts,
    no_range,
    parse_ranges,
)


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(9500, 10_000)]),
        ("bytes=9500-", [(9500, 10_000)]),
        ("bytes=0-", [(0, 10_000)]),
        ("bytes=0-99999999999999999999", [(0, 10_000)]),
        ("bytes=-10000", [(0, 10_000)]),
        ("bytes=-10001", [(0, 10_000)]),
        ("Bytes=1-2", [(1, 3)]),
        ("bytes= 1-2 , ", [(1, 3)]),
        ("bytes=,,1-2", [(1, 3)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 10_000)]),
        ("bytes=-1,0-0", [(9999, 10_000), (0, 1)]),  # the client's order
        ("bytes=0-0,20000-", [(0, 1)]),  # what cannot be had is left out
        ("bytes=500-600,601-999", [(500, 1000)]),
        ("bytes=500-700,601-999", [(500, 1000)]),
        ("bytes=0-0,100-100", [(0, 101)]),  # a part's head would be longer than the gap
        ("bytes=5000-5001,0-0,4000-5000,9000-", [(4000, 5002), (0, 1), (9000, 10_000)]),
    ],
)
def test_spans(value: str, spans: list[Span]) -> None:
    assert parse_ranges(value, 10_000) == spans


@pytest.mark.parametrize(
    "value",
    [
        *("", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=1", "bytes=2-1", "bytes=0-1,2-1"),
        *("bytes=1-2-3", "bytes=--1", "bytes=+1-2", "bytes=1 - 2", "bytes=0x1-2", "items=0-1", "bytes 0-1", "bytes=x"),
        "bytes=٣-٤",
        "bytes=1-2;q",
        f"bytes=0-{'9' * 21}",
        f"bytes={'9' * 5000}-",
        "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 10_000, 200)),
    ],
)  # fmt: skip
def test_what_is_malformed_or_unreasonable_is_ignored(value: str) -> None:
    assert parse_ranges(value, 10_000) is None


@pytest.mark.parametrize("value", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=20000-30000,-0"])
def test_what_cannot_be_had(value: str) -> None:
    assert parse_ranges(value, 10_000) == []


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-1", "bytes=5-6", "bytes=-0"])
def test_of_nothing_there_are_no_parts(value: str) -> None:
    assert parse_ranges(value, 0) is None


def test_as_many_as_are_allowed() -> None:
    wanted = [f"{at * 1000}-{at * 1000}" for at in range(RANGES_MAX)]
    assert parse_ranges("bytes=" + ",".join(wanted), 100_000) == [
        (at * 1000, at * 1000 + 1) for at in range(RANGES_MAX)
    ]
    assert parse_ranges("bytes=" + ",".join([*wanted, "99999-"]), 100_000) is None


def test_the_attack_on_apache_comes_to_nothing() -> None:
    """CVE-2011-3192: overlapping ranges, each of nearly the whole file."""
    few = "bytes=" + ",".join(f"{at}-" for at in range(RANGES_MAX))
    assert parse_ranges(few, 1 << 30) == [(0, 1 << 30)]
    many = "bytes=" + ",".join("0-" for _ in range(10_000))
    started = time.perf_counter()
    assert parse_ranges(many, 1 << 30) is None
    assert time.perf_counter() - started < 0.05


spec = st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(lambda pair: f"{min(pair)}-{max(pair)}")
suffix = st.integers(0, 3000).map(lambda length: f"-{length}")
rest = st.integers(0, 3000).map(lambda start: f"{start}-")


def one_by_one(wanted: str, size: int) -> set[int]:
    first, _, last = wanted.partition("-")
    if not first:
        return set(range(max(size - int(last), 0), size))
    return set(range(int(first), min(int(last) + 1 if last else size, size)))


@given(st.lists(spec | suffix | rest, min_size=1, max_size=RANGES_MAX), st.integers(1, 2500))
def test_every_byte_that_is_wanted_and_none_twice(wanted: list[str], size: int) -> None:
    spans = parse_ranges("bytes=" + ", ".join(wanted), size)
    assert spans is not None
    sent = [at for start, stop in spans for at in range(start, stop)]
    assert len(sent) == len(set(sent))
    asked = set().union(*(one_by_one(each, size) for each in wanted))
    assert asked <= set(sent)
    if len(spans) > 1:
        extra = set(sent) - asked
        assert len(extra) <= PART_OVERHEAD * len(wanted)
    assert all(0 <= start < stop <= size for start, stop in spans)


@given(st.text(max_size=60), st.integers(0, 1000))
def test_no_text_is_too_much(text: str, size: int) -> None:
    for value in (text, "bytes=" + text):
        spans = parse_ranges(value, size)
        assert spans is None or all(0 <= start < stop <= size for start, stop in spans)


def test_content_range() -> None:
    assert content_range((0, 500), 1234) == "bytes 0-499/1234"
    assert no_range(1234) == "bytes */1234"


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", ""])
def test_parts(content_type: str) -> None:
    """The standard library's mail parser takes them apart again."""
    content = bytes(range(256)) * 40
    spans = [(0, 10), (5000, 5300), (10_239, 10_240)]
    pieces, length = frame_parts(spans, len(content), content_type, "b" * 32)
    body = b"".join(piece if isinstance(piece, bytes) else content[piece[0] : piece[1]] for piece in pieces)
    assert len(body) == length
    message = email.message_from_bytes(
        b"Content-Type: multipart/byteranges; boundary=" + b"b" * 32 + b"\r\n\r\n" + body
    )
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert not message.defects
    assert [part["content-range"] for part in parts] == [f"bytes {a}-{b - 1}/{len(content)}" for a, b in spans]
    assert [part["content-type"] for part in parts] == [content_type or None] * 3
    # Its line ends are its own affair; these bytes have none.
    first = body.partition(b"\r\n\r\n")[2]
    assert first.startswith(content[:10] + b"\r\n--" + b"b" * 32)
