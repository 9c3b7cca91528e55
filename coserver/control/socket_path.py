"""Where control sockets lie, and which of them are alive: ``$XDG_RUNTIME_DIR/coserver/NAME-PID.sock``, for their owner.

Without XDG_RUNTIME_DIR it is a folder of the user's own under the temporary one. Two servers of one name do not fight:
the process's number is in the file's name, and a second one in a process gets a number of its own.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..transport.unix_socket import SocketFile, answers, bind_unix

#: Bytes that a UNIX socket's path may have: 108 on Linux, 104 elsewhere, with the zero at its end.
PATH_MAX = 103
#: Characters of a server's name that go into its file's.
_NAME_MAX = 40

_file = re.compile(r"(?P<name>.+?)-(?P<pid>[0-9]+)(?:-[0-9]+)?\.sock")


class NoPlace(OSError):
    """There is nowhere to put the socket; the message says why, and the way out."""


def folder() -> Path:
    """The folder, whether it is there or not."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and len(os.fsencode(runtime)) < PATH_MAX - 50 and _usable(runtime):
        return Path(runtime) / "coserver"
    return Path(tempfile.gettempdir()) / f"coserver-{os.getuid()}"


def _usable(runtime: str) -> bool:
    """After su or sudo the variable may still name another user's, where nothing is to be made, not even by root."""
    try:
        state = os.stat(runtime)
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and os.access(runtime, os.W_OK | os.X_OK)


def _is_own(state: os.stat_result) -> bool:
    """Whether it is a folder of this user's alone."""
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not stat.S_IMODE(state.st_mode) & 0o077


def make_folder() -> Path:
    """The folder, made if it is not there. Raises NoPlace if it is anybody else's, or open to others."""
    path = folder()
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        state = path.lstat()  # not what a link of somebody else's leads to
    except OSError as error:
        raise NoPlace(
            error.errno, f"{path} cannot be made: {error.strerror}; name another place: --control PATH"
        ) from error
    if not _is_own(state):
        raise NoPlace(
            errno.EPERM,
            f"{path} must be a folder of yours that is closed to others (mode 0700); fix or remove it, or name "
            f"another place: --control PATH",
        )
    return path


def bind_default(name: str) -> tuple[socket.socket, SocketFile | None]:
    """A listening socket for the server of this name, in the usual folder, and its file. Raises OSError."""
    place = make_folder()
    short = re.sub(r"[^A-Za-z0-9._]+", "-", name)[:_NAME_MAX].strip("-.") or "server"
    number = 1
    while True:
        path = place / f"{short}-{os.getpid()}{f'-{number}' if number > 1 else ''}.sock"
        try:
            return bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number > 999:
                raise
            number += 1


def bind(path: str) -> tuple[socket.socket, SocketFile | None]:
    """A listening socket that is its owner's alone, mode 0600, and its file. A stale file is removed first.

    Raises OSError: EADDRINUSE if a server listens there, EEXIST if the file is no socket.
    """
    if len(os.fsencode(path)) > PATH_MAX:
        raise NoPlace(errno.ENAMETOOLONG, f"a socket's path has {PATH_MAX} bytes at most; {path} has more")
    if os.path.islink(path):
        raise FileExistsError(errno.EEXIST, f"{path} is not a socket; move it away or take another path")
    try:
        return bind_unix(f"./{path}" if path.startswith("@") else path, "600")  # an abstract socket has no mode
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, f"{path} is not a socket; move it away or take another path") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"another server controls by {path}; take another path") from error
        raise


def running() -> Iterator[tuple[str, int, Path]]:
    """Name, process and path of every socket in the folder that answers, the newest first; stale ones are removed."""
    try:
        if not _is_own(folder().lstat()):
            return  # somebody else's servers, perhaps made to be asked
        found = sorted(folder().glob("*.sock"), key=lambda path: path.lstat().st_mtime, reverse=True)
    except OSError:
        return
    for path in found:
        match = _file.fullmatch(path.name)
        if match is None:
            continue
        file = SocketFile.at(str(path))
        if answers(str(path)):
            yield match["name"], int(match["pid"]), path
        elif file is not None and not _alive(int(match["pid"])):
            file.remove()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
