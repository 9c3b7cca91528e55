"""Encoding of requests: from the keywords of a call, or from a handler's request, to the bytes on the wire.

The Host field is missing here: each connection adds its member's.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypedDict
from urllib.parse import urlencode

from ..protocol.errors import LocalProtocolError
from ..protocol.fields import RawFields, decode_value
from ..protocol.jsons import encode_json
from ..protocol.requests import EXPECT_BODY, IDEMPOTENT, check_method, encode_request_fields, encode_target
from .connection.request_body import StreamedBody

if TYPE_CHECKING:
    from .subrequest import Subrequest

Fields = Mapping[str, str] | Iterable[tuple[str, str]]
Content = bytes | bytearray | memoryview | str | Iterable[bytes] | AsyncIterable[bytes] | None
Parameters = Mapping[str, Any] | Iterable[tuple[str, Any]]

_AGENT = b"user-agent: coserver\r\n"
_PLAIN = _AGENT + b"\r\n"
#: Recent request lines, since the same targets come again and again. Dropped all at once when full: targets may be
#: data.
_starts: dict[tuple[str, str], bytes] = {}
_STARTS_MAX = 1024
_LONGEST = 256  # the longest target that is kept, in bytes; all of them together then take 256 KiB
#: Field lines by what the exchange hands on, which is the same for all of its subrequests.
_fields: dict[bytes, bytes] = {}
_FIELDS_MAX = 64

#: Fields of one hop only, besides those that Connection names (RFC 9110 §7.6.1; RFC 9112 for the framing).
HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
#: Fields that are written anew for the next hop.
_OURS = frozenset(
    {b"host", b"expect", b"content-length", b"coserver-depth", b"traceparent", b"tracestate", b"forwarded"}
)
_VIA = "1.1 coserver"
#: The most digits of Max-Forwards; a longer number becomes the largest one (RFC 9110 §7.6.2 allows a maximum).
_DIGITS_MAX = 9


class EncodeOptions(TypedDict, total=False):
    """The keywords for a request's content. At most one of ``json``, ``data`` and ``content`` is given."""

    params: Parameters | None
    headers: Fields | None
    json: Any
    data: Parameters | None
    content: Content
    stream: bool
    repeat: bool


def encode_request(sub: Subrequest, options: Mapping[str, Any], inherited: bytes) -> None:
    """Set the bytes that ``sub`` sends. ``inherited`` holds field lines from its exchange.

    Raises LocalProtocolError, TypeError, ValueError for a request that cannot be sent.
    """
    method, target = sub.method, sub.target
    if method not in IDEMPOTENT:
        sub.may_repeat = False
    start = _starts.get((method, target))
    if start is None:
        start = _start(method, target)
    sub.start = start
    if not options and method not in EXPECT_BODY:
        sub.fields = (_fields.get(inherited) or _fields_with(inherited)) if inherited else _PLAIN
        return
    if params := options.get("params"):
        sub.start = _request_line(method, encode_target(target, params))
    agent, fields, has_type = _AGENT, b"", False
    said: list[str] = []
    if headers := options.get("headers"):
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        said = [value for name, value in pairs if name.lower() == "content-length"]
        pairs = [pair for pair in pairs if pair[0].lower() != "content-length"]
        fields = encode_request_fields(pairs)
        names = {name.lower() for name, _ in pairs}
        sub.own_host = "host" in names
        if "user-agent" in names:
            agent = b""
        has_type = "content-type" in names
    sub.stream = bool(options.get("stream"))
    if "repeat" in options:
        sub.may_repeat = bool(options["repeat"])
    length = _encode_body(sub, options, said, has_type)
    sub.fields = b"%b%b%b%b\r\n" % (agent, fields, inherited, length)


def _encode_body(sub: Subrequest, options: Mapping[str, Any], said: list[str], has_type: bool) -> bytes:
    """Set the body, and return its field lines. ``said`` is the caller's Content-Length, ``has_type``: a Content-Type
    is set.
    """
    body, content_type = _body(options)
    length = b""
    if isinstance(body, AsyncIterator | Iterator):
        sub.may_repeat = False
        sub.body_source, length = _given(body, said)
    else:
        size = len(body or b"")
        if said and said != [str(size)]:
            raise LocalProtocolError(f"Content-Length says {said[0]}, but the body has {size} bytes; leave it out")
        sub.body = body or b""
        if body is not None or sub.method in EXPECT_BODY:
            length = b"content-length: %d\r\n" % size
    return length + b"content-type: %b\r\n" % content_type if content_type and not has_type else length


def _fields_with(inherited: bytes) -> bytes:
    """The field lines of a request without fields of its own. Kept: all subrequests of an exchange have the same."""
    fields = b"%b%b\r\n" % (_AGENT, inherited)
    if len(inherited) <= _LONGEST:
        if len(_fields) >= _FIELDS_MAX:
            _fields.clear()
        _fields[inherited] = fields
    return fields


def _start(method: str, target: str) -> bytes:
    check_method(method)
    start = _request_line(method, encode_target(target))
    if len(target) <= _LONGEST:
        if len(_starts) >= _STARTS_MAX:
            _starts.clear()
        _starts[method, target] = start
    return start


def _request_line(method: str, target: bytes) -> bytes:
    return b"%b %b HTTP/1.1\r\n" % (method.encode(), target)


def _given(pieces: Any, said: list[str]) -> tuple[StreamedBody, bytes]:
    """A body that is sent piece by piece: with the Content-Length of the caller, or chunked."""
    if not said:
        return StreamedBody(pieces, None), b"transfer-encoding: chunked\r\n"
    if len(said) > 1 or not said[0].isascii() or not said[0].isdigit():
        raise LocalProtocolError(f"Content-Length must be one whole number; got {', '.join(said)}")
    return StreamedBody(pieces, int(said[0])), b"content-length: %d\r\n" % int(said[0])


def _body(options: Mapping[str, Any]) -> tuple[Any, bytes]:
    """The body, and the content type that goes with it."""
    given = [name for name in ("json", "data", "content") if name in options and options[name] is not None]
    if "json" in options and "json" not in given:
        given.append("json")  # None is JSON too: null
    if not given:
        return None, b""
    if len(given) > 1:
        raise LocalProtocolError(f"a request has one body: {' or '.join(given)}, not both")
    value = options[given[0]]
    if given[0] == "json":
        return encode_json(value), b"application/json"
    if given[0] == "data":
        return urlencode(value, doseq=True).encode(), b"application/x-www-form-urlencoded"
    if isinstance(value, str):
        return value.encode(), b"text/plain; charset=utf-8"
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), b""
    if isinstance(value, AsyncIterable):
        return aiter(value), b""
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return iter(value), b""
    raise TypeError(f"content is bytes, str, or an iterable of them; got {type(value).__name__}: {value!r:.60}")


class Forwardable(Protocol):
    """The attributes of a handler's request that ``forward`` uses."""

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def head(self) -> Any: ...

    def stream(self) -> AsyncIterator[bytes]: ...

    def forwarded_fields(self) -> list[tuple[str, str]]:
        """The fields that tell the next hop about the client: X-Forwarded-For and so on."""
        ...

    def answer_last_hop(self) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """Status, fields and body of an answer to a request that may not be passed on; None for any other."""
        ...

    async def pass_interim(self, status: int, fields: list[tuple[str, str]]) -> None:
        """Send an interim response of the next hop to the client."""
        ...

    def forward_target(self, target: str | None = None, strip: str | None = None, dot_segments: str = "pass") -> str:
        """The raw target for the next hop."""
        ...


class ForwardOptions(TypedDict, total=False):
    """The keywords of ``forward``."""

    target: str
    strip: str
    dot_segments: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    keep_host: bool
    timeout: float


def end_to_end(fields: RawFields) -> RawFields:
    """The end-to-end fields: all without the hop-by-hop ones (RFC 9110 §7.6.1)."""
    named = {
        option.strip(b" \t").lower() for name, value in fields if name == b"connection" for option in value.split(b",")
    }
    return [(name, value) for name, value in fields if name not in HOP_BY_HOP and name not in named]


def max_forwards(method: str, fields: RawFields) -> int | None:
    """The value of Max-Forwards, which counts for OPTIONS and TRACE only (RFC 9110 §7.6.2).

    None without it, and for a value that is no whole number: that is passed on as it is.
    """
    if method not in ("OPTIONS", "TRACE"):
        return None
    values = [value for name, value in fields if name == b"max-forwards"]
    if len(values) != 1 or not values[0].isdigit():
        return None
    digits = values[0].lstrip(b"0")
    return int(digits[:_DIGITS_MAX] or b"0") if len(digits) <= _DIGITS_MAX else 10**_DIGITS_MAX


def forward_request(request: Forwardable, options: ForwardOptions) -> tuple[str, str, dict[str, Any]]:
    """The method, the target and the options of the request to the next hop (RFC 9110 §7.6)."""
    target = request.forward_target(options.get("target"), options.get("strip"), options.get("dot_segments", "pass"))
    head = request.head
    fields: list[tuple[str, str]] = []
    via = _VIA
    hops = max_forwards(request.method, head.fields)
    for name, value in end_to_end(head.fields):
        text = decode_value(name, value)
        if name == b"via":
            via = f"{text}, {via}"
        elif name == b"max-forwards" and hops is not None:
            fields.append(("max-forwards", str(hops - 1)))
        elif name not in _OURS:
            fields.append((name.decode("ascii"), text))
    added = [*request.forwarded_fields(), ("via", via)]
    if options.get("keep_host") and head.host:
        added.append(("host", head.host.decode("ascii")))
    given = options.get("headers", ())
    added += list(given.items() if isinstance(given, Mapping) else given)
    replaced = {name.lower() for name, _ in added}
    fields = [field for field in fields if field[0] not in replaced]
    asked: dict[str, Any] = {"headers": fields + added, "stream": True}
    if head.length != 0:
        asked["content"] = request.stream()
        if head.length is not None:
            asked["headers"].append(("content-length", str(head.length)))
    if "timeout" in options:
        asked["timeout"] = options["timeout"]
    return request.method, target, asked
