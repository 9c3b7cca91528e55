"""What reads answers off a connection: HTTP/1.1 responses, or messages of a TCP framing. Both have the same face."""

from __future__ import annotations

from typing import Any, Protocol

from ...protocol.errors import RemoteProtocolError
from ...protocol.framing import Framing
from ...protocol.http1_client import ResponseReader
from ..response import UpstreamResponse


class Reader(Protocol):
    """One connection's. ``begun``: a byte of the expected answer has come; ``done``: all have."""

    keep_alive: bool
    patience: int | None  # seconds for which the member says that it keeps an idle connection

    @property
    def begun(self) -> bool: ...

    def expect(self, method: str, size_max: int) -> None: ...

    def receive(self, data: bytes) -> bool:
        """Whether the answer is whole. Raises RemoteProtocolError."""
        ...

    def end(self) -> None:
        """Nothing more comes. Raises RemoteProtocolError unless that is what ends the answer."""
        ...

    def answer(self) -> Any:
        """The whole answer, as whoever asked gets it."""
        ...

    def close(self) -> None: ...


class HttpReader(ResponseReader):
    """Makes an UpstreamResponse of it."""

    __slots__ = ()

    def answer(self) -> UpstreamResponse:
        """The whole response; its body is in one piece already where it came so."""
        head, pieces = self.head, self.pieces
        assert head is not None
        body = pieces.pop() if len(pieces) == 1 else b"".join(pieces)
        response = UpstreamResponse(head, body)
        if self.trailers:
            response.trailers_raw = self.trailers
        return response


class FramedReader:
    """One message asked, one message answered."""

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
        """Take bytes; whether the answer is whole. Raises RemoteProtocolError."""
        self._buffer += data
        self._message = self._framing.decode(self._buffer)
        if self._buffer and self._message is not None:
            self.keep_alive = False  # nobody asked for what comes behind
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
