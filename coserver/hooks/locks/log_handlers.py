"""Log records of loop code, while a suspended worker holds the log handler's lock (it writes to a socket, perhaps).

Such a record must neither stop the loop nor be lost. It is queued, and the worker emits it when it releases the lock.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from greenlet import getcurrent

from ..patch import Shim
from ..workers import Worker
from . import rlock

#: Records queued for one log handler. More are dropped, and counted.
QUEUED_MAX = 1000

_handle = logging.Handler.handle


class _Queue:
    """The records queued for one log handler."""

    __slots__ = ("dropped", "handler", "key", "records")

    def __init__(self, handler: logging.Handler) -> None:
        self.handler = handler
        self.key = id(handler.lock)
        self.records: deque[logging.LogRecord] = deque()
        self.dropped = 0

    def add(self, record: logging.LogRecord) -> None:
        if len(self.records) < QUEUED_MAX:
            self.records.append(record)
        else:
            self.dropped += 1

    def emit(self) -> None:
        """Emit the records. Called in the worker that has just released the lock."""
        try:
            while self.records or self.dropped:
                if self.records:
                    record = self.records.popleft()
                else:
                    record, self.dropped = _dropped_record(self.dropped), 0
                with self.handler.lock:  # type: ignore[union-attr]
                    self.handler.emit(record)
        finally:
            if self.records and self.key not in rlock.after_release:  # cancelled: the next holder goes on
                rlock.after_release[self.key] = self.emit


def _dropped_record(dropped: int) -> logging.LogRecord:
    text = "%d records were dropped here: a handler was suspended for too long while it emitted a record"
    return logging.LogRecord("coserver.hooks", logging.WARNING, __file__, 0, text, (dropped,), None)


def handle(self: logging.Handler, record: logging.LogRecord) -> Any:
    owner = None
    if rlock.owners and type(getcurrent()) is not Worker and self.lock is not None:
        owner = rlock.suspended_owner(self.lock)
    if owner is None:
        return _handle(self, record)
    passed: Any = self.filter(record)
    if passed:
        emit = rlock.after_release.get(id(self.lock))
        if emit is None:
            emit = rlock.after_release[id(self.lock)] = _Queue(self).emit
        emit.__self__.add(record if passed is True else passed)  # type: ignore[attr-defined]
    return passed


ROWS = (Shim("logging:Handler", "handle", handle),)
