"""A request's body as it comes, for either kind of handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...hooks.suspension import await_unseen


class RequestStream:
    """Iterates over a body once, in either world."""

    __slots__ = ("_next",)

    def __init__(self, pieces: Callable[[], Awaitable[bytes]]) -> None:
        self._next = pieces

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        return piece

    def __iter__(self) -> RequestStream:
        return self

    def __next__(self) -> bytes:
        piece = await_unseen(self._next())
        if not piece:
            raise StopIteration
        return piece
