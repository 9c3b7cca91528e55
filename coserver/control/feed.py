"""What happens on the server's loop, handed to a client on the control's: a bounded line between two threads.

The server never waits for a client. One that reads too slowly loses the oldest, and is told how many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import anyio

from ..transport.loop import poster

#: Things that may wait for a client; a second's worth of a busy server, some MB at the most.
WAITING_MAX = 2000
#: Things handed over in one go, between which others have their turn.
_AT_ONCE = 100


class Feed:
    """Made on the loop of whoever reads. ``put`` is for any thread, and never waits; ``lost`` counts what gave way."""

    def __init__(self, most: int = WAITING_MAX) -> None:
        self.lost = 0
        self._line: deque[Any] = deque(maxlen=most)
        self._there = anyio.Event()
        self._post = poster()
        self._told = False
        self._closed = False

    def put(self, thing: Any) -> None:
        """One thing more, from any thread; the oldest gives way where the line is full, counted in ``lost``."""
        line = self._line
        if len(line) == line.maxlen:
            self.lost += 1
        line.append(thing)
        self._tell()

    def close(self) -> None:
        """Nothing more comes; from any thread."""
        self._closed = True
        self._told = False
        self._tell()

    async def batches(self, patience: float) -> AsyncIterator[list[Any]]:
        """What has come, in order; an empty list after ``patience`` seconds without anything. Ends when closed."""
        while True:
            if not self._line:
                if self._closed:
                    return
                with anyio.move_on_after(patience):
                    await self._there.wait()
                self._there = anyio.Event()
                self._told = False
            batch: list[Any] = []
            while self._line and len(batch) < _AT_ONCE:
                batch.append(self._line.popleft())
            yield batch

    def _tell(self) -> None:
        if self._told:
            return
        self._told = True
        try:
            self._post(self._wake)
        except RuntimeError:
            pass  # the reader's loop has ended

    def _wake(self) -> None:
        self._there.set()
