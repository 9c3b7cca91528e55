"""The reference codec: h11's reading half. Loaded late: with httptools, few requests need it."""

from __future__ import annotations

import h11

from .codec import Parts
from .errors import RemoteProtocolError
from .fields import RawFields
from .head import RequestHead, split_fields


class H11Codec:
    """The reference codec, on h11."""

    __slots__ = ("_connection", "_trailers")
    reusable = False  # its states continue only after a whole response: a new one is cheaper

    def __init__(self) -> None:
        # No second limit here: the input has been checked against the limits.
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 30)
        self._trailers: RawFields = []

    def head(self, raw: bytes) -> Parts:
        # h11 checks the head, and finds the end of the body. Its own list of fields drops repeated lengths and changes
        # values.
        fields = split_fields(raw)
        try:
            self._connection.receive_data(raw)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            _judge(raw, fields)  # our own checks come first, so that message and status are the same with each codec
            raise RemoteProtocolError(str(error), error.error_status_hint) from error
        if type(event) is not h11.Request:
            raise RemoteProtocolError(f"expected a request head, h11 read {event!r}")
        minor = 1 if event.http_version == b"1.1" else 0
        return event.method.decode("ascii"), event.target, minor, fields

    def body(self, raw: bytes) -> bytes:
        pieces: list[bytes] = []
        try:
            self._connection.receive_data(raw)
            while True:
                event = self._connection.next_event()
                if type(event) is h11.Data:
                    pieces.append(bytes(event.data))
                elif type(event) is h11.EndOfMessage:
                    self._trailers = list(event.headers)
                else:
                    break
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError(str(error), error.error_status_hint) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def trailers(self) -> RawFields:
        return self._trailers


def _judge(raw: bytes, fields: RawFields) -> None:
    method, target, version = raw[: raw.index(b"\r\n")].split(b" ")
    RequestHead(method.decode("ascii"), target, int(version == b"HTTP/1.1"), fields)
