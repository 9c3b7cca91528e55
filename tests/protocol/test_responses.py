"""The sending half: nothing that a handler says can start a line of its own, and clients read what was meant."""

from __future__ import annotations

import io
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol import responses
from coserver.protocol.errors import LocalProtocolError
from coserver.protocol.responses import (
    CHUNKED,
    CLOSE,
    CONTINUE,
    KEEP_ALIVE,
    LAST_CHUNK,
    encode_chunk,
    encode_fields,
    encode_last_chunk,
    encode_length,
    encode_start,
    has_body,
)

from .generating import MEANINGFUL, cuts, field_values, tokens
from .reading import cut, examples

Pairs = list[tuple[str, str]]
SPECIAL = MEANINGFUL | {"keep-alive", "trailer", "content-type", "content-encoding", "content-range"}
names = tokens.filter(lambda name: name.lower() not in SPECIAL)
pairs = st.lists(st.tuples(names, field_values), max_size=5)


class Wire:
    """As much of a socket as http.client asks for."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.raw)


def read_by_h11(pieces: list[bytes]) -> tuple[h11.Response, bytes, Pairs]:
    """The head, the body and the trailers as an h11 client sees them."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "t")]))
    client.send(h11.EndOfMessage())
    head, body = None, b""
    for piece in pieces:
        client.receive_data(piece)
        while (event := client.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                assert isinstance(event, h11.EndOfMessage)
                assert head is not None
                return head, body, decoded(event.headers)
    raise AssertionError("the response does not end")


def read_by_http_client(raw: bytes) -> tuple[HTTPResponse, bytes]:
    response = HTTPResponse(Wire(raw))  # type: ignore[arg-type]
    response.begin()
    return response, response.read()


def decoded(headers: object) -> Pairs:
    return [(name.decode(), value.decode("latin-1")) for name, value in headers]  # type: ignore[attr-defined]


def lowered(fields: Pairs) -> Pairs:
    return [(name.lower(), value) for name, value in fields]


@examples(150)
@given(st.integers(200, 599), pairs, st.binary(max_size=50))
def test_clients_read_what_was_meant(status: int, fields: Pairs, body: bytes) -> None:
    body = body if has_body(status) else b""
    length = encode_length(len(body)) if has_body(status) else b""
    raw = encode_start(status, "text/x; charset=utf-8") + encode_fields(fields) + length + b"\r\n" + body
    expected = [("content-type", "text/x; charset=utf-8"), *lowered(fields)]
    if length:
        expected.append(("content-length", str(len(body))))

    head, data, _ = read_by_h11([raw])
    assert (head.status_code, data, decoded(head.headers)) == (status, body, expected)
    response, data = read_by_http_client(raw)
    assert (response.status, data, lowered(response.getheaders())) == (status, body, expected)


@examples(100)
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=4), pairs, cuts)
def test_chunks_and_trailers_are_read_back(chunks: list[bytes], trailers: Pairs, places: list[int]) -> None:
    raw = encode_start(200, "") + CHUNKED + b"\r\n" + b"".join(map(encode_chunk, chunks)) + encode_last_chunk(trailers)
    for pieces in ([raw], cut(raw, places)):
        _, data, seen = read_by_h11(pieces)
        assert data == b"".join(chunks)
        assert seen == lowered(trailers)
    assert read_by_http_client(raw)[1] == b"".join(chunks)


def test_the_last_chunk_without_trailers() -> None:
    assert encode_last_chunk([]) == LAST_CHUNK
    assert encode_last_chunk({"X": "y"}.items()) == b"0\r\nX: y\r\n\r\n"


def test_ready_made_lines() -> None:
    _, _, trailers = read_by_h11(
        [encode_start(200, "text/plain") + KEEP_ALIVE + CLOSE + CHUNKED + b"\r\n" + LAST_CHUNK]
    )
    assert trailers == []
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "t")]))
    client.receive_data(CONTINUE)
    event = client.next_event()
    assert isinstance(event, h11.InformationalResponse)
    assert event.status_code == 100


# What may not be sent.

EVIL = [
    "\r",
    "\n",
    "\r\n",
    "\r\nX: y",
    "\n\n<html>",
    "\r\n\r\nHTTP/1.1 200 OK\r\n",
    "\0",
    "\x0b",
    "\x0c",
    "\x1b",
    "\x7f",
    "a\x08b",
    "\r\n folded",
]


@pytest.mark.parametrize("value", EVIL)
def test_values_cannot_start_a_line(value: str) -> None:
    for injected in (value, f"a{value}", f"{value}a", f" {value} "):
        with pytest.raises(LocalProtocolError, match="control"):
            encode_start(200, injected)
        for write in (encode_fields, encode_last_chunk):
            with pytest.raises(LocalProtocolError, match="control"):
                write([("X", injected)])


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:", ":a", "a\r\nb", "a\n", "\ra", "a\0", "a\t", "(a)", "a/b", "a,b", '"a"', "a\x7f", " a", "a "],
)
def test_names_are_tokens(name: str) -> None:
    for write in (encode_fields, encode_last_chunk):
        with pytest.raises(LocalProtocolError, match="token"):
            write([(name, "x")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "☃"),
        ("X", "Ā"),
        ("é", "x"),
        ("☃", "x"),
        ("\u212aeep-alive", "x"),
        ("X", "\udcff"),
        ("X", "a\u560d\u560ab"),
    ],
)
def test_what_bytes_cannot_say(name: str, value: str) -> None:
    """U+560D and U+560A become CR and LF where a careless encoder keeps the low byte."""
    with pytest.raises(LocalProtocolError, match="ISO-8859-1"):
        encode_fields([(name, value)])


@pytest.mark.parametrize(("name", "value"), [("X", 5), ("X", b"y"), ("X", None), (b"X", "y"), (5, "y")])
def test_names_and_values_are_text(name: Any, value: Any) -> None:
    for write in (encode_fields, encode_last_chunk):
        with pytest.raises(LocalProtocolError, match="are str"):
            write([("Y", "z"), (name, value)])


def test_values_of_iso_8859_1_and_blanks_around_them() -> None:
    assert encode_fields([("X", " \tcafé\t "), ("Y", ""), ("Z", "a\tb c")]) == b"X: caf\xe9\r\nY: \r\nZ: a\tb c\r\n"
    assert encode_fields([]) == b""


@pytest.mark.parametrize("name", ["Transfer-Encoding", "transfer-encoding", "Keep-Alive", "Upgrade", "TRAILER"])
def test_framing_belongs_to_the_server(name: str) -> None:
    for write in (encode_fields, encode_last_chunk):
        with pytest.raises(LocalProtocolError, match="belongs to the server"):
            write([("X", "y"), (name, "chunked")])


@pytest.mark.parametrize(
    "name", ["Content-Length", "content-type", "Content-Encoding", "Content-Range", "Connection", "Host"]
)
def test_trailers_come_too_late_for_some_fields(name: str) -> None:
    assert encode_fields([(name, "x")])
    with pytest.raises(LocalProtocolError, match="trailer"):
        encode_last_chunk([("X", "y"), (name, "x")])


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 600, 999, 2000])
def test_statuses_from_200_to_599(status: int) -> None:
    for _ in range(2):  # what was refused is not kept either
        with pytest.raises(LocalProtocolError, match="200 to 599"):
            encode_start(status, "")


def test_known_statuses_have_a_phrase_and_others_none() -> None:
    assert encode_start(200, "") == b"HTTP/1.1 200 OK\r\n"
    assert encode_start(HTTPStatus.NOT_FOUND, "") == b"HTTP/1.1 404 Not Found\r\n"
    assert encode_start(299, "") == b"HTTP/1.1 299 \r\n"
    assert encode_start(201, "a/b") == b"HTTP/1.1 201 Created\r\ncontent-type: a/b\r\n"


def test_has_body() -> None:
    assert [status for status in range(200, 600) if not has_body(status)] == [204, 304]
    assert not has_body(101)


def test_starts_are_kept_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[int, str], bytes] = {}
    monkeypatch.setattr(responses, "starts", kept)
    first = encode_start(200, "a/0")
    assert encode_start(200, "a/0") is first
    for number in range(1000):
        assert encode_start(200, f"a/{number}").endswith(b"a/%d\r\n" % number)
    assert len(kept) == responses._STARTS_MAX


@examples(200)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=4))
def test_any_text_is_refused_or_safe(fields: Pairs) -> None:
    try:
        raw = encode_fields(fields)
    except LocalProtocolError:
        return
    lines = raw.split(b"\r\n")
    assert len(lines) == len(fields) + 1
    assert not any(byte != 9 and (byte < 0x20 or byte == 0x7F) for line in lines for byte in line)
    assert [line.partition(b": ")[0] for line in lines[:-1]] == [name.encode() for name, _ in fields]
