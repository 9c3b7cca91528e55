"""What fields mean for the connection: host, body's length, keep-alive, expectations, and the forms of a target."""

from __future__ import annotations

import pytest

from coserver.protocol import head as head_module
from coserver.protocol.errors import RemoteProtocolError
from coserver.protocol.head import RequestHead

HOST = (b"host", b"t.example")


def head(*fields: tuple[bytes, bytes], method: str = "GET", target: bytes = b"/", minor: int = 1) -> RequestHead:
    return RequestHead(method, target, minor, [HOST, *fields])


def refusal(
    *fields: tuple[bytes, bytes], method: str = "GET", target: bytes = b"/", minor: int = 1
) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        head(*fields, method=method, target=target, minor=minor)
    return caught.value


def test_repr_is_the_request_line() -> None:
    assert repr(head(target=b"/a?b")) == "<RequestHead GET /a?b HTTP/1.1>"


# Host (RFC 9112 §3.2).


def test_http11_needs_one_host() -> None:
    assert head().host == b"t.example"
    assert RequestHead("GET", b"/", 0, []).host == b""
    for minor, fields in ((1, []), (1, [HOST, HOST]), (0, [HOST, HOST])):
        with pytest.raises(RemoteProtocolError, match="one Host") as caught:
            RequestHead("GET", b"/", minor, fields)
        assert caught.value.status == 400


@pytest.mark.parametrize("value", [b"a b", b"u@h", b"h/p", b"a, b", b"h:x", b"%zz"])
def test_a_host_is_a_host(value: bytes) -> None:
    for minor in (0, 1):
        with pytest.raises(RemoteProtocolError, match="Host must"):
            RequestHead("GET", b"/", minor, [(b"host", value)])


def test_sound_hosts_are_kept_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: set[bytes] = set()
    monkeypatch.setattr(head_module, "_sound_hosts", kept)
    for number in range(2000):
        host = b"h%d" % number
        assert RequestHead("GET", b"/", 1, [(b"host", host)]).host == host
        assert RequestHead("GET", b"/", 1, [(b"host", host)]).host == host
    assert len(kept) == head_module._SOUND_HOSTS_MAX
    kept.clear()
    RequestHead("GET", b"/", 1, [(b"host", b"a" * 30_000)])
    assert not kept
    with pytest.raises(RemoteProtocolError):
        RequestHead("GET", b"/", 1, [(b"host", b"a b")])
    assert not kept


# The body's length (RFC 9112 §6).


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"5", 5), (b"0005", 5), (b"9" * 19, 10**19 - 1)])
def test_lengths(value: bytes, length: int) -> None:
    assert head((b"content-length", value)).length == length


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-5",
        b"+5",
        b"0x5",
        b"5.0",
        b"5e0",
        b"5 5",
        b"5,5",
        b"5, 5",
        b"5,",
        b"5_0",
        b"five",
        b"\xd9\xa5",
        b"9" * 20,
        b"0" * 19 + b"5",
    ],
)
def test_not_lengths(value: bytes) -> None:
    assert "whole number" in str(refusal((b"content-length", value)))


def test_one_length_at_most() -> None:
    assert "one Content-Length" in str(refusal((b"content-length", b"5"), (b"content-length", b"5")))
    assert "one Content-Length" in str(refusal((b"content-length", b"5"), (b"content-length", b"6")))


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED"])
def test_chunked(value: bytes) -> None:
    assert head((b"transfer-encoding", value)).length is None


@pytest.mark.parametrize("value", [b"gzip, chunked", b"x, Chunked", b"gzip, deflate, chunked"])
def test_codings_before_chunked_are_not_implemented(value: bytes) -> None:
    """The body would end where chunked says, so the request is sound; but its content could not be read."""
    assert refusal((b"transfer-encoding", value)).status == 501


@pytest.mark.parametrize(
    "values",
    [[b"gzip"], [b"identity"], [b""], [b","], [b"chunked, gzip"], [b"xchunked"], [b'"chunked"'], [b"chunked;a=b"],
    [b"chunked,"], [b",chunked"],
     [b"chunked, chunked"], [b"chunked", b"chunked"], [b"gzip", b"chunked"], [b"chunked", b"gzip"],
     [b"chun\xe2\x84\xaaed"], [b"chunked\xa0"]],
)  # fmt: skip
def test_a_body_without_end_is_refused(values: list[bytes]) -> None:
    """RFC 9112 §6.3: 400 if chunked is not the final coding; and none that some other parser might take for chunked."""
    assert refusal(*((b"transfer-encoding", value) for value in values)).status == 400


def test_two_framings_are_an_attack() -> None:
    for fields in (
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"cow"), (b"content-length", b"5")],
    ):
        assert "both" in str(refusal(*fields))
        assert "both" in str(refusal(*reversed(fields)))
    assert "HTTP/1.0" in str(refusal((b"transfer-encoding", b"chunked"), minor=0))


def test_names_that_look_alike_mean_nothing() -> None:
    fields = [(b"transfer_encoding", b"chunked"), (b"content_length", b"5"), (b"x-host", b"evil")]
    assert head(*fields).length == 0


# Connection (RFC 9112 §9.3) and Expect (RFC 9110 §10.1.1).


@pytest.mark.parametrize(
    ("minor", "values", "alive"),
    [
        (1, [], True),
        (0, [], False),
        (1, [b"close"], False),
        (1, [b"Close"], False),
        (1, [b"keep-alive"], True),
        (1, [b"x, close ,y"], False),
        (1, [b"x", b"close"], False),
        (1, [b"keep-alive, close"], False),
        (1, [b"closed"], True),
        (1, [b""], True),
        (0, [b"keep-alive"], True),
        (0, [b"Keep-Alive, x"], True),
        (0, [b"close"], False),
        (0, [b"close, keep-alive"], False),
        (0, [b"keep-alive", b"close"], False),
        (0, [b"close", b"keep-alive"], False),
        (0, [b"x"], False),
    ],
)
def test_keep_alive(minor: int, values: list[bytes], alive: bool) -> None:
    assert head(*((b"connection", value) for value in values), minor=minor).keep_alive is alive


@pytest.mark.parametrize(
    ("minor", "value", "expects"),
    [
        (1, b"100-continue", True),
        (1, b"100-Continue", True),
        (0, b"100-continue", False),
        (1, b"banana", False),
        (1, b"", False),
    ],
)
def test_expectations(minor: int, value: bytes, expects: bool) -> None:
    assert head((b"expect", value), minor=minor).expect_continue is expects


# Targets (RFC 9112 §3.2).


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/a?b", "/a", "b"),
        (b"/a?b?c", "/a", "b?c"),
        (b"/?", "/", ""),
        (b"//x/y", "//x/y", ""),
        (b"/http://x", "/http://x", ""),
    ],
)
def test_origin_form(target: bytes, path: str, query: str) -> None:
    each = head(target=target)
    assert (each.path, each.query, each.target, each.host) == (path, query, target.decode(), b"t.example")


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"http://h/p?q", b"h", "/p", "q"),
        (b"HTTP://h", b"h", "/", ""),
        (b"https://h:8443?q", b"h:8443", "/", "q"),
        (b"http://[::1]:80/x", b"[::1]:80", "/x", ""),
    ],
)
def test_absolute_form_overrides_host(target: bytes, host: bytes, path: str, query: str) -> None:
    each = head(target=target)
    assert (each.host, each.path, each.query) == (host, path, query)


@pytest.mark.parametrize(
    "target", [b"http://", b"http:///p", b"http://u@h/", b"http://a b/", b"http://h:x/", b"http://a\\b/", b"http://?q"]
)
def test_an_authority_is_a_host(target: bytes) -> None:
    assert "authority" in str(refusal(target=target))


@pytest.mark.parametrize(
    "target", [b"foo", b"*", b"?a", b"ftp://h/", b"http:/h", b"h:443", b"javascript:x", b"*/x", b"\\x"]
)
def test_other_targets(target: bytes) -> None:
    assert refusal(target=target).status == 400


def test_star_is_for_options() -> None:
    each = head(method="OPTIONS", target=b"*")
    assert (each.path, each.query) == ("*", "")
    assert refusal(method="OPTIONS", target=b"*?x").status == 400


@pytest.mark.parametrize("target", [b"t.example:443", b"/", b"/x", b"http://h/", b"*"])
def test_connect_is_not_served_whatever_its_target(target: bytes) -> None:
    assert refusal(method="CONNECT", target=target).status == 501


@pytest.mark.parametrize(
    ("target", "plain"),
    [(b"/a", "/a"), (b"/%41%2F", "/A/"), (b"/caf%C3%A9?%41", "/café"), (b"/%ff", "/\ufffd"), (b"/%zz", "/%zz")],
)
def test_plain_path(target: bytes, plain: str) -> None:
    assert head(target=target).plain_path == plain
