"""A wire under TLS: a socket's ``recv`` and ``send``, with plaintext, and without waiting."""

from __future__ import annotations

import ssl
from typing import Any

import anyio

from ...transport.loop import Loop
from ...transport.stream import RECEIVE_SIZE, Socket
from ...transport.tls_engine import RECORD, TlsCut, TlsEngine, TlsError


class TlsWire:
    """A socket under TLS. ``send`` encrypts one record at a time, and sends it before it encrypts more."""

    def __init__(self, sock: Socket, context: ssl.SSLContext, name: str) -> None:
        self._socket = sock
        self._engine = TlsEngine(context, server_hostname=name)
        self._rest = b""  # ciphertext that the socket has not taken yet
        self._owed = 0  # bytes of plaintext in ``_rest``, not yet reported as sent
        self._fault: TlsError | None = None  # found behind plaintext that ``recv`` returned first
        self.fileno = sock.fileno

    def __repr__(self) -> str:
        return f"<TlsWire fd={self.fileno()} {self._engine!r}>"

    async def handshake(self, loop: Loop) -> None:
        """Do the handshake. Raises BrokenResourceError (TlsError) for a certificate, a version, or no TLS at all;
        OSError.
        """
        while not self._step():
            while not self._flush():
                await loop.wait_writable(self._socket)
            await loop.wait_readable(self._socket)
            try:
                data = self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue
            if not data:
                raise TlsCut("the member closed the connection during the TLS handshake")
            self._engine.feed(data)
        while not self._flush():
            await loop.wait_writable(self._socket)

    def _step(self) -> bool:
        try:
            return self._engine.handshake()
        finally:
            self._rest += self._engine.take()

    def recv(self, size: int) -> bytes:
        """Read plaintext; empty at the end. Raises BlockingIOError, OSError."""
        engine = self._engine
        if self._fault is not None:
            raise ConnectionAbortedError(0, str(self._fault)) from self._fault
        data = self._socket.recv(size)
        if data:
            engine.feed(data)
        else:
            engine.feed_eof()
        pieces = []
        try:
            while piece := engine.read():
                pieces.append(piece)
        except TlsCut:
            if not pieces:
                # Without a close-notify the end may be a cut (RFC 8446 §6.1); only a length or chunks can tell.
                raise ConnectionResetError(0, "cut without a close-notify") from None
        except TlsError as error:
            if not pieces:
                raise ConnectionAbortedError(0, str(error)) from error
            self._fault = error
        self._answer()
        if not pieces and not engine.ended:
            raise BlockingIOError
        return b"".join(pieces)

    def send(self, data: Any) -> int:
        """Send, and return the number of bytes of ``data`` that have gone out. Raises BlockingIOError, OSError."""
        view, sent = memoryview(data), 0
        if not self._flush():
            raise BlockingIOError
        sent, self._owed = self._owed, 0
        while sent < len(view):
            try:
                size = self._engine.write(view[sent : sent + RECORD])
            except TlsError as error:
                raise ConnectionAbortedError(0, str(error)) from error
            self._rest = self._engine.take()
            if not self._flush():
                self._owed = size
                break
            sent += size
        return sent

    def close(self) -> None:
        """Send a close-notify, if the socket takes it, and close."""
        if not self._rest:
            try:
                self._engine.close()
                self._socket.send(self._engine.take())
            except (OSError, anyio.BrokenResourceError):
                pass
        self._socket.close()

    def _answer(self) -> None:
        """Send what OpenSSL wrote while reading: a key update, an alert. An error must not hide what was read."""
        if self._engine.pending:
            self._rest += self._engine.take()
            try:
                self._flush()
            except OSError:
                pass  # the next ``send`` or ``recv`` meets it too

    def _flush(self) -> bool:
        """Send the ciphertext. Returns whether all of it went out."""
        while self._rest:
            try:
                taken = self._socket.send(self._rest)
            except BlockingIOError:
                return False
            self._rest = self._rest[taken:]
        return True
