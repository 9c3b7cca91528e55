"""The fast codec of responses: httptools. One parser reads all responses of a connection."""

from __future__ import annotations

from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from .errors import RemoteProtocolError
from .fields import RawFields
from .response_codec import ResponseCodec, ResponseParts


class HttptoolsResponses:
    """Node's parser (llhttp) in C. What it refuses, the reference judges."""

    __slots__ = ("_fields", "_parser", "_pieces", "_reference", "keep_alive", "reusable")

    def __init__(self) -> None:
        self._fields: RawFields = []
        self._pieces: list[bytes] = []
        self._parser: Any = HttpResponseParser(self)
        self._reference: ResponseCodec | None = None
        self.reusable = False
        self.keep_alive = True

    # The parser calls these three.
    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self.reusable = True
        # Only here does it tell: asked a moment later it says no.
        self.keep_alive = self._parser.should_keep_alive()

    def head(self, raw: bytes, method: str) -> ResponseParts:
        parser = self._parser
        self.reusable = False
        if self._reference is not None:  # an interim response went before
            return self._reference.head(raw, method)
        try:
            parser.feed_data(raw)
        except (HttpParserUpgrade, HttpParserError):
            from .h11_responses import H11Responses

            self._fields = []
            self._reference = H11Responses()
            return self._reference.head(raw, method)
        fields, self._fields = self._fields, []
        return parser.get_status_code(), raw[7] - 48, fields  # HTTP/1.x

    def body(self, raw: bytes) -> bytes:
        if self._reference is not None:
            return self._reference.body(raw)
        try:
            self._parser.feed_data(raw)
        except HttpParserError as error:
            raise RemoteProtocolError(f"not HTTP/1.1: {error}") from error
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def trailers(self) -> RawFields:
        if self._reference is not None:
            return self._reference.trailers()
        fields, self._fields = self._fields, []
        return fields

    def close(self) -> None:
        self._parser = None  # breaks the cycle codec, parser, bound callbacks: freed now, not by the collector
