"""A connection without a socket: two ends in this process's memory, each a stream.

An end passes for a ``SocketStream``, so that a server treats it like a socket: it sends without waiting, half-closes,
resets, lingers. A full buffer and a peer that left mean the same; there is no descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from ..transport.loop import Loop
from ..transport.stream import RECEIVE_SIZE, SocketStream

#: Bytes on their way in one direction, then the sender waits. Few, so that a test meets back-pressure early.
BUFFER_SIZE = 64 * 1024


class Pipe:
    """One direction: the bytes on their way, and its end."""

    __slots__ = ("_changed", "buffer", "deaf", "ended", "reset")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.ended = False  # no more writes
        self.reset = False  # ended by a reset: reading raises after the last byte
        self.deaf = False  # no more reads
        self._changed: anyio.Event | None = None

    def change(self) -> None:
        """Wake the tasks that wait for room, for bytes, or for the end."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()


class MemoryStream(SocketStream):
    """One end. ``received`` and ``sent`` count bytes; a task may receive while another sends."""

    __slots__ = ("_closed", "_in", "_out", "_receiving", "_sending")

    def __init__(self, loop: Loop, incoming: Pipe, outgoing: Pipe) -> None:
        # Not the base's ``__init__``: there is no socket to own.
        self._loop = loop
        self._in = incoming
        self._out = outgoing
        self._closed = False
        self._receiving = anyio.ResourceGuard("receiving from")
        self._sending = anyio.ResourceGuard("sending to")
        self.received = 0
        self.sent = 0

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"received={self.received} sent={self.sent}"
        return f"<MemoryStream {state}>"

    @property
    def ended(self) -> bool:
        """Whether the end of the stream has come, without waiting."""
        return self._closed or (self._in.ended and not self._in.buffer)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def was_reset(self) -> bool:
        """Whether this end was closed by a reset, and not in order."""
        return self._out.reset

    def fileno(self) -> int:
        """-1: there is no descriptor."""
        return -1

    async def receive(self, max_bytes: int = RECEIVE_SIZE) -> bytes:
        """Receive at least one byte. Raises EndOfStream, BrokenResourceError, ClosedResourceError (anyio's)."""
        data = await self.peek(max_bytes)
        del self._in.buffer[: len(data)]
        self._in.change()
        self.received += len(data)
        return data

    take = receive  # type: ignore[assignment]  # a coroutine serves as well

    async def peek(self, max_bytes: int = RECEIVE_SIZE) -> bytes:
        """Like ``receive``, but the bytes can be received once more."""
        await self._loop.checkpoint()
        pipe = self._in
        with self._receiving:
            while not pipe.buffer:
                self._refuse_closed()
                if pipe.reset:
                    raise anyio.BrokenResourceError("Connection reset by peer")
                if pipe.ended:
                    raise anyio.EndOfStream
                await pipe.wait()
            self._refuse_closed()
        return bytes(pipe.buffer[:max_bytes])

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the buffer takes at once, and return the number of bytes. Raises BrokenResourceError,
        ClosedResourceError.
        """
        self._refuse_closed()
        pipe = self._out
        if pipe.ended or pipe.deaf:
            raise anyio.BrokenResourceError("Broken pipe")
        taken = data[: max(BUFFER_SIZE - len(pipe.buffer), 0)]
        if taken:
            pipe.buffer += taken
            pipe.change()
            self.sent += len(taken)
        return len(taken)

    async def send(self, item: bytes | memoryview) -> None:
        """Send all of ``item``. Yields to other tasks only when the buffer is full."""
        rest = memoryview(item)[self.send_now(item) :]
        if rest:
            with self._sending:
                while rest:
                    await self._out.wait()
                    rest = rest[self.send_now(rest) :]

    async def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Send up to ``count`` bytes of a file from ``offset``. Returns the number, 0 at its end. Raises like the
        base's.
        """
        content = os.pread(fd, min(count, BUFFER_SIZE), offset)
        if content:
            await self.send(content)
        return len(content)

    def taken(self) -> int:
        """Bytes that the peer has received."""
        return self.sent - len(self._out.buffer)

    async def send_eof(self) -> None:
        """Half-close: the peer reads an end of stream, and may go on sending."""
        self._refuse_closed()
        if self._out.deaf:
            raise anyio.BrokenResourceError("Transport endpoint is not connected")
        self._out.ended = True
        self._out.change()

    def end_receiving(self) -> None:
        """End the stream after the bytes that have arrived; wakes a task that waits in ``receive``."""
        self._in.ended = True
        self._in.change()

    def reset(self) -> None:
        """Close at once, as no orderly end."""
        if not self._closed:
            self._out.reset = True
            self.close()

    def forget(self) -> None:
        """Do nothing: a forked child has no descriptor of it to close."""

    def close(self) -> None:
        """Close at once; a task that waits in this stream gets ClosedResourceError. A second call does nothing.

        With bytes that were not received it is a reset, as the kernel's close is.
        """
        if self._closed:
            return
        self._closed = True
        self._out.reset = self._out.reset or bool(self._in.buffer)
        self._out.ended = self._in.deaf = True
        self._in.buffer.clear()
        self._out.change()
        self._in.change()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {}

    def _refuse_closed(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError


def stream_pair(loop: Loop) -> tuple[MemoryStream, MemoryStream]:
    """The two ends of one connection."""
    there, back = Pipe(), Pipe()
    return MemoryStream(loop, back, there), MemoryStream(loop, there, back)
