"""The table of parsers, and each parser by itself: what the reader counts on."""

from __future__ import annotations

import gc
import importlib.util
from types import ModuleType

import pytest
from hypothesis import given

from coserver.protocol import codecs
from coserver.protocol.codecs import CODECS, Parsers, choose_codec
from coserver.protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from coserver.protocol.http1 import Http1Reader

from .generating import spoiled
from .reading import CODEC_NAMES, chunked, examples, read, request

fast = pytest.mark.skipif("httptools" not in CODECS, reason="httptools is not installed")
WITHOUT = {"h11": CODECS["h11"]}


def test_errors_say_whose_fault_it_was() -> None:
    remote = RemoteProtocolError("why", 431)
    assert (remote.reason, remote.status, str(remote)) == ("why", 431, "why")
    assert RemoteProtocolError("why").status == 400
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert issubclass(LocalProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)


def test_auto_takes_the_fast_one_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "CODECS", WITHOUT)
    assert choose_codec("auto") == "h11"
    monkeypatch.setattr(codecs, "CODECS", WITHOUT | {"httptools": CODECS["h11"]})
    assert choose_codec("auto") == "httptools"
    assert choose_codec("httptools") == "httptools"
    assert choose_codec("h11") == "h11"


def test_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "CODECS", WITHOUT)
    with pytest.raises(LocalProtocolError, match=r"pip install 'coserver\[fast\]'"):
        choose_codec("httptools")
    for name in ("", "H11", "llhttp"):
        with pytest.raises(LocalProtocolError, match="must be 'auto', 'h11' or 'httptools'"):
            choose_codec(name)


def test_without_httptools_there_is_h11(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module as it would be loaded without httptools, beside the real one."""
    spec = importlib.util.find_spec("coserver.protocol.codecs")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec.loader.exec_module(module)
    assert list(module.CODECS) == ["h11"]
    assert module.choose_codec("auto") == "h11"


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_a_codec_reads_one_request(name: str) -> None:
    codec = CODECS[name]()()
    parts = codec.head(chunked(b"", "X-A:  b\t"))
    fields = [(b"host", b"t.example"), (b"transfer-encoding", b"chunked"), (b"x-a", b"b")]
    assert parts == ("POST", b"/p", 1, fields)
    assert codec.body(b"2\r\nhe") == b"he"
    assert codec.body(b"\r\n3;a=b\r\nllo\r\n1\r\n!\r\n") == b"llo!"
    assert codec.body(b"0\r\n") == b""
    assert codec.body(b"T: 1\r\nt:2\r\n\r\n") == b""
    assert codec.trailers() == [(b"t", b"1"), (b"t", b"2")]


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_a_codec_is_a_second_guard(name: str) -> None:
    """The checks before it let none of these through; a codec by itself refuses them as well."""
    for head in (
        request("X\x00: y"),
        request("X: \x00"),
        request("Content-Length: x"),
        request("Content-Length: 5", "Content-Length: 6"),
        request("Transfer-Encoding: gzip"),
    ):
        with pytest.raises(RemoteProtocolError):
            CODECS[name]()().head(head)
    codec = CODECS[name]()()
    codec.head(chunked(b""))
    with pytest.raises(RemoteProtocolError):
        codec.body(b"xyz\r\n")


def test_the_reference_takes_whole_heads_only() -> None:
    with pytest.raises(RemoteProtocolError, match="expected a request head"):
        CODECS["h11"]()().head(b"GET / HTTP/1.1\r\nHost: t\r\n")


@pytest.mark.parametrize("name", CODEC_NAMES)
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Content-Length: 5", "Content-Length: 5"], 400),
        (["Content-Length: 5, 5"], 400),
        (["Content-Length: 5", "Content-Length: 6"], 400),
        (["Content-Length: 99999999999999999999"], 400),
        (["Transfer-Encoding: gzip"], 400),
        (["Transfer-Encoding: gzip, chunked"], 501),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], 400),
        (["Host: t.example"], 400),
        (["Upgrade: x", "Connection: upgrade", "Content-Length: 5, 5"], 400),
        (["Host: t.example", *("X: y" for _ in range(100))], 400),
        ([*("X: y" for _ in range(100))], 431),
    ],
)
def test_words_and_status_do_not_depend_on_the_codec(name: str, fields: list[str], status: int) -> None:
    raw = request(*fields, line="POST / HTTP/1.1")
    reading = read(name, [raw])
    assert reading.status == status
    assert str(reading.error) == str(read("h11", [raw]).error)


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_fields_are_as_they_were_sent(name: str) -> None:
    """h11's own list has values in lower case and lengths without their zeros."""
    sent = ["Transfer-Encoding: ChunKed", "Connection: Keep-Alive"]
    assert (b"transfer-encoding", b"ChunKed") in read(name, [request(*sent)]).messages[0].fields
    assert (b"content-length", b"000") in read(name, [request("Content-Length: 000")]).messages[0].fields


# Parsers that are used again.


@fast
@pytest.mark.parametrize(
    "before",
    [
        request(),
        request("Content-Length: 0", line="POST /p HTTP/1.1"),
        request("Connection: close"),
        request("Proxy-Connection: close"),
        request("Connection: Upgrade", "Upgrade: h2c"),
        request("Connection: keep-alive", line="GET / HTTP/1.0"),
        request(line="GET / HTTP/1.0"),
        request(line="PLAY / HTTP/1.1"),
        request(line="BREW / HTTP/1.1"),
        request(line="CONNECT h:1 HTTP/1.1"),
        request("Content-Length: 5", body=b"hello"),
        request("Content-Length: 5", body=b"hel"),
        chunked(b"1\r\nx\r\n0\r\nA: b\r\n\r\n"),
        chunked(b"1\r\n"),
        request("Host: other"),
        request("Content-Length: x"),
        request("Transfer-Encoding: gzip"),
        request(host=False),
        request(*(f"X-{n}: v" for n in range(101))),
    ],
    ids=lambda raw: repr(raw[:50]),
)
def test_a_parser_carries_nothing_over(before: bytes) -> None:
    """What one client sent must not be seen in the next one's request."""
    parsers = Parsers("httptools")
    after = chunked(b"2\r\nhi\r\n0\r\nT: u\r\n\r\n") + request("X: y", line="GET /2 HTTP/1.0")
    expected = read("h11", [after])
    for _ in range(3):
        read(parsers, [before])
        assert read(parsers, [after]).seen() == expected.seen()


@fast
@examples(200)
@given(spoiled(), spoiled())
def test_whatever_came_before_means_nothing(before: bytes, raw: bytes) -> None:
    parsers = Parsers("httptools")
    read(parsers, [before])
    assert read(parsers, [raw]).seen() == read("h11", [raw]).seen()


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_connections_in_turns(name: str) -> None:
    """Many connections on one loop, each byte of each in turn: all read as if they were alone."""
    wires = [
        request(f"X: {n}", line=f"GET /{n} HTTP/1.1")
        + request(f"Content-Length: {n}", line=f"PUT /{n} HTTP/1.1", body=b"x" * n)
        for n in range(20)
    ]
    parsers = Parsers(name)
    readers = [Http1Reader(parsers) for _ in wires]
    seen: list[list[tuple[str, int | None]]] = [[] for _ in wires]
    bodies = [b""] * len(wires)
    for at in range(max(map(len, wires))):
        for n, reader in enumerate(readers):
            reader.receive(wires[n][at : at + 1])
            bodies[n] += reader.read_body()
            head = reader.read_head() if reader.body_done else None
            if head is not None:
                assert (b"x", f"{n}".encode()) in head.fields or head.method == "PUT"
                seen[n].append((head.target, head.length))
    assert seen == [[(f"/{n}", 0), (f"/{n}", n)] for n in range(20)]
    assert bodies == [b"x" * n for n in range(20)]


@fast
def test_only_a_parser_that_is_done_is_used_again() -> None:
    parsers = Parsers("httptools")
    for fields in (
        ["Host: twice"],
        ["Content-Length: x"],
        ["Content-Length: 1"],
        ["Connection: close"],
        ["Upgrade: x", "Connection: upgrade"],
    ):
        read(parsers, [request(*fields)])
        assert parsers.idle is None
    read(parsers, [request()])
    first = parsers.idle
    assert first is not None
    read(parsers, [request(line="GET /2 HTTP/1.1")])
    assert parsers.idle is first
    read(parsers, [request("Content-Length: 1", body=b"x")])
    assert parsers.idle is None


def test_the_reference_is_made_anew_each_time() -> None:
    parsers = Parsers("h11")
    read(parsers, [request()])
    assert parsers.idle is None


@fast
def test_leaves_no_cycles_for_the_collector() -> None:
    """Parser and callbacks hold each other: left to themselves, each request would be seven objects of garbage."""
    raw = request() + chunked(b"1\r\nx\r\n0\r\n\r\n") + request("Content-Length: 1", "Connection: close", body=b"x")
    raw += request("Connection: close")
    reader = Http1Reader("httptools")
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            reader.receive(raw)
            while reader.buffered:
                assert reader.read_head() is not None
                reader.read_body()
        assert gc.collect() == 0
    finally:
        gc.enable()
