"""What holds for all input: the cuts do not matter, the codecs agree, sound requests are read as they were meant."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coserver.protocol.errors import RemoteProtocolError
from coserver.protocol.head import RequestHead
from coserver.protocol.http1 import Http1Reader

from .generating import Sound, cuts, pipelines, requests, seeds, spoiled
from .reading import CODEC_NAMES, VECTORS, Reading, cut, examples, pieces_of, read

BOTH = len(CODEC_NAMES) > 1


def read_both(raw: bytes, places: list[int]) -> Reading:
    """Read ``raw`` whole, cut and byte by byte, with each codec; all must see the same."""
    reference = read("h11", [raw])
    for codec in CODEC_NAMES:
        for pieces in ([raw], cut(raw, places), pieces_of(raw, 1)):
            assert read(codec, pieces).seen() == reference.seen(), codec
    return reference


@examples(150)
@given(pipelines, cuts)
def test_reads_what_was_meant(sounds: list[Sound], places: list[int]) -> None:
    reading = read_both(b"".join(sound.raw for sound in sounds), places)
    assert reading.error is None
    assert reading.messages == [sound.message for sound in sounds]


@examples(60)
@given(requests(), st.data())
def test_waits_on_every_prefix(sound: Sound, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(sound.raw) - 1))
    for codec in CODEC_NAMES:
        reading = read(codec, [sound.raw[:end]])
        assert reading.error is None
        assert not any(message.whole for message in reading.messages)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
@examples(5)
@given(cuts)
def test_vectors_cut_anywhere(vector: dict[str, bytes], places: list[int]) -> None:
    read_both(vector["raw"], places)


@examples(1200)
@given(spoiled(), cuts)
@example(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", [])
@example(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5, 5\r\n\r\nhello", [])
@example(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", [])
@example(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1; a=b\r\nx\r\n0\r\n\r\n", [])
def test_spoiled_bytes(raw: bytes, places: list[int]) -> None:
    read_both(raw, places)


@examples(300)
@given(st.binary(max_size=200) | st.lists(seeds, max_size=3).map(b"".join), cuts)
def test_any_bytes(raw: bytes, places: list[int]) -> None:
    read_both(raw, places)


@examples(100)
@given(spoiled())
def test_what_follows_a_refusal_is_never_served(raw: bytes) -> None:
    """However the reader is asked again after it refused: no request comes out of what follows."""
    for codec in CODEC_NAMES:
        first = read(codec, [raw])
        again = read(codec, [raw + b"GET /AFTER HTTP/1.1\r\nHost: t\r\n\r\n"])
        if first.error:
            assert again.messages[: len(first.messages) - 1] == first.messages[: len(first.messages) - 1]
            assert not any(message.target == "/AFTER" for message in again.messages)


@examples(150)
@given(spoiled(), st.integers(1, 9))
def test_a_refusal_is_for_good(raw: bytes, size: int) -> None:
    """Who asks again hears the same, and gets nothing: not even from what came in the same piece before the error."""
    for codec in CODEC_NAMES:
        reader = Http1Reader(codec)
        reading = Reading()
        for piece in pieces_of(raw, size * 10):
            reader.receive(piece)
            if reading.take(reader):
                break
        if reading.error:
            for more in (b"", b"\r\n", b"0\r\n\r\n", b"\r\n\r\nGET /AFTER HTTP/1.1\r\nHost: t\r\n\r\n"):
                reader.receive(more)
                again = Reading(deepcopy(reading.messages))
                assert again.take(reader)
                assert again.status == reading.status
                assert again.messages == reading.messages


@examples(200)
@given(spoiled())
def test_a_head_that_is_read_is_sound(raw: bytes) -> None:
    """What a handler gets to see, whatever came: one host, one length, no control characters."""
    for codec in CODEC_NAMES:
        reader = Http1Reader(codec)
        reader.receive(raw)
        try:
            head = reader.read_head()
        except RemoteProtocolError:
            continue
        if head is not None:
            check(head)


def check(head: RequestHead) -> None:
    names = [name for name, _ in head.fields]
    assert head.path.startswith("/") or (head.path, head.method) == ("*", "OPTIONS")
    assert head.target.isascii()
    assert names.count(b"host") in ((1,) if head.minor else (0, 1))
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert (head.length is None) == (b"transfer-encoding" in names)
    for name, value in head.fields:
        assert name == name.lower()
        assert value == value.strip(b" \t")
        assert not any(byte != 9 and (byte < 0x20 or byte == 0x7F) for byte in value)


@pytest.mark.skipif(not BOTH, reason="httptools is not installed")
def test_there_are_two_codecs_to_compare() -> None:
    assert CODEC_NAMES == ["h11", "httptools"]
