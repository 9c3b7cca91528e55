"""Which apps run in this process, by name, and the listening sockets that a successor takes over."""

from __future__ import annotations

import atexit
import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ..transport.listener import bind_tcp, bind_unix
from .address import Address
from .server import Server
from .sockets import CannotListen, Handed, listening_socket, shared_out

#: Guards every change: two threads may start apps at once.
lock = threading.RLock()
_servers: dict[str, Server] = {}
_bound: dict[str, list[Bound]] = {}
#: Listening sockets, by app, that a process which reloads this one keeps and has handed to it: ``bind`` takes what is
#: wanted of them, and leaves a UNIX socket's file to their keeper. Empty in every other process.
inherited: dict[str, list[Bound]] = {}
#: What systemd has handed to this process; the next server that starts takes it.
handed: list[Handed] = []


@dataclass
class Bound:
    """The listening sockets of one listener, and what it was asked for. ``kept``: another process holds them too."""

    name: str
    host: str
    path: str
    sockets: list[socket.socket]
    kept: bool = False
    protocol: str = "http"
    serves: str = ""
    tls: bool = False
    address: Address = field(init=False)

    def __post_init__(self) -> None:
        port = 0 if self.path else self.sockets[0].getsockname()[1]
        self.address = Address(self.name, self.protocol, self.host, port, self.path, self.serves, self.tls)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()

    def remove_file(self) -> None:
        """A UNIX socket leaves a file behind."""
        if self.path and not self.path.startswith("@"):
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass


@dataclass(frozen=True)
class Wanted:
    """A listener to be: its name, and host and port or a UNIX socket's path; ``serves`` tells people what answers."""

    name: str
    host: str
    port: int
    path: str = ""
    protocol: str = "http"
    serves: str = ""
    tls: bool = False
    fd: int | None = None
    permissions: str = ""  # of the UNIX socket's file, octal


def running(name: str) -> Server | None:
    """The server that runs under this name."""
    server = _servers.get(name)
    return server if server is not None and server.running else None


def all_running() -> list[Server]:
    """Every server of this process that runs."""
    return [server for server in list(_servers.values()) if server.running]


def bind(name: str, wanted: list[Wanted]) -> list[Bound]:
    """Bind all listeners of an app, taking over what its running predecessor holds. Raises OSError."""
    held = _bound.get(name, []) if running(name) else []
    bound: list[Bound] = []
    made: list[Bound] = []
    try:
        if handed:
            taken = shared_out(handed, [want.name for want in wanted])
            wanted = [replace(want, fd=taken.get(want.name, want.fd)) for want in wanted]
            handed.clear()
        for want in wanted:
            one = _by_descriptor(want) or _take_over(want, held) or _inherit(name, want)
            if one is None:
                one = _bind(want)
                made.append(one)
            bound.append(one)
    except BaseException:
        for one in bound:
            one.close()
        for one in made:
            one.remove_file()
        raise
    return bound


def _by_descriptor(want: Wanted) -> Bound | None:
    """What this process was started with: it listens already, wherever that is."""
    if want.fd is None:
        return None
    sock = listening_socket(want.fd)
    host, path = "", ""
    name = sock.getsockname()
    if isinstance(name, tuple):
        host = name[0]
    else:
        path = name if isinstance(name, str) else f"@{name[1:].decode('utf-8', 'replace')}"
    path = path or ("" if host else "unnamed")
    return Bound(want.name, host, path, [sock], True, want.protocol, want.serves, want.tls)


def _take_over(want: Wanted, held: list[Bound]) -> Bound | None:
    """A duplicate of the predecessor's sockets: the backlog goes over with them, no client sees the change."""
    for one in held:
        if want.name == one.name and (_same_place(want, one) or (not want.port and _same_host(want, one))):
            return _duplicate(want, one)
    return None


def _inherit(name: str, want: Wanted) -> Bound | None:
    """A duplicate of what the keeper holds at that place, whoever asked for it before; a free port only by its name."""
    for owner, listeners in inherited.items():
        for one in listeners:
            by_name = owner == name and want.name == one.name and not want.port and _same_host(want, one)
            if by_name or _same_place(want, one):
                return _duplicate(want, one)
    return None


def _same_host(want: Wanted, one: Bound) -> bool:
    return not want.path and not one.path and want.host == one.host


def _same_place(want: Wanted, one: Bound) -> bool:
    return want.path == one.path if want.path else _same_host(want, one) and want.port == one.address.port


def _duplicate(want: Wanted, one: Bound) -> Bound:
    return _bound_to(want, [sock.dup() for sock in one.sockets], one.kept)


def _bind(want: Wanted) -> Bound:
    try:
        sockets = [bind_unix(want.path, want.permissions)] if want.path else bind_tcp(want.host, want.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(error.errno, _in_use(want)) from error
        where = want.path or f"{want.host}:{want.port}"
        why = f"{error.strerror or error}{_way_out(want, error)}"  # Python's own, of a path too long, have no strerror
        raise CannotListen(error.errno, f"cannot listen on {where} for {want.name!r}: {why}") from error
    return _bound_to(want, sockets)


def _way_out(want: Wanted, error: OSError) -> str:
    if want.path:
        if error.errno == errno.ENOENT:
            return "; make the folder first"
        return "" if error.errno else "; take a shorter path, or one from the current folder"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "; take an address of this machine, or 0.0.0.0 for all"
    if error.errno in (errno.EACCES, errno.EPERM) and want.port < 1024:
        return "; ports below 1024 may be for root alone: take a higher one"
    return ""


def _bound_to(want: Wanted, sockets: list[socket.socket], kept: bool = False) -> Bound:
    return Bound(want.name, want.host, want.path, sockets, kept, want.protocol, want.serves, want.tls)


def _in_use(want: Wanted) -> str:
    where = want.path or f"{want.host}:{want.port}"
    for server in _servers.values():
        if server.running and any((a.port, a.path) == (want.port, want.path) for a in server.addresses):
            return (
                f"{where} is taken by server {server.name!r} of this process: stop it, or give both apps the same name "
                f"so that the new one replaces it"
            )
    return f"{where} is taken by another process: end it, or take another port (0 takes a free one)"


@contextmanager
def given_back(name: str, bound: list[Bound]) -> Iterator[None]:
    """What was bound is let go if the block raises: the server is not to run after all."""
    try:
        yield
    except BaseException:
        held = {one.path for one in _bound.get(name, [])}  # the predecessor's go on
        for one in bound:
            one.close()
            if one.path not in held and not one.kept:
                one.remove_file()
        raise


def enter(server: Server, bound: list[Bound]) -> None:
    """The server runs now. Its sockets are duplicated for a successor's sake."""
    _servers[server.name] = server
    _bound[server.name] = bound


def keep(server: Server) -> list[Bound]:
    """What the server listens on, for another process to keep: a UNIX socket's file is now that process's to remove."""
    with lock:
        bound = list(_bound.get(server.name, []))
        for one in bound:
            one.kept = True
        return bound


def close_door(server: Server, bound: list[Bound]) -> None:
    """The server accepts no more: who comes now is refused at once, not left waiting for a reset. Twice is fine."""
    server.accepting = False
    with lock:
        last = _bound.get(server.name) is bound
        if last:
            del _bound[server.name]
        for one in bound:
            one.close()
            if last and not one.kept:
                one.remove_file()


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
