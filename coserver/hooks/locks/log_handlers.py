"""Records that loop code logs while a suspended worker has the handler's lock: it may be writing them to a socket.

They must neither stop the loop nor be lost: they are left in a line, and that worker emits them when it is done.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from greenlet import getcurrent

from ..patch import Shim
from ..workers import Worker
from . import rlock as rlocks

#: Records left with one handler. More are dropped, and counted.
LEFT_MAX = 1000

_handle = logging.Handler.handle


class _Left:
    """The records left with one handler."""

    __slots__ = ("dropped", "handler", "key", "records")

    def __init__(self, handler: logging.Handler) -> None:
        self.handler = handler
        self.key = id(handler.lock)
        self.records: deque[logging.LogRecord] = deque()
        self.dropped = 0

    def add(self, record: logging.LogRecord) -> None:
        if len(self.records) < LEFT_MAX:
            self.records.append(record)
        else:
            self.dropped += 1

    def emit(self) -> None:
        """In the worker that has just released the lock."""
        try:
            while self.records or self.dropped:
                if self.records:
                    record = self.records.popleft()
                else:
                    record, self.dropped = _say(self.dropped), 0
                with self.handler.lock:  # type: ignore[union-attr]
                    self.handler.emit(record)
        finally:
            if self.records and self.key not in rlocks.left:  # it was cancelled: the next one goes on
                rlocks.left[self.key] = self.emit


def _say(dropped: int) -> logging.LogRecord:
    text = "%d records were dropped here: a handler that logs was suspended in emitting one for too long"
    return logging.LogRecord("coserver.hooks", logging.WARNING, __file__, 0, text, (dropped,), None)


def handle(self: logging.Handler, record: logging.LogRecord) -> Any:
    owner = None
    if rlocks.owners and type(getcurrent()) is not Worker and self.lock is not None:
        owner = rlocks.suspended_owner(self.lock)
    if owner is None:
        return _handle(self, record)
    passed: Any = self.filter(record)
    if passed:
        emit = rlocks.left.get(id(self.lock))
        if emit is None:
            emit = rlocks.left[id(self.lock)] = _Left(self).emit
        emit.__self__.add(record if passed is True else passed)  # type: ignore[attr-defined]
    return passed


ROWS = (Shim("logging:Handler", "handle", handle),)
