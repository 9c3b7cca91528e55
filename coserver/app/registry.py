"""Which apps run in this process, by name, and the listening sockets that a successor takes over."""

from __future__ import annotations

import atexit
import errno
import os
import socket
import threading
from dataclasses import dataclass, field

from ..transport.listener import bind_tcp, bind_unix
from .server import Address, Server

#: Guards every change: two threads may start apps at once.
lock = threading.RLock()
_servers: dict[str, Server] = {}
_bound: dict[str, list[Bound]] = {}


@dataclass
class Bound:
    """The listening sockets of one listener, and what it was asked for."""

    name: str
    host: str
    path: str
    sockets: list[socket.socket]
    address: Address = field(init=False)

    def __post_init__(self) -> None:
        port = 0 if self.path else self.sockets[0].getsockname()[1]
        protocol = "http" if self.name == "http" else "tcp"
        self.address = Address(self.name, protocol, self.host, port, self.path)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@dataclass(frozen=True)
class Wanted:
    """A listener to be: its name, and host and port or a UNIX socket's path."""

    name: str
    host: str
    port: int
    path: str = ""


def running(name: str) -> Server | None:
    """The server that runs under this name."""
    server = _servers.get(name)
    return server if server is not None and server.running else None


def bind(name: str, wanted: list[Wanted]) -> list[Bound]:
    """Bind all listeners of an app, taking over what its running predecessor holds. Raises OSError."""
    held = _bound.get(name, []) if running(name) else []
    bound: list[Bound] = []
    try:
        for want in wanted:
            bound.append(_take_over(want, held) or _bind(want))
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


def _take_over(want: Wanted, held: list[Bound]) -> Bound | None:
    """A duplicate of the predecessor's sockets: the backlog goes over with them, no client sees the change."""
    for one in held:
        same_place = (
            want.path == one.path if want.path else want.host == one.host and want.port in (0, one.address.port)
        )
        if want.name == one.name and same_place:
            return Bound(want.name, want.host, want.path, [sock.dup() for sock in one.sockets])
    return None


def _bind(want: Wanted) -> Bound:
    try:
        sockets = [bind_unix(want.path)] if want.path else bind_tcp(want.host, want.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, _in_use(want)) from error
        where = want.path or f"{want.host}:{want.port}"
        raise OSError(error.errno, f"cannot listen on {where} for {want.name!r}: {error.strerror}") from error
    return Bound(want.name, want.host, want.path, sockets)


def _in_use(want: Wanted) -> str:
    where = want.path or f"{want.host}:{want.port}"
    for server in _servers.values():
        if server.running and any((a.port, a.path) == (want.port, want.path) for a in server.addresses):
            return (
                f"{where} is taken by server {server.name!r} of this process: stop it, or give both apps the same name "
                f"so that the new one replaces it"
            )
    return f"{where} is taken by another process: end it, or take another port (0 takes a free one)"


def enter(server: Server, bound: list[Bound]) -> None:
    """The server runs now. Its sockets are duplicated for a successor's sake."""
    _servers[server.name] = server
    _bound[server.name] = bound


def close_door(server: Server, bound: list[Bound]) -> None:
    """The server accepts no more: who comes now is refused at once, not left waiting for a reset. Twice is fine."""
    server.accepting = False
    with lock:
        last = _bound.get(server.name) is bound
        if last:
            del _bound[server.name]
        for one in bound:
            one.close()
            if one.path and last:
                try:
                    os.unlink(one.path)
                except FileNotFoundError:
                    pass


def leave(server: Server, bound: list[Bound]) -> None:
    """The server has ended."""
    with lock:
        close_door(server, bound)
        if _servers.get(server.name) is server:
            del _servers[server.name]


@atexit.register
def _stop_all() -> None:
    """A script ends without having stopped its servers: their handlers' ``finally`` blocks still run."""
    for server in list(_servers.values()):
        server.begin_stop(0)
        server._ended.wait(1)
