"""The parsers behind one interface: h11, always there and the reference, and httptools when it is installed.

A codec reads one request: its head, then its body's bytes as they come. What reaches it has passed the strict checks
(``syntax``, ``chunks``), so that both codecs see only messages on which they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

import h11

from .errors import LocalProtocolError, RemoteProtocolError
from .fields import RawFields
from .head import RequestHead

Parts = tuple[str, bytes, int, RawFields]  # method, target, minor version, fields (names in lower case)


class Codec(Protocol):
    """What ``Http1Reader`` asks of a parser. One object reads one request.

    ``reusable``: after a request without a body it may read another's head, of any connection that is to stay open.
    """

    reusable: bool

    def head(self, raw: bytes) -> Parts:
        """Take a whole head apart. Raises RemoteProtocolError."""
        ...

    def body(self, raw: bytes) -> bytes:
        """The data in these bytes of the body, transfer coding undone. Raises RemoteProtocolError."""
        ...

    def trailers(self) -> RawFields:
        """The trailer fields; to be asked once the body has been read to its end. Lets go of the parser."""
        ...


class H11Codec:
    """The reference: h11's reading half."""

    __slots__ = ("_connection", "_trailers")
    reusable = False  # its states go on only with a whole response: a new one is cheaper

    def __init__(self) -> None:
        # No second limit here: what is fed has been measured against Limits already.
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 30)
        self._trailers: RawFields = []

    def head(self, raw: bytes) -> Parts:
        # h11 judges and knows where the body ends. Its own list of fields drops repeated lengths and changes values.
        lines = raw.split(b"\r\n")[1:-2]
        fields = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
        try:
            self._connection.receive_data(raw)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            _judge(raw, fields)  # what we refuse as well gets our words and status, whichever the codec
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


class HttptoolsCodec:
    """Node's parser (llhttp) in C: 0.5 µs a head where h11 takes 10."""

    __slots__ = ("_fields", "_parser", "_pieces", "_reference", "_target", "reusable")

    def __init__(self) -> None:
        self._fields: RawFields = []
        self._pieces: list[bytes] = []
        self._target = b""
        self._parser: Any = _RequestParser(self)
        self._reference: H11Codec | None = None
        self.reusable = True

    # The parser calls these four.
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
        except (_ParserUpgrade, _ParserError):
            # llhttp stops at an upgrade, body unread, but one that nobody takes is an ordinary request (RFC 9110 §7.8);
            # and it knows a fixed list of methods, but a new one is no error (RFC 9110 §9.1). The reference judges.
            self._reference = H11Codec()
            self.reusable = False
            return self._reference.head(raw)
        fields, self._fields = self._fields, []
        # The version's last digit stands before the first line's end: sparing get_http_version a string.
        return parser.get_method().decode("ascii"), self._target, raw[raw.find(b"\r") - 1] - 48, fields

    def body(self, raw: bytes) -> bytes:
        if self._reference is not None:
            return self._reference.body(raw)
        try:
            self._parser.feed_data(raw)
        except _ParserError as error:
            raise RemoteProtocolError(f"not HTTP/1.1: {error}") from error
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def trailers(self) -> RawFields:
        if self._reference is not None:
            return self._reference.trailers()
        self._parser = None  # breaks the cycle codec, parser, bound callbacks: freed now, not by the collector
        return self._fields


CODECS: dict[str, Callable[[], Codec]] = {"h11": H11Codec}

if find_spec("httptools"):
    from httptools import HttpParserError as _ParserError
    from httptools import HttpParserUpgrade as _ParserUpgrade
    from httptools import HttpRequestParser as _RequestParser

    CODECS["httptools"] = HttptoolsCodec


class Parsers:
    """Where the connections of one loop take their codecs from.

    ``idle`` is one that has read a head and no body: reading a head waits for nothing, so one is enough for all, and an
    idle connection keeps none.
    """

    __slots__ = ("idle", "make")

    def __init__(self, codec: str) -> None:
        self.make = CODECS[codec]
        self.idle: Codec | None = None


def choose_codec(name: str) -> str:
    """The row of ``CODECS`` that ``name`` ("auto", "h11" or "httptools") means here. Raises LocalProtocolError."""
    if name == "auto":
        return "httptools" if "httptools" in CODECS else "h11"
    if name in CODECS:
        return name
    if name == "httptools":
        raise LocalProtocolError("codec 'httptools' is not installed; pip install 'coserver[fast]', or take 'h11'")
    raise LocalProtocolError(f"codec must be 'auto', 'h11' or 'httptools'; got {name!r}")
