"""Write log lines to stderr by a thread, so that logging never waits.

No lock is held while a record is formatted or queued. So a worker suspended in the middle, a signal handler or a reader
that does not read cannot stop the loop or each other. The queue is bounded.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic

#: Characters in the queue; further lines are dropped and counted. It is 200,000 lines of an access log, and little
#: memory for any server.
WAITING_MAX = 16 * 1024 * 1024
#: Seconds without progress after which the end of the program waits no longer for the log's reader.
FLUSH_PATIENCE = 2.0
#: Characters written at once: more than a pipe holds (64 KiB), so one call fills it.
_BATCH = 256 * 1024

_DROPPED = "log lines dropped, because stderr was not read fast enough: %d"


class LogWriter:
    """Writes text to a descriptor by a thread. ``write`` never waits, and may be called from anywhere."""

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._fd = fd
        self._encoding = encoding
        self.describe_dropped: Callable[[int], str] = lambda count: f"{_DROPPED % count}\n"
        self._closed = False
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Set up an empty queue and the thread. Again after a fork: the parent writes what was queued before."""
        self._waiting: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        # Characters queued by callers, and written by the thread. No lock: CPython switches threads at calls and
        # jumps, not inside an addition to an attribute; and a signal handler could not take a lock.
        self._given = self._taken = 0
        self.dropped = self._told = 0
        self._thread = threading.Thread(target=self._write_all, name="coserver log", daemon=True)
        if not self._closed:
            self._thread.start()

    def write(self, text: str) -> None:
        """Queue ``text``, with its newline; drop it if the queue is full."""
        size = len(text)
        if self._given - self._taken > WAITING_MAX:
            self.dropped += 1
            return
        self._given += size
        self._waiting.put(text)

    def flush(self) -> bool:
        """Wait until everything queued is written; False if the reader does not read (FLUSH_PATIENCE)."""
        done = threading.Event()
        self._waiting.put(done)
        taken, since = self._taken, monotonic()
        while not done.wait(0.02):
            if self._taken != taken:
                taken, since = self._taken, monotonic()
            elif monotonic() - since > FLUSH_PATIENCE or not self._thread.is_alive():
                return False
        return True

    def close(self) -> None:
        """Flush, and end the thread."""
        self._closed = True
        if self._thread.is_alive() and self.flush():
            self._waiting.put(None)
            self._thread.join(FLUSH_PATIENCE)

    def _write_all(self) -> None:
        """The thread: write what is queued, and report how many lines were dropped."""
        while (first := self._waiting.get()) is not None:
            batch, done, last = self._gather(first)
            if batch:
                text = "".join(batch)
                self._put(text)
                self._taken += len(text)
            if (dropped := self.dropped) > self._told:
                self._put(self.describe_dropped(dropped - self._told))
                self._told = dropped
            for each in done:
                each.set()
            if last:
                return

    def _gather(self, item: str | threading.Event | None) -> tuple[list[str], list[threading.Event], bool]:
        """Queued text up to a batch; events to set after it; whether to end then."""
        batch: list[str] = []
        done: list[threading.Event] = []
        size = 0
        try:
            while item is not None:
                if isinstance(item, str):
                    batch.append(item)
                    size += len(item)
                else:
                    done.append(item)
                if size >= _BATCH:
                    return batch, done, False
                item = self._waiting.get_nowait()
        except Empty:
            return batch, done, False
        return batch, done, True

    def _put(self, text: str) -> None:
        """Write all of ``text`` to the descriptor. Not by sys.stderr: its lock, held at exit, is a fatal error."""
        rest = memoryview(text.encode(self._encoding, "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another process made the shared descriptor non-blocking
                select.select([], [self._fd], [])
            except OSError:
                break  # nobody reads it any more; keep serving


class LogHandler(logging.Handler):
    """Formats each record and queues the line. Takes no lock, unlike the standard library's handlers."""

    def __init__(self, writer: LogWriter, form: logging.Formatter) -> None:
        super().__init__()
        self.writer = writer
        self.setFormatter(form)
        writer.describe_dropped = self._describe_dropped

    def createLock(self) -> None:  # noqa: N802 - logging's name
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """As logging's own, but without a lock."""
        passed = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # from Python 3.12 on, a filter may return another record
            record = passed
        if passed:
            self.emit(record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line for the writer's thread; never waits."""
        try:
            self.writer.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
        super().close()

    def _describe_dropped(self, count: int) -> str:
        record = logging.LogRecord("coserver.log", logging.WARNING, __file__, 0, _DROPPED, (count,), None)
        return self.format(record) + "\n"
