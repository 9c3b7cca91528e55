"""The reference codec of responses: h11's client side. Loaded late."""

from __future__ import annotations

from typing import Any

import h11

from .errors import RemoteProtocolError
from .fields import RawFields
from .response_head import ResponseHead

#: The one request that h11 is told of. Only its method matters for the response's body.
_requests: dict[str, h11.Request] = {}
_REQUESTS_MAX = 64


class H11Responses:
    """h11 checks the head, and finds the end of the body."""

    __slots__ = ("_chunked", "_connection", "_trailers", "keep_alive", "reusable")

    def __init__(self) -> None:
        self.reusable = False  # its states continue only after both whole messages: a new one is cheaper
        self.keep_alive = True
        self._connection: h11.Connection | None = None
        self._chunked = False
        self._trailers: RawFields = []

    def head(self, raw: bytes, head: ResponseHead, method: str) -> None:
        connection = self._connection
        if connection is None:
            # No second limit here: the input has been checked against the limits.
            connection = self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 30)
            connection.send(_request(method))
            connection.send(h11.EndOfMessage())
        try:
            connection.receive_data(raw)
            event: Any = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError(str(error)) from error
        if type(event) is not h11.Response and type(event) is not h11.InformationalResponse:
            raise RemoteProtocolError(f"expected a response head, h11 read {event!r}")
        self._chunked = head.length is None

    def body(self, raw: bytes) -> bytes:
        if not self._chunked:
            return raw
        assert self._connection is not None
        pieces: list[bytes] = []
        try:
            self._connection.receive_data(raw)
            while True:
                event = self._connection.next_event()
                if type(event) is h11.Data:
                    pieces.append(bytes(event.data))
                elif type(event) is h11.EndOfMessage:
                    self._trailers = [(name.lower(), value) for name, value in event.headers]
                else:
                    break
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError(str(error)) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def trailers(self) -> RawFields:
        return self._trailers

    def close(self) -> None:
        self._connection = None


def _request(method: str) -> h11.Request:
    request = _requests.get(method)
    if request is None:
        request = h11.Request(method=method, target="/", headers=[("host", "x")])
        if len(_requests) < _REQUESTS_MAX:
            _requests[method] = request
    return request
