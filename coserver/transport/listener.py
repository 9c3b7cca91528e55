"""Listening sockets: TCP over IPv4 and IPv6, and UNIX. Binding them, and the loop that accepts.

A server that is full, or out of descriptors, stops polling its listening socket: clients wait in the backlog, unharmed.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio

from .loop import Loop
from .stream import Socket

#: Connections that may wait to be accepted. Linux caps it at net.core.somaxconn, 4096; trio, Go ask for the most too.
BACKLOG = 4096
#: Accepted in one go before other tasks get a turn.
_BATCH = 64
#: What makes a listening socket of no use for ever. Anything else that accept(2) raises passes: want of descriptors or
#: memory, or what a security module or a later kernel says; a server must not end for it.
_OF_THE_SOCKET = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}
#: Where Linux's tcp_info of a listening socket tells how many wait in its queue (tcpi_unacked; tcp(7)).
_WAITING_AT = 24 if sys.platform == "linux" else 0
#: What accept(2) hands over of the connection that was to be accepted, on Linux; the next one may be sound.
_OF_ONE_CLIENT = {
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.EPROTO,
    errno.EPERM,  # a firewall's rule
    errno.ENOPROTOOPT,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
}

_accept = _socket.socket._accept  # type: ignore[attr-defined]  # not the socket's own, which may be hooked


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """One listening socket for each address of ``host`` ("" for all), all on the same port; 0 takes a free one.

    Raises OSError: the name is unknown, the address is not of this machine, or the port is taken.
    """
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            # With port 0 the first address chooses, and the others follow.
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(_bind_one(family, (address[0], chosen, *address[2:])))
            except OSError as error:
                # A host without IPv6 still resolves localhost to ::1.
                if not sockets or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_one(family: int, address: tuple[Any, ...]) -> socket.socket:
    options = [(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)] if os.name == "posix" else []
    if family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1))
    return _listen(family, address, options)


def _listen(family: int, address: Any, options: list[tuple[int, int, int]], permissions: str = "") -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.bind(address)
        if permissions:  # before anybody can connect
            os.chmod(address, int(permissions, 8))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_unix(path: str, permissions: str = "") -> socket.socket:
    """A listening UNIX socket. A socket file that nobody listens on any more is removed first; any other file is not.

    ``permissions`` are the file's, octal ("660"); without, those that the umask leaves. A path that begins with "@" is
    an abstract name (Linux), which has neither. Raises OSError (EADDRINUSE if somebody listens there, EEXIST if the
    file is no socket).
    """
    if path.startswith("@"):
        return _listen(socket.AF_UNIX, "\0" + path[1:], [])
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "this file is no socket; move it away or take another path", path)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)  # a local connect is immediate, unless the listener is stuck: then it is alive
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
    except FileNotFoundError:
        pass
    return _listen(socket.AF_UNIX, path, [], permissions)


class Room(Protocol):
    """Who says whether one more connection may be accepted."""

    def check(self, listener: Listener) -> Awaitable[None] | None:
        """None while there is a place, else something to await."""
        ...

    async def exhausted(self, listener: Listener, error: OSError, first: bool) -> None:
        """The system cannot accept now; ``first``: since nobody waited. Returns when to try again."""
        ...


class Listener:
    """Accepts connections of one listening socket, which it owns."""

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        self._socket = sock
        self._loop = loop
        self._family = sock.family
        self._exhausted = False

    def __repr__(self) -> str:
        return f"<Listener {self._socket!r}>"

    async def run(self, accepted: Callable[[Socket, Any], None], room: Room) -> None:
        """Accept until cancelled or closed, as long as ``room`` has a place."""
        while True:
            for _ in range(_BATCH):
                full = room.check(self)
                if full is not None:
                    await full
                    if self._socket.fileno() < 0:
                        return
                if not await self._accept_or_wait(accepted, room):
                    break
            await self._loop.checkpoint()

    async def wait(self) -> bool:
        """Wait until a client waits to be accepted; false once this is closed."""
        try:
            await self._loop.wait_readable(self._socket)
        except anyio.ClosedResourceError:
            return False
        return self._socket.fileno() >= 0

    def waiting(self) -> int:
        """How many clients wait to be accepted; 1 where the system does not tell. Only while one does."""
        if not _WAITING_AT or self._family == socket.AF_UNIX:
            return 1
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING_AT + 4)
        except OSError:
            return 1
        return max(int.from_bytes(info[_WAITING_AT:], sys.byteorder), 1)

    def accept_waiting(self, accepted: Callable[[Socket, Any], None]) -> None:
        """Accept what waits in the backlog and no more: the last act before a server stops listening."""
        try:
            while self._accept(accepted):
                pass
        except OSError:
            pass  # what cannot be accepted now will be reset by the close

    def close(self) -> None:
        """Stop listening; a UNIX socket's file goes with it unless another has taken its place."""
        if self._socket.fileno() < 0:
            return
        anyio.notify_closing(self._socket)
        self._socket.close()

    async def _accept_or_wait(self, accepted: Callable[[Socket, Any], None], room: Room) -> bool:
        try:
            if self._accept(accepted):
                return True
            self._exhausted = False
            await self._loop.wait_readable(self._socket)
        except OSError as error:
            if error.errno in _OF_THE_SOCKET:
                raise
            first, self._exhausted = not self._exhausted, True
            await room.exhausted(self, error, first)
        return False

    def _accept(self, accepted: Callable[[Socket, Any], None]) -> bool:
        """Accept one; False if none waits."""
        try:
            fd, address = _accept(self._socket)  # spares a second socket object
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _OF_ONE_CLIENT:
                return False
            raise
        sock = _socket.socket(self._family, socket.SOCK_STREAM, 0, fd)
        sock.setblocking(False)
        if self._family != socket.AF_UNIX:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                pass  # it left already (macOS); the first receive finds out
        accepted(sock, address)
        return True
