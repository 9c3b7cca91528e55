"""What comes before a request, or instead of one: refused at the first byte that settles it, whatever the cuts."""

from __future__ import annotations

import pytest

from .reading import CODEC_NAMES, pieces_of, read, request, served

pytestmark = pytest.mark.parametrize("codec", CODEC_NAMES)

# Empty lines before a request.


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_two_empty_lines_may_come_first(codec: str, size: int) -> None:
    raw = b"\r\n\r\n" + request() + b"\r\n" + request() + b"\r\n\r\n"
    assert served(read(codec, pieces_of(raw, size))) == ["/", "/"]


@pytest.mark.parametrize("size", [1, 2, 3, 4096])
@pytest.mark.parametrize(
    "lead", [b"\r\n" * 3, b"\r\n" * 5000, b"\n", b"\r\n\n", b"\r\r\n", b"\r\nX\r\n", b"\r\n\r\n\n", b"\rX"]
)
def test_more_or_other_ones_are_refused(codec: str, lead: bytes, size: int) -> None:
    for before in (b"", request()):
        reading = read(codec, pieces_of(before + lead + request(line="GET /2 HTTP/1.1"), size))
        assert reading.status == 400
        assert served(reading) == (["/"] if before else [])


# Early refusal: a client that speaks something else learns so at once, not at a deadline.

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(0x40, 0x80)) * 8


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (HELLO, "TLS"),
        (HELLO + b"\n" + HELLO, "TLS"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"GET / HTTP/1.1\n", "CRLF"),
        (b"GET / HTTP/1.1\r\nHost: t\n", "CRLF"),
        (b"GET / HTTP/1.1\r\nHost: t\r\nX: a\rb\r\n", "control"),
        (b"GET / HTTP/1.1\r\n Host: t\r\n", "folded"),
        (b"GET / HTTP/1.1\r\nHost: t\r\n folded\r\n", "folded"),
        (b"GET / HTTP/1.1\r\nHost : t\r\n", "token"),
        (b"GET / HTTP/1.1\r\nno colon\r\n", "token"),
        (b"GET / HTTP/1.1\r\nX: \x00\r\n", "control"),
        (b"GET  ", None),
        (b"GET / FTP", None),
        (b"GET / HTTP/1.1 ", None),
        (b"GET / HTTP/1.1\rX", None),
        (b"GET /\x80", None),
        (b"GET /#", None),
        (b"GE(T", None),
        (b" ", None),
        (b"\x00", None),
        (b"A" * 25, None),
        (b"quit\r\n", None),
        (b"\x05\x01\x00", None),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0][:30],
)
def test_refuses_early(codec: str, raw: bytes, words: str | None) -> None:
    error = read(codec, [raw]).error
    assert error is not None
    assert error.status == 400
    assert (words or "method target") in str(error)


def test_a_carriage_return_alone_is_nothing_yet(codec: str) -> None:
    assert read(codec, [b"\r"]).error is None
    assert served(read(codec, [b"\r", b"\n" + request()])) == ["/"]


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0", "9.9", "0.0"])
def test_other_versions_are_told_so(codec: str, version: str, size: int) -> None:
    error = read(codec, pieces_of(request(line=f"GET / HTTP/{version}"), size)).error
    assert error is not None
    assert error.status == 505
    assert f"HTTP/{version}" in str(error)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("method", ["A" * 24, "get", "PRI", "PLAY", "SOURCE", "M-SEARCH", "QUERY", "!#$%&'*+-.^_`|~0"])
def test_any_short_token_is_a_method(codec: str, method: str, size: int) -> None:
    raw = request("Content-Length: 2", line=f"{method} / HTTP/1.1", body=b"ok") + request()
    assert [(m.method, m.body) for m in read(codec, pieces_of(raw, size)).messages] == [(method, b"ok"), ("GET", b"")]


@pytest.mark.parametrize("size", [1, 1000])
def test_a_long_token_is_not(codec: str, size: int) -> None:
    assert read(codec, pieces_of(request(line=f"{'A' * 25} / HTTP/1.1"), size)).status == 400
