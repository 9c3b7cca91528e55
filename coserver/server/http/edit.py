"""Change a held exchange, or answer it: until the handler returns, its request can be changed; then its answer.

A change must keep the same rules as a client's request or a handler's answer. The server sets the lengths. A change
that breaks a rule raises ValueError for its maker, and the exchange stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from ...lifecycle import phases
from ...protocol.edits import as_bytes, check_names, check_status, merge
from ...protocol.errors import LocalProtocolError, RemoteProtocolError
from ...protocol.fields import decode_value, encode_value
from ...protocol.head import RequestHead
from ...protocol.http1 import HeadLimits, Http1Reader
from ..handler.errors import HTTPException
from ..handler.response import Response, as_body, to_response

if TYPE_CHECKING:
    from .exchange import HttpExchange

#: The parts that can be changed, by phase.
REQUEST, ANSWER = ("method", "target", "headers", "body"), ("status", "headers", "body")
EDITABLE: dict[str, tuple[str, ...]] = {
    phases.HEAD: ("method", "target", "headers"),
    phases.BODY: REQUEST,
    phases.HANDLER: REQUEST,
    phases.RESPONSE: ANSWER,
}
# Not to be changed: the bytes on the wire have their framing, and Expect has been obeyed already or not.
_FRAMING = (b"content-length", b"transfer-encoding", b"expect", b"trailer")


def edit_exchange(exchange: HttpExchange, phase: str, given: Mapping[str, Any]) -> None:
    """Change the parts that ``given`` names: method, target, headers, body; at the response status, headers, body.

    ``headers`` as a mapping sets its fields, and None removes a field. As a list of pairs it replaces all fields.
    Raises ValueError.
    """
    check_names(phase, given, EDITABLE.get(phase, ()))
    if phase == phases.RESPONSE:
        _edit_answer(exchange, given)
    else:
        _edit_request(exchange, phase, given)


def make_answer(status: int, body: Any, headers: Any) -> Response:
    """Make an answer that replaces the handler's. Raises ValueError."""
    check_status(status)
    try:
        return to_response((body, status, headers) if headers else (body, status))
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from None


def _edit_request(exchange: HttpExchange, phase: str, given: Mapping[str, Any]) -> None:
    body = as_bytes(given["body"]) if "body" in given else None
    if body is not None and exchange.endpoint is not None and exchange.endpoint.stream:
        raise ValueError("the body cannot be changed: this route has stream=True, so its handler reads it as it comes")
    head = _new_head(exchange, given, body)
    found = None
    if phase != phases.HEAD and (head.method, head.path) != (exchange.head.method, exchange.head.path):
        found = _same_route(exchange, head)
    exchange.head = head  # nothing below raises
    if found is not None:
        exchange.params = found
    request = exchange._request
    if request is not None:
        request.head, request.params = head, exchange.params
        for name in ("_headers", "_query", "_cookies", "_form", "_client"):
            request.__dict__.pop(name, None)  # made from the old head
    if body is not None:
        _set_body(exchange, body)


def _set_body(exchange: HttpExchange, body: bytes) -> None:
    request = exchange.request
    if exchange.spooled is not None:
        exchange.spooled.close()
        exchange.spooled = request.spool = None
    request._file = None
    request.set_body(body)
    exchange.body_size = len(body)


def _new_head(exchange: HttpExchange, given: Mapping[str, Any], body: bytes | None) -> RequestHead:
    """Make the changed head. The usual reader of heads reads it, and so checks it. Raises ValueError."""
    old = exchange.head
    method, target = given.get("method", old.method), given.get("target", old.target)
    if any(not isinstance(one, str) for one in (method, target)):
        raise ValueError(f"method and target must be str; got {method!r:.40} and {target!r:.40}")
    if (method == "HEAD") != (old.method == "HEAD"):
        raise ValueError(
            f"{old.method} cannot become {method}: an answer to HEAD has no body, and the client expects the answer to "
            f"its own method (RFC 9112 §6.3)"
        )
    framing = [field for field in old.fields if field[0] in _FRAMING]
    fields = [field for field in merge(old.fields, given.get("headers")) if field[0] not in _FRAMING]
    if body is not None:
        framing = [(b"content-length", b"%d" % len(body))]
    line = f"{method} {target} HTTP/1.{old.minor}\r\n".encode("utf-8", "surrogatepass")
    raw = line + b"".join(b"%b: %b\r\n" % field for field in [*fields, *framing]) + b"\r\n"
    try:
        # No limit on the size; but no smuggled line ends.
        reader = Http1Reader("h11", HeadLimits(1 << 30, 1 << 20, 1 << 30))
        head = reader.read_head(raw)
    except RemoteProtocolError as error:
        raise ValueError(f"the changed request is not valid: {error.reason}") from None
    if head is None or reader.buffer or head.target != target or len(head.fields) != len(fields + framing):
        raise ValueError("the changed request is not valid: a method, a target and fields must have no line ends")
    head.keep_alive = head.keep_alive and old.keep_alive
    return head


def _same_route(exchange: HttpExchange, head: RequestHead) -> Mapping[str, Any]:
    """The path's parameters of the changed target. It must lead to the same handler, else ValueError."""
    try:
        endpoint, params = exchange.connection.service.router.find(head.method, head.path)
        if endpoint is exchange.endpoint:
            return params
        where = f"to {endpoint.name}"
    except HTTPException as error:
        where = f"nowhere ({error.status})"
    raise ValueError(
        f"{head.method} {head.target} leads {where}, but this request has its handler already, "
        f"{exchange.endpoint_name}; hold it at 'head' to change its handler"
    )


def _edit_answer(exchange: HttpExchange, given: Mapping[str, Any]) -> None:
    old = exchange.answer
    assert old is not None
    new = copy(old)
    if "status" in given:
        check_status(given["status"])
        new.status = given["status"]
    if (headers := given.get("headers")) is not None:
        fields = [(raw := name.lower().encode("latin-1"), encode_value(raw, value)) for name, value in old.fields]
        if old.content_type:
            fields.insert(0, (b"content-type", old.content_type.encode("latin-1")))
        merged = merge(fields, headers)
        new.fields = [(name.decode("latin-1"), decode_value(name, value)) for name, value in merged]
        new.content_type = new._take_content_type(None) or ""
    if "body" in given:
        body = given["body"]
        new.body, natural = as_body(body if isinstance(body, str) else as_bytes(body))
        new.content_type = new.content_type or natural
        new.trailers = None
        new.fields = [field for field in new.fields if field[0].lower() != "content-length"]
    keep_alive, framing = exchange.keep_alive, exchange.framing
    try:
        exchange.carrier.encode_head(exchange, new, b"")
    except (LocalProtocolError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the changed answer cannot be sent: {error}") from None
    finally:
        exchange.keep_alive, exchange.framing = keep_alive, framing
    exchange.answer = new
