"""The files of a form. Each is a window onto the request's body, in memory or in its temporary file, without a copy.

Windows are independent: any thread may read any of them at any place, until the exchange is over.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio

from ...hooks.suspension import await_unseen
from ...hooks.workers import in_worker
from ...protocol.fields import Headers
from ...whole_file import whole_file

if TYPE_CHECKING:
    from .multipart import MultipartReader

#: Bytes copied at once: so many that the calls cost little. A large file takes this much memory.
_PIECE = 1 << 20
#: The longest name of a file, in bytes of UTF-8, on all common file systems.
_NAME_MAX = 255


class Spool:
    """A body's temporary file. Threads write it piece by piece, and parse the form in it at the same time."""

    __slots__ = ("_lock", "file", "reader")

    def __init__(self, reader: MultipartReader | None) -> None:
        from tempfile import TemporaryFile  # with shutil and the compressors, which most servers never need

        self.file: BinaryIO = TemporaryFile()  # noqa: SIM115 - the exchange closes it
        self.reader = reader
        self._lock = threading.Lock()

    def write(self, pieces: list[bytes]) -> None:
        """Write the pieces, and parse them. Raises OSError; a mistake in the form is raised when it is asked for."""
        self.file.writelines(pieces)
        self.file.flush()  # so a full disk raises here, and ``read_at`` finds all by the descriptor
        if self.reader is not None:
            for piece in pieces:
                self.reader.feed(piece)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes at ``offset``. Raises ValueError once the file is closed."""
        # The lock: else the descriptor could be closed, and reused for another client's body, before the read.
        with self._lock:
            if self.file.closed:
                raise ValueError(
                    "this upload's request is over and its temporary file gone: read() or save() it in the handler"
                )
            return os.pread(self.file.fileno(), size, offset)

    def close(self) -> None:
        """Close the file. A later read raises ValueError."""
        if self.reader is not None:
            self.reader.close()
        with self._lock:
            self.file.close()


class Window(io.RawIOBase):
    """A part of a spool, as a read-only file."""

    def __init__(self, spool: Spool, offset: int, size: int) -> None:
        self._spool = spool
        self._offset = offset
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = self._spool.read_at(self._offset + self._at, max(0, min(len(view), self._size - self._at)))
        view[: len(found)] = found
        self._at += len(found)
        return len(found)

    def readall(self) -> bytes:
        pieces = []
        while piece := self._spool.read_at(self._offset + self._at, max(0, min(_PIECE, self._size - self._at))):
            pieces.append(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"whence must be 0, 1 or 2; got {whence!r}")
        at = offset + (0, self._at, self._size)[whence]
        if at < 0:
            raise ValueError(f"a file's position must not be negative; got {at}")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at


class Upload:
    """One file of a form. ``filename`` is the name as sent, "" for a field left empty in a browser; ``size`` in bytes.

    ``headers`` are the fields of its part. The file lasts as long as its request: to keep it, save it in the handler.
    An upload is false if it has neither a name nor a byte: a browser sends this for an empty field.
    """

    __slots__ = ("_file", "_offset", "_source", "filename", "headers", "size")

    def __init__(self, filename: str, headers: Headers, source: bytes | Spool, offset: int, size: int) -> None:
        self.filename = filename
        self.headers = headers
        self.size = size
        self._source = source
        self._offset = offset
        self._file: BinaryIO | None = None

    def __repr__(self) -> str:
        return f"<Upload {self.filename!r} {self.content_type or 'no type'}, {self.size} bytes>"

    def __bool__(self) -> bool:
        return bool(self.filename or self.size)

    @property
    def content_type(self) -> str:
        """The content type as the client sent it, unchecked; "" if it sent none."""
        return self.headers.get("content-type", "")

    @property
    def safe_name(self) -> str:
        """A safe name for a file in a folder: the last component of ``filename``, without leading dots and unprintable
        characters, at most 255 bytes; "upload" if nothing is left. Two uploads may have the same name.
        """
        name = self.filename.replace("\\", "/").rpartition("/")[2]
        name = "".join(letter for letter in name if letter.isprintable()).lstrip(". ").rstrip()
        if len(name.encode()) > _NAME_MAX:
            # The suffix tells the file's type, so the name before it is cut, unless the suffix is very long.
            stem, dot, suffix = name.rpartition(".")
            if len(suffix.encode()) > _NAME_MAX // 2:
                stem, dot, suffix = name, "", ""
            room = _NAME_MAX - len((dot + suffix).encode())
            name = stem.encode()[:room].decode(errors="ignore").rstrip() + dot + suffix
        return name or "upload"

    @property
    def file(self) -> BinaryIO:
        """The content as a binary file. It is always the same file, so its position stays between two uses."""
        if self._file is None:
            self._file = self.open()
        return self._file

    def open(self) -> BinaryIO:
        """The content as a new binary file, at its start. Each thread that reads needs its own."""
        if isinstance(self._source, bytes):
            return io.BytesIO(self._source[self._offset : self._offset + self.size])
        return io.BufferedReader(Window(self._source, self._offset, self.size), 64 * 1024)

    def read(self) -> bytes:
        """The whole content. Raises ValueError after the exchange, if the content was on disk."""
        return b"".join(self._pieces())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the content to ``path``, whole or not at all; a file there is replaced. Raises OSError, ValueError.

        In a ``def`` handler, a large file suspends this handler only. In an ``async def`` it blocks the loop, a second
        for some hundred MB: use ``await anyio.to_thread.run_sync(upload.save, path)`` there.
        """
        if self.size > _PIECE and in_worker():
            await_unseen(anyio.to_thread.run_sync(self._save, path))
        else:
            self._save(path)

    def _save(self, path: str | os.PathLike[str]) -> None:
        with whole_file(path, "wb") as target:
            target.writelines(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        if isinstance(self._source, bytes):
            yield self._source[self._offset : self._offset + self.size]
            return
        at, end = self._offset, self._offset + self.size
        while at < end:
            piece = self._source.read_at(at, min(_PIECE, end - at))
            at += len(piece)
            yield piece
