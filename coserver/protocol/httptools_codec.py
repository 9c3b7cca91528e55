"""The fast codec: httptools, Node's parser in C. Requests that it refuses, or stops at, go to the reference codec."""

from __future__ import annotations

from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from .codec import Codec, Parts
from .errors import RemoteProtocolError
from .fields import RawFields


class HttptoolsCodec:
    """Node's parser (llhttp) in C: 0.5 µs a head, where h11 takes 10 µs."""

    __slots__ = ("_fields", "_parser", "_pieces", "_reference", "_target", "reusable")

    def __init__(self) -> None:
        self._fields: RawFields = []
        self._pieces: list[bytes] = []
        self._target = b""
        self._parser: Any = HttpRequestParser(self)
        self._reference: Codec | None = None
        self.reusable = True

    # Called by the parser.
    def on_url(self, target: bytes) -> None:
        self._target = target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def head(self, raw: bytes) -> Parts:
        parser = self._parser
        try:
            parser.feed_data(raw)
        except (HttpParserUpgrade, HttpParserError):
            # llhttp stops at an upgrade and leaves its body; an upgrade that is not accepted is an ordinary request
            # (RFC 9110 §7.8). It also has a fixed list of methods, but a new method is no error (RFC 9110 §9.1). The
            # reference codec decides.
            from .h11_codec import H11Codec

            self._reference = H11Codec()
            self.reusable = False
            return self._reference.head(raw)
        fields, self._fields = self._fields, []
        # The last digit of the version stands before the end of the first line; get_http_version would make a string.
        return parser.get_method().decode("ascii"), self._target, raw[raw.find(b"\r") - 1] - 48, fields

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
        # breaks the cycle of codec, parser and bound callbacks: freed now, not by the garbage collector
        self._parser = None
        return self._fields
