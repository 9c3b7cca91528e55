"""Readers: they parse responses from a connection's bytes, either HTTP/1.1 or messages of a TCP framing."""

from __future__ import annotations

from typing import Any, Protocol

from ...protocol.errors import RemoteProtocolError
from ...protocol.framing import Framing
from ...protocol.http1_client import ResponseReader
from ..response import UpstreamResponse


class Reader(Protocol):
    """The reader of one connection. ``begun``: a byte of the expected response has come."""

    keep_alive: bool
    patience: int | None  # seconds for which the member keeps an idle connection, if it says so

    @property
    def begun(self) -> bool: ...

    def expect(self, method: str, size_max: int) -> None:
        """Prepare for the response to a request with ``method``, with a body of ``size_max`` bytes at most."""
        ...

    def receive(self, data: bytes) -> bool:
        """Parse bytes. Returns whether the response is whole. Raises RemoteProtocolError."""
        ...

    def end(self) -> None:
        """Handle the end of the stream. Raises RemoteProtocolError unless the end completes the response."""
        ...

    def answer(self) -> Any:
        """The whole response, as the caller gets it."""
        ...

    def close(self) -> None: ...


class HttpReader(ResponseReader):
    """A reader of HTTP/1.1 responses."""

    __slots__ = ()

    def answer(self) -> UpstreamResponse:
        """The whole response."""
        head, pieces = self.head, self.pieces
        assert head is not None
        body = pieces.pop() if len(pieces) == 1 else b"".join(pieces)
        response = UpstreamResponse(head, body)
        if self.trailers:
            response.trailers_raw = self.trailers
        return response


class FramedReader:
    """A reader of framed messages: one for each message sent."""

    patience = None

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._buffer = bytearray()
        self._message: bytes | None = None
        self.keep_alive = True

    @property
    def begun(self) -> bool:
        return bool(self._buffer) or self._message is not None

    def expect(self, method: str, size_max: int) -> None:
        self._message = None

    def receive(self, data: bytes) -> bool:
        """Decode bytes. Returns whether the message is whole. Raises RemoteProtocolError."""
        self._buffer += data
        self._message = self._framing.decode(self._buffer)
        if self._buffer and self._message is not None:
            self.keep_alive = False  # bytes after the message answer nothing
        return self._message is not None

    def end(self) -> None:
        what = "in the middle of a message" if self._buffer else "without an answer"
        raise RemoteProtocolError(f"it closed the connection {what}")

    def answer(self) -> bytes:
        assert self._message is not None
        message, self._message = self._message, None
        return message

    def close(self) -> None:
        self._buffer.clear()
