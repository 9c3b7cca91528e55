"""Response bodies that are no bytes: a file, a part of a file, a source of server-sent events.

A file is opened where the handler names it, so an error is raised there. ``http.send_file`` decides which part of the
file a request gets. ``http.send_events`` sends events.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...protocol.ranges import Span

#: For mimetypes these are encodings of another type. Here the file has a type of its own, so no client unpacks it.
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz",
               "compress": "application/x-compress", "br": "application/x-brotli"}  # fmt: skip
_types: dict[str, str] = {}
# Suffixes may come from data. No site has more than these.
_TYPES_MAX = 512


class OpenFile:
    """A regular file, open for reading. ``size`` is in bytes, ``modified`` in seconds since 1970.

    It closes itself when it is garbage-collected.
    """

    __slots__ = ("etag", "fd", "modified", "modified_ns", "path", "size")

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.fd = -1
        self.path = path
        # O_NONBLOCK: to open a pipe would wait for a writer. It has no effect on a regular file.
        self.fd = fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            self.close()
            if stat.S_ISDIR(info.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            raise OSError(errno.EINVAL, "Not a regular file", path)
        self.size = info.st_size
        self.modified_ns = info.st_mtime_ns
        self.modified = self.modified_ns // 1_000_000_000
        #: Strong: a rewrite of the file changes its time, and a file that replaces it has another inode.
        self.etag = f'"{self.modified_ns:x}-{self.size:x}-{info.st_ino:x}"'

    def __repr__(self) -> str:
        return f"<OpenFile {self.path!r} fd={self.fd} {self.size} bytes>"

    def real_path(self) -> str:
        """The path of the opened file, with symbolic links followed. Raises OSError."""
        try:
            return os.readlink(f"/proc/self/fd/{self.fd}")
        except OSError:  # no Linux, or no /proc
            return os.path.realpath(self.path, strict=True)

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    __del__ = close


class FileBody:
    """The file at ``path``. If a Response is returned more than once, each use after the first opens the file again."""

    __slots__ = ("_file", "path", "what")

    def __init__(self, path: str) -> None:
        """Open the file. Raises OSError if it cannot be read or is no regular file."""
        self.path = path
        self.what = f"the file {path}"
        self._file: OpenFile | None = OpenFile(path)

    def __repr__(self) -> str:
        return f"<FileBody {self.path!r}>"

    @property
    def content_type(self) -> str:
        return type_of(self.path)

    def open(self) -> OpenFile:
        """Open the file; the caller must close it. Raises OSError."""
        file, self._file = self._file, None
        return file or OpenFile(self.path)

    def real_path(self) -> str:
        """The file's path, with symbolic links followed. Raises OSError."""
        file = self.open()
        self.give_back(file)
        return file.real_path()

    def give_back(self, file: OpenFile) -> None:
        """Keep an opened file for the next call of ``open``."""
        if self._file is None:
            self._file = file
        else:
            file.close()

    def close(self) -> None:
        """Close a file that is not going to be sent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


class FilePart:
    """The part of an open file that is sent: ``pieces`` are bytes and spans in turn, ``size`` bytes in all."""

    __slots__ = ("file", "pieces", "size")

    def __init__(self, file: OpenFile, pieces: list[bytes | Span], size: int) -> None:
        self.file = file
        self.pieces = pieces
        self.size = size

    def __repr__(self) -> str:
        return f"<FilePart of {self.file.path!r}, {self.size} bytes>"

    def close(self) -> None:
        self.file.close()


def type_of(path: str) -> str:
    """The content type for a file's suffix. Text is assumed to be UTF-8."""
    suffix = os.path.splitext(path)[1].lower()
    found = _types.get(suffix)
    if found is None:
        import mimetypes  # slow to load: it reads the system's tables

        guess, encoding = mimetypes.guess_type(f"x{suffix}")
        found = _COMPRESSED.get(encoding) if encoding else guess
        found = found or "application/octet-stream"
        if found.startswith("text/"):
            found += "; charset=utf-8"
        if len(_types) < _TYPES_MAX:
            _types[suffix] = found
    return found


def disposition(name: str) -> str:
    """``Content-Disposition`` of a file to be saved as ``name`` (RFC 6266 §4); a path's separators become "_"."""
    safe = "".join("_" if char in "/\\" or not char.isprintable() else char for char in name)
    plain = safe.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_").replace("%", "_")
    if plain == safe:
        return f'attachment; filename="{safe}"'
    from urllib.parse import quote

    # RFC 8187. The plain name is for clients that do not know it. It has no percent signs, since some decode them.
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='', errors='replace')}"


def check_fields(headers: Mapping[str, str] | Any) -> None:
    """Check the fields of a file or events. Raises ValueError for those of the body's length, not known yet."""
    names = headers if isinstance(headers, Mapping) else [name for name, _ in headers]
    for name in names:
        if name.lower() in ("content-length", "content-range"):
            raise ValueError(f"the server sets {name}, since it depends on the request; leave it out")


class EventBody:
    """A source of server-sent events. ``pieces`` iterates over it; ``heartbeat`` is in seconds, infinity for none."""

    __slots__ = ("heartbeat", "pieces")
    content_type = "text/event-stream"
    what = "a stream of events"

    def __init__(self, source: Any, heartbeat: float | None) -> None:
        """Raises TypeError, ValueError."""
        if heartbeat is None:
            heartbeat = math.inf
        if isinstance(heartbeat, bool) or not isinstance(heartbeat, int | float):
            raise TypeError(f"heartbeat is a number of seconds, or None for no heartbeat; got {heartbeat!r}")
        if not heartbeat > 0:
            raise ValueError(f"heartbeat must be more than 0 seconds, or None for no heartbeat; got {heartbeat}")
        self.heartbeat = heartbeat
        self.pieces = iterator_of(source)

    def __repr__(self) -> str:
        return f"<EventBody of {self.pieces!r:.60}>"


def iterator_of(source: Any) -> Iterator[Any] | AsyncIterator[Any]:
    """The iterator of a source of events. Raises TypeError for a source that yields none."""
    if not isinstance(source, str | bytes | bytearray | dict):
        if hasattr(source, "__aiter__"):
            found: AsyncIterator[Any] = aiter(source)
            return found
        if hasattr(source, "__iter__"):
            pieces: Iterator[Any] = iter(source)
            return pieces
    if callable(source):
        raise TypeError(f"events come from an iterator; got the function {source!r:.60} itself: call it")
    raise TypeError(f"events come from a generator, an async generator or another iterable; got {source!r:.60}")
