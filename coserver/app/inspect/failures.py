"""``server.failures``: what its handlers raised last, for whoever shows the server where it was started.

It hears what the server logs, so what an app expects (``@app.error``, HTTPException) is no failure here either, and a
request costs nothing. Where nobody has configured logging, what stands here is not printed as well.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...server.handler.errors import FAILURE, HandlerFailure

if TYPE_CHECKING:
    from ...server.service import Service
    from ..server import Server

#: Failures that are kept: what fits under a cell. Their number is counted on.
KEPT = 5
#: Frames at the inner end, and characters of one traceback: a recursion has a thousand.
_FRAMES, _CHARACTERS = 20, 8_000

_here = str(Path(__file__).parents[2])


@dataclass(frozen=True, slots=True)
class Failure:
    """``at`` is seconds since 1970, ``where`` the request or connection, ``error`` the exception in a line."""

    at: float
    handler: str
    where: str
    error: str
    traceback: str

    def __repr__(self) -> str:
        return f"<Failure of {self.handler}, {self.where}: {self.error}>"


class Failures:
    """The last ``KEPT``, the newest last; ``total`` is how many there were since it was first asked for."""

    def __init__(self, server: Server) -> None:
        self._kept: deque[Failure] = deque(maxlen=KEPT)
        self._followers: list[Callable[[], object]] = []
        self.name = server.name
        self.total = 0
        _hear(self, server._services)

    def __repr__(self) -> str:
        return f"<Failures {self.total} of {self.name!r}>"

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Failure]:
        return iter(list(self._kept))

    def __getitem__(self, at: int) -> Failure:
        return list(self._kept)[at]

    def add(self, failure: Failure) -> None:
        """Keep it, and tell the followers; on the server's thread."""
        self._kept.append(failure)
        self.total += 1
        for follower in self._followers:
            follower()

    def follow(self, follower: Callable[[], object]) -> None:
        """Have it called in the server's thread after each; it must not wait."""
        self._followers.append(follower)

    def close(self) -> None:
        """The server has ended. What is kept stays."""
        _unhear(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...notebook.cell import failures_bundle

        return failures_bundle(self)


class _Ear(logging.Handler):
    """One for the process. A logger with a handler silences logging's last resort: what is not shown is sent there."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.of: dict[Service, Failures] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            failure: HandlerFailure | None = getattr(record, FAILURE, None)
            failures = self._failures_for(failure)
            if failure is not None and failures is not None:
                failures.add(_read(failure, record.created))
            elif _unheard(self) and logging.lastResort is not None:
                logging.lastResort.handle(record)
        except Exception:
            self.handleError(record)

    def _failures_for(self, failure: HandlerFailure | None) -> Failures | None:
        if failure is None:
            return None
        connection = getattr(failure.subject, "connection", failure.subject)
        return self.of.get(connection.service)


_ear = _Ear()
_lock = threading.Lock()
_log = logging.getLogger("coserver.server")


def _hear(failures: Failures, services: list[Service]) -> None:
    with _lock:
        _ear.of = {**_ear.of, **dict.fromkeys(services, failures)}
        _log.addHandler(_ear)


def _unhear(failures: Failures) -> None:
    with _lock:
        _ear.of = {service: one for service, one in _ear.of.items() if one is not failures}
        if not _ear.of:
            _log.removeHandler(_ear)


def _unheard(ear: logging.Handler) -> bool:
    """Whether nobody else hears the server's log."""
    at: logging.Logger | None = _log
    while at is not None:
        if any(one is not ear for one in at.handlers):
            return False
        at = at.parent if at.propagate else None
    return True


def _read(failure: HandlerFailure, at: float) -> Failure:
    handler, subject, error = failure
    head = getattr(subject, "head", None)
    where = f"{head.method} {head.target}" if head is not None else f"{subject!r}"
    shown = "".join(traceback.format_exception(type(error), error, _outside(error.__traceback__), limit=-_FRAMES))
    if len(shown) > _CHARACTERS:
        shown = f"… {len(shown) - _CHARACTERS} characters more\n{shown[-_CHARACTERS:]}"
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return Failure(at, handler, where, said[:500], shown)


def _outside(trace: TracebackType | None) -> TracebackType | None:
    """From the user's first frame on; all of it if there is none."""
    at = trace
    while at is not None and at.tb_frame.f_code.co_filename.startswith(_here):
        at = at.tb_next
    return at or trace
