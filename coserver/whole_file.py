"""Write a file whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any


@contextmanager
def whole_file(
    path: str | os.PathLike[str], how: str, *, mode: int = 0o666, encoding: str | None = None
) -> Iterator[IO[Any]]:
    """Open a file to write, "w" or "wb"; it is at ``path`` when the block has ended without an error. Raises OSError.

    The content goes to a new file in the same folder, which takes the place of the old one at once. A reader never sees
    a part. ``mode`` is that of a new file, less the umask; a file that is replaced hands its mode on. A device or a
    pipe is written directly. ``mode`` other than the default is given to a replaced file, too.
    """
    place = os.path.realpath(path)
    try:
        before = os.stat(place)
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before.st_mode):
        with open(place, how, encoding=encoding) as file:
            yield file
        return
    folder, name = os.path.split(place)
    part = os.path.join(folder, f".{os.fsencode(name)[:200].decode(errors='replace')}.{os.urandom(4).hex()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None  # nobody knows the other file's name
    try:
        with open(descriptor, how, encoding=encoding) as file:
            yield file
            file.flush()
            if before is not None and mode == 0o666:
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
        os.replace(part, place)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
