"""Usual heads: one pattern accepts and reads them, exactly as the strict grammar and the parser would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.head import RequestHead
from coserver.protocol.http1 import HeadLimits

from .generating import SPOILERS, fields, hosts, targets
from .reading import CODEC_NAMES, examples, read, request

BROWSER = request(
    "Connection: keep-alive",
    "Cache-Control: max-age=0",
    'sec-ch-ua: "Chromium";v="143", "Not A(Brand";v="24"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Sec-Fetch-Site: none",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9,de;q=0.8",
    "Cookie: a=b; c=d",
    line="GET /shop/items?page=2 HTTP/1.1",
)


@pytest.mark.parametrize(
    "raw",
    [
        request(),
        BROWSER,
        request("CONNECTION: \t Keep-Alive \t"),
        request("hOsT:  t.example:80\t", host=False),
        request(line="PROPFIND /a/../b%2f HTTP/1.1"),
        request(line="get /?? HTTP/1.1"),
        request("Upgrade: h2c", "Connection-X: close", "Hosts: x", "Content-Lengths: 5", "Expected: 100-continue"),
        request("X: \xff", "Y:", "Z:  "),
    ],
)
def test_are_recognised(raw: bytes) -> None:
    head = RequestHead.read_usual(raw)
    assert head is not None
    for codec in CODEC_NAMES:
        assert read(codec, [raw]).messages[0].fields == head.fields


@pytest.mark.parametrize(
    "raw",
    [
        request("Content-Length: 0"),
        request("Transfer-Encoding: chunked"),
        request("Connection: close"),
        request("Connection: keep-alive, close"),
        request("Connection: keep-alive, x"),
        request("Connection:"),
        request("Connection: keep-alivex"),
        request("Expect: 100-continue"),
        request("Host: second"),
        request(host=False),
        request("Host: a b", host=False),
        request(line="GET / HTTP/1.0"),
        request(line="GET http://t.example/ HTTP/1.1"),
        request(line="OPTIONS * HTTP/1.1"),
        request(line="CONNECT / HTTP/1.1"),
        request(line="GET /# HTTP/1.1"),
        request(line="GET  / HTTP/1.1"),
        request("X: a\x00"),
        request("X : a"),
        request(" folded"),
        request("X: a\n"),
        request("X: a\r"),
        request() + b"x",
        b"\r\n" + request(),
        b"",
    ],
)
def test_others_are_left_to_the_parser(raw: bytes) -> None:
    assert RequestHead.read_usual(raw) is None
    for codec in CODEC_NAMES:
        read(codec, [raw])  # which compares


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("most", [0, 1, 2, 3, 11])
def test_the_limits_are_the_same(codec: str, most: int) -> None:
    for size in (40, 60, 100, 400, 4000):
        read(codec, [BROWSER, request("A:")], HeadLimits(size, most, max(size - 20, 20)))


_lines = st.one_of(
    fields.map(lambda one: f"{one[0]}:{one[1]}{one[2]}{one[3]}"),
    st.tuples(
        st.sampled_from(["Connection", "HOST", "Content-Length", "Expect", "Transfer-Encoding", "TE", "C"]),
        st.sampled_from(["", "s", "-x"]),
        st.sampled_from([": ", ":", ":\t", " : "]),
        st.sampled_from(["keep-alive", "Keep-Alive ", "close", "t", "", "0", "5", "chunked", "100-continue", "\xe4"]),
    ).map("".join),
)


@pytest.mark.parametrize("codec", CODEC_NAMES)
@examples(400)
@given(
    method=st.sampled_from(["GET", "POST", "CONNECT", "CONNECTS", "X", "get", "G T", ""]),
    target=targets,
    lines=st.lists(_lines, max_size=5),
    host=hosts,
    at=st.integers(0, 5),
    spoilers=st.lists(st.tuples(st.integers(0, 300), st.sampled_from(SPOILERS)), max_size=1),
)
def test_are_read_as_the_parser_reads_them(
    codec: str, method: str, target: str, lines: list[str], host: str, at: int, spoilers: list[tuple[int, bytes]]
) -> None:
    lines.insert(at, f"Host: {host}")
    raw = request(*lines, line=f"{method} {target} HTTP/1.1", host=False)
    for place, spoiler in spoilers:
        raw = raw[:place] + spoiler + raw[place:]
    read(codec, [raw])  # which compares


def test_the_pattern_takes_linear_time() -> None:
    """Possessive everywhere: a head that fails at its end is not tried again in other ways."""
    for lines in (["X: " + "a" * 30_000], ["a:"] * 7000, ["Host: " + "a" * 30_000], ["connection: keep-alive"] * 1000):
        for end in ("X: \x00", "Host: h", "bad"):
            RequestHead.read_usual(request(*lines, end, host=False))
