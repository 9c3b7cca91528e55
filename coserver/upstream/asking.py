"""From what a handler asks for to the bytes that say so, but for what each member has of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import urlencode

from ..protocol.errors import LocalProtocolError
from ..protocol.jsons import encode_json
from ..protocol.requests import EXPECT_BODY, check_method, encode_request_fields, encode_target

if TYPE_CHECKING:
    from .subrequest import Subrequest

Fields = Mapping[str, str] | Iterable[tuple[str, str]]
Parameters = Mapping[str, Any] | Iterable[tuple[str, Any]]

_AGENT = b"user-agent: coserver\r\n"
#: Request lines said lately, for the same targets come again and again. Dropped all at once: targets may be data.
_starts: dict[tuple[str, str], bytes] = {}
_STARTS_MAX = 1024
_LONGEST = 256  # bytes of a target that is worth keeping; all of them together are then 256 KiB


class Asking(TypedDict, total=False):
    """What is said of a request beside method and target. Of ``json``, ``data``, ``content`` there is one at most."""

    params: Parameters | None
    headers: Fields | None
    json: Any
    data: Parameters | None
    content: bytes | bytearray | memoryview | str | None


def say(sub: Subrequest, options: Mapping[str, Any], inherited: bytes) -> None:
    """Set what ``sub`` puts on the wire; ``inherited`` are field lines of its exchange.

    Raises LocalProtocolError, TypeError, ValueError for what cannot be sent.
    """
    method, target = sub.method, sub.target
    start = _starts.get((method, target))
    if start is None:
        start = _start(method, target)
    sub.start = start
    if not options and method not in EXPECT_BODY:
        sub.fields = b"%b%b\r\n" % (_AGENT, inherited)
        return
    if params := options.get("params"):
        sub.start = _request_line(method, encode_target(target, params))
    agent, fields, kind = _AGENT, b"", ""
    if headers := options.get("headers"):
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        fields = encode_request_fields(pairs)
        names = {name.lower() for name, _ in pairs}
        sub.own_host = "host" in names
        if "user-agent" in names:
            agent = b""
        kind = "content-type" if "content-type" in names else ""
    body, content_type = _body(options)
    length = b""
    if body is not None:
        sub.body = body
        length = b"content-length: %d\r\n" % len(body)
        if content_type and not kind:
            length += b"content-type: %b\r\n" % content_type
    elif method in EXPECT_BODY:
        length = b"content-length: 0\r\n"
    sub.fields = b"%b%b%b%b\r\n" % (agent, fields, inherited, length)


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


def _body(options: Mapping[str, Any]) -> tuple[bytes | None, bytes]:
    """The body and the content type natural to it."""
    given = [name for name in ("json", "data", "content") if name in options and options[name] is not None]
    if "json" in options and "json" not in given:
        given.append("json")  # null is JSON too
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
    raise TypeError(f"content is bytes or str; got {type(value).__name__}: {value!r:.60}")
