"""From a member's address to what a connection sends through and reads from: a socket, or one under TLS."""

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
    """What never waits: ``recv`` and ``send`` raise BlockingIOError instead, and OSError when the member is gone."""

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: Any, /) -> int: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


async def dial(addresses: Addresses, loop: Loop) -> Socket:
    """Connected to the first of the addresses that answers. Raises OSError: none does."""
    failure = OSError(errno.EADDRNOTAVAIL, "it has no address")
    for family, address in addresses:
        try:
            return await _connect(family, address, loop)
        except OSError as error:
            failure = error
    raise failure


async def secured(sock: Socket, loop: Loop, tls: SSLContext, name: str) -> Wire:
    """The socket under TLS, with the member that ``name`` says; it is closed if that fails.

    Raises BrokenResourceError: its certificate, its versions; OSError.
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
