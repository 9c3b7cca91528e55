"""The receiving half of HTTP/1.1, without I/O: bytes in, one request at a time out (RFC 9112).

``receive`` takes bytes; ``read_head`` and ``read_body`` return what is whole. A parser is made for each request and
freed with it, so an idle connection keeps neither parser nor buffer. Pipelined bytes wait here, unparsed.
"""

from __future__ import annotations

from dataclasses import dataclass

from .chunks import ChunkGuard
from .codec import Codec
from .codecs import Parsers
from .errors import LocalProtocolError, RemoteProtocolError
from .fields import RawFields
from .head import RequestHead
from .syntax import check_head, check_partial

# RFC 9112 §2.2 asks servers to ignore at least one empty line before a request: old clients sent one after a POST. More
# are a flood.
_LEADING_LINES = 2
#: An unfinished head up to this many bytes is copied with each piece that comes; a longer one grows in place. Most
#: heads come whole, and most of the others in two pieces.
_COPIED = 4096
#: Chunks read in one go. One receive may bring 11,000 chunks of one byte each, 20 ms of work with httptools and 200 ms
#: with h11: one client must not keep the others waiting for so long.
_CHUNKS = 256


_NONE: RawFields = []  # shared, never changed: a list for each connection would take 56 bytes


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """The limits of a reader, in bytes and in fields. ``server/limits.py`` has the reasons."""

    head_size: int = 32 * 1024
    head_fields: int = 100
    target_size: int = 8 * 1024
    trailer_size: int = 8 * 1024
    extension_size: int = 16 * 1024


class Http1Reader:
    """Reads the requests of one connection.

    ``body_done`` tells whether the current request has been read to its end; ``buffer`` holds received bytes that are
    not read yet.
    """

    __slots__ = (
        "_checked", "_codec", "_empty_lines", "_few", "_guard", "_left", "_limits", "_parsers", "_small",
        "body_done", "buffer", "trailers",
    )  # fmt: skip

    _read_usual = staticmethod(RequestHead.read_usual)

    def __init__(self, parsers: Parsers | str = "h11", limits: HeadLimits = HeadLimits()) -> None:
        self._parsers = Parsers(parsers) if isinstance(parsers, str) else parsers
        self._limits = limits
        self._small = min(limits.target_size, limits.head_size)  # a head of this size is within all limits of size
        self._few = 4 * limits.head_fields  # a head of this size cannot have too many fields: the shortest is a:CRLF
        self.buffer = b""  # a bytearray instead of bytes while a long head comes in pieces
        self._checked = 0  # an unfinished head is checked up to here
        self._empty_lines = 0  # those before the next request
        self._codec: Codec | None = None
        self._guard: ChunkGuard | None = None
        self._left = 0
        self.body_done = True
        self.trailers: RawFields = _NONE

    @property
    def buffered(self) -> int:
        """The number of received bytes that are not read yet."""
        return len(self.buffer)

    def receive(self, data: bytes) -> None:
        """Take bytes from the connection. They are parsed when they are read."""
        self.buffer = bytes(self.buffer) + data if self.buffer else data

    def read_head(self, data: bytes = b"") -> RequestHead | None:
        """The head of the next request, after receiving ``data`` as well; None if more bytes are needed.

        Raises RemoteProtocolError (400, 414, 431, 501, 505); the connection cannot be used after that. Raises
        LocalProtocolError while the body of the last request is unread, since it would be parsed as a request.
        """
        if not self.body_done:
            raise LocalProtocolError("the last request's body must be read to its end before the next head")
        if data:
            if self.buffer:
                return self._read_more(data)
            self.buffer = data
        buffer = self.buffer
        end = buffer.find(b"\r\n\r\n") + 4
        if end < 5 or buffer[0] <= 13:  # 13 is CR: empty lines, or no request line
            return self._read_unfinished(buffer)
        raw, rest = (buffer, b"") if end == len(buffer) else (buffer[:end], buffer[end:])
        if end > self._small:
            self._check_size(raw)
        elif end <= self._few or raw.count(b"\n") - 2 <= self._limits.head_fields:
            usual = self._read_usual(raw)
            if usual is not None:
                self.buffer = rest
                if self._checked or self._empty_lines or self.trailers:
                    self._forget()
                return usual
        check_head(raw)
        parsers = self._parsers
        codec = parsers.idle or parsers.make()
        parsers.idle = None
        method, target, minor, fields = codec.head(raw)
        # first, since h11 checks as much before it: the status is then the same
        head = RequestHead(method, target, minor, fields)
        head.raw = raw
        if len(fields) > self._limits.head_fields:
            most = self._limits.head_fields
            raise RemoteProtocolError(f"a request has at most {most} fields here", 431, "head_fields")
        self.buffer = rest
        if self._checked or self._empty_lines or self.trailers:
            self._forget()
        if head.length != 0:
            self._expect_body(codec, head.length)
        elif codec.reusable and head.keep_alive:
            parsers.idle = codec
        else:
            codec.trailers()  # frees the parser
        return head

    def _forget(self) -> None:
        """Forget what was noted of the last request and of this head."""
        self._checked = self._empty_lines = 0
        self.trailers = _NONE

    def limit_body(self, size_max: int) -> None:
        """Set the most bytes of body for the request that was just read. Raises RemoteProtocolError (413)."""
        if self._left > size_max:
            raise RemoteProtocolError(
                f"the body is {self._left} bytes long; at most {size_max} are accepted here", 413, "body_size"
            )
        if self._guard is not None:
            self._guard.limit(size_max)

    def read_body(self) -> bytes:
        """The next data of the body, empty if more bytes are needed or, with ``body_done``, at its end.

        Of many small chunks it takes some, and leaves the others to the next call. Raises RemoteProtocolError (400,
        413, 431).
        """
        buffer, codec = self.buffer, self._codec
        if codec is None or not buffer:
            return b""
        guard = self._guard
        size = guard.approve(buffer, _CHUNKS) if guard else min(self._left, len(buffer))
        if not size:
            return b""
        raw, self.buffer = (buffer, b"") if size == len(buffer) else (buffer[:size], buffer[size:])
        data = codec.body(guard.mend(raw) if guard and guard.mends else raw)
        if guard:
            self.body_done = guard.done
        else:
            self._left -= size
            self.body_done = not self._left
        if self.body_done:
            self.trailers = codec.trailers()
            self._codec = self._guard = None
        return data

    def _expect_body(self, codec: Codec, length: int | None) -> None:
        self._codec = codec
        self.body_done = False
        if length is None:
            self._guard = ChunkGuard(1 << 63, self._limits.trailer_size, self._limits.extension_size)
        else:
            self._left = length

    def _read_more(self, data: bytes) -> RequestHead | None:
        """``read_head`` for a head that comes in pieces. A long one grows in place, and is searched only once."""
        before: bytes | bytearray = self.buffer
        searched = 0
        if isinstance(before, bytearray):
            searched = len(before)
        elif len(before) + len(data) <= _COPIED:
            self.buffer = before + data
            return self.read_head()
        growing = before if isinstance(before, bytearray) else bytearray(before)
        growing += data
        if growing.find(b"\r\n\r\n", max(searched - 3, 0)) >= 0:
            self.buffer = bytes(growing)
            return self.read_head()
        self.buffer = growing  # type: ignore[assignment]
        self._check_unfinished(growing, searched)
        return None

    def _read_unfinished(self, buffer: bytes) -> RequestHead | None:
        """Check an unfinished head, or skip the empty lines before a head."""
        if buffer[:1] in (b"\r", b"\n") and not self._checked:
            self.buffer = self._skip_empty_lines(buffer)
            if self.buffer != buffer:
                return self.read_head()
        if buffer:
            self._check_unfinished(buffer)
        return None

    def _skip_empty_lines(self, buffer: bytes) -> bytes:
        while self._empty_lines < _LEADING_LINES and buffer[:2] == b"\r\n":
            self._empty_lines += 1
            buffer = buffer[2:]
        if buffer[:1] == b"\n" or buffer[:2] == b"\r\n":
            raise RemoteProtocolError(
                f"a request starts with its request line; at most {_LEADING_LINES} empty lines may precede it"
            )
        return buffer

    def _check_size(self, head: bytes | bytearray) -> None:
        """Refuse a head or target that is too long; ``head`` may be unfinished.

        A mistake within the limit takes precedence, so that the status does not depend on how the bytes came.
        """
        limits = self._limits
        if len(head) > limits.target_size:
            line = head.find(b"\r")
            longest = limits.target_size + 32  # room for the method and the version around the target
            if (line if line >= 0 else len(head)) > longest:
                check_partial(head[:longest], 0)
                raise RemoteProtocolError(
                    f"the request target is longer than {limits.target_size} bytes", 414, "target_size"
                )
        if len(head) > limits.head_size:
            check_partial(head[: limits.head_size], 0)
            raise RemoteProtocolError(f"the request head is longer than {limits.head_size} bytes", 431, "head_size")

    def _check_unfinished(self, buffer: bytes | bytearray, searched: int = 0) -> None:
        self._check_size(buffer)
        if buffer != b"\r":
            self._checked = check_partial(buffer, self._checked, searched)
