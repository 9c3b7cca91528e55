"""A request's body that is read whole before its handler: into memory, and beyond a size to disk."""

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
    """Counts the bytes of one body that wait in memory for its rest, and those of all bodies of a listener."""

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
        """Whether all bodies together hold more than ``Limits.body_memory``: what can go to the disk must."""
        return self._service.body_memory_used > self._service.limits.body_memory


async def read_body(exchange: HttpExchange) -> None:
    """Read the whole body into the request: in memory, and beyond ``Limits.body_buffer`` on disk.

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
        # 1 MiB a trip: a thread's 100 µs are then nothing beside the writing.
        while size < 1 << 20 and not (size and memory.full):
            pieces.append(await exchange.next_piece())
            if not pieces[-1]:
                break
            size += len(pieces[-1])
            memory.add(len(pieces[-1]))
    if size:
        pieces.pop()  # the empty one, which is the end
        await _spool(exchange, pieces, exchange.limits)
    assert exchange.spooled is not None
    exchange.request.set_spool(exchange.spooled)


async def _spool(exchange: HttpExchange, pieces: list[bytes], limits: Limits) -> None:
    """Write to the temporary file, in a thread: a slow disk must not stop the loop.

    Nor must the parsing of a large form, which is done on the same trip.
    """
    from ..handler.forms import reader_for

    try:
        if exchange.spooled is None:
            exchange.spooled = Spool(reader_for(exchange.request.headers, limits))
        await anyio.to_thread.run_sync(exchange.spooled.write, pieces)
    except OSError as error:
        raise RemoteProtocolError("The server has no room for this body", 507, "disk") from error
