"""The fast codec of responses: httptools. One parser reads all responses of a connection.

It checks, and decodes chunks. Fields are split out of the head when they are asked for: five callbacks for each
response would cost more than all the rest of the parsing. Only the trailer of a chunked body is parsed field by field.
"""

from __future__ import annotations

from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from .errors import RemoteProtocolError
from .fields import RawFields
from .response_codec import ResponseCodec
from .response_head import ResponseHead

_NONE: RawFields = []  # shared, never changed


class HttptoolsResponses:
    """Node's parser (llhttp) in C. Responses that it refuses go to the reference codec."""

    __slots__ = ("_parser", "_stand_in", "keep_alive", "reusable")

    def __init__(self) -> None:
        self._parser: Any = HttpResponseParser(self)
        self._stand_in: ResponseCodec | None = None  # reads this response instead
        self.reusable = False
        self.keep_alive = True

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.reusable = True
        # Only here does the parser know keep-alive; a moment later it says no.
        self.keep_alive = self._parser.should_keep_alive()

    def head(self, raw: bytes, head: ResponseHead, method: str) -> None:
        self.reusable = False
        if self._stand_in is None:
            if head.length is not None:
                try:
                    self._parser.feed_data(raw)
                except (HttpParserUpgrade, HttpParserError):
                    from .h11_responses import H11Responses

                    self._stand_in = H11Responses()
                else:
                    return
            else:
                self._stand_in = _Chunked()
        self._stand_in.head(raw, head, method)

    def body(self, raw: bytes) -> bytes:
        if self._stand_in is not None:
            return self._stand_in.body(raw)
        try:
            self._parser.feed_data(raw)
        except HttpParserError as error:
            raise RemoteProtocolError(f"not HTTP/1.1: {error}") from error
        return raw

    def trailers(self) -> RawFields:
        """The trailer fields. A chunked response has a parser of its own; this one may read the next response."""
        stand_in = self._stand_in
        if stand_in is None:
            return _NONE
        self.reusable, self.keep_alive = stand_in.reusable, stand_in.keep_alive
        self._stand_in = None
        fields = stand_in.trailers()
        stand_in.close()
        return fields

    def close(self) -> None:
        if self._stand_in is not None:
            self._stand_in.close()
        # breaks the cycle of codec, parser and bound callbacks: freed now, not by the garbage collector
        self._parser = None


class _Chunked:
    """Reads one chunked response. The fields that come after its head are the trailer."""

    __slots__ = ("_fields", "_parser", "_pieces", "_reference", "keep_alive", "reusable")

    def __init__(self) -> None:
        self._fields: RawFields = []
        self._pieces: list[bytes] = []
        self._parser: Any = HttpResponseParser(self)
        self._reference: ResponseCodec | None = None
        self.reusable = False
        self.keep_alive = True

    # Called by the parser.
    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self.reusable = True
        self.keep_alive = self._parser.should_keep_alive()

    def head(self, raw: bytes, head: ResponseHead, method: str) -> None:
        try:
            self._parser.feed_data(raw)
        except (HttpParserUpgrade, HttpParserError):
            from .h11_responses import H11Responses

            self._reference = H11Responses()
            self._reference.head(raw, head, method)
        self._fields = []

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
        return self._fields if self._reference is None else self._reference.trailers()

    def close(self) -> None:
        self._parser = None
