"""The grammar of a head: what is sound, what is refused, and the words it is refused with."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol import syntax
from coserver.protocol.errors import RemoteProtocolError
from coserver.protocol.syntax import (
    check_head,
    check_partial,
    check_request_line,
    is_head,
    is_host,
    is_token,
    is_value,
    show,
)

from .generating import seeds, spoiled
from .reading import examples

TCHARS = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
LINE = b"GET / HTTP/1.1\r\n"


def refusal(head: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        check_head(head)
    return caught.value


def test_every_byte_of_a_token() -> None:
    for byte in range(256):
        each = bytes([byte])
        assert bool(is_token(each)) == (each in TCHARS)
        assert bool(is_head(b"G" + each + b"T / HTTP/1.1\r\n\r\n")) == (each in TCHARS)
        assert bool(is_head(LINE + b"X" + each + b"Y: z\r\n\r\n")) == (each in TCHARS + b":")
    assert not is_token(b"")


def test_every_byte_of_a_value() -> None:
    for byte in range(256):
        fine = byte == 9 or 0x20 <= byte <= 0x7E or byte >= 0x80
        assert bool(is_value(bytes([byte]))) == fine
        assert bool(is_head(LINE + b"X: a%cb\r\n\r\n" % byte)) == fine
    assert is_value(b"")


def test_every_byte_of_a_target() -> None:
    for byte in range(256):
        fine = 0x21 <= byte <= 0x7E and byte != ord("#")
        assert bool(is_head(b"GET /%ca HTTP/1.1\r\n\r\n" % byte)) == fine


@pytest.mark.parametrize(
    "head",
    [
        LINE + b"\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        LINE + b"A:\r\nB: \r\nC:\t d\t\r\n\r\n",
        b"A" * 24 + b" * HTTP/1.1\r\nA:b\r\n\r\n",
    ],
)
def test_sound_heads(head: bytes) -> None:
    check_head(head)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"GET / HTTP/1.1\n", "CRLF"),
        (b"\n", "CRLF"),
        (b"GET  / HTTP/1.1\r\n", "single spaces"),
        (b"GET /  HTTP/1.1\r\n", "single spaces"),
        (b"GET / HTTP/1.1 \r\n", "single spaces"),
        (b" GET / HTTP/1.1\r\n", "single spaces"),
        (b"GET\t/\tHTTP/1.1\r\n", "single spaces"),
        (b"GET / HTTP/1.1\r\r\n", "single spaces"),
        (b"GET / HTTP/2.0\r\r\n", "single spaces"),
        (b"GET /a b HTTP/2.0\r\n", "single spaces"),
        (b"GET / HTTP/1.2\r\n", "single spaces"),
        (b"GET / HTTP/1.10\r\n", "single spaces"),
        (b"GET / HTTP/11\r\n", "single spaces"),
        (b"GET / http/1.1\r\n", "single spaces"),
        (b"GET / HTTP/1.\xb9\r\n", "single spaces"),
        (b"GET /\r\n", "single spaces"),
        (b"GET\r\n", "single spaces"),
        (b"\r\n", "single spaces"),
        (b"GET / HTTP/2.0\r\n", "HTTP/2.0 is not supported"),
        (b"PRI * HTTP/2.0\r\n", "HTTP/2.0 is not supported"),
        (b"GET / HTTP/0.9\r\n", "HTTP/0.9 is not supported"),
        (b"\x16\x03\x01\n", "TLS"),
        (b"\x16\x03\x01\r\n", "TLS"),
        (b"SSH-2.0-x\r\n", "SSH"),
        (b"A" * 25 + b" / HTTP/1.1\r\n", "single spaces"),
    ],
)
def test_request_lines(line: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=re.escape(words)) as caught:
        check_request_line(line)
    assert caught.value.status == (505 if "supported" in words else 400)
    assert words in str(refusal(line + b"Host: t\r\n\r\n"))


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (b"X: y\n", "CRLF"),
        (b" X: y\r\n", "folded"),
        (b"\tX: y\r\n", "folded"),
        (b"X : y\r\n", "token"),
        (b"X\t: y\r\n", "token"),
        (b": y\r\n", "token"),
        (b"X\r\n", "token"),
        (b"X\x00: y\r\n", "token"),
        (b"X\xe9: y\r\n", "token"),
        (b"X(: y\r\n", "token"),
        (b"X: \x00\r\n", "control"),
        (b"X: a\rb\r\n", "control"),
        (b"X: y\r\r\n", "control"),
        (b"X: \x7f\r\n", "control"),
        (b"X: \x0b\r\n", "control"),
    ],
)
def test_fields(field: bytes, words: str) -> None:
    for head in (LINE + field + b"\r\n", LINE + b"A: b\r\n" + field + b"C: d\r\n\r\n"):
        error = refusal(head)
        assert error.status == 400
        assert words in str(error)


@pytest.mark.parametrize(
    "head", [b"", LINE, LINE + b"X: y\r\n", LINE + b"\r\nX", LINE + b"X: y\r\n\n", LINE + b"X: y\r\n\r"]
)
def test_a_head_must_end_and_end_there(head: bytes) -> None:
    refusal(head)


def test_a_partial_head_is_checked_once_a_line() -> None:
    head = LINE + b"A: b\r\nC: d"
    checked = check_partial(head, 0)
    assert checked == len(LINE) + 6
    assert check_partial(head + b"e", checked) == checked
    assert check_partial(head + b"\r\n", checked) == len(head) + 2
    # What has been found sound is not read again.
    assert check_partial(b"\x00" * checked + b"C: d", checked) == checked


def test_an_unfinished_request_line_may_come_to_any_sound_one() -> None:
    for line in (LINE, b"OPTIONS * HTTP/1.0\r\n", b"A" * 24 + b" /?a=b HTTP/1.1\r\n", b"GET / HTTP/9.9\r"):
        for end in range(1, len(line)):
            assert check_partial(line[:end], 0) == 0


@pytest.mark.parametrize(
    "start", [b" ", b"G(", b"GET  ", b"GET /#", b"GET / h", b"GET / HTTP/1.1\rX", b"GET / HTTP/x", b"A" * 25]
)
def test_an_unfinished_request_line_that_cannot(start: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        check_partial(start, 0)


@examples(200)
@given(seeds | spoiled() | st.binary(max_size=50))
def test_heads_and_their_beginnings_agree(raw: bytes) -> None:
    """A head is sound exactly if all its lines are; and whoever refuses a beginning refuses the whole."""
    head = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    try:
        checked = check_partial(head[:-2], 0)
    except RemoteProtocolError:
        assert not is_head(head)
    else:
        assert is_head(head)
        assert checked == len(head) - 2


@examples(200)
@given(st.binary(max_size=40) | st.text("GET /HTP1.\r\n\x00: ", max_size=40).map(str.encode))
def test_whatever_is_refused_has_a_reason(head: bytes) -> None:
    if not is_head(head):
        assert refusal(head).reason


@pytest.mark.parametrize(
    "host",
    [b"", b"a", b"t.example", b"T.EXAMPLE:80", b"h:", b"127.0.0.1:65535", b"[::1]", b"[::ffff:1.2.3.4]:80", b"a_b-c~d",
     b"%41%5a", b"a%2Fb:1", b"xn--caf-dma.example", b"h:00080"],
)  # fmt: skip
def test_hosts(host: bytes) -> None:
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [b" ", b"a b", b"a,b", b"a, b", b"u@h", b"u:p@h", b"h/p", b"h?q", b"h#f", b"h:99x", b"h:-1", b"h:123456", b"h:1:2",
     b"::1", b"[::1", b"::1]", b"[]", b"[::1]x", b"[g]", b"a\\b", b'"a"', b"<a>", b"\xe9", b"%", b"%4", b"%zz", b"a%",
     b"http://h", b"\x00", b"h\t"],
)  # fmt: skip
def test_not_hosts(host: bytes) -> None:
    assert not is_host(host)


def test_messages_show_lines_printable_and_short() -> None:
    assert show(b"a\x00\xe9\r\n") == repr("a\x00\\xe9")
    assert len(show(b"a" * 100)) == 62
    assert show(b"a" * 60) == f"'{'a' * 60}'"
    assert all(ord(letter) < 0x7F and ord(letter) >= 0x20 for byte in range(256) for letter in show(b"x%cx" % byte))


@pytest.mark.parametrize(
    "head",
    [
        LINE + b"X: " + b"a" * 30_000 + b"\x00\r\n\r\n",
        LINE + b"X:" + b" \t" * 15_000 + b"\x00\r\n\r\n",
        LINE + b"a:b\r\n" * 6_000 + b"\x00\r\n\r\n",
        b"GET " + b"/" * 30_000 + b"\x00 HTTP/1.1\r\n\r\n",
        LINE + b"a" * 30_000 + b"\r\n\r\n",
    ],
    ids=["value", "blanks", "fields", "target", "name"],
)
def test_nothing_makes_the_expressions_backtrack(head: bytes) -> None:
    """Backtracking over 30,000 bytes would take minutes; the test's own time is the check."""
    for _ in range(20):
        assert not is_head(head)
        refusal(head)


def test_names_are_exported_for_other_parsers() -> None:
    assert re.compile(syntax.TOKEN).fullmatch(b"GET")
    assert re.compile(syntax.FIELD).fullmatch(b"A: b\r\n")
    assert re.compile(syntax.REQUEST_LINE).fullmatch(LINE)
