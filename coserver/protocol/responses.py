"""The sending half of HTTP/1.1, without I/O: a status and fields to bytes, chunks, trailers (RFC 9112 §4, §7)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from .errors import LocalProtocolError
from .fields import encode_value
from .syntax import is_token, is_value

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # RFC 9110 §10.1.1
LAST_CHUNK = b"0\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"  # sent to HTTP/1.0 clients, whose default is close

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
# Ready-made heads of the usual kind. Bounded, since content types may come from data: no app has more than 256.
starts: dict[tuple[int, str], bytes] = {}
_STARTS_MAX = 256
# Fields that the server writes; a handler's would desynchronise the connection.
_FRAMING = {"transfer-encoding", "keep-alive", "upgrade", "trailer"}
# Fields that a client needs before the body (RFC 9110 §6.5.1): in a trailer it may act on them, or refuse the message.
_NOT_IN_TRAILERS = {"connection", "content-encoding", "content-length", "content-range", "content-type", "host"}


#: Final statuses whose responses have no body (RFC 9110 §6.4.1).
BODILESS = frozenset({204, 304})


def has_body(status: int) -> bool:
    """Whether a response of this status may have a body (RFC 9110 §6.4.1)."""
    return status >= 200 and status not in BODILESS


def encode_start(status: int, content_type: str) -> bytes:
    """The status line and, unless it is empty, Content-Type. Raises LocalProtocolError if one is invalid."""
    start = starts.get((status, content_type))
    if start is None:
        start = _status_line(status)
        if content_type:
            start += encode_fields((("content-type", content_type),))
        if len(starts) < _STARTS_MAX:
            starts[status, content_type] = start
    return start


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Field lines. Raises LocalProtocolError for a name that is no token, or a value that could start another line."""
    lines = []
    for name, value in fields:
        try:
            raw_name = name.encode("ascii")
            raw_value = value.encode() if value.isascii() else encode_value(raw_name.lower(), value)
        except UnicodeEncodeError as error:
            raise LocalProtocolError(
                f"field {name!r}: names are ASCII and values ISO-8859-1 (RFC 9110 §5.5); encode {value!r} first"
            ) from error
        except AttributeError as error:
            raise LocalProtocolError(f"field {name!r}: names and values are str; got {value!r}") from error
        if not is_token(raw_name):
            raise LocalProtocolError(f"a field's name must be a token (RFC 9110 §5.1); got {name!r}")
        raw_value = raw_value.strip(b" \t")
        if not is_value(raw_value):
            raise LocalProtocolError(f"field {name!r}: a value must not hold control characters; got {value!r}")
        if name.lower() in _FRAMING:
            raise LocalProtocolError(f"field {name!r} belongs to the server, which frames the response; leave it out")
        lines.append(b"%b: %b\r\n" % (raw_name, raw_value))
    return b"".join(lines)


def encode_interim(status: int, fields: Iterable[tuple[str, str]] = ()) -> bytes:
    """A whole interim response: 100, 102 to 199 (RFC 9110 §15.2). Raises LocalProtocolError."""
    if status == 100 and not fields:
        return CONTINUE
    if not 100 <= status <= 199 or status == 101:
        raise LocalProtocolError(f"an interim response's status is from 100 to 199, and not 101; got {status}")
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"%b%b\r\n" % (line, encode_fields(fields))


def encode_length(length: int) -> bytes:
    return b"content-length: %d\r\n" % length


def encode_chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 §7.1). ``data`` must not be empty, since an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_last_chunk(trailers: Iterable[tuple[str, str]]) -> bytes:
    """The last chunk and the trailer section (RFC 9112 §7.1.2). Raises LocalProtocolError like ``encode_fields``."""
    trailers = list(trailers)
    lines = encode_fields(trailers)
    for name, _ in trailers:
        if name.lower() in _NOT_IN_TRAILERS:
            raise LocalProtocolError(
                f"field {name!r} must not come in the trailer (RFC 9110 §6.5.1); set it in the head"
            )
    return b"0\r\n%b\r\n" % lines


def _status_line(status: int) -> bytes:
    if not 200 <= status <= 599:
        raise LocalProtocolError(f"a response's status is from 200 to 599; got {status}")
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
