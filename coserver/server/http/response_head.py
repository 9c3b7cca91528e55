"""Encode a response's head for HTTP/1, and decide how its body is framed (RFC 9112 §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protocol import responses
from ...protocol.errors import LocalProtocolError
from ..handler.bodies import FilePart
from ..handler.response import Response
from .carrier import MARKED, NO_BODY, UNTIL_CLOSE

if TYPE_CHECKING:
    from .exchange import HttpExchange

#: A body of up to this many bytes is copied behind its head and sent in one write. A larger one is not copied.
ONE_WRITE = 64 * 1024


def encode_head(exchange: HttpExchange, response: Response, date: bytes) -> bytes:
    """Encode the head. Sets ``exchange.framing``, and unsets ``keep_alive`` if the close ends the body.

    Raises LocalProtocolError for a field that a handler must not set.
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
    exchange.framing = framing
    end = b"date: %b\r\n\r\n" % date if date else b"\r\n"
    return b"%b%b%b%b" % (start, length, fields, end)


def _whole(size: int, given: int | None, silent: bool) -> tuple[bytes, int]:
    if given is not None and given != size:
        if not (silent and size == 0):
            raise LocalProtocolError(f"Content-Length says {given}, but the body has {size} bytes; leave the field out")
        size = given  # HEAD: the length that GET would have
    return responses.encode_length(size), size


def _streamed(exchange: HttpExchange, response: Response, given: int | None) -> tuple[bytes, int]:
    if given is not None:
        return responses.encode_length(given), given
    if exchange.head.minor == 1:
        return responses.CHUNKED, MARKED
    exchange.keep_alive = False
    return b"", UNTIL_CLOSE


def _examine(exchange: HttpExchange, response: Response, date: bytes) -> tuple[bytes, int | None, bytes]:
    """Encode the handler's fields. Those of framing and of the connection are left out, but obeyed."""
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
