"""UNIX sockets that listen, and their files. Several processes may want one path at once: one gets it.

A file belongs to the socket that made it: ``SocketFile`` knows it by its inode. A server removes its own file alone,
also if somebody has unlinked or renamed that file and another server listens at the path now.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep

from .listener import BACKLOG

#: Seconds to wait for others that bind in the same folder. A bind takes microseconds, a stuck listener there a second.
_TURN = 3.0


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a bound UNIX socket: its absolute path, its device and its inode."""

    path: str
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> SocketFile | None:
        """The socket file at ``path``; None for an abstract name, and if there is no socket file."""
        if not path or path.startswith("@"):
            return None
        try:
            path = os.path.join(os.getcwd(), path)  # the folder may change until the file is to be removed
            found = os.lstat(path)
        except OSError:
            return None
        return cls(path, found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None

    @property
    def in_place(self) -> bool:
        """Whether this very file still lies at its path."""
        return SocketFile.at(self.path) == self

    def remove(self) -> None:
        """Remove the file, unless another has taken its place. Call it before the socket is closed.

        An open socket keeps its file's inode: no other file can get the same number meanwhile.
        """
        try:
            with alone(os.path.dirname(self.path)):
                if self.in_place:
                    os.unlink(self.path)
        except OSError:
            pass  # its folder is gone, or is somebody else's by now


@contextmanager
def alone(folder: str) -> Iterator[None]:
    """Take turns with the other processes that bind or remove a socket file in ``folder``. Raises OSError.

    A socket that is bound and does not listen yet looks like a leftover.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # files may be made in it, but its list may not be read
        yield
        return
    try:
        until = monotonic() + _TURN
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > until:
                    break  # the holder is no coserver: anybody may lock /tmp
                sleep(0.005)
            except OSError:
                break  # a file system without locks
        yield
    finally:
        os.close(descriptor)


def answers(path: str) -> bool:
    """Whether a server listens on this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)  # a local connect is immediate, unless the listener is stuck; then it is alive
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def bind_unix(path: str, permissions: str = "") -> tuple[socket.socket, SocketFile | None]:
    """A listening UNIX socket, and its file. A socket file without a listener is removed first; other files stay.

    ``permissions`` are the octal mode of the file ("660"); without them the umask decides. A path that begins with "@"
    is an abstract name (Linux), which has no file. Raises OSError: EADDRINUSE if a server listens there, EEXIST if the
    file is no socket.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):
            sock.bind("\0" + path[1:])
            sock.listen(BACKLOG)
            sock.setblocking(False)
            return sock, None
        if permissions:
            os.fchmod(sock.fileno(), int(permissions, 8))  # the file never has a wider mode (Linux)
        with alone(os.path.dirname(path) or "."):
            _remove_leftover(path)
            sock.bind(path)
            if permissions:  # before any client can connect
                os.chmod(path, int(permissions, 8))
            file = SocketFile.at(path)
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock, file


def _remove_leftover(path: str) -> None:
    """Remove the file of a server that is gone. Raises OSError if a server listens there, or if it is no socket."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "this file is not a socket; move it away or take another path", path)
        if answers(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        os.unlink(path)
    except FileNotFoundError:
        pass
