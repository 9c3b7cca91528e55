"""Listening sockets: those that a server asks for, those that it holds, and those that the process inherited.

A process inherits a socket by its descriptor (``fd``), or from systemd (``LISTEN_FDS``). An inherited socket stays its
owner's: the server listens on a duplicate and never removes the file of a UNIX socket.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from ..server.handler.errors import SetupError
from ..transport.unix_socket import SocketFile
from .address import Address

#: systemd's first descriptor (sd_listen_fds(3)).
_FIRST = 3
_NAMELESS = "unknown"


class CannotListen(OSError):
    """A listener cannot have its address. ``strerror`` names the address, the reason, and the way out."""


@dataclass(frozen=True)
class ListenerSpec:
    """A listener that is to be bound: its name, and host and port or a UNIX socket's path, or a descriptor.

    ``serves`` tells people what answers there. ``permissions`` are those of the UNIX socket's file, in octal.
    """

    name: str
    host: str
    port: int
    path: str = ""
    protocol: str = "http"
    serves: str = ""
    tls: bool = False
    fd: int | None = None
    permissions: str = ""

    def same_host(self, bound: BoundListener) -> bool:
        """Whether both are TCP listeners on the same host."""
        return not self.path and not bound.path and self.host == bound.host

    def same_address(self, bound: BoundListener) -> bool:
        """Whether both have the same UNIX socket, or the same host and port."""
        if self.path:
            return self.path == bound.path
        return self.same_host(bound) and self.port == bound.address.port

    def on(
        self, sockets: list[socket.socket], kept: bool = False, file: SocketFile | None = None
    ) -> BoundListener:
        """This listener, on these sockets."""
        return BoundListener(self.name, self.host, self.path, sockets, kept, self.protocol, self.serves, self.tls, file)

    def on_duplicates(self, bound: BoundListener) -> BoundListener:
        """This listener, on duplicates of another one's sockets."""
        return self.on([sock.dup() for sock in bound.sockets], bound.kept, bound.file)


@dataclass
class BoundListener:
    """The listening sockets of one listener, and the file of a UNIX socket, if the server made it.

    ``kept``: another process holds them too, and removes the file.
    """

    name: str
    host: str
    path: str
    sockets: list[socket.socket]
    kept: bool = False
    protocol: str = "http"
    serves: str = ""
    tls: bool = False
    file: SocketFile | None = None
    address: Address = field(init=False)

    def __post_init__(self) -> None:
        port = 0 if self.path else self.sockets[0].getsockname()[1]
        host = self.host
        if host == "::" and not any(sock.family == socket.AF_INET6 for sock in self.sockets):
            host = "0.0.0.0"  # this machine has no IPv6
        self.address = Address(self.name, self.protocol, host, port, self.path, self.serves, self.tls)

    @property
    def reachable(self) -> bool:
        """False if it is closed, or if a UNIX socket's file was removed, renamed or replaced."""
        return not self.closed and (self.file is None or self.file.in_place)

    @property
    def closed(self) -> bool:
        """Whether its sockets are closed."""
        return all(sock.fileno() < 0 for sock in self.sockets)

    def forget(self) -> None:
        """Close this process's descriptors alone, in a forked child."""
        for sock in self.sockets:
            _socket.socket.close(sock)  # not the socket's own, which may be hooked

    def close(self) -> None:
        """Close the sockets; the file of a UNIX socket stays."""
        for sock in self.sockets:
            sock.close()

    def close_and_remove(self) -> None:
        """Remove the file of a UNIX socket, if it is still this socket's own, and close the sockets."""
        if self.file is not None and not self.kept:
            self.file.remove()  # before the close, see SocketFile.remove
        self.close()


def bound_by_descriptor(spec: ListenerSpec) -> BoundListener | None:
    """The listener on its inherited descriptor, whose address the socket knows. None if it names no descriptor."""
    if spec.fd is None:
        return None
    sock = listening_socket(spec.fd)
    host, path = "", ""
    name = sock.getsockname()
    if isinstance(name, tuple):
        host = name[0]
    else:
        path = name if isinstance(name, str) else f"@{name[1:].decode('utf-8', 'replace')}"
    path = path or ("" if host else "unnamed")
    return BoundListener(spec.name, host, path, [sock], True, spec.protocol, spec.serves, spec.tls)


def listening_socket(fd: int) -> socket.socket:
    """A duplicate of descriptor ``fd``, which must be a listening stream socket. Raises CannotListen."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise _unfit(fd, errno.ENOTSOCK, "is not a socket; pass a listening one")
    except OSError as error:
        if isinstance(error, CannotListen):
            raise
        raise _unfit(fd, errno.EBADF, "is not open; the parent process must let its child inherit it") from None
    sock = socket.socket(fileno=os.dup(fd))
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None)):
            raise _unfit(fd, errno.EAFNOSUPPORT, f"is a socket of family {sock.family}; pass a TCP or a UNIX one")
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
            raise _unfit(fd, errno.EPROTOTYPE, "is not a stream socket; pass a TCP or UNIX stream one (ListenStream=)")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise _unfit(fd, errno.EINVAL, "does not listen; call listen() on it first, or set Accept=no in systemd")
        sock.setblocking(False)
        sock.set_inheritable(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _unfit(fd: int, number: int, reason: str) -> CannotListen:
    return CannotListen(number, f"cannot listen on descriptor {fd}: it {reason}")


@dataclass(frozen=True)
class SystemdSocket:
    """A socket that systemd passed to this process, with its FileDescriptorName."""

    name: str
    fd: int


def from_systemd(environ: MutableMapping[str, str]) -> list[SystemdSocket]:
    """The sockets that systemd passed to this process. Raises SetupError.

    Systemd's variables are removed, so that a child process does not take the sockets for its own.
    """
    pid, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()):
        return []  # the variables were meant for a parent process, which did not remove them
    if not (count.isascii() and count.isdecimal() and 0 < int(count) <= 1024):
        raise SetupError(f"LISTEN_FDS must be the number of sockets that systemd passes; got {count!r}")
    each = names.split(":") if names else []
    passed = [
        SystemdSocket(each[number] if number < len(each) else _NAMELESS, _FIRST + number)
        for number in range(int(count))
    ]
    for one in passed:
        with contextlib.suppress(OSError):  # for one that is not open, listening_socket raises the error
            os.set_inheritable(one.fd, False)
    return passed


def assign_sockets(passed: list[SystemdSocket], listeners: list[str]) -> dict[str, int]:
    """The descriptor for each of these listeners: by name first, then in order. Raises SetupError if any is left."""
    assigned = {name: one.fd for name in listeners for one in passed if one.name == name}
    left = [one for one in passed if one.fd not in assigned.values()]
    for name in listeners:
        if name not in assigned and left:
            assigned[name] = left.pop(0).fd
    if left:
        raise SetupError(
            f"systemd passes {len(passed)} sockets, and there are {len(listeners)} listeners ({', '.join(listeners)}); "
            f"no listener takes {', '.join(f'{one.name} (descriptor {one.fd})' for one in left)}: name the listener of "
            "each in FileDescriptorName="
        )
    return assigned
