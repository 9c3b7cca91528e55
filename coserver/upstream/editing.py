"""A held subrequest changed by whoever holds it: what it asks before it is sent, its answer when that is there.

Lengths follow by themselves. Whatever cannot be sent is a ValueError for whoever holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..protocol.edits import as_bytes, check_names, check_status, merge
from ..protocol.errors import LocalProtocolError
from ..protocol.fields import RawFields
from ..protocol.requests import EXPECT_BODY, check_method, encode_request_fields, encode_target
from .response import UpstreamResponse

if TYPE_CHECKING:
    from .subrequest import Subrequest

_REQUEST, _ANSWER = ("method", "target", "headers", "body"), ("status", "headers", "body")


def asked_fields(sub: Subrequest) -> RawFields:
    """The fields that it asks with, but for those of its connection and of its body's length."""
    lines = (line.partition(b": ") for line in sub.fields.split(b"\r\n") if line)
    return [(name.lower(), value) for name, _, value in lines if name.lower() != b"content-length"]


def edit_subrequest(sub: Subrequest, given: Mapping[str, Any]) -> None:
    """Change what it asks: method, target, headers, body; or of its answer status, headers, body. Raises ValueError."""
    if sub.response is not None:
        check_names("subrequest", given, _ANSWER)
        _edit_answer(sub, sub.response, given)
        return
    check_names("subrequest", given, _REQUEST)
    method, target = given.get("method", sub.method), given.get("target", sub.target)
    body = as_bytes(given["body"]) if "body" in given else sub.body
    fields = merge(asked_fields(sub), given.get("headers"))
    try:
        check_method(method)
        asked = encode_target(target) if "target" in given else sub.start.split(b" ")[1]  # with its parameters
        start = b"%b %b HTTP/1.1\r\n" % (method.encode(), asked)
        lines = encode_request_fields([(name.decode(), value.decode("latin-1")) for name, value in fields])
    except (LocalProtocolError, AttributeError, ValueError) as error:
        raise ValueError(f"no such subrequest can be sent: {error}") from None
    if (method == "HEAD") != (sub.method == "HEAD"):
        raise ValueError("HEAD cannot be made of another method, nor another of it: its handler expects a body, or not")
    length = b"content-length: %d\r\n" % len(body) if body or method in EXPECT_BODY else b""
    sub.start = start
    sub.method, sub.target = method, target
    sub.fields = b"%b%b\r\n" % (lines, length)
    sub.own_host = any(name == b"host" for name, _ in fields)
    sub.body = body


def make_answer(status: int, body: Any, headers: Any) -> UpstreamResponse:
    """What it is to be answered with instead. Raises ValueError."""
    check_status(status)
    return UpstreamResponse(status, merge((), headers), as_bytes(body))


def _edit_answer(sub: Subrequest, old: UpstreamResponse, given: Mapping[str, Any]) -> None:
    if type(old) is not UpstreamResponse and "body" in given:
        raise ValueError("this answer is read by its handler as it comes, and nobody can change it")
    if "status" in given:
        check_status(given["status"])
    fields = merge(old.fields, given.get("headers"))
    body = as_bytes(given["body"]) if "body" in given else None
    if body is not None:
        framing = (b"content-length", b"transfer-encoding")
        fields = [*(field for field in fields if field[0] not in framing), (b"content-length", b"%d" % len(body))]
        old.body = body
    old.fields, old._headers = fields, None
    old.status = given.get("status", old.status)
