"""Changes to a held subrequest: to the request before it is sent, or to the response when it is there.

Lengths are adapted. A change that cannot be sent raises ValueError at the holder of the gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..protocol.edits import as_bytes, check_names, check_status, merge
from ..protocol.errors import LocalProtocolError
from ..protocol.fields import decode_value
from ..protocol.requests import EXPECT_BODY, IDEMPOTENT, check_method, encode_request_fields, encode_target
from .response import UpstreamResponse

if TYPE_CHECKING:
    from .subrequest import Subrequest

_REQUEST, _ANSWER = ("method", "target", "headers", "body"), ("status", "headers", "body")
_FRAMING = (b"content-length", b"transfer-encoding")


def edit_subrequest(sub: Subrequest, given: Mapping[str, Any]) -> None:
    """Change method, target, headers or body of the request, or status, headers or body of the response. Raises
    ValueError.
    """
    if not sub.start:
        raise ValueError(f"upstream {sub.client.name} speaks no HTTP: a message can be answered, but not changed")
    if sub.response is not None:
        check_names("subrequest", given, _ANSWER)
        _edit_answer(sub, given)
        return
    check_names("subrequest", given, _REQUEST)
    method = given.get("method", sub.method)
    body = as_bytes(given["body"]) if "body" in given else None
    if body is not None and sub.body_source is not None:
        raise ValueError("the body is streamed and cannot be changed; change method, target or headers")
    lines = [line.partition(b": ")[::2] for line in sub.fields.split(b"\r\n") if line]
    framing = [line for line in lines if line[0].lower() in _FRAMING]
    if body is not None or (method != sub.method and sub.body_source is None):
        size = len(sub.body if body is None else body)
        framing = [(b"content-length", b"%d" % size)] if size or method in EXPECT_BODY else []
    fields = merge([(n.lower(), v) for n, v in lines if n.lower() not in _FRAMING], given.get("headers"))
    try:
        check_method(method)
        asked = encode_target(given["target"]) if "target" in given else sub.start.split(b" ")[1]  # with the parameters
        start = b"%b %b HTTP/1.1\r\n" % (method.encode(), asked)
        encoded = encode_request_fields([(name.decode(), decode_value(name, value)) for name, value in fields])
    except (LocalProtocolError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"this change cannot be sent: {error}") from None
    if (method == "HEAD") != (sub.method == "HEAD"):
        raise ValueError("a method cannot be changed to HEAD, nor HEAD to another: the handler expects a body, or none")
    sub.start, sub.method, sub.target = start, method, given.get("target", sub.target)
    sub.may_repeat = sub.may_repeat and method in IDEMPOTENT
    sub.fields = b"%b%b\r\n" % (encoded, b"".join(b"%b: %b\r\n" % line for line in framing))
    sub.own_host = any(name == b"host" for name, _ in fields)
    sub.body = sub.body if body is None else body


def make_answer(sub: Subrequest, status: int, body: Any, headers: Any) -> UpstreamResponse | bytes:
    """Make the response that replaces the member's; over TCP a message (bytes). Raises ValueError."""
    if sub.stream:
        raise ValueError("stream=True: the handler reads the answer as it comes, so only the upstream can give it")
    if not sub.start:
        return as_bytes(body)
    check_status(status)
    return UpstreamResponse.of(status, merge((), headers), as_bytes(body))


def _edit_answer(sub: Subrequest, given: Mapping[str, Any]) -> None:
    answer = sub.response
    if sub.stream and "body" in given:
        raise ValueError("stream=True: the handler reads the body as it comes; change status or headers instead")
    if "status" in given:
        check_status(given["status"])
    fields = merge(answer.fields, given.get("headers"))
    if "body" in given:
        answer.body = as_bytes(given["body"])
        kept = [field for field in fields if field[0] not in _FRAMING]
        fields = [*kept, (b"content-length", b"%d" % len(answer.body))]
    answer.fields, answer._headers = fields, None
    answer.status = given.get("status", answer.status)
