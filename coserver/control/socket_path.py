"""The paths of control sockets, ``$XDG_RUNTIME_DIR/coserver/NAME-PID.sock``, and which of them are alive.

Without XDG_RUNTIME_DIR it is a folder of the user in the temporary folder. Two servers may have one name: the file's
name has the process's number, and a number of its own for a second server in a process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

#: Bytes of a UNIX socket's path: the system allows 108 on Linux, 104 elsewhere, with the zero at the end.
PATH_MAX = 103
#: Characters of a server's name that its file's name takes.
_NAME_MAX = 40
#: Seconds to wait for another bind in the same folder. It takes microseconds, or a second if a listener is stuck.
_TURN = 3.0

_file = re.compile(r"(?P<name>.+?)-(?P<pid>[0-9]+)(?:-[0-9]+)?\.sock")


class NoPlace(OSError):
    """No path is possible for the socket; the message says why, and the way out."""


def folder() -> Path:
    """The path of the folder, which may not exist."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and len(os.fsencode(runtime)) < PATH_MAX - 50 and _usable(runtime):
        return Path(runtime) / "coserver"
    return Path(tempfile.gettempdir()) / f"coserver-{os.getuid()}"


def _usable(runtime: str) -> bool:
    """Whether the folder is this user's. After su or sudo the variable may name another user's folder."""
    try:
        state = os.stat(runtime)
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and os.access(runtime, os.W_OK | os.X_OK)


def _is_own(state: os.stat_result) -> bool:
    """Whether it is a folder that only this user can enter."""
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not stat.S_IMODE(state.st_mode) & 0o077


def make_folder() -> Path:
    """Make the folder if it is missing; return its path. Raises NoPlace if it is another user's, or open to others."""
    path = folder()
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        state = path.lstat()  # lstat: a link may be another user's
    except OSError as error:
        raise NoPlace(
            error.errno, f"{path} cannot be made: {error.strerror}; give another path: --control PATH"
        ) from error
    if not _is_own(state):
        raise NoPlace(
            errno.EPERM,
            f"{path} must be a folder of yours that is closed to others (mode 0700); mend or remove it, or give "
            f"another path: --control PATH",
        )
    return path


def bind_default(name: str) -> socket.socket:
    """Bind and listen in the usual folder, for the server of this name. Raises OSError."""
    parent = make_folder()
    short = re.sub(r"[^A-Za-z0-9._]+", "-", name)[:_NAME_MAX].strip("-.") or "server"
    number = 1
    while True:
        path = parent / f"{short}-{os.getpid()}{f'-{number}' if number > 1 else ''}.sock"
        try:
            return bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number > 999:
                raise
            number += 1


def bind(path: str) -> socket.socket:
    """Bind and listen on a socket for its owner alone, mode 0600; remove a stale one first.

    Raises OSError: EADDRINUSE if a server listens there, EEXIST if the file is no socket.
    """
    if len(os.fsencode(path)) > PATH_MAX:
        raise NoPlace(errno.ENAMETOOLONG, f"a socket's path has {PATH_MAX} bytes at most; {path} has more")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), 0o600)  # before bind: so the file never has another mode (Linux)
        with _locked(os.path.dirname(path) or "."):
            _remove_stale(path)
            sock.bind(path)
            os.chmod(path, 0o600)
            sock.listen(64)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Let one bind at a time: a socket that is bound and does not listen yet looks stale to another."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = monotonic() + _TURN
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > until:
                    break  # the holder is no server: anybody can lock /tmp
                sleep(0.005)
            except OSError:
                break  # a file system without locks
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, f"{path} is no socket; move it away or take another path")
        if answers(path):
            raise OSError(errno.EADDRINUSE, f"another server listens on {path}; take another path")
        os.unlink(path)
    except FileNotFoundError:
        pass


def answers(path: str) -> bool:
    """Whether a process listens on this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)  # a local connect is immediate; a stuck listener is alive
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def remove(sock: socket.socket) -> None:
    """Close a socket of ``bind``, and remove its file, unless another server listens there now."""
    path = sock.getsockname()
    sock.close()
    try:
        if not answers(path):
            os.unlink(path)
    except OSError:
        pass


def running() -> Iterator[tuple[str, int, Path]]:
    """Yield name, process and path of each socket that answers, the newest first. Remove stale ones."""
    try:
        if not _is_own(folder().lstat()):
            return  # another user's folder, perhaps a trap
        found = sorted(folder().glob("*.sock"), key=lambda path: path.lstat().st_mtime, reverse=True)
    except OSError:
        return
    for path in found:
        match = _file.fullmatch(path.name)
        if match is None:
            continue
        if answers(str(path)):
            yield match["name"], int(match["pid"]), path
        elif not _alive(int(match["pid"])):
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
