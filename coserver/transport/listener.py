"""Listening sockets: TCP ones over IPv4 and IPv6 are bound here, and the loop that accepts.

A server that is full, or out of descriptors, stops polling its listening socket. Clients then wait in the backlog,
unharmed.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio

from .loop import Loop
from .stream import Socket

#: Connections that may wait in the backlog. Linux caps it at net.core.somaxconn, 4096; trio and Go ask for the most
#: too.
BACKLOG = 4096
#: Ports that are tried, if any free one will do and several addresses must have it.
_PORT_TRIES = 20
_WILDCARDS = ("0.0.0.0", "::")
#: Connections accepted in one go before other tasks get a turn.
_BATCH = 64
#: Errors after which a listening socket is useless for ever. All other errors of accept(2) pass, such as a lack of
#: descriptors or memory, a security module's refusal, or the errors of a later kernel: a server must not end for them.
_OF_THE_SOCKET = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}
#: The place in Linux's tcp_info where a listening socket has the length of its queue (tcpi_unacked; tcp(7)).
_WAITING_AT = 24 if sys.platform == "linux" else 0
#: Errors of the connection that was to be accepted (Linux). The next connection may be sound.
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
    """One listening socket for each address of ``host``, all on one port; port 0 takes a port that is free on all.

    ``host`` is an address or a name, or several, separated by commas. "" and "::" are all addresses of IPv6 and of
    IPv4, each family with a socket of its own, so that a client's address is never an IPv4 address inside an IPv6 one
    (RFC 4291 §2.5.5.2). An address that a listed wildcard covers is left out.
    Raises OSError if a name is unknown, its first address is not of this machine, or the port is taken.
    """
    resolved = [_resolve(name.strip(), port) for name in host.split(",")]
    if len(resolved) > 1:
        wild = {family for found in resolved for family, address in found if address[0] in _WILDCARDS}
        resolved = [[one for one in found if one[1][0] in _WILDCARDS or one[0] not in wild] for found in resolved]
    for left in range(_PORT_TRIES, -1, -1):
        try:
            return _bind_all(resolved, port)
        except OSError as error:
            # The free port of the first address may be taken on another.
            if port or not left or error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError


def _resolve(name: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """The family and the address of each socket that stands for one host. Raises OSError."""
    found = [
        row
        for wanted in (("0.0.0.0", "::") if name in ("", "::") else (name,))
        for row in socket.getaddrinfo(wanted, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    ]
    return [
        (family, address)
        for family, _, _, _, address in dict.fromkeys(found)
        if family in (socket.AF_INET, socket.AF_INET6)
    ]


def _bind_all(names: list[list[tuple[int, tuple[Any, ...]]]], port: int) -> list[socket.socket]:
    """Sockets for all addresses of each name. The first address of each name must be of this machine."""
    sockets: list[socket.socket] = []
    done: set[Any] = set()
    try:
        for found in names:
            here = False
            for family, address in found:
                if (family, address) in done:
                    here = True
                    continue
                # With port 0 the first address chooses the port, and the others follow.
                chosen = sockets[0].getsockname()[1] if sockets else port
                try:
                    sockets.append(_bind_one(family, (address[0], chosen, *address[2:])))
                    done.add((family, address))
                    here = True
                except OSError as error:
                    # A host without IPv6 still resolves localhost to ::1.
                    if not here or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
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


def _listen(family: int, address: Any, options: list[tuple[int, int, int]]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class Admission(Protocol):
    """Decides whether one more connection may be accepted."""

    def check(self, listener: Listener) -> Awaitable[None] | None:
        """None while there is a place, else an awaitable that ends when there may be one."""
        ...

    async def exhausted(self, listener: Listener, error: OSError, first: bool) -> None:
        """Wait until the system may accept again. ``first``: the first refusal since the listener last waited for a
        client.
        """
        ...


class Listener:
    """Accepts the connections of one listening socket, which it owns."""

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        self._socket = sock
        self._loop = loop
        self._family = sock.family
        self._exhausted = False

    def __repr__(self) -> str:
        return f"<Listener {self._socket!r}>"

    async def run(self, accepted: Callable[[Socket, Any], None], admission: Admission) -> None:
        """Accept until cancelled or closed, as long as ``admission`` has a place."""
        while True:
            for _ in range(_BATCH):
                full = admission.check(self)
                if full is not None:
                    await full
                    if self._socket.fileno() < 0:
                        return
                if not await self._accept_or_wait(accepted, admission):
                    break
            await self._loop.checkpoint()

    async def wait(self) -> bool:
        """Wait until a client can be accepted; false once the listener is closed."""
        try:
            await self._loop.wait_readable(self._socket)
        except anyio.ClosedResourceError:
            return False
        return self._socket.fileno() >= 0

    def waiting(self) -> int:
        """The number of clients in the backlog; 1 where the system does not tell. Valid only while there is one."""
        if not _WAITING_AT or self._family == socket.AF_UNIX:
            return 1
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING_AT + 4)
        except OSError:
            return 1
        return max(int.from_bytes(info[_WAITING_AT:], sys.byteorder), 1)

    def accept_waiting(self, accepted: Callable[[Socket, Any], None]) -> None:
        """Accept the clients in the backlog and no more: the last step before a server stops listening."""
        try:
            while self._accept(accepted):
                pass
        except OSError:
            pass  # clients that cannot be accepted now are reset by the close

    def close(self) -> None:
        """Stop listening. The file of a UNIX socket stays: whoever bound it removes it."""
        if self._socket.fileno() < 0:
            return
        anyio.notify_closing(self._socket)
        self._socket.close()

    def forget(self) -> None:
        """Close this process's descriptor alone, in a forked child: the parent goes on listening."""
        _socket.socket.close(self._socket)  # not the socket's own, which may be hooked

    async def _accept_or_wait(self, accepted: Callable[[Socket, Any], None], admission: Admission) -> bool:
        try:
            if self._accept(accepted):
                return True
            self._exhausted = False
            await self._loop.wait_readable(self._socket)
        except OSError as error:
            if error.errno in _OF_THE_SOCKET:
                raise
            first, self._exhausted = not self._exhausted, True
            await admission.exhausted(self, error, first)
        return False

    def _accept(self, accepted: Callable[[Socket, Any], None]) -> bool:
        """Accept one client; False if none waits."""
        try:
            fd, address = _accept(self._socket)  # avoids a second socket object
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
