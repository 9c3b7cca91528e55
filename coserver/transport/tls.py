"""A TLS connection as a stream: it takes the place of the SocketStream that carries it, with the same methods.

A small response is one record and one write. Hang-ups, deadlines and back-pressure are the socket's own. An orderly end
is a close-notify; a cut raises TlsCut, a BrokenResourceError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from .stream import RECEIVE_SIZE, SocketStream
from .tls_engine import RECORD, TlsCut, TlsEngine, TlsError
from .tls_info import TlsInfo

#: Bytes encrypted ahead of a client that does not read: a whole usual response, head included, goes in one write.
_BATCH = 5 * RECORD
#: Bytes of a file per read.
_READ_CHUNK = 4 * RECORD
#: Bytes of answers to the peer's own messages (alerts, key updates) that may wait for it to read; one record has 30.
_ANSWERS_MAX = 64 * 1024
#: The first byte of a handshake's record (RFC 8446 §5.1).
_HANDSHAKE = 0x16


class NotTls(TlsError):
    """The first bytes are no TLS hello; ``first`` holds them."""

    def __init__(self, first: bytes) -> None:
        super().__init__("the first bytes of the peer are no TLS hello")
        self.first = first


class TlsStream(SocketStream):
    """TLS over ``plain``, which it owns. ``received`` and ``sent`` count bytes of plaintext; call ``handshake`` first.

    Bytes that ``send_now`` did not report as sent must be sent next: some of them may be encrypted already.
    """

    __slots__ = ("_begun", "_deaf", "_engine", "_info", "_more", "_out", "_plain", "_said_all", "_sending", "_stopped")

    def __init__(self, plain: SocketStream, engine: TlsEngine) -> None:
        # Not the base's ``__init__``: the socket belongs to the plain stream.
        self._plain = plain
        self._engine = engine
        self._loop = plain._loop
        self._out: bytes | memoryview = b""  # ciphertext that the socket has not taken
        self._begun = b""  # the plaintext in its last part
        self._sending = False
        self._said_all = False  # the close-notify is sent
        self._stopped = False  # this side receives no more
        self._more = True  # there may be data without asking the socket: it came with the handshake
        self._deaf = False  # later bytes cannot be decrypted any more
        self._info: TlsInfo | None = None
        self.received = 0
        self.sent = 0

    def __repr__(self) -> str:
        return f"<TlsStream fd={self.fileno()} received={self.received} sent={self.sent}>"

    @property
    def info(self) -> TlsInfo:
        """What the handshake agreed on, and the peer's certificate; from any thread, after the handshake."""
        assert self._info is not None
        return self._info

    def fileno(self) -> int:
        return self._plain.fileno()

    def forget(self) -> None:
        self._plain.forget()

    async def handshake(self) -> None:
        """Do the handshake. Raises TlsError (NotTls for other first bytes); anyio's EndOfStream if nothing came."""
        engine, plain = self._engine, self._plain
        begun = not engine.object.server_side
        while True:
            try:
                done = engine.handshake()
            except TlsError:
                self._answer()  # the alert
                raise
            if out := engine.take():
                await plain.send(out)
            if done:
                # Now, and not at the first use, which may be in another thread: OpenSSL's object belongs to one.
                self._info = TlsInfo.of(engine.object)
                return
            try:
                data = await plain.receive()
            except anyio.EndOfStream:
                if not begun:
                    raise
                raise TlsCut("the peer left in the middle of the handshake") from None
            if not begun:
                begun = True
                if data[0] != _HANDSHAKE:
                    raise NotTls(data)
            engine.feed(data)

    async def receive(self, max_bytes: int = RECEIVE_SIZE) -> bytes:
        """Receive at least one byte. Raises EndOfStream, ClosedResourceError, TlsError, TlsCut, BrokenResourceError."""
        plain = self._plain
        if self._more:
            await self._loop.checkpoint()
            if data := self._decrypt(max_bytes):
                return data
        while True:
            try:
                data = await plain.take()
            except anyio.EndOfStream:
                if self._stopped or self._said_all:
                    raise
                raise TlsCut from None
            if self._deaf:
                continue
            self._engine.feed(data)
            if data := self._decrypt(max_bytes):
                return data

    take = receive  # type: ignore[assignment]  # a coroutine serves as well

    def _decrypt(self, max_bytes: int) -> bytes:
        """Plaintext that can be read without more ciphertext; empty if there is none. Raises EndOfStream, TlsError."""
        engine = self._engine
        try:
            data = engine.read(max_bytes)
            if data and engine.readable:
                pieces, left = [data], max_bytes - len(data)
                while left and (data := engine.read(left)):
                    pieces.append(data)
                    left -= len(data)
                data = b"".join(pieces)
                self._more = not left or engine.ended
            else:
                self._more = False
        except TlsError:
            self._answer()
            if not self._said_all:
                raise
            # Nobody waits for this data. It is read away so that the close does not become a reset.
            self._deaf, self._more = True, False
            return b""
        if engine.pending:
            self._answer()
        if data:
            self.received += len(data)
        elif engine.ended:
            self._more = True
            raise anyio.EndOfStream
        return data

    def _answer(self) -> None:
        """Send what OpenSSL writes by itself, if the socket takes it; the rest goes out before the next bytes."""
        if self._engine.pending > _ANSWERS_MAX:
            raise TlsError("the peer sends messages and does not read the answers")
        if not self._sending and not self._out:
            try:
                self._flush()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # the next read or write finds out

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the socket takes at once, and return the number of bytes. Raises BrokenResourceError,
        ClosedResourceError.
        """
        done = 0
        if self._out:
            if self._sending:
                raise anyio.BusyResourceError("sending to")
            if data[: len(self._begun)] != self._begun:
                raise anyio.BrokenResourceError("an earlier send was cut short, so nothing more can be sent")
            if not self._flush():
                return 0
            done, self._begun = len(self._begun), b""
        if done < len(data):
            taken = self._encrypt(data[done:] if done else data)
            if self._flush():
                done += taken
            else:
                self._begun = bytes(data[done : done + taken])
        return done

    def _encrypt(self, data: bytes | memoryview) -> int:
        engine = self._engine
        if len(data) <= RECORD:
            taken = engine.write(data)
            self._out = engine.take()
        else:
            taken, pieces = 0, []
            while taken < min(len(data), _BATCH):
                taken += engine.write(data[taken : taken + RECORD])
                pieces.append(engine.take())
            self._out = b"".join(pieces)
        self.sent += taken
        return taken

    def _flush(self) -> bool:
        """Send the ciphertext. Returns whether the socket took all of it."""
        out = self._out or self._engine.take()
        while out:
            sent = self._plain.send_now(out)
            if sent < len(out):
                self._out = memoryview(out)[sent:]
                return False
            out = self._engine.take()
        self._out = b""
        return True

    async def send(self, item: bytes | memoryview) -> None:
        """Send all of ``item``. Yields to other tasks when the socket is full, and after each 80 KiB."""
        sent = self.send_now(item)
        if sent == len(item):
            return
        if self._sending:
            raise anyio.BusyResourceError("sending to")
        self._sending = True
        try:
            rest = memoryview(item)[sent:]
            while rest:
                if self._out:
                    await self._flush_all()
                    rest, self._begun = rest[len(self._begun) :], b""
                else:
                    await self._loop.checkpoint()
                rest = rest[self.send_now(rest) :]
        finally:
            self._sending = False

    async def _flush_all(self) -> None:
        """Wait until the socket has taken all ciphertext. A cancelled call leaves the rest to the next one."""
        out, before = memoryview(self._out), self._plain.sent
        try:
            await self._plain.send(out)
        finally:
            self._out = out[self._plain.sent - before :]

    async def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Send up to ``count`` bytes of a file from ``offset``. Returns the number, 0 at its end. Raises like the
        base's.
        """
        content = os.pread(fd, min(count, _READ_CHUNK), offset)
        if content:
            await self.send(content)
        return len(content)

    def taken(self) -> int:
        """Bytes of ciphertext that have reached the peer's system."""
        return self._plain.taken()

    async def send_eof(self) -> None:
        """Half-close: the peer reads an end of stream, and may go on sending."""
        if not self._said_all:
            if self._out:
                await self._flush_all()
            self._begun = b""
            self._said_all = True
            self._engine.close()
            self._out = self._engine.take()
            await self._flush_all()
        await self._plain.send_eof()

    def end_receiving(self) -> None:
        """End the stream after the bytes that have arrived; wakes a task that waits in ``receive``."""
        self._stopped = True
        self._plain.end_receiving()

    def reset(self) -> None:
        """Close at once, as no orderly end. Bytes that the peer has not read yet may be lost."""
        self._said_all = True
        self._plain.reset()

    def close(self) -> None:
        """Close at once; sends a close-notify without waiting, unless a record has been cut. A second call does
        nothing.
        """
        if not (self._said_all or self._out):
            self._said_all = True
            self._engine.close()
            try:
                self._flush()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # the peer was faster
        self._plain.close()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._plain.extra_attributes
