"""Dialling: from a member's addresses to a ``Wire``, which is a connected socket or one under TLS."""

from __future__ import annotations

import _socket
import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Protocol

from ...transport.loop import Loop
from ...transport.stream import Socket
from ..member import Addresses

if TYPE_CHECKING:
    from ssl import SSLContext


class Wire(Protocol):
    """A non-blocking socket, plain or under TLS.

    ``recv`` and ``send`` raise BlockingIOError instead of waiting, and OSError when the member is gone.
    """

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: Any, /) -> int: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


async def dial(addresses: Addresses, loop: Loop) -> Socket:
    """Connect to the first address that answers. Raises OSError if none does."""
    failure = OSError(errno.EADDRNOTAVAIL, "it has no address")
    for family, address in addresses:
        try:
            return await _connect(family, address, loop)
        except OSError as error:
            failure = error
    raise failure


async def start_tls(sock: Socket, loop: Loop, tls: SSLContext, name: str) -> Wire:
    """Do the TLS handshake with the member called ``name``; the socket is closed if that fails.

    Raises BrokenResourceError for a certificate or a version that does not do, and OSError.
    """
    from .tls_wire import TlsWire

    try:
        wire = TlsWire(sock, tls, name)
        await wire.handshake(loop)
    except BaseException:
        sock.close()
        raise
    return wire


async def _connect(family: int, address: Any, loop: Loop) -> Socket:
    sock = _socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(address)
        except BlockingIOError:
            await loop.wait_writable(sock)
            if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error)) from None
    except BaseException:
        sock.close()
        raise
    return sock
