"""Read a request's whole body before its handler runs: into memory, and beyond a size to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from ...protocol.errors import RemoteProtocolError
from ..handler.uploads import Spool

if TYPE_CHECKING:
    from ..limits import Limits
    from ..service import Service
    from .exchange import HttpExchange


class _BodyMemory:
    """Counts the bytes in memory of one unfinished body, and adds them to the sum of all bodies of the listener."""

    __slots__ = ("_service", "_size")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._size = 0

    def add(self, size: int) -> None:
        self._size += size
        self._service.body_memory_used += size

    def release(self) -> None:
        self._service.body_memory_used -= self._size
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether all bodies together take more than ``Limits.body_memory``. Then each must go to disk."""
        return self._service.body_memory_used > self._service.limits.body_memory


async def read_body(exchange: HttpExchange) -> None:
    """Read the whole body into the request. A body of more than ``Limits.body_buffer`` bytes goes to disk.

    Raises ClientLeft, RemoteProtocolError.
    """
    pieces = [await exchange.next_piece()]
    if exchange.body_done:
        exchange.request.set_body(pieces[0])
        return
    memory = _BodyMemory(exchange.connection.service)
    try:
        await _read_long(exchange, pieces, memory)
    finally:
        memory.release()


async def _read_long(exchange: HttpExchange, pieces: list[bytes], memory: _BodyMemory) -> None:
    """Spool a long body. ``pieces`` is emptied after each write, so that a slow upload holds no memory."""
    size, buffer = len(pieces[0]), exchange.limits.body_buffer
    memory.add(size)
    while size <= buffer and not memory.full:
        pieces.append(await exchange.next_piece())
        if not pieces[-1]:
            exchange.request.set_body(b"".join(pieces))
            return
        size += len(pieces[-1])
        memory.add(len(pieces[-1]))
    while pieces and pieces[-1]:
        await _spool(exchange, pieces, exchange.limits)
        memory.release()
        pieces.clear()
        size = 0
        # 1 MiB for each trip to a thread: its 100 µs are then little beside the time of the write.
        while size < 1 << 20 and not (size and memory.full):
            pieces.append(await exchange.next_piece())
            if not pieces[-1]:
                break
            size += len(pieces[-1])
            memory.add(len(pieces[-1]))
    if size:
        pieces.pop()  # the empty piece, which marks the end
        await _spool(exchange, pieces, exchange.limits)
    assert exchange.spooled is not None
    exchange.request.set_spool(exchange.spooled)


async def _spool(exchange: HttpExchange, pieces: list[bytes], limits: Limits) -> None:
    """Write to the temporary file, in a thread: a slow disk must not stop the loop.

    The thread also parses the form in the body: a large form must not stop the loop either.
    """
    from ..handler.forms import reader_for

    try:
        if exchange.spooled is None:
            exchange.spooled = Spool(reader_for(exchange.request.headers, limits))
        await anyio.to_thread.run_sync(exchange.spooled.write, pieces)
    except OSError as error:
        raise RemoteProtocolError("The server has no room for this body", 507, "disk") from error
