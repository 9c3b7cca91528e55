"""Files that a form brought: each a window onto the request's body, in memory or in its temporary file; no copy.

Windows do not disturb one another: any of them may be read at any place by any thread, until the exchange is over.
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

#: Bytes copied at once: enough that the calls cost nothing, and what a large file takes of memory.
_PIECE = 1 << 20
#: Of a name in a folder, in bytes of UTF-8; that many all common file systems take.
_NAME_MAX = 255


class Spool:
    """A body's temporary file. Written in threads, piece by piece, and the form in it found on the way."""

    __slots__ = ("_lock", "file", "reader")

    def __init__(self, reader: MultipartReader | None) -> None:
        from tempfile import TemporaryFile  # with shutil and the compressors, which most servers never need

        self.file: BinaryIO = TemporaryFile()  # noqa: SIM115 - the exchange closes it
        self.reader = reader
        self._lock = threading.Lock()

    def write(self, pieces: list[bytes]) -> None:
        """Raises OSError. What is wrong with the form is said when somebody asks for it."""
        self.file.writelines(pieces)
        self.file.flush()  # here, where a full disk has somebody to tell, and for those who read by descriptor
        if self.reader is not None:
            for piece in pieces:
                self.reader.feed(piece)

    def read_at(self, offset: int, size: int) -> bytes:
        """Raises ValueError once the file is closed."""
        # Without the lock the descriptor could be closed and be another client's body by the time of the read.
        with self._lock:
            if self.file.closed:
                raise ValueError(
                    "this upload's request is over and its temporary file gone: read() or save() it in the handler"
                )
            return os.pread(self.file.fileno(), size, offset)

    def close(self) -> None:
        """Let go of the file; who reads it later gets a ValueError."""
        if self.reader is not None:
            self.reader.close()
        with self._lock:
            self.file.close()


class Window(io.RawIOBase):
    """A part of a spool as a file that is read only."""

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

    ``headers`` are its part's fields. It lives as long as its request: what is to stay must be saved in the handler.
    False if there is neither a name nor a byte, which is what a browser sends for no file.
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
        """As the client sent it, which nothing vouches for; "" if it sent none."""
        return self.headers.get("content-type", "")

    @property
    def safe_name(self) -> str:
        """A name for a file in a folder of yours: of ``filename`` the last component, without leading dots and whatever
        does not print, 255 bytes at most; "upload" if nothing is left. Two uploads may have the same.
        """
        name = self.filename.replace("\\", "/").rpartition("/")[2]
        name = "".join(letter for letter in name if letter.isprintable()).lstrip(". ").rstrip()
        if len(name.encode()) > _NAME_MAX:
            # The suffix says what the file is: the name before it gives way, unless the suffix is the longer one.
            stem, dot, suffix = name.rpartition(".")
            if len(suffix.encode()) > _NAME_MAX // 2:
                stem, dot, suffix = name, "", ""
            room = _NAME_MAX - len((dot + suffix).encode())
            name = stem.encode()[:room].decode(errors="ignore").rstrip() + dot + suffix
        return name or "upload"

    @property
    def file(self) -> BinaryIO:
        """The content as a binary file: at its start when first asked for, then wherever it was left."""
        if self._file is None:
            self._file = self.open()
        return self._file

    def open(self) -> BinaryIO:
        """The content as a new binary file of its own, at its start: one for each thread that reads."""
        if isinstance(self._source, bytes):
            return io.BytesIO(self._source[self._offset : self._offset + self.size])
        return io.BufferedReader(Window(self._source, self._offset, self.size), 64 * 1024)

    def read(self) -> bytes:
        """The whole content. Raises ValueError once the exchange is over and it lay on disk."""
        return b"".join(self._pieces())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the content to ``path``, whole or not at all; a file there is replaced. Raises OSError, ValueError.

        In a ``def`` a large one suspends this handler only. In an ``async def`` it holds up all, a second for some
        hundred MB: ``await anyio.to_thread.run_sync(upload.save, path)`` does not.
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
