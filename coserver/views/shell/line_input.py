"""Lines from stdin, typed or piped. Another thread can end the iteration, which a blocking read would not allow."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator


class LineInput:
    """Iterates over the lines of a descriptor, without line ends. ``close`` ends it from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._in = descriptor
        self._wake_read, self._wake_write = os.pipe()

    def __iter__(self) -> Iterator[str]:
        pending = b""
        while self._wake_read not in select.select([self._in, self._wake_read], [], [])[0]:
            data = os.read(self._in, 65536)
            *lines, pending = (pending + data).split(b"\n")
            if not data and pending:
                lines, pending = [pending], b""
            for line in lines:
                yield line.decode("utf-8", "replace").rstrip("\r")
            if not data:
                return

    def close(self) -> None:
        """End the iteration after the current line. Idempotent."""
        os.write(self._wake_write, b"x")

    def __del__(self) -> None:
        os.close(self._wake_read)
        os.close(self._wake_write)
