"""Family "pipes": ``os.read``, ``os.write`` and similar calls on pipes, terminals and other descriptors that may have
to wait, and files opened on these. A plain file is left alone: for poll(2) it is always ready.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent

from ..describe import Descriptor
from ..descriptors import READ, WRITE, busy, closing, is_ready, wait_for
from ..locks.waiters import poll_and_take
from ..patch import Shim, change_class
from ..suspension import give_way
from ..workers import Worker

_read, _readv, _write, _writev, _close = os.read, os.readv, os.write, os.writev, os.close
_sendfile: Any = getattr(os, "sendfile", None)
_eventfd_read: Any = getattr(os, "eventfd_read", None)
_splice: Any = getattr(os, "splice", None)
_open, _stat = os.open, os.stat
_fileio_init = io.FileIO.__init__
_fstat = os.fstat  # the system's own, also if a test replaces os.fstat to fake a file's size

#: Bytes that a writable pipe takes without waiting (PIPE_BUF: 4096 on Linux, at least 512 by POSIX).
_AT_ONCE = 4096 if os.name == "posix" and os.uname().sysname == "Linux" else 512
_WAYS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


def _may_wait(fd: int, way: int) -> bool:
    """Whether a call on this descriptor may have to wait: it is no plain file, not in non-blocking mode, and open for
    this way. (A descriptor that is not open for it would never be ready.)"""
    try:
        kind = _fstat(fd).st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISBLK(kind):
            return False
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        return not flags & os.O_NONBLOCK and flags & _WAYS != (os.O_WRONLY if way == READ else os.O_RDONLY)
    except OSError:
        return False  # the original raises


def _until_ready(worker: Worker, fd: int, way: int, call: str) -> None:
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, call, Descriptor(fd))
    while not is_ready(fd, way) and _may_wait(fd, way):
        wait_for(worker, fd, way, call, Descriptor(fd))


def read(fd: int, length: int, /) -> bytes:
    worker = getcurrent()
    if type(worker) is Worker and type(fd) is int and fd >= 0:
        _until_ready(worker, fd, READ, "read")
    return _read(fd, length)


def readv(fd: int, buffers: Any, /) -> int:
    worker = getcurrent()
    if type(worker) is Worker and type(fd) is int and fd >= 0:
        _until_ready(worker, fd, READ, "readv")
    return _readv(fd, buffers)


def write(fd: int, data: Any, /) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or type(fd) is not int or fd < 0 or not _may_wait(fd, WRITE):
        return _write(fd, data)
    return _write_all(worker, fd, "write", data, _write)


def _write_all(worker: Worker, fd: int, call: str, data: Any, function: Callable[[int, Any], int]) -> int:
    """Write all of ``data``, as a blocking descriptor does, in pieces that need not wait."""
    with memoryview(data) as view, view.cast("B") as rest:
        written, size = 0, len(rest)
        while True:
            _until_ready(worker, fd, WRITE, call)
            written += function(fd, rest[written : written + _AT_ONCE])
            if written >= size:
                return written


def writev(fd: int, buffers: Any, /) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or type(fd) is not int or fd < 0 or not _may_wait(fd, WRITE):
        return _writev(fd, buffers)
    return _write_all(worker, fd, "writev", b"".join(buffers), _write)


def sendfile(out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or not _may_wait(out_fd, WRITE):
        sent: int = _sendfile(out_fd, in_fd, offset, count)
        return sent
    _until_ready(worker, out_fd, WRITE, "sendfile")
    return int(_sendfile(out_fd, in_fd, offset, min(count, _AT_ONCE)))


def eventfd_read(fd: int) -> int:
    worker = getcurrent()
    if type(worker) is Worker and type(fd) is int and fd >= 0:
        _until_ready(worker, fd, READ, "eventfd_read")
    return int(_eventfd_read(fd))


def splice(src: int, dst: int, count: int, *args: Any, **kwargs: Any) -> int:
    worker = getcurrent()
    if type(worker) is Worker:
        if _may_wait(src, READ):
            _until_ready(worker, src, READ, "splice")
        if _may_wait(dst, WRITE):
            _until_ready(worker, dst, WRITE, "splice")
            count = min(count, _AT_ONCE)
    return int(_splice(src, dst, count, *args, **kwargs))


def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    worker = getcurrent()
    if type(worker) is Worker and _is_fifo(path, dir_fd):
        return _open_fifo(worker, path, flags, mode, dir_fd)
    return _open(path, flags, mode, dir_fd=dir_fd)


def _is_fifo(path: Any, dir_fd: int | None = None) -> bool:
    try:
        return stat.S_ISFIFO(_stat(path, dir_fd=dir_fd).st_mode)
    except (OSError, ValueError, TypeError):
        return False  # the original raises, or makes the file


def _open_fifo(worker: Worker, path: Any, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
    """Open a named pipe. A writer waits for a reader; a reader's first read waits for a writer, not the open."""
    if flags & os.O_NONBLOCK:
        return _open(path, flags, mode, dir_fd=dir_fd)
    found: list[int] = []

    def attempt() -> bool:
        try:
            found.append(_open(path, flags | os.O_NONBLOCK, mode, dir_fd=dir_fd))
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads yet
                raise
            return False
        return True

    poll_and_take(worker, "open", os.fsdecode(path), attempt)
    os.set_blocking(found[0], True)
    return found[0]


def close(fd: int) -> None:
    if not busy or type(fd) is not int:
        return _close(fd)
    with closing(fd):
        return _close(fd)


class PipeIO(io.FileIO):
    """A file on a descriptor that may have to wait: a worker that reads or writes it suspends.

    ``in_pieces``: a write writes one piece, and returns its size. A buffered file, which writes the rest by further
    calls, sets it: so it knows what is written, also if a cancellation breaks one of them.
    """

    __slots__ = ()
    in_pieces = False

    def readinto(self, buffer: Any, /) -> Any:
        _before(self, READ, "read")
        return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> Any:
        if size is None or size < 0:
            return self.readall()
        _before(self, READ, "read")
        return super().read(size)

    def readall(self) -> Any:
        if type(getcurrent()) is not Worker:
            return super().readall()
        whole = bytearray()
        while piece := self.read(64 * 1024):
            whole += piece
        return bytes(whole) if whole or piece is not None else None

    def write(self, data: Any, /) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker or self.closed or not _may_wait(self.fileno(), WRITE):
            return super().write(data)
        if self.in_pieces:
            _until_ready(worker, self.fileno(), WRITE, "write")
            with memoryview(data) as view, view.cast("B") as rest:
                return super().write(rest[:_AT_ONCE])
        return _write_all(worker, self.fileno(), "write", data, lambda _, piece: super(PipeIO, self).write(piece))

    def close(self) -> None:
        if not busy or self.closed or not self.closefd:
            return super().close()
        with closing(self.fileno()):
            return super().close()


def _before(file: PipeIO, way: int, call: str) -> None:
    worker = getcurrent()
    if type(worker) is Worker and not file.closed:
        _until_ready(worker, file.fileno(), way, call)


def fileio_init(self: Any, file: Any, mode: str = "r", closefd: bool = True, opener: Any = None) -> None:
    worker = getcurrent()
    if type(worker) is Worker and type(file) is not int and opener is None and _is_fifo(file) and "+" not in mode:
        fd = _open_fifo(worker, file, os.O_CLOEXEC | (os.O_RDONLY if "r" in mode else os.O_WRONLY))
        _fileio_init(self, fd, mode.replace("x", "w"))
        self.name = file
    else:
        _fileio_init(self, file, mode, closefd, opener)
    if type(self) is io.FileIO and _waits(_fstat(self.fileno()).st_mode):
        change_class(self, PipeIO)


def _waits(kind: int) -> bool:
    return stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISSOCK(kind)


ROWS: tuple[Shim, ...] = (
    Shim("os", "read", read),
    Shim("os", "readv", readv),
    Shim("os", "write", write),
    Shim("os", "writev", writev),
    Shim("os", "sendfile", sendfile),
    Shim("os", "eventfd_read", eventfd_read),
    Shim("os", "splice", splice),
    Shim("os", "open", open),
    Shim("os", "close", close),
    Shim("io:FileIO", "__init__", fileio_init),
)
