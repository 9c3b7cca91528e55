"""The head of a response and its meaning for the connection: the body's length, keep-alive (RFC 9112 §6.3, §9)."""

from __future__ import annotations

import re

from .errors import RemoteProtocolError
from .fields import RawFields
from .responses import BODILESS
from .syntax import show

_is_length = re.compile(rb"[0-9]{1,19}").fullmatch  # 19 digits: all of 63 bits, without huge integers
_patience = re.compile(rb"(?:.*[,; \t])?timeout=([0-9]{1,6})(?:[,; \t].*)?", re.IGNORECASE).fullmatch
# In a sound head only names follow a CRLF.
_meaningful = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|keep-alive):([^\r]*)", re.IGNORECASE
).findall

#: The ``length`` of a body that lasts until the connection ends.
UNTIL_CLOSE = -1


class ResponseHead:
    """One response head, checked by ``check_response_head`` and read in the light of the request's method.

    The fields of ``raw`` are split when they are asked for, names in lower case. ``length`` is the body's length in
    bytes, 0 for no body, None for a chunked one, UNTIL_CLOSE for one until the close. ``minor`` is the y of HTTP/1.y.
    ``patience`` is the number of seconds for which the server says that it keeps the connection.
    """

    patience: int | None = None

    _fields: RawFields | None = None

    def __init__(self, raw: bytes, method: str) -> None:
        status, minor = int(raw[9:12]), raw[7] - 48  # HTTP/1.x 200
        if status == 101:
            raise RemoteProtocolError("it switches protocols (101) although no request asked for it")
        self.status = status
        self.raw = raw
        self.keep_alive = minor == 1
        self.length: int | None = UNTIL_CLOSE
        codings: list[bytes] = []
        options: list[bytes] = []
        for name, value in _meaningful(raw):
            name, value = name.lower(), value.strip(b" \t")
            if name == b"content-length":
                if self.length != UNTIL_CLOSE or not _is_length(value):
                    raise self._bad_length(value)
                self.length = int(value)
            elif name == b"transfer-encoding":
                codings.append(value)
            elif name == b"connection":
                if value != b"keep-alive" or minor == 0:  # which means nothing in HTTP/1.1
                    options.append(value)
            elif told := _patience(value):
                self.patience = int(told[1])
        if options:
            self._read_connection(b",".join(options))
        if codings:
            self._read_transfer_encoding(codings, minor)
        if status < 200 or status in BODILESS or method == "HEAD":
            if status == 204 and self.length not in (0, UNTIL_CLOSE):
                self.keep_alive = False  # forbidden (RFC 9110 §15.3.5): whether a body follows is unknown
            self.length = 0
        elif self.length == UNTIL_CLOSE:
            self.keep_alive = False

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}, {len(self.fields)} fields>"

    @property
    def fields(self) -> RawFields:
        if self._fields is None:
            self._fields = split_fields(self.raw)
        return self._fields

    def _bad_length(self, value: bytes) -> RemoteProtocolError:
        if self.length != UNTIL_CLOSE:
            return RemoteProtocolError("a response must have one Content-Length at most; this one has more")
        return RemoteProtocolError(f"Content-Length must be a whole number of bytes; got {show(value)}")

    def _read_connection(self, value: bytes) -> None:
        """``close`` wins over ``keep-alive``, in whichever field either stands (RFC 9112 §9.3)."""
        options = {option.strip(b" \t").lower() for option in value.split(b",")}
        if b"close" in options:
            self.keep_alive = False
        elif b"keep-alive" in options:
            self.keep_alive = True

    def _read_transfer_encoding(self, codings: list[bytes], minor: int) -> None:
        """Accept only ``chunked``, alone. With a length, or in HTTP/1.0, it would allow response splitting (RFC 9112
        §6.3).
        """
        if self.length != UNTIL_CLOSE:
            raise RemoteProtocolError("a response must not have both Content-Length and Transfer-Encoding")
        if minor == 0:
            raise RemoteProtocolError("an HTTP/1.0 response must not have Transfer-Encoding")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise RemoteProtocolError(
                f"the only transfer coding read here is 'chunked'; got {show(b', '.join(codings))}"
            )
        self.length = None


def split_fields(raw: bytes) -> RawFields:
    """The fields of a sound head, names in lower case."""
    lines = [line.partition(b":") for line in raw.split(b"\r\n")[1:-2]]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in lines]
