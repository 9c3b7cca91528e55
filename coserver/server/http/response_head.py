"""How a response goes on the wire: its head's bytes, and what frames its body (RFC 9112 §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protocol import responses
from ...protocol.errors import LocalProtocolError
from ..handler.bodies import FilePart
from ..handler.response import TEXT, Response

if TYPE_CHECKING:
    from .exchange import Exchange

#: A body up to this many bytes is copied behind its head and sent in one write; a larger one goes without the copy.
ONE_WRITE = 64 * 1024

#: Framings of a body that are no length.
NO_BODY, CHUNKED, UNTIL_CLOSE = -1, -2, -3


def usual_start(answer: Response | bytes) -> tuple[int, bytes, bytes] | None:
    """Status, start of the head and body of a usual response: small, whole, without fields of its own. Else None."""
    if isinstance(answer, bytes):
        status, body, content_type = 200, answer, TEXT
    elif type(answer.body) is not bytes or answer.fields or answer.status in responses.BODILESS:
        return None
    else:
        status, body, content_type = answer.status, answer.body, answer.content_type
    if len(body) > ONE_WRITE:
        return None
    try:
        start = responses.starts.get((status, content_type)) or responses.encode_start(status, content_type)
    except Exception:  # it cannot be sent as it is; ``encode_head`` says why
        return None
    return status, start, body


def encode_head(exchange: Exchange, response: Response, date: bytes) -> tuple[bytes, int]:
    """The head's bytes, and the body's framing: its length, NO_BODY, CHUNKED or UNTIL_CLOSE (sets ``keep_alive``).

    Raises LocalProtocolError for what a handler must not say.
    """
    head, status = exchange.head, response.status
    start = responses.encode_start(status, response.content_type)
    fields, given_length = b"", None
    if response.fields:
        fields, given_length, date = _examine(exchange, response, date)
    silent = head is not None and head.method == "HEAD"
    if not responses.has_body(status):
        length, framing = b"", NO_BODY
    elif type(response.body) is bytes:
        length, framing = _whole(len(response.body), given_length, silent)
    elif type(response.body) is FilePart:
        length, framing = responses.encode_length(response.body.size), response.body.size
    else:
        length, framing = _streamed(exchange, response, given_length)
    if silent:
        framing = NO_BODY
    if not exchange.keep_alive:
        fields += responses.CLOSE
    elif head.minor == 0:
        fields += responses.KEEP_ALIVE
    return b"%b%b%bdate: %b\r\n\r\n" % (start, length, fields, date) if date else b"%b%b%b\r\n" % (
        start,
        length,
        fields,
    ), framing


def _whole(size: int, given: int | None, silent: bool) -> tuple[bytes, int]:
    if given is not None and given != size:
        if not (silent and size == 0):
            raise LocalProtocolError(f"Content-Length says {given}, but the body has {size} bytes; leave the field out")
        size = given  # HEAD: the length that GET would have
    return responses.encode_length(size), size


def _streamed(exchange: Exchange, response: Response, given: int | None) -> tuple[bytes, int]:
    if given is not None:
        return responses.encode_length(given), given
    if exchange.head.minor == 1:
        return responses.CHUNKED, CHUNKED
    exchange.keep_alive = False
    return b"", UNTIL_CLOSE


def _examine(exchange: Exchange, response: Response, date: bytes) -> tuple[bytes, int | None, bytes]:
    """The handler's own fields; those that speak of framing and of the connection are taken at their word."""
    length: int | None = None
    kept: list[tuple[str, str]] = []
    for name, value in response.fields:
        lower = name.lower()
        if lower == "content-length":
            if not value.isascii() or not value.isdigit():
                raise LocalProtocolError(f"Content-Length must be a whole number; got {value!r}")
            length = int(value)
            continue
        if lower == "connection":
            if "close" in value.lower():
                exchange.keep_alive = False
            continue
        if lower == "date":
            date = b""
        kept.append((name, value))
    return responses.encode_fields(kept), length, date
