"""An upstream's response, as its caller gets it: whole, or with a body that is still on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..hooks.workers import on_loop
from ..protocol.fields import Headers, RawFields
from ..protocol.jsons import decode_json
from ..protocol.response_head import ResponseHead
from ..protocol.values import decode_text
from .errors import SubrequestCancelled
from .waitable import Waitable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..transport.loop import FutureLatch, Latch
    from .connection.connection import UpstreamConnection
    from .subrequest import Subrequest

#: Bytes that may wait in the buffer before reading pauses: one receive, so that both sides work at the same time.
BUFFER = 64 * 1024


class _Answer:
    """The attributes of both kinds of response."""

    _headers: Headers | None = None
    _fields: RawFields | None = None
    trailers_raw: RawFields = []  # noqa: RUF012 - replaced, never changed
    status: int
    head: ResponseHead

    @property
    def fields(self) -> RawFields:
        """The raw header fields, names in lower case."""
        if self._fields is None:
            self._fields = self.head.fields.copy()  # a copy: several responses may share one head
        return self._fields

    @fields.setter
    def fields(self, value: RawFields) -> None:
        self._fields = value

    @property
    def ok(self) -> bool:
        """Whether the status is from 200 to 299."""
        return 200 <= self.status < 300

    @property
    def headers(self) -> Headers:
        """The header fields of the final answer."""
        if self._headers is None:
            self._headers = Headers(self.fields)
        return self._headers

    @property
    def trailers(self) -> Headers:
        """The fields after a chunked body (RFC 9110 §6.5). For a streamed response they are complete when the body has
        ended.
        """
        return Headers(self.trailers_raw)


class UpstreamResponse(_Answer):
    """A whole response: ``status``, ``headers``, ``body`` (bytes); ``fields`` are the raw ones, names in lower case."""

    def __init__(self, head: ResponseHead, body: bytes) -> None:
        self.status = head.status
        self.head = head
        self.body = body

    @classmethod
    def of(cls, status: int, fields: RawFields, body: bytes) -> UpstreamResponse:
        """Make a response that no upstream sent."""
        response = cls.__new__(cls)
        response.status, response.fields, response.body = status, fields, body
        return response

    def __repr__(self) -> str:
        return f"<UpstreamResponse {self.status}, {len(self.body)} bytes>"

    def text(self) -> str:
        """The body as text, in the charset of Content-Type or UTF-8. Raises ValueError."""
        if self._fields is None and b"charset" not in self.head.raw:  # avoids parsing the head
            return self.body.decode()
        _, _, charset = self.headers.get("content-type", "").lower().partition("charset=")
        return decode_text(self.body, charset.split(";")[0].strip(" \"'") or "utf-8")

    def json(self) -> Any:
        """The body as JSON (RFC 8259). Raises ValueError if it is none."""
        return decode_json(self.body)


class StreamedUpstreamResponse(_Answer):
    """A response to ``stream=True``: iterate over ``body`` once, with ``async for``, or ``for`` in a worker or a plain
    thread.

    To stop early call ``close()``, or use a block: ``async with await users.get("/big", stream=True) as answer:``.
    """

    def __init__(self, head: ResponseHead, body: BodyStream) -> None:
        self.status = head.status
        self.head = head
        self.body = body

    def __repr__(self) -> str:
        return f"<StreamedUpstreamResponse {self.status}, {self.body!r}>"

    async def read(self) -> bytes:
        """The rest of the body, of any length."""
        return b"".join([piece async for piece in self.body])

    def close(self) -> None:
        """Stop reading the body, and close the connection unless the body is complete."""
        self.body.close()

    async def __aenter__(self) -> StreamedUpstreamResponse:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __enter__(self) -> StreamedUpstreamResponse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BodyStream(AsyncIterator[bytes], Iterator[bytes]):
    """A response's body as it comes, for one iteration by ``async for``, a worker or a plain thread.

    At ``BUFFER`` unread bytes the connection stops reading, and the member waits. One task or thread takes; the
    connection gives, on its own loop. The taker sets ``_wanted`` and then looks for pieces; the giver adds a piece and
    then looks at ``_wanted``. So neither misses the other, in whichever threads they are.
    """

    def __init__(self, sub: Subrequest, connection: UpstreamConnection | None) -> None:
        self._sub = sub
        self._connection: UpstreamConnection | None = connection
        self._pieces: deque[bytes] = deque()
        self._held = 0  # unread bytes
        self._wanted: _Piece | None = None
        self._error: BaseException | None = None
        self.ended = False
        self.paused = False

    def __repr__(self) -> str:
        state = "ended" if self.ended else "paused" if self.paused else "open"
        return f"<BodyStream of {self._sub.method} {self._sub.target}, {self._held} bytes wait, {state}>"

    # For the taker.

    def __aiter__(self) -> BodyStream:
        return self

    def __iter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        piece = self._take() or await self._want()
        if not piece:
            raise StopAsyncIteration
        return piece

    def __next__(self) -> bytes:
        piece = self._take() or self._want().result()
        if not piece:
            raise StopIteration
        return piece

    async def aclose(self) -> None:
        """``close``, as async iterators have it."""
        self.close()

    def close(self) -> None:
        """Stop reading; the connection is closed unless the body is complete. From any thread; a second call does
        nothing.
        """
        if self.ended:
            self._pieces.clear()
            return
        if get_ident() == self._sub.thread:
            on_loop(self.stop, SubrequestCancelled(f"the body of {self._sub.method} {self._sub.target} was closed"))
        else:
            try:
                self._sub.post(self.close)
            except RuntimeError:
                pass  # its loop has ended, and all connections with it

    def _take(self) -> bytes:
        """All pieces that wait, joined; empty if there are none."""
        pieces = self._pieces
        if not pieces:
            return b""
        taken = [pieces.popleft()]
        while pieces:
            taken.append(pieces.popleft())
        piece = taken[0] if len(taken) == 1 else b"".join(taken)
        if get_ident() == self._sub.thread:
            self._taken(len(piece))
        else:
            try:
                self._sub.post(self._taken, len(piece))
            except RuntimeError:
                pass
        return piece

    def _taken(self, size: int) -> None:
        self._held -= size
        if self.paused and self._held < BUFFER and self._connection is not None:
            self.paused = False
            on_loop(self._connection.resume)

    def _want(self) -> _Piece:
        piece = self._wanted = _Piece(self)
        if self._pieces or self.ended:
            self._wanted = None
            piece.come()
        return piece

    # For the connection.

    def give(self, data: bytes) -> None:
        """Add a piece."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= BUFFER and not self.paused and self._connection is not None:
            self.paused = True
            self._connection.pause()
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """End the body: completely, or with ``error``."""
        self._error = error
        self._connection = None
        self.ended = True
        self._wake()

    def stop(self, error: BaseException) -> None:
        """Abandon the rest. On the loop of the connection."""
        if self._connection is not None:
            self._connection.abandon(error)

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.come()


class _Piece(Waitable[bytes]):
    """The next piece of the body; empty at its end."""

    def __init__(self, body: BodyStream) -> None:
        super().__init__()
        self._body = body
        self.thread = body._sub.thread

    def __repr__(self) -> str:
        return f"<the next piece of {self._body!r}>"

    @property
    def post(self) -> Callable[..., None]:
        return self._body._sub.post

    def _latch(self) -> Latch | FutureLatch:
        return self._body._sub._latch()

    def come(self) -> None:
        if not self.done:
            self._settle()

    def cancel(self) -> None:
        """Forget the waiting task, which was cancelled. The body can still be read by another."""
        if self._body._wanted is self:
            self._body._wanted = None
        self.come()

    def _outcome(self) -> bytes:
        piece = self._body._take()
        if not piece and self._body._error is not None:
            raise self._body._error
        return piece
