"""Listening sockets that this process was started with: by descriptor (``fd``), or from systemd (``LISTEN_FDS``).

They stay their owner's: what listens here is a duplicate, and a UNIX socket's file is never removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass

from ..server.handler.errors import SetupError

#: systemd's first descriptor (sd_listen_fds(3)).
_FIRST = 3
_NAMELESS = "unknown"


class CannotListen(OSError):
    """A place cannot be had. ``strerror`` says which, why, and the way out."""


@dataclass(frozen=True)
class Handed:
    """One socket of systemd's, with its FileDescriptorName."""

    name: str
    fd: int


def listening_socket(fd: int) -> socket.socket:
    """A duplicate of descriptor ``fd``, which must be a listening stream socket. Raises CannotListen."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise _wrong(fd, errno.ENOTSOCK, "is no socket; pass a listening one")
    except OSError as error:
        if isinstance(error, CannotListen):
            raise
        raise _wrong(fd, errno.EBADF, "is not open; whoever starts this process must let it inherit it") from None
    sock = socket.socket(fileno=os.dup(fd))
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None)):
            raise _wrong(fd, errno.EAFNOSUPPORT, f"is a socket of family {sock.family}; pass a TCP or a UNIX one")
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
            raise _wrong(fd, errno.EPROTOTYPE, "is no stream socket; pass a TCP or UNIX stream one (ListenStream=)")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise _wrong(fd, errno.EINVAL, "does not listen; call listen() on it first, or set Accept=no in systemd")
        sock.setblocking(False)
        sock.set_inheritable(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _wrong(fd: int, number: int, what: str) -> CannotListen:
    return CannotListen(number, f"cannot listen on descriptor {fd}: it {what}")


def from_systemd(environ: MutableMapping[str, str]) -> list[Handed]:
    """What systemd has handed to this very process; its variables are taken out, or a child would think they are its
    own. Raises SetupError.
    """
    pid, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()):
        return []  # of another process that did not take them out
    if not (count.isascii() and count.isdecimal() and 0 < int(count) <= 1024):
        raise SetupError(f"LISTEN_FDS must be the number of sockets that systemd hands over; got {count!r}")
    each = names.split(":") if names else []
    handed = [
        Handed(each[number] if number < len(each) else _NAMELESS, _FIRST + number) for number in range(int(count))
    ]
    for one in handed:
        with contextlib.suppress(OSError):  # one that is not open is told of by whoever listens on it
            os.set_inheritable(one.fd, False)
    return handed


def shared_out(handed: list[Handed], names: list[str]) -> dict[str, int]:
    """Which listener of ``names`` takes which descriptor: by name, then in order. Raises SetupError if any is left."""
    taken = {name: one.fd for name in names for one in handed if one.name == name}
    left = [one for one in handed if one.fd not in taken.values()]
    for name in names:
        if name not in taken and left:
            taken[name] = left.pop(0).fd
    if left:
        raise SetupError(
            f"systemd hands over {len(handed)} sockets, and there are {len(names)} listeners ({', '.join(names)}); "
            f"nobody takes {', '.join(f'{one.name} (descriptor {one.fd})' for one in left)}: name the listener of "
            "each in FileDescriptorName="
        )
    return taken
