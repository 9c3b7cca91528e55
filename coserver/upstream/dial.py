"""From a member's address to what a connection sends through and reads from: a socket, or one under TLS."""

from __future__ import annotations

import _socket
import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..transport.loop import Loop
from ..transport.stream import Socket
from .member import Addresses, Member

if TYPE_CHECKING:
    from ssl import SSLContext


class Wire(Protocol):
    """What never waits: ``recv`` and ``send`` raise BlockingIOError instead, and OSError when the member is gone."""

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: Any, /) -> int: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


async def dial(
    member: Member, addresses: Addresses, loop: Loop, tls: SSLContext | None, connected: Callable[[], None]
) -> Wire:
    """A connected wire; for https ``connected()`` is called in between, before TLS begins.

    Raises OSError: none of the addresses answers; BrokenResourceError: TLS failed.
    """
    failure = OSError(errno.EADDRNOTAVAIL, "it has no address")
    for family, address in addresses:
        try:
            sock = await _connect(family, address, loop)
            break
        except OSError as error:
            failure = error
    else:
        raise failure
    if member.scheme != "https":
        return sock
    connected()
    from .secure import TlsWire

    assert tls is not None
    wire = TlsWire(sock, tls, member.name)
    try:
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
