"""Clients as oracles: what h11 and the standard library send is read back as it was meant."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from .generating import cuts, fields, hosts, methods, targets
from .reading import CODEC_NAMES, Message, cut, examples, read

pytestmark = pytest.mark.parametrize("codec", CODEC_NAMES)

Pairs = list[tuple[str, str]]
pairs = st.lists(fields.map(lambda field: (field[0], field[2])), max_size=4)


def read_one(codec: str, raw: bytes, places: list[int]) -> Message:
    reading = read(codec, cut(raw, places))
    assert reading.error is None
    (message,) = reading.messages
    assert message.whole
    return message


@examples(100)
@given(
    methods,
    targets,
    hosts,
    pairs,
    st.lists(st.binary(max_size=30), max_size=3),
    st.sampled_from(["none", "length", "chunked"]),
    pairs,
    cuts,
)
def test_h11_client(
    codec: str,
    method: str,
    target: str,
    host: str,
    headers: Pairs,
    body: list[bytes],
    framing: str,
    trailers: Pairs,
    places: list[int],
) -> None:
    sent = [("Host", host), *headers]
    if framing == "length":
        sent.append(("Content-Length", str(sum(map(len, body)))))
    elif framing == "chunked":
        sent.append(("Transfer-Encoding", "chunked"))
    else:
        body = []
    trailers = trailers if framing == "chunked" else []
    client = h11.Connection(h11.CLIENT)
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in sent]
    raw = client.send(h11.Request(method=method, target=target, headers=encoded)) or b""
    for piece in body:
        raw += client.send(h11.Data(data=piece)) or b""
    end = h11.EndOfMessage(headers=[(name.encode(), value.encode("latin-1")) for name, value in trailers])
    raw += client.send(end) or b""

    message = read_one(codec, raw, places)
    assert (message.method, message.target, message.minor) == (method, target, 1)
    assert message.fields == [(name.lower(), value) for name, value in encoded]
    assert message.body == b"".join(body)
    assert message.trailers == [(name.lower(), value) for name, value in end.headers]


class Outbox:
    """As much of a socket as http.client needs to send."""

    def __init__(self) -> None:
        self.raw = b""

    def sendall(self, data: bytes) -> None:
        self.raw += data

    def close(self) -> None:
        pass


def sent_by_http_client(
    method: str, target: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str]
) -> bytes:
    connection = HTTPConnection("t.example", 8080)
    outbox = connection.sock = Outbox()
    connection.request(method, target, body=body, headers=headers, encode_chunked="Transfer-Encoding" in headers)
    return outbox.raw


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("body", [None, b"", b"hello", b"\r\n\r\n"])
def test_http_client(codec: str, method: str, body: bytes | None) -> None:
    raw = sent_by_http_client(method, "/a?b=c", body, {"X-Y": "z", "Accept": "*/*"})
    for places in ([], list(range(0, len(raw), 5)), list(range(len(raw)))):
        message = read_one(codec, raw, places)
        assert (message.method, message.target, message.body) == (method, "/a?b=c", body or b"")
        assert (b"host", b"t.example:8080") in message.fields
        assert (b"x-y", b"z") in message.fields


@pytest.mark.parametrize("pieces", [[], [b"hello"], [b"a" * 5000, b"\r\n", b"0\r\n\r\n"]])
def test_http_client_chunked(codec: str, pieces: list[bytes]) -> None:
    raw = sent_by_http_client("POST", "/up", iter(pieces), {"Transfer-Encoding": "chunked"})
    message = read_one(codec, raw * 1, list(range(0, len(raw), 7)))
    assert message.body == b"".join(pieces)
    assert message.trailers == []


def test_http_client_one_after_the_other(codec: str) -> None:
    raw = b"".join(sent_by_http_client("PUT", f"/{n}", b"x" * n, {}) for n in range(20))
    reading = read(codec, cut(raw, range(0, len(raw), 97)))
    assert [(message.target, len(message.body)) for message in reading.messages] == [(f"/{n}", n) for n in range(20)]
