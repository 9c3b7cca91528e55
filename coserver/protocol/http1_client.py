"""The client's receiving half of HTTP/1.1, without I/O: bytes in, the response to one request out (RFC 9112).

``expect`` announces a request that was sent, ``receive`` takes bytes, ``end`` the end of the stream. Interim responses
(1xx) are kept apart. Bytes after the response end the connection, since they might be taken for the next response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .chunks import ChunkGuard
from .codecs import RESPONSE_CODECS
from .errors import RemoteProtocolError
from .fields import RawFields
from .response_codec import ResponseCodec
from .response_head import UNTIL_CLOSE, ResponseHead
from .syntax import check_partial_response, end_lines_by_crlf, is_response_head, mend_response_head

#: The most interim responses before the final one. 103 comes once or twice; more are a flood. All of their bytes
#: together have the limit of one head.
_INTERIM_MAX = 16
#: The most bytes of chunk extensions in one body: they cost CPU and carry nothing.
_EXTENSIONS_MAX = 16 * 1024
_NONE: RawFields = []  # shared, never changed


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """The limits of a reader, in bytes and in fields. ``upstream/limits.py`` has the reasons."""

    head_size: int = 64 * 1024
    head_fields: int = 200
    trailer_size: int = 8 * 1024


def choose_response_codec(name: str) -> Callable[[], ResponseCodec]:
    """The factory of the codec called ``name``, a row of RESPONSE_CODECS."""
    return RESPONSE_CODECS[name]()


class ResponseReader:
    """Reads the responses of one connection.

    ``head`` is the final head once it has come, ``pieces`` the data of the body that is not taken yet, ``done`` whether
    the response is whole, and ``keep_alive`` then whether another request may be sent. With ``accept_bare_lf`` a line
    of a head, of chunks or of a trailer may end with LF alone. Such a response ends its connection: no byte behind it
    is read as another one.
    """

    __slots__ = (
        "_accept_bare_lf", "_bare_lf", "_begun", "_buffer", "_checked", "_codec", "_guard", "_interim_size",
        "_interims", "_known", "_left", "_limits", "_make", "_method", "_size_max",
        "done", "head", "interim", "keep_alive", "patience",
        "pieces", "size", "trailers",
    )  # fmt: skip

    def __init__(
        self,
        make: Callable[[], ResponseCodec],
        limits: ResponseLimits = ResponseLimits(),
        *,
        accept_bare_lf: bool = False,
    ) -> None:
        self._make = make
        self._limits = limits
        self._accept_bare_lf = accept_bare_lf
        self._bare_lf = False  # a line has ended so
        self._codec: ResponseCodec | None = None
        self._guard: ChunkGuard | None = None
        self._buffer = b""
        self._begun = False
        self._checked = self._interims = self._interim_size = self._left = 0
        self._method = ""
        self._size_max = 0
        #: A head whose whole response came with it, and left the codec as it was.
        self._known: ResponseHead | None = None
        self.head: ResponseHead | None = None
        self.interim: list[ResponseHead] = []  # the heads of interim responses that are not taken yet
        self.pieces: list[bytes] = []
        self.size = 0
        self.done = True
        self.keep_alive = True
        self.patience: int | None = None  # seconds for which the server keeps an idle connection, if it says so
        self.trailers: RawFields = _NONE

    def __repr__(self) -> str:
        return f"<ResponseReader {self._method} {'done' if self.done else self.head or 'waiting'}>"

    @property
    def begun(self) -> bool:
        """Whether a byte of the expected response has come."""
        return self._begun

    def expect(self, method: str, size_max: int) -> None:
        """Prepare for the response to a request that was sent. Its body may have ``size_max`` bytes of data."""
        self._method = method
        self._size_max = size_max
        self._begun = self.done = False
        self.head = None
        if self._interims:
            self._interims = self._interim_size = 0
            self.interim = []
        if self.pieces:
            self.pieces = []
        self.size = 0
        self.trailers = _NONE

    def receive(self, data: bytes) -> bool:
        """Take bytes. Returns whether the response is whole. Raises RemoteProtocolError."""
        self._begun = True
        if self.head is None:
            known = self._known
            if known is not None and data.startswith(known.raw) and self._receive_known(data, known):
                return True
            rest = self._receive_head(data)
            if rest is None:
                return self.done
            data = rest
        if data or self.done:
            self._receive_body(data)
        return self.done

    def end(self) -> None:
        """Handle the end of the stream. Raises RemoteProtocolError unless the end completes the response."""
        head = self.head
        if head is not None and head.length == UNTIL_CLOSE:
            self._complete(b"")
            self.keep_alive = False
        elif head is None:
            what = "in the middle of a response's head" if self._begun else "without a response"
            raise RemoteProtocolError(f"it closed the connection {what}")
        else:
            of = "" if head.length is None else f" of {head.length}"
            raise RemoteProtocolError(f"it closed the connection after {self.size}{of} bytes of a body")

    def take(self) -> bytes:
        """The data of the body since the last call."""
        pieces = self.pieces
        if not pieces:
            return b""
        self.pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Free the parser."""
        if self._codec is not None:
            self._codec.close()
            self._codec = None

    def _receive_known(self, data: bytes, known: ResponseHead) -> bool:
        """Compare with a head that was checked before, byte by byte. Returns whether the whole response is there."""
        behind = len(data) - len(known.raw)
        if behind != known.length or behind > self._size_max or self._buffer or self._method == "HEAD":
            return False
        self.head = known
        self.size = behind
        self.pieces.append(data[-behind:])
        self.done = True
        return True

    def _receive_head(self, data: bytes) -> bytes | None:
        """Read the head. Returns the bytes after it, or None if it is not whole or the response is complete."""
        if self._buffer:
            data = self._buffer + data
        while True:
            if self._accept_bare_lf:
                data, end, mended = end_lines_by_crlf(data)
                self._bare_lf = self._bare_lf or mended
            else:
                end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._wait_for_head(data)
                return None
            limits = self._limits
            if end > limits.head_size:
                raise RemoteProtocolError(f"the response's head is longer than {limits.head_size} bytes")
            behind = len(data) - end
            raw = data[:end] if behind else data
            if not is_response_head(raw):
                raw = mend_response_head(raw)
                data, end = raw + data[end:], len(raw)
            # A field takes four bytes at least: most heads are too short to have too many.
            if end > 4 * limits.head_fields and raw.count(b"\r\n") - 2 > limits.head_fields:
                raise RemoteProtocolError(f"a response has at most {limits.head_fields} fields here")
            head = ResponseHead(raw, self._method)
            codec = self._codec
            if codec is None:
                codec = self._codec = self._make()
            if self._buffer or self._checked:
                self._buffer = b""
                self._checked = 0
            if behind and behind == head.length and behind <= self._size_max:  # the usual response: all in one piece
                codec.head(data, head, self._method)
                self._take_whole(head, data[end:])
                return None
            codec.head(raw, head, self._method)
            data = data[end:]
            if head.status >= 200:
                break
            self._interims += 1
            self._interim_size += end
            if self._interims > _INTERIM_MAX:
                raise RemoteProtocolError(f"more than {_INTERIM_MAX} interim responses (1xx)")
            if self._interim_size > limits.head_size:
                raise RemoteProtocolError(f"interim responses (1xx) of more than {limits.head_size} bytes together")
            self.interim.append(head)
        self.head = head
        self._begin_body(head)
        return data

    def _take_whole(self, head: ResponseHead, body: bytes) -> None:
        """Take a whole response that came in one piece."""
        self.head = head
        self.size = len(body)
        self.pieces.append(body)
        self._complete(b"")
        if self._codec is not None:
            self._known = head

    def _begin_body(self, head: ResponseHead) -> None:
        length = head.length
        if length is None:
            self._guard = ChunkGuard(
                self._size_max,
                self._limits.trailer_size,
                _EXTENSIONS_MAX,
                padded=True,
                accept_bare_lf=self._accept_bare_lf,
            )
        elif length > self._size_max:
            raise RemoteProtocolError(
                f"the body is {length} bytes long; at most {self._size_max} are accepted (body_size, or stream=True)"
            )
        elif length == 0:
            self.done = True
        else:
            self._left = length

    def _receive_body(self, data: bytes) -> None:
        """Take data of the body, or bytes after it."""
        codec, guard = self._codec, self._guard
        assert codec is not None
        if self.done:
            self._complete(data)
            return
        if guard is not None:
            self._receive_chunks(codec, guard, data)
            return
        left, rest = self._left, b""
        if left == UNTIL_CLOSE:
            if self.size + len(data) > self._size_max:
                raise RemoteProtocolError(f"the body is longer than {self._size_max} bytes (body_size, or stream=True)")
        elif len(data) > left:
            data, rest = data[:left], data[left:]
        self.size += len(data)
        self.pieces.append(codec.body(data))
        if left != UNTIL_CLOSE:
            self._left = left = left - len(data)
            if not left:
                self._complete(rest)

    def _receive_chunks(self, codec: ResponseCodec, guard: ChunkGuard, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        approved = guard.approve(data)
        self._buffer = data[approved:]
        if approved:
            raw = data[:approved]
            piece = codec.body(guard.mend(raw) if guard.mends else raw)
            if piece:
                self.size += len(piece)
                self.pieces.append(piece)
        if guard.done:
            self._bare_lf = self._bare_lf or guard.bare_lf
            rest, self._buffer, self._guard = self._buffer, b"", None
            self.trailers = codec.trailers()
            self._complete(rest)

    def _complete(self, rest: bytes) -> None:
        """Finish the response. ``rest`` holds the bytes after it."""
        head, codec = self.head, self._codec
        assert head is not None
        assert codec is not None
        self.done = True
        self.keep_alive = head.keep_alive and codec.keep_alive and not rest and not self._bare_lf
        if head.patience is not None:
            self.patience = head.patience
        if not (codec.reusable and self.keep_alive):
            codec.close()
            self._codec = self._known = None

    def _wait_for_head(self, data: bytes) -> None:
        if len(data) > self._limits.head_size:
            raise RemoteProtocolError(f"the response's head is longer than {self._limits.head_size} bytes")
        self._checked = check_partial_response(data, self._checked)
        self._buffer = data
