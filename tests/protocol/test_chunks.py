"""The guard of chunked framing: what it lets through, what it refuses, and where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.chunks import ChunkGuard
from coserver.protocol.errors import RemoteProtocolError

from .generating import chunked_bodies, cuts
from .reading import cut, examples

FINE = b"5\r\nhello\r\n0\r\n\r\n"


def guard(size_max: int = 1000, trailer_max: int = 1000) -> ChunkGuard:
    return ChunkGuard(size_max, trailer_max, 16 * 1024)


def approve(pieces: list[bytes], each: ChunkGuard) -> bytes:
    """Feed like the reader does, what is not approved comes again; returns what was approved."""
    waiting = approved = b""
    for piece in pieces:
        waiting += piece
        size = each.approve(waiting)
        approved, waiting = approved + waiting[:size], waiting[size:]
    return approved


def refusal(data: bytes, each: ChunkGuard | None = None) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        (each or guard()).approve(data)
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        FINE,
        b"0\r\n\r\n",
        b"000\r\n\r\n",
        b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n",
        b"2\r\n\r\n\r\n0\r\n\r\n",
        b"5;a\r\nhello\r\n0\r\n\r\n",
        b'5;a=b;c="d;e";f="";g="\\"\\\\\t \xff"\r\nhello\r\n0;z\r\n\r\n',
        b"0\r\nX: y\r\nX:\r\nZ:\tv \r\n\r\n",
        b"5; a=b\r\nhello\r\n0 ;z\r\n\r\n",
        b"5 ;a\r\nhello\r\n0\t;\t z\r\n\r\n",
        b'5 ; a = b ;c\t=\t"d ; e" ; f\r\nhello\r\n0\r\n\r\n',
    ],
)
def test_approves_what_is_sound_and_no_byte_more(data: bytes) -> None:
    for behind in (b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n"):
        each = guard()
        assert each.approve(data + behind) == len(data)
        assert each.done
        assert each.approve(behind) == 0
    for end in range(len(data)):
        each = guard()
        assert each.approve(data[:end]) <= end
        assert not each.done


@examples(150)
@given(chunked_bodies(), cuts)
def test_cuts_do_not_matter(body: tuple[bytes, bytes, object], places: list[int]) -> None:
    wire, data, _ = body
    for pieces in (cut(wire + b"next", places), [wire + b"next"]):
        each = guard()
        assert approve(pieces, each) == wire
        assert each.done
        assert each.size == len(data)


@pytest.mark.parametrize(
    "line",
    [
        b"", b" ", b" 5", b"5 ", b"5\t", b"+5", b"-5", b"0x5", b"0_5", b"5_", b"5.", b"g", b"xyz", b'"5"', b"5\x00",
        b"5\x0b", b"5\x0c",
        b"5\r", b"\r5", b"5\x85", b"5\xa0", b"\xef\xbc\x95", b"\xd9\xa5", b"00000000000000005", b"ffffffffffffffff5",
        b"5,a", b"5=a",
        b"5;", b"5;;a", b"5;=a", b"5;a=",
        b"5;a ", b"5; ", b"5 ;", b"5 ;;a", b"5 a", b"5 =a", b" 5;a", b"5 ; a=", b"5 ; a= ", b"5;a b",
        b"5;a=b c",
        b"5;a=b ", b'5;a="b" ', b"5 \r;a", b"5;\ra", b"5;\x0ba", b"5;a\xa0=b", b"5;a\r", b"5;a\x00",
        b"5;a\x7f", b"5;a\x0bb",
        b'5; a = "', b'5; a = "b',
        b'5;a="', b'5;a="b', b'5;a="b\\"', b'5;a="b"c', b'5;a="\x00"', b'5;a="\r"', b"5;a\xe9", b"5;a=\xe9", b"5;a/b",
        b"5;a=b=c", b"5;\xe9",
    ],
)  # fmt: skip
def test_refuses_sizes_that_parsers_read_differently(line: bytes) -> None:
    error = refusal(line + b"\r\nhello\r\n0\r\n\r\n")
    assert error.status == 400
    assert "hexadecimal" in str(error)


@pytest.mark.parametrize(
    "line",
    [b"5\n", b"5;a\n", b"5;\n", b'5;a="b"\n', b"0\n", b"5 ;a\n", b"5; a\n", b"5 \n;a", b"5 ; a = \nb"],
)
def test_refuses_a_bare_line_feed_after_a_size(line: bytes) -> None:
    """Read as a line's end by one parser and as part of the extension by another, it hides a whole request."""
    assert refusal(line + b"hello\r\n0\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "after", [b"0", b"X", b"XX", b"\n", b"\r0", b"\rX", b"\r\r", b"!\r\n", b" \r\n", b"\r\r\n", b"\x00\r\n"]
)
def test_refuses_what_is_not_crlf_after_data(after: bytes) -> None:
    for rest in (b"", b"0\r\n\r\n"):
        error = refusal(b"5\r\nhello" + after + rest)
        assert error.status == 400
        assert "CRLF" in str(error)


def test_a_missing_crlf_is_seen_at_its_first_byte() -> None:
    assert guard().approve(b"5\r\nhello\r") == 8
    refusal(b"5\r\nhelloX")
    refusal(b"5\r\nhello\rX")


@pytest.mark.parametrize(
    "line",
    [
        b"X: y\n",
        b"X : y\r\n",
        b" X: y\r\n",
        b"X\r\n",
        b"X: \x00\r\n",
        b"X: a\rb\r\n",
        b": y\r\n",
        b"\n",
        b"\r\r\n",
        b"X: y\r\n z\r\n",
    ],
)
def test_refuses_trailers_as_it_does_fields(line: bytes) -> None:
    assert refusal(b"0\r\n" + line + b"\r\n").status == 400


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length", b"Transfer-Encoding", b"TRANSFER-ENCODING"])
def test_refuses_trailers_that_frame(name: bytes) -> None:
    assert "trailer" in str(refusal(b"0\r\nX: y\r\n" + name + b": 5\r\n\r\n"))


def test_a_refusal_is_for_good() -> None:
    """Data that looks like framing: who asked again would be told that the body ends within it."""
    each = guard()
    assert each.approve(b"7\r\n") == 3
    data = b"\r\n0\r\n\r\n"
    first = refusal(data + b"X", each)
    for more in (data + b"X", data, b"\r\n", b"0\r\n\r\n"):
        again = refusal(more, each)
        assert (str(again), again.status) == (str(first), first.status)
        assert not each.done


def test_counts_data_when_it_is_announced() -> None:
    each = guard(size_max=10)
    assert each.approve(b"a\r\n") == 3
    assert each.size == 10
    assert refusal(b"b\r\n", guard(size_max=10)).status == 413
    assert refusal(b"5\r\nhello\r\n6\r\n", guard(size_max=10)).status == 413
    assert refusal(b"ffffffffffffffff\r\n", guard(size_max=1 << 63)).status == 413


def test_the_limit_moves_and_the_place_stays() -> None:
    each = guard(size_max=10)
    each.approve(b"5\r\nhe")
    each.limit(5)
    assert each.approve(b"llo\r\n") == 5
    assert refusal(b"1\r\n", each).status == 413
    with pytest.raises(RemoteProtocolError, match="4 bytes") as caught:
        each.limit(4)
    assert caught.value.status == 413


@examples(300)
@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"5", b"\r\n", b"hello", b"0", b"\n", b"\r", b";a", b"A: b", b" "])).map(b"".join)
)
def test_raises_nothing_else(data: bytes) -> None:
    try:
        approved = guard().approve(data)
    except RemoteProtocolError:
        return
    assert 0 <= approved <= len(data)


def test_so_many_chunks_at_once() -> None:
    """What is approved is whole chunks, whichever way they are read, and the rest is for the next call."""
    body = b"1\r\nx\r\n" * 10 + b"1;a\r\nx\r\n" * 10 + b"1\r\nx\r\n" * 3 + b"0\r\nA: b\r\n\r\n"
    for chunks in (1, 2, 3, 7, 100):
        each, rest, calls = guard(), body, 0
        while not each.done:
            size = each.approve(rest, chunks)
            assert size or not rest
            approved, rest, calls = rest[:size], rest[size:], calls + 1
            assert approved.endswith(b"\r\n")
            assert approved.count(b"x") <= chunks
        assert not rest
        assert each.size == 23
        assert calls >= 23 / chunks


@pytest.mark.parametrize("chunks", [1, 3, 256])
def test_what_is_wrong_among_many_chunks(chunks: int) -> None:
    fine = b"1\r\nx\r\n" * 5
    for wrong in (b"1\r\nxy\r\n", b"1\nx\r\n", b"x\r\n", b"-1\r\nx\r\n", b"1 \r\nx\r\n", b"1\r\nx\n\n"):
        each, rest = guard(), fine + wrong + fine
        with pytest.raises(RemoteProtocolError) as caught:  # noqa: PT012 - which of the calls raises is not its business
            for _ in range(20):
                rest = rest[each.approve(rest, chunks) :]
        assert caught.value.status == 400
        assert len(rest) <= len(wrong + fine) + len(fine) % 6 + 6 * chunks
    each, rest = guard(size_max=7), fine * 2
    with pytest.raises(RemoteProtocolError, match="longer than 7 bytes"):  # noqa: PT012
        for _ in range(20):
            rest = rest[each.approve(rest, chunks) :]
