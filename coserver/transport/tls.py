"""A TLS connection as a stream, in the place of the SocketStream that carries it: who uses one sees no difference.

A small response is one record and one write. Hang-ups, deadlines and back-pressure are the socket's own. An orderly end
is a close-notify, told from a cut: that raises TlsCut, a BrokenResourceError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from .stream import RECEIVE_SIZE, SocketStream
from .tls_engine import RECORD, TlsCut, TlsEngine, TlsError
from .tls_info import TlsInfo

#: Bytes encrypted ahead of a client that does not read: a whole usual response, head and all, goes in one write.
_BATCH = 5 * RECORD
#: Bytes of a file read at once.
_READ_CHUNK = 4 * RECORD
#: Bytes of answers to a peer's own doings (alerts, key updates) that may wait for it to read; a record has 30.
_ANSWERS_MAX = 64 * 1024
#: The first byte of a handshake's record (RFC 8446 §5.1).
_HANDSHAKE = 0x16


class NotTls(TlsError):
    """What came is no TLS hello; ``first`` is what it is."""

    def __init__(self, first: bytes) -> None:
        super().__init__("the peer sent what is no TLS hello")
        self.first = first


class TlsStream(SocketStream):
    """TLS over ``plain``, which it owns. ``received`` and ``sent`` count bytes of plaintext; ``handshake`` comes first.

    What ``send_now`` has not said to be sent must be what is sent next: some of it may have been encrypted.
    """

    __slots__ = ("_begun", "_deaf", "_engine", "_info", "_more", "_out", "_plain", "_said_all", "_sending", "_stopped")

    def __init__(self, plain: SocketStream, engine: TlsEngine) -> None:
        # Not the base's: the socket is the plain stream's.
        self._plain = plain
        self._engine = engine
        self._loop = plain._loop
        self._out: bytes | memoryview = b""  # ciphertext that the socket has not taken
        self._begun = b""  # the plaintext that its end is made of
        self._sending = False
        self._said_all = False  # the close-notify has gone
        self._stopped = False  # this side has had enough
        self._more = True  # there may be something to read without asking the socket: it came behind the handshake
        self._deaf = False  # what comes cannot be understood any more
        self._info: TlsInfo | None = None
        self.received = 0
        self.sent = 0

    def __repr__(self) -> str:
        return f"<TlsStream fd={self.fileno()} received={self.received} sent={self.sent}>"

    @property
    def info(self) -> TlsInfo:
        """What was agreed on, and who the peer is; from any thread, once the handshake is done."""
        assert self._info is not None
        return self._info

    def fileno(self) -> int:
        return self._plain.fileno()

    async def handshake(self) -> None:
        """Raises TlsError (NotTls, of a client's first bytes), anyio's EndOfStream if nothing came at all."""
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
                # Now, not when it is asked for: that may be in another thread, and OpenSSL's object is for one.
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
        """At least one byte. Raises EndOfStream, BrokenResourceError (TlsError, TlsCut), ClosedResourceError."""
        plain = self._plain
        if self._more:
            await self._loop.checkpoint()
            if data := self._decrypt(max_bytes):
                return data
        while True:
            try:
                data = await plain.receive()
            except anyio.EndOfStream:
                if self._stopped or self._said_all:
                    raise
                raise TlsCut from None
            if self._deaf:
                continue
            self._engine.feed(data)
            if data := self._decrypt(max_bytes):
                return data

    def _decrypt(self, max_bytes: int) -> bytes:
        """All that can be read without more ciphertext; empty if there is nothing. Raises EndOfStream, TlsError."""
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
            # Nobody waits for what it has to say; it is read away, that the close be no reset.
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
        """Send what OpenSSL says of its own accord, if the socket takes it; else it goes before what is sent next."""
        if self._engine.pending > _ANSWERS_MAX:
            raise TlsError("the peer asks and asks, and reads no answer")
        if not self._sending and not self._out:
            try:
                self._flush()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # whoever reads or writes next finds out

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the socket takes at once; how many bytes. Raises BrokenResourceError, ClosedResourceError."""
        done = 0
        if self._out:
            if self._sending:
                raise anyio.BusyResourceError("sending to")
            if data[: len(self._begun)] != self._begun:
                raise anyio.BrokenResourceError("what was sent before this was cut short")
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
        """Give the socket what there is; whether it took all."""
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
        """Wait until the socket has taken what there is. A cancellation leaves the rest for whoever goes on."""
        out, before = memoryview(self._out), self._plain.sent
        try:
            await self._plain.send(out)
        finally:
            self._out = out[self._plain.sent - before :]

    async def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Send up to ``count`` bytes of a file from ``offset``; how many, 0 at its end. Raises as the base's does."""
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
        """What has arrived can still be received, then the stream ends; wakes a task that waits in ``receive``."""
        self._stopped = True
        self._plain.end_receiving()

    def reset(self) -> None:
        """Close at once, so that the peer cannot take it for an orderly end; what it has not read yet may be lost."""
        self._said_all = True
        self._plain.reset()

    def close(self) -> None:
        """Close at once, with a close-notify that nobody waits for, unless a record has been cut. Twice is fine."""
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
