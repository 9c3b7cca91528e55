"""A streamed answer's body: pieces as they come, for an ``async for``, a worker or a plain thread.

What nobody has taken is bounded: beyond ``BUFFER`` the connection is not read, and the member waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from threading import get_ident
from typing import TYPE_CHECKING

from .errors import SubrequestCancelled
from .waitable import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..transport.loop import FutureLatch, Latch
    from .connection.connection import UpstreamConnection
    from .subrequest import Subrequest

#: Bytes that wait to be taken before the connection is paused: one receive, so that sender and taker overlap.
BUFFER = 64 * 1024


class BodyStream(AsyncIterator[bytes], Iterator[bytes]):
    """Iterates over a body once. One task or thread takes; the connection gives, on its own loop.

    The taker sets ``_wanted`` before it looks again, the giver gives before it looks for ``_wanted``: neither can miss
    the other, whatever thread it is in.
    """

    def __init__(self, sub: Subrequest, connection: UpstreamConnection) -> None:
        self._sub = sub
        self._connection: UpstreamConnection | None = connection
        self._pieces: deque[bytes] = deque()
        self._held = 0  # bytes that wait to be taken
        self._wanted: _Piece | None = None
        self._error: BaseException | None = None
        self.ended = False
        self.paused = False

    def __repr__(self) -> str:
        state = "ended" if self.ended else "paused" if self.paused else "open"
        return f"<BodyStream of {self._sub.method} {self._sub.target}, {self._held} bytes wait, {state}>"

    # What the taker calls.

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
        """Take no more; see ``close``."""
        self.close()

    def close(self) -> None:
        """Take no more: unless all has come, the connection is closed. From any thread; twice is fine."""
        if self.ended:
            self._pieces.clear()
            return
        if get_ident() == self._sub.thread:
            self.stop(SubrequestCancelled(f"the body of {self._sub.method} {self._sub.target} was closed"))
        else:
            try:
                self._sub.post(self.close)
            except RuntimeError:
                pass  # its loop has ended, and all connections with it

    def _take(self) -> bytes:
        """What waits, all of it; empty if nothing does."""
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
            self._connection.resume()

    def _want(self) -> _Piece:
        piece = self._wanted = _Piece(self)
        if self._pieces or self.ended:
            self._wanted = None
            piece.come()
        return piece

    # What the connection calls.

    def give(self, data: bytes) -> None:
        """Data has come."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= BUFFER and not self.paused and self._connection is not None:
            self.paused = True
            self._connection.pause()
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """No more will come: that is the end, or ``error`` says why."""
        self._error = error
        self._connection = None
        self.ended = True
        self._wake()

    def stop(self, error: BaseException) -> None:
        """Give the rest up, on its own loop."""
        if self._connection is not None:
            self._connection.abandon(error)

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.come()


class _Piece(Pending[bytes]):
    """The next piece; empty at the end."""

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
        """Whoever waits was cancelled: the body stays, for whoever takes it next."""
        if self._body._wanted is self:
            self._body._wanted = None
        self.come()

    def _outcome(self) -> bytes:
        piece = self._body._take()
        if not piece and self._body._error is not None:
            raise self._body._error
        return piece
