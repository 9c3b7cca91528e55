"""The reader: the vectors, what it tells of a request, and what it does on unfinished and on wrong input."""

from __future__ import annotations

from hashlib import sha1
from typing import Any

import pytest

from coserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from coserver.protocol.http1 import HeadLimits, Http1Reader

from .reading import CODEC_NAMES, VECTORS, chunked, cut, pieces_of, read, request, served

pytestmark = pytest.mark.parametrize("codec", CODEC_NAMES)


def vectors(*expected: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", [v for v in VECTORS if v["expect"] in expected], ids=lambda v: v["id"])


# The vectors.


@vectors("accept")
def test_accepts_what_it_must(codec: str, vector: dict[str, Any]) -> None:
    reading = read(codec, [vector["raw"]])
    assert reading.error is None
    # Some vectors have more behind "Connection: close"; a server reads no further, this loop does.
    assert len(reading.messages) >= vector["n"]
    assert all(message.whole for message in reading.messages)
    first = reading.messages[0]
    assert first.method == vector.get("method", first.method)
    if "body" in vector:
        assert len(first.body) == vector["body"]["len"]
        assert sha1(first.body).hexdigest().startswith(vector["body"]["sha"])


@vectors("reject")
def test_rejects_what_it_must(codec: str, vector: dict[str, Any]) -> None:
    reading = read(codec, [vector["raw"]])
    truncated = not reading.messages or not reading.messages[-1].whole
    assert reading.error is not None or truncated
    assert not any("SMUGGLED" in message.target for message in reading.messages)
    if reading.error:
        assert 400 <= reading.error.status <= 505


@vectors("either")
def test_smuggles_nothing_where_the_rfc_leaves_a_choice(codec: str, vector: dict[str, Any]) -> None:
    reading = read(codec, [vector["raw"]])
    assert not any("SMUGGLED" in message.target for message in reading.messages)


@vectors("accept")
def test_waits_on_every_prefix_of_what_it_accepts(codec: str, vector: dict[str, Any]) -> None:
    raw = vector["raw"]
    step = 1 if len(raw) < 1000 else 37
    for end in range(0, len(raw), step):
        assert read(codec, [raw[:end]]).error is None


@vectors("accept", "either", "reject")
def test_sees_the_same_byte_by_byte(codec: str, vector: dict[str, Any]) -> None:
    raw = vector["raw"]
    assert read(codec, pieces_of(raw, 1)).seen() == read(codec, [raw]).seen()


# The story of a request.


def test_reads_a_request_and_then_nothing(codec: str) -> None:
    reader = Http1Reader(codec)
    assert reader.read_head() is None
    reader.receive(request("X-A: 1", line="GET /a?b HTTP/1.1"))
    head = reader.read_head()
    assert head is not None
    assert (head.method, head.target, head.path, head.query, head.minor) == ("GET", "/a?b", "/a", "b", 1)
    assert head.fields == [(b"host", b"t.example"), (b"x-a", b"1")]
    assert head.length == 0
    assert head.keep_alive
    assert reader.body_done
    assert reader.read_body() == b""
    assert reader.read_head() is None
    assert reader.buffered == 0


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_bytes_may_come_with_the_question(codec: str, size: int) -> None:
    reader = Http1Reader(codec)
    raw = b"\r\n" + request(line="GET /1 HTTP/1.1") + request(line="GET /2 HTTP/1.1")
    heads = [reader.read_head(piece) for piece in pieces_of(raw, size)]
    heads += [reader.read_head(), reader.read_head()]
    assert [head.target for head in heads if head] == ["/1", "/2"]


def test_keeps_pipelined_bytes_until_they_are_asked_for(codec: str) -> None:
    reader = Http1Reader(codec)
    second = request(line="GET /2 HTTP/1.1")
    reader.receive(request("Content-Length: 3", line="POST /1 HTTP/1.1", body=b"abc") + second)
    head = reader.read_head()
    assert head is not None
    assert (head.target, head.length) == ("/1", 3)
    assert not reader.body_done
    assert reader.read_body() == b"abc"
    assert reader.body_done
    assert reader.read_body() == b""
    assert reader.buffered == len(second)
    head = reader.read_head()
    assert head is not None
    assert head.target == "/2"


def test_gives_a_body_as_it_comes(codec: str) -> None:
    reader = Http1Reader(codec)
    reader.receive(request("Content-Length: 5", line="POST /p HTTP/1.1"))
    assert reader.read_head() is not None
    assert reader.read_body() == b""
    assert not reader.body_done
    reader.receive(b"he")
    assert (reader.read_body(), reader.body_done) == (b"he", False)
    reader.receive(b"llo")
    assert (reader.read_body(), reader.body_done) == (b"llo", True)


def test_a_body_must_be_read_before_the_next_head(codec: str) -> None:
    """Else the body's bytes would be taken for a request: smuggling by our own hand."""
    reader = Http1Reader(codec)
    reader.receive(request("Content-Length: 38", body=request(line="GET /SMUGGLED HTTP/1.1")))
    assert reader.read_head() is not None
    with pytest.raises(LocalProtocolError, match="body"):
        reader.read_head()


def test_trailers_belong_to_one_request(codec: str) -> None:
    reading = read(codec, [chunked(b"1\r\nx\r\n0\r\nX-T: v\r\nX-T:\r\n\r\n") + request() + chunked(b"0\r\n\r\n")])
    assert [message.trailers for message in reading.messages] == [[(b"x-t", b"v"), (b"x-t", b"")], [], []]


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
@pytest.mark.parametrize("value", ["5", "chunked", "gzip", "", "abc"])
def test_trailers_cannot_frame(codec: str, name: str, value: str) -> None:
    assert read(codec, [chunked(f"0\r\n{name}: {value}\r\n\r\n".encode())]).status == 400


@pytest.mark.parametrize("name", ["Connection", "Upgrade", "Host", "Expect", "Proxy-Connection", "Content-Lengths"])
def test_other_trailers_mean_nothing(codec: str, name: str) -> None:
    raw = chunked(f"0\r\n{name}: upgrade\r\n\r\n".encode(), "Connection: upgrade") + request(line="GET /2 HTTP/1.1")
    reading = read(codec, [raw])
    assert served(reading) == ["/p", "/2"]
    assert reading.messages[0].trailers == [(name.lower().encode(), b"upgrade")]


# How much body.


def test_blanks_around_chunk_extensions(codec: str) -> None:
    """RFC 9112 §7.1.1, RFC 9110 §5.6.3: a recipient must parse and remove them."""
    coded = b'5; a=b\r\nhello\r\n1 ;a\r\n \r\n5\t;\ta = "b ; c" ; d\r\nworld\r\n0 ; z\r\nX: y\r\n\r\n'
    raw = chunked(coded) + request()
    for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        reading = read(codec, pieces)
        assert reading.error is None
        assert [message.body for message in reading.messages] == [b"hello world", b""]


def test_a_length_beyond_the_limit_is_refused_before_the_body(codec: str) -> None:
    reader = Http1Reader(codec)
    reader.receive(request("Content-Length: 6"))
    assert reader.read_head() is not None
    reader.limit_body(6)
    with pytest.raises(RemoteProtocolError) as caught:
        reader.limit_body(5)
    assert caught.value.status == 413


@pytest.mark.parametrize("length", [2**31, 2**32 + 5, 2**63 - 1, 2**63 + 5, 10**19 - 1])
def test_great_lengths_do_not_wrap(codec: str, length: int) -> None:
    reading = read(codec, [request(f"Content-Length: {length}", body=request(line="GET /SMUGGLED HTTP/1.1") * 3)])
    assert (reading.status, len(reading.messages), reading.messages[0].whole) == (None, 1, False)
    assert reading.messages[0].body == request(line="GET /SMUGGLED HTTP/1.1") * 3
    assert read(codec, [request(f"Content-Length: {length + 10**19}")]).status == 400


@pytest.mark.parametrize("size", [2**31, 2**32 + 5, 2**63 - 1])
def test_great_chunks_do_not_wrap(codec: str, size: int) -> None:
    reading = read(codec, [chunked(b"%x\r\nhello\r\n0\r\n\r\n" % size)])
    assert (reading.status, reading.messages[0].whole) == (None, False)
    assert reading.messages[0].body == b"hello\r\n0\r\n\r\n"
    assert read(codec, [chunked(b"%x\r\nhello" % (size + 2**64))]).status == 400


def test_a_chunked_body_is_counted(codec: str) -> None:
    for size_max, status in ((6, None), (5, 413)):
        reader = Http1Reader(codec)
        reader.receive(chunked(b"3\r\nabc\r\n"))
        assert reader.read_head() is not None
        reader.limit_body(size_max)
        assert reader.read_body() == b"abc"
        reader.receive(b"3\r\nabc\r\n0\r\n\r\n")
        if status:
            with pytest.raises(RemoteProtocolError) as caught:
                reader.read_body()
            assert caught.value.status == status
        else:
            assert reader.read_body() == b"abc"
            assert reader.body_done


def test_the_limit_can_change_within_a_body(codec: str) -> None:
    """A second call must not forget where in the framing the first one had got to."""
    reader = Http1Reader(codec)
    reader.receive(chunked(b"2e\r\n5\r\n"))
    assert reader.read_head() is not None
    reader.limit_body(100)
    assert reader.read_body() == b"5\r\n"
    reader.limit_body(46)
    reader.receive(b"x" * 43 + b"\r\n0\r\n\r\n")
    assert reader.read_body() == b"x" * 43
    assert reader.body_done


def test_a_lower_limit_counts_what_was_announced(codec: str) -> None:
    reader = Http1Reader(codec)
    reader.receive(chunked(b"5\r\nhello\r\n"))
    assert reader.read_head() is not None
    assert reader.read_body() == b"hello"
    with pytest.raises(RemoteProtocolError) as caught:
        reader.limit_body(4)
    assert caught.value.status == 413


def test_limits_mean_nothing_without_a_body(codec: str) -> None:
    reader = Http1Reader(codec)
    reader.limit_body(0)
    reader.receive(request())
    assert reader.read_head() is not None
    reader.limit_body(0)
    assert reader.body_done


# Upgrades nobody takes: ordinary requests, bodies included.


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_upgrade_is_an_ordinary_request(codec: str, size: int) -> None:
    up = ("Connection: Upgrade", "Upgrade: websocket")
    raw = (
        request(*up)
        + chunked(b"2\r\nhi\r\n0\r\nX: y\r\n\r\n", *up)
        + request(*up, "Content-Length: 2", line="PUT /u HTTP/1.1", body=b"ok")
    )
    reading = read(codec, pieces_of(raw, size))
    assert reading.error is None
    assert [m.body for m in reading.messages] == [b"", b"hi", b"ok"]
    assert [m.trailers for m in reading.messages] == [[], [(b"x", b"y")], []]


def test_cut_and_pieces_lose_nothing(codec: str) -> None:
    raw = request()
    assert b"".join(cut(raw, [3, 999, 17])) == raw == b"".join(pieces_of(raw, 4))
    assert read(codec, cut(raw, [3, 999, 17]), HeadLimits(head_size=len(raw))).error is None
