"""The client's reader: any response, split anywhere, is the same to both codecs; what is unsound is refused by both."""

from __future__ import annotations

import gc
import http.client
import io
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.codecs import RESPONSE_CODECS
from coserver.protocol.errors import RemoteProtocolError
from coserver.protocol.http1_client import ResponseLimits, ResponseReader, choose_response_codec

CODECS = sorted(RESPONSE_CODECS)
ANY = 1 << 40
USUAL = ResponseLimits()


def make(codec: str, limits: ResponseLimits = USUAL) -> ResponseReader:
    return ResponseReader(choose_response_codec(codec), limits)


def response(*fields: str, body: bytes = b"", status: str = "200 OK", minor: int = 1) -> bytes:
    lines = [f"HTTP/1.{minor} {status}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def read(reader: ResponseReader, raw: bytes, cuts: list[int] = [], method: str = "GET") -> bytes:  # noqa: B006
    """Feed ``raw``, cut at these places; the body."""
    reader.expect(method, ANY)
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    whole = False
    for start, end in pairwise(places):
        assert not whole
        whole = reader.receive(raw[start:end])
    if not whole:
        reader.end()
    return reader.take()


SOUND: list[tuple[str, str, bytes, int, bytes, bool]] = [
    # name, method, raw, status, body, keep_alive
    ("length", "GET", response("Content-Length: 5", body=b"hello"), 200, b"hello", True),
    ("empty", "GET", response("Content-Length: 0"), 200, b"", True),
    ("no reason", "GET", response("Content-Length: 0", status="200 "), 200, b"", True),
    ("no blank", "GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
    ("odd status", "GET", response("Content-Length: 2", body=b"ok", status="799 Odd"), 799, b"ok", True),
    ("extended chunks", "GET",
     response("Transfer-Encoding: chunked", body=b'5; a=b\r\nhello\r\n1 ;c = " ;"\r\n!\r\n0\t; d\r\n\r\n'),
     200, b"hello!", True),
    ("204", "GET", response(status="204 No Content"), 204, b"", True),
    ("204 with a length", "GET", response("Content-Length: 0", status="204 No Content"), 204, b"", True),
    ("304", "GET", response("Content-Length: 99", "ETag: x", status="304 Not Modified"), 304, b"", True),
    ("head", "HEAD", response("Content-Length: 99"), 200, b"", True),
    ("head of chunks", "HEAD", response("Transfer-Encoding: chunked"), 200, b"", True),
    ("close", "GET", response("Content-Length: 2", "Connection: close", body=b"ok"), 200, b"ok", False),
    ("1.0", "GET", response("Content-Length: 2", minor=0, body=b"ok"), 200, b"ok", False),
    ("1.0 kept", "GET", response("Content-Length: 2", "Connection: Keep-Alive", minor=0, body=b"ok"), 200, b"ok", True),
    ("until close", "GET", response(body=b"all of it"), 200, b"all of it", False),
    ("chunks", "GET", response("Transfer-Encoding: Chunked", body=b"2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n"), 200,
     b"hello", True),
    ("trailer", "GET", response("Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\nT: 1\r\n\r\n"), 200, b"x", True),
    ("interim", "GET", response(status="100 Continue") + response("Link: x", status="103 Early Hints")
     + response("Content-Length: 2", body=b"ok"), 200, b"ok", True),
    ("an offer", "GET", response("Upgrade: h2", "Connection: Upgrade", "Content-Length: 2", body=b"ok"), 200, b"ok",
     True),
]  # fmt: skip
IDS = [case[0] for case in SOUND]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("case", SOUND, ids=IDS)
def test_sound_responses_cut_at_every_byte(codec: str, case: tuple[Any, ...]) -> None:
    _, method, raw, status, body, keep_alive = case
    for cuts in ([], list(range(len(raw))), *([place] for place in range(1, len(raw)))):
        reader = make(codec)
        assert read(reader, raw, cuts, method) == body
        assert reader.done
        assert reader.head is not None
        assert (reader.head.status, reader.keep_alive) == (status, keep_alive)


@given(st.lists(st.sampled_from([case for case in SOUND if case[5]]), max_size=6), st.lists(st.integers(0, 400)))
def test_one_after_another_on_one_connection(cases: list[tuple[Any, ...]], cuts: list[int]) -> None:
    """Both codecs go on after every kind of response, as one that was read by a reader of its own."""
    for codec in CODECS:
        reader = make(codec)
        for _, method, raw, status, body, _ in cases:
            assert read(reader, raw, cuts, method) == body
            assert reader.head is not None
            assert (reader.head.status, reader.keep_alive) == (status, True)
            assert reader.trailers == ([(b"t", b"1")] if b"T: 1" in raw else [])


UNSOUND: list[tuple[bytes, str]] = [
    (response("Content-Length: 1", "Content-Length: 1", body=b"x"), "one Content-Length"),
    (response("Content-Length: 1, 1", body=b"x"), "whole number"),
    (response("Content-Length: +1", body=b"x"), "whole number"),
    (response("Content-Length: 99999999999999999999"), "whole number"),
    (response("Content-Length: 1", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "both"),
    (response("Transfer-Encoding: gzip", body=b"x"), "'chunked'"),
    (response("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), "'chunked'"),
    (response("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "'chunked'"),
    (response("Transfer-Encoding: chunked", minor=0, body=b"0\r\n\r\n"), "HTTP/1.0"),
    (response("X: a\x0bb", "Content-Length: 0"), "control characters"),
    (response("X: a\rb", "Content-Length: 0"), "control characters"),
    (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "CRLF|status reason"),
    (b"HTTP/1.2 200 OK\r\n\r\n", "HTTP/1.1"),
    (b"HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1"),
    (b"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1"),
    (b"HTTP/1.1 000 OK\r\n\r\n", "HTTP/1.1"),
    (b"ICY 200 OK\r\n\r\n", "HTTP/1.1"),
    (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1"),
    (response("Upgrade: x", "Connection: upgrade", status="101 Switching Protocols"), "switches protocols"),
    (response("Transfer-Encoding: chunked", body=b"1\nx\n0\n\n"), "hexadecimal"),
    (response("Transfer-Encoding: chunked", body=b"1\r\nxy\r\n"), "followed by CRLF"),
    (response("Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 5\r\n\r\n"), "trailer must not"),
]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("raw", "match"), UNSOUND)
def test_unsound_responses_are_refused_in_the_same_words(codec: str, raw: bytes, match: str) -> None:
    for cuts in ([], list(range(len(raw)))):
        with pytest.raises(RemoteProtocolError, match=match):
            read(make(codec), raw, cuts)


@pytest.mark.parametrize("codec", CODECS)
def test_what_comes_behind_a_response_ends_the_connection(codec: str) -> None:
    for raw in (
        response("Content-Length: 2", body=b"ok"),
        response("Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    ):
        reader = make(codec)
        assert read(reader, raw + b"HTTP/1.1 200 OK\r\n") == b"ok"
        assert not reader.keep_alive
    reader = make(codec)
    reader.expect("GET", ANY)
    assert reader.receive(response(status="204 No Content") + b"x")
    assert not reader.keep_alive


@pytest.mark.parametrize("codec", CODECS)
def test_limits(codec: str) -> None:
    limits = ResponseLimits(head_size=100, head_fields=3, trailer_size=10)
    with pytest.raises(RemoteProtocolError, match="longer than 100 bytes"):
        read(make(codec, limits), response("X: " + "a" * 100))
    with pytest.raises(RemoteProtocolError, match="longer than 100 bytes"):
        read(make(codec, limits), b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100)
    with pytest.raises(RemoteProtocolError, match="at most 3 fields"):
        read(make(codec, limits), response("A: b", "A: b", "A: b", "Content-Length: 0"))
    with pytest.raises(RemoteProtocolError, match="trailer is longer"):
        read(make(codec, limits), response("Transfer-Encoding: chunked", body=b"0\r\nLong: trailer\r\n\r\n"))
    for raw in (
        response("Content-Length: 3", body=b"abc"),
        response(body=b"abc"),
        response("Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
    ):
        reader = make(codec)
        reader.expect("GET", 2)
        with pytest.raises(RemoteProtocolError, match=r"at most 2|longer than 2"):
            reader.receive(raw)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"", "without a response"),
        (b"HTTP/1.1 2", "in the middle of a response's head"),
        (response("Content-Length: 5", body=b"ab"), "after 2 of 5 bytes"),
        (response("Transfer-Encoding: chunked", body=b"2\r\nab\r\n"), "after 2 bytes"),
    ],
)
def test_an_end_too_early(codec: str, raw: bytes, match: str) -> None:
    with pytest.raises(RemoteProtocolError, match=match):
        read(make(codec), raw)


@given(st.binary(max_size=60))
def test_noise_is_refused_by_both_or_by_none(noise: bytes) -> None:
    found = []
    for codec in CODECS:
        try:
            found.append(read(make(codec), b"HTTP/1.1 200 OK\r\n" + noise + b"\r\n\r\n"))
        except RemoteProtocolError:
            found.append(b"refused")
    assert len(set(found)) == 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("case", SOUND, ids=IDS)
def test_the_standard_library_reads_the_same(codec: str, case: tuple[Any, ...]) -> None:
    name, method, raw, status, body, _ = case
    if name == "interim":  # it passes over 100 alone
        return

    class Socket:
        def makefile(self, *_: Any) -> io.BytesIO:
            return io.BytesIO(raw)

    theirs = http.client.HTTPResponse(Socket(), method=method)  # type: ignore[arg-type]
    theirs.begin()
    assert (theirs.status, theirs.read()) == (status, body)
    ours = make(codec)
    read(ours, raw, [], method)
    assert ours.head is not None
    pairs = [(key.lower(), value) for key, value in theirs.getheaders()]
    assert [(key.decode(), value.decode("latin-1")) for key, value in ours.head.fields] == pairs


@pytest.mark.parametrize("codec", CODECS)
def test_a_closed_reader_leaves_nothing_to_the_collector(codec: str) -> None:
    gc.collect()
    gc.disable()
    try:
        reader = make(codec)
        read(reader, response("Content-Length: 2", body=b"ok"))
        reader.close()
        before = len([each for each in gc.get_objects() if "Responses" in type(each).__name__])
        del reader
        after = len([each for each in gc.get_objects() if "Responses" in type(each).__name__])
        assert after <= before
    finally:
        gc.enable()


def test_the_patience_that_a_server_tells() -> None:
    for value, patience in (("timeout=5", 5), ("max=3, timeout=7", 7), ("timeout = 5", None), ("Timeout=9,max=1", 9)):
        reader = make("h11")
        read(reader, response(f"Keep-Alive: {value}", "Content-Length: 0"))
        assert reader.head is not None
        assert reader.head.patience == patience


def test_how_they_show_themselves() -> None:
    reader = make("h11")
    assert repr(reader) == "<ResponseReader  done>"
    reader.expect("GET", ANY)
    assert repr(reader) == "<ResponseReader GET waiting>"
    reader.receive(response("Content-Length: 1"))
    assert repr(reader) == "<ResponseReader GET <ResponseHead 200, 1 fields>>"
    assert not reader.done
    assert reader.begun


def sized(body: bytes) -> bytes:
    return response(f"Content-Length: {len(body)}", "X-Other: any", body=body)


@pytest.mark.parametrize("codec", CODECS)
def test_a_head_known_from_the_last_response(codec: str) -> None:
    reader = make(codec)
    first, second, third = sized(b"one"), sized(b"two"), sized(b"three")
    for raw, body in ((first, b"one"), (second, b"two"), (third, b"three"), (first, b"one")):
        assert read(reader, raw) == body
        assert reader.done
        assert reader.keep_alive
    # In pieces, and so that the known head is all that has come.
    assert read(reader, second, [len(second) - 3]) == b"two"
    assert read(reader, second, [len(second) - 1]) == b"two"
    # Behind an interim response; then the same head where it has no body, which does come: nobody asked for that.
    assert read(reader, response(status="103 Early Hints") + second) == b"two"
    assert read(reader, second) == b"two"
    read(reader, second, method="HEAD")
    assert not reader.keep_alive


@pytest.mark.parametrize("codec", CODECS)
def test_a_known_head_excuses_nothing(codec: str) -> None:
    raw = sized(b"four")
    reader = make(codec)
    assert read(reader, raw) == b"four"
    reader.expect("GET", 3)
    with pytest.raises(RemoteProtocolError, match="4 bytes long; at most 3"):
        reader.receive(raw)
    reader = make(codec)
    assert read(reader, raw) == b"four"
    reader.expect("GET", 100)
    assert reader.receive(raw + b"HTTP/1.1 200 OK\r\n")
    assert not reader.keep_alive
