"""TCP framings: whole messages out of bytes however they come, exact limits, and early refusal."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from coserver.protocol.framing import FRAMINGS, Framing

from .generating import cuts
from .reading import cut, examples, pieces_of

PREFIX = b"\xe8\x00\x00\x00"
WHOLE = ["lines", "length", "coserver"]


def decode(framing: Framing, pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    """The messages in ``pieces``, and what is left."""
    buffer = bytearray()
    messages = []
    for piece in pieces:
        buffer += piece
        while (message := framing.decode(buffer)) is not None:
            assert type(message) is bytes
            messages.append(message)
    return messages, bytes(buffer)


def refusal(name: str, data: bytes, size_max: int = 100) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(FRAMINGS[name](size_max), [data])
    return str(caught.value)


def test_the_table() -> None:
    assert list(FRAMINGS) == ["raw", "lines", "length", "coserver"]


payloads = st.lists(st.binary(max_size=30), max_size=5)
lines = st.lists(
    (st.binary(max_size=30) | st.sampled_from([b"\r", b"a\r", b"\r\r", b"\ra"])).filter(lambda line: b"\n" not in line),
    max_size=5,
)


@pytest.mark.parametrize("name", ["length", "coserver"])
@examples(150)
@given(payloads, cuts)
def test_lengths_round_trip(name: str, messages: list[bytes], places: list[int]) -> None:
    framing = FRAMINGS[name](30)
    wire = b"".join(map(framing.encode, messages))
    for pieces in ([wire], cut(wire, places), pieces_of(wire, 1)):
        assert decode(FRAMINGS[name](30), pieces) == (messages, b"")


@examples(150)
@given(lines, cuts)
def test_lines_round_trip(messages: list[bytes], places: list[int]) -> None:
    framing = FRAMINGS["lines"](30)
    wire = b"".join(map(framing.encode, messages))
    for pieces in ([wire], cut(wire, places), pieces_of(wire, 1)):
        assert decode(FRAMINGS["lines"](30), pieces) == (messages, b"")


@examples(100)
@given(st.binary(max_size=100), cuts, st.integers(1, 20))
def test_raw_loses_nothing_and_gives_no_more_than_its_size(data: bytes, places: list[int], size_max: int) -> None:
    messages, left = decode(FRAMINGS["raw"](size_max), cut(data, places))
    assert b"".join(messages) == data
    assert left == b""
    assert all(0 < len(message) <= size_max for message in messages)
    assert FRAMINGS["raw"](size_max).encode(data) == data


@pytest.mark.parametrize("name", WHOLE)
@examples(100)
@given(st.binary(max_size=40), cuts)
def test_cuts_do_not_matter(name: str, data: bytes, places: list[int]) -> None:
    seen: list[tuple[list[bytes], bytes | None]] = []
    for pieces in ([data], cut(data, places), pieces_of(data, 1)):
        messages: list[bytes] = []
        buffer, framing = bytearray(), FRAMINGS[name](20)
        try:
            for piece in pieces:
                buffer += piece
                while (message := framing.decode(buffer)) is not None:
                    messages.append(message)
        except RemoteProtocolError:
            seen.append((messages, None))
        else:
            seen.append((messages, bytes(buffer)))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("name", FRAMINGS)
def test_nothing_is_no_message(name: str) -> None:
    assert FRAMINGS[name](10).decode(bytearray()) is None


@pytest.mark.parametrize("name", WHOLE)
def test_an_empty_message_is_a_message(name: str) -> None:
    framing = FRAMINGS[name](10)
    assert decode(framing, [framing.encode(b"") * 3 + framing.encode(b"x") + framing.encode(b"")]) == (
        [b"", b"", b"", b"x", b""],
        b"",
    )


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_limits_are_exact(name: str, size: int) -> None:
    framing = FRAMINGS[name](8)
    assert decode(framing, pieces_of(framing.encode(b"12345678"), size)) == ([b"12345678"], b"")
    with pytest.raises(RemoteProtocolError, match="at most 8 bytes"):
        decode(framing, pieces_of(framing.encode(b"123456789"), size))


@pytest.mark.parametrize("name", WHOLE)
def test_a_limit_of_nothing_lets_nothing_pass(name: str) -> None:
    framing = FRAMINGS[name](0)
    assert decode(framing, [framing.encode(b"")]) == ([b""], b"")
    with pytest.raises(RemoteProtocolError):
        decode(framing, [framing.encode(b"x")])


def test_what_is_left_stays_in_the_buffer() -> None:
    assert decode(FRAMINGS["lines"](9), [b"a\nb\nc"]) == ([b"a", b"b"], b"c")
    assert decode(FRAMINGS["length"](9), [b"\0\0\0\1a\0\0\0\2b"]) == ([b"a"], b"\0\0\0\2b")
    assert decode(FRAMINGS["coserver"](9), [PREFIX + b"\0\0\0\1a" + PREFIX]) == ([b"a"], PREFIX)


# Lines.


def test_a_line_ends_with_lf_and_one_cr_before_it_is_dropped() -> None:
    assert decode(FRAMINGS["lines"](9), [b"a\nb\r\n\r\n\n\rc\n\r\r\n"])[0] == [b"a", b"b", b"", b"", b"\rc", b"\r"]


def test_the_cr_of_a_line_does_not_count() -> None:
    for size in (1, 100):
        assert decode(FRAMINGS["lines"](3), pieces_of(b"abc\r\nabc\r\n", size)) == ([b"abc", b"abc"], b"")
    for data in (b"abcd\n", b"abcd\r\n", b"abc\r\r\n", b"abcde", b"\r\r\r\r\r"):
        assert "at most 3 bytes" in refusal("lines", data, 3)


def test_an_endless_line_is_refused_before_it_ends() -> None:
    framing, buffer = FRAMINGS["lines"](1000), bytearray()
    for _ in range(1001):  # the last one might be the CR
        buffer += b"a"
        assert framing.decode(buffer) is None
    buffer += b"a"
    with pytest.raises(RemoteProtocolError):
        framing.decode(buffer)


def test_a_message_with_a_newline_is_no_line() -> None:
    for message in (b"a\nb", b"\n", b"a\r\n"):
        with pytest.raises(LocalProtocolError, match="newline"):
            FRAMINGS["lines"](9).encode(message)


def test_slow_lines_are_searched_once() -> None:
    """A million bytes one by one: searched anew each time they would take many minutes."""
    framing, buffer = FRAMINGS["lines"](1 << 20), bytearray()
    began = process_time()
    for _ in range(1_000_000):
        buffer += b"a"
        assert framing.decode(buffer) is None
    buffer += b"\n"
    assert framing.decode(buffer) == b"a" * 1_000_000
    assert process_time() - began < 10
    # And the next line is searched from its start.
    buffer += b"b\nc\n"
    assert framing.decode(buffer) == b"b"
    assert framing.decode(buffer) == b"c"


@pytest.mark.parametrize("name", FRAMINGS)
def test_many_messages_at_once_are_not_copied_each_time(name: str) -> None:
    framing = FRAMINGS[name](1)
    wire = framing.encode(b"x") * 100_000
    began = process_time()
    messages, left = decode(framing, [wire])
    assert messages == ([b"x"] * 100_000)
    assert left == b""
    assert process_time() - began < 10


# Lengths.


@pytest.mark.parametrize(("name", "prefix"), [("length", b""), ("coserver", PREFIX)])
def test_negative_and_oversized_lengths(name: str, prefix: bytes) -> None:
    assert "negative; got -1" in refusal(name, prefix + b"\xff\xff\xff\xff")
    assert "negative; got -2147483648" in refusal(name, prefix + b"\x80\0\0\0")
    assert "at most 100 bytes long; this one says 101" in refusal(name, prefix + b"\0\0\0\x65")
    assert "says 2147483647" in refusal(name, prefix + b"\x7f\xff\xff\xff")


@pytest.mark.parametrize("at", range(4))
def test_a_wrong_prefix_is_refused_at_its_first_wrong_byte(at: int) -> None:
    framing = FRAMINGS["coserver"](100)
    assert framing.decode(bytearray(PREFIX[:at])) is None
    wrong = PREFIX[:at] + b"\x01"
    assert f"e8 00 00 00; got {wrong.hex(' ')}" in refusal("coserver", wrong)


def test_the_second_prefix_is_checked_too() -> None:
    framing = FRAMINGS["coserver"](100)
    assert "start with" in refusal("coserver", framing.encode(b"a") + b"GET /")


def test_a_length_is_big_endian() -> None:
    assert FRAMINGS["length"](1000).encode(b"x" * 258) == b"\0\0\1\2" + b"x" * 258
    assert FRAMINGS["coserver"](1000).encode(b"x") == PREFIX + b"\0\0\0\1x"


class Huge(bytes):
    """2 GiB by its own account, so that the test needs none."""

    def __len__(self) -> int:
        return 1 << 31


@pytest.mark.parametrize("name", ["length", "coserver"])
def test_two_gibibytes_cannot_be_said(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="2 GiB"):
        FRAMINGS[name](100).encode(Huge())
