"""Sizes: what is too long is refused with the right status, soon, and the reader never holds more than its limits."""

from __future__ import annotations

from time import process_time

import pytest

from coserver.protocol.chunks import LINE_MAX
from coserver.protocol.http1 import HeadLimits

from .reading import CODEC_NAMES, Reading, chunked, pieces_of, read, request

pytestmark = pytest.mark.parametrize("codec", CODEC_NAMES)

PIECE = 4096
LIMITS = HeadLimits()
START = b"GET / HTTP/1.1\r\nHost: t\r\n"

HEADS = {
    "header": (START + b"X: " + b"a" * 200_000 + b"\r\n\r\n", 431, LIMITS.head_size),
    "headers": (START + b"".join(b"X-%d: v\r\n" % n for n in range(20_000)) + b"\r\n", 431, LIMITS.head_size),
    "field name": (START + b"a" * 100_000 + b": v\r\n\r\n", 431, LIMITS.head_size),
    "target": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 414, LIMITS.target_size + 32),
    "query": (b"GET /?" + b"a=b&" * 50_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 414, LIMITS.target_size + 32),
    "endless line": (b"GET /" + b"a" * 300_000, 414, LIMITS.target_size + 32),
    "method": (b"A" * 100_000 + b" / HTTP/1.1\r\nHost: t\r\n\r\n", 400, 24),
    "no blanks": (b"\xff" * 100_000, 400, 24),
    "empty lines": (b"\r\n" * 5_000 + request(), 400, 4),
}
BODIES = {
    "extension": (chunked(b"5;" + b"a" * 32_768 + b"\r\nhello\r\n0\r\n\r\n"), 400, LINE_MAX),
    "extensions": (chunked(b"1;%b\r\nx\r\n" % (b"a" * 4000) * 60 + b"0\r\n\r\n"), 400, LINE_MAX),
    "size": (chunked(b"0" * 100_000), 400, LINE_MAX),
    "size line": (chunked(b'5;a="' + b" " * 100_000), 400, LINE_MAX),
    "trailer": (chunked(b"0\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"), 431, LIMITS.trailer_size),
    "trailers": (chunked(b"0\r\n" + b"X: y\r\n" * 40_000 + b"\r\n"), 431, LIMITS.trailer_size),
    "endless trailer": (chunked(b"0\r\n" + b"a" * 200_000), 431, LIMITS.trailer_size),
}
ALL = HEADS | BODIES


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [PIECE, 1 << 20])
def test_too_much_is_refused(codec: str, name: str, size: int) -> None:
    raw, status, limit = ALL[name]
    reading = read(codec, pieces_of(raw, size))
    assert reading.status == status
    assert not any(message.whole for message in reading.messages)
    assert reading.buffered <= limit + PIECE


@pytest.mark.parametrize("name", ALL)
def test_too_much_is_refused_byte_by_byte(codec: str, name: str) -> None:
    raw, status, limit = ALL[name]
    began = process_time()
    reading = read(codec, pieces_of(raw, 1))
    assert reading.status == status
    assert reading.buffered <= limit
    # 32,769 bytes cost 0.3 s. A head checked anew from its start at each byte would cost half a minute.
    assert process_time() - began < 5


@pytest.mark.parametrize("name", ALL)
def test_a_request_before_it_is_served(codec: str, name: str) -> None:
    raw, status, _ = ALL[name]
    for size in (PIECE, 1 << 20):
        reading = read(codec, pieces_of(request() + raw, size))
        assert reading.status == status
        assert reading.messages[0].whole


def refused_at(codec: str, raw: bytes, limits: HeadLimits) -> list[int | None]:
    """The status on the whole and byte by byte."""
    return [read(codec, pieces_of(raw, size), limits).status for size in (1 << 20, 1)]


def test_head_size_is_exact(codec: str) -> None:
    raw = request("X: yz")
    assert refused_at(codec, raw, HeadLimits(head_size=len(raw))) == [None, None]
    assert refused_at(codec, raw, HeadLimits(head_size=len(raw) - 1)) == [431, 431]


def test_field_count_is_exact(codec: str) -> None:
    raw = request(*(f"X-{n}: v" for n in range(9)))
    assert refused_at(codec, raw, HeadLimits(head_fields=10)) == [None, None]
    assert refused_at(codec, raw, HeadLimits(head_fields=9)) == [431, 431]


def test_the_least_target_size_is_taken_and_32_bytes_around_it(codec: str) -> None:
    limits = HeadLimits(target_size=100)
    assert refused_at(codec, request(line=f"GET /{'a' * 99} HTTP/1.1"), limits) == [None, None]
    assert refused_at(codec, request(line=f"GET /{'a' * 118} HTTP/1.1"), limits) == [None, None]
    assert refused_at(codec, request(line=f"GET /{'a' * 119} HTTP/1.1"), limits) == [414, 414]


def test_trailer_size_is_exact(codec: str) -> None:
    """The blank line that ends the trailer does not count, neither whole nor cut in two."""
    raw = chunked(b"0\r\nA: 1\r\nB: 2\r\n\r\n")
    assert refused_at(codec, raw, HeadLimits(trailer_size=12)) == [None, None]
    assert refused_at(codec, raw, HeadLimits(trailer_size=11)) == [431, 431]
    assert refused_at(codec, chunked(b"0\r\n\r\n"), HeadLimits(trailer_size=0)) == [None, None]
    assert refused_at(codec, chunked(b"0\r\nA: 1\r\n\r\n"), HeadLimits(trailer_size=0)) == [431, 431]


def test_chunk_line_is_exact(codec: str) -> None:
    line = b"1;" + b"a" * (LINE_MAX - 4) + b"\r\n"
    assert len(line) == LINE_MAX
    assert refused_at(codec, chunked(line + b"x\r\n0\r\n\r\n"), LIMITS) == [None, None]
    assert refused_at(codec, chunked(line.replace(b";", b";a") + b"x\r\n0\r\n\r\n"), LIMITS) == [400, 400]


def test_extensions_are_exact(codec: str) -> None:
    lines = LIMITS.extension_size // 1024
    body = b"1;%b\r\nx\r\n" % (b"a" * 1023) * lines
    assert refused_at(codec, chunked(body + b"0\r\n\r\n"), LIMITS) == [None, None]
    assert refused_at(codec, chunked(body + b"0;a\r\n\r\n"), LIMITS) == [400, 400]


@pytest.mark.parametrize("name", ["header", "headers", "target"])
def test_what_comes_first_decides(codec: str, name: str) -> None:
    """A line that is wrong within the limits is wrong, however much comes with it; beyond them it is not looked at."""
    raw, status, limit = HEADS[name]
    early = raw.replace(b"aa", b"a\x00", 1) if name == "target" else raw.replace(b"Host: t", b"Host : t")
    late = raw[: limit + 2] + b"\x00\r\n" + raw[limit + 2 :]
    for size in (1, PIECE, 1 << 20):
        assert read(codec, pieces_of(early, size)).status == 400
        assert read(codec, pieces_of(late, size)).status == status


def test_big_but_fine(codec: str) -> None:
    raw = request(*(f"X-{n}: {'v' * 300}" for n in range(98)), line=f"GET /{'a' * 8000} HTTP/1.1", host=True)
    limits = HeadLimits(head_size=64 * 1024)
    for size in (1, PIECE, 1 << 20):
        reading: Reading = read(codec, pieces_of(raw * 2, size) if size > 1 else pieces_of(raw, 1), limits)
        assert reading.error is None
        assert len(reading.messages[0].fields) == 99
