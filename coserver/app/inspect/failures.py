"""``server.failures``: the last unexpected exceptions of handlers, shown where the server was started.

They are read from the server's log. So expected errors (``@app.error``, HTTPException) are no failures, and a request
costs nothing. If logging is not configured, Python does not print these records to stderr as well.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...server.handler.errors import FAILURE, LEFT_OUT, HandlerFailure, users_part

if TYPE_CHECKING:
    from ...server.service import Service
    from ..server import Server

#: Failures that are kept: as many as fit below a cell. ``total`` counts all.
KEPT = 5
#: Limits of one traceback, which a recursion would fill: frames, counted from the innermost, and characters.
_FRAMES, _CHARACTERS = 20, 8_000

@dataclass(frozen=True, slots=True)
class Failure:
    """One failure of a handler. ``at`` is in seconds since 1970.

    ``where`` is the request or connection, ``error`` the exception in a line.
    """

    at: float
    handler: str
    where: str
    error: str
    traceback: str

    def __repr__(self) -> str:
        return f"<Failure of {self.handler}, {self.where}: {self.error}>"


class Failures:
    """The last ``KEPT`` failures, the newest last. ``total`` counts all since ``server.failures`` was first used."""

    def __init__(self, server: Server) -> None:
        self._kept: deque[Failure] = deque(maxlen=KEPT)
        self._followers: list[Callable[[], object]] = []
        self.name = server.name
        self.total = 0
        _listen(self, server._services)

    def __repr__(self) -> str:
        return f"<Failures {self.total} of {self.name!r}>"

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Failure]:
        return iter(list(self._kept))

    def __getitem__(self, at: int) -> Failure:
        kept = list(self._kept)
        try:
            return kept[at]
        except IndexError:
            more = f", the last of {self.total}" if self.total > len(kept) else ""
            raise IndexError(f"no failure {at}: there are {len(kept)}{more}") from None

    def add(self, failure: Failure) -> None:
        """Keep a failure, and call the followers; on the server's thread."""
        self._kept.append(failure)
        self.total += 1
        for follower in self._followers:
            follower()

    def follow(self, follower: Callable[[], object]) -> None:
        """Call ``follower`` in the server's thread after each failure. It must not wait."""
        self._followers.append(follower)

    def close(self) -> None:
        """Collect no more, and keep the failures: the server has ended."""
        _unlisten(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...notebook.cell import failures_bundle

        return failures_bundle(self)


class _FailureHandler(logging.Handler):
    """Collects failures from the server's log; one for the process.

    A logger with a handler does not use ``logging.lastResort``, so this handler passes all other records to it.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.by_service: dict[Service, Failures] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            failure: HandlerFailure | None = getattr(record, FAILURE, None)
            failures = self._failures_for(failure)
            if failure is not None and failures is not None:
                failures.add(_read(failure, record.created))
            elif _is_only_handler(self) and logging.lastResort is not None:
                logging.lastResort.handle(record)
        except Exception:
            self.handleError(record)

    def _failures_for(self, failure: HandlerFailure | None) -> Failures | None:
        if failure is None:
            return None
        connection = getattr(failure.subject, "connection", failure.subject)
        return self.by_service.get(connection.service)


_handler = _FailureHandler()
_lock = threading.Lock()
_log = logging.getLogger("coserver.server")


def _listen(failures: Failures, services: list[Service]) -> None:
    with _lock:
        _handler.by_service = {**_handler.by_service, **dict.fromkeys(services, failures)}
        _log.addHandler(_handler)


def _unlisten(failures: Failures) -> None:
    with _lock:
        _handler.by_service = {key: one for key, one in _handler.by_service.items() if one is not failures}
        if not _handler.by_service:
            _log.removeHandler(_handler)


def _is_only_handler(handler: logging.Handler) -> bool:
    """Whether the server's log has no other handler."""
    at: logging.Logger | None = _log
    while at is not None:
        if any(one is not handler for one in at.handlers):
            return False
        at = at.parent if at.propagate else None
    return True


def _in_a_line(error: BaseException) -> str:
    """The type and the last line of the message. Notes are left out: they follow it."""
    notes = "\n".join(map(str, getattr(error, "__notes__", ())))
    said = "".join(traceback.format_exception_only(error)).strip().removesuffix(notes).strip()
    return said.splitlines()[-1]


def _read(failure: HandlerFailure, at: float) -> Failure:
    """A Failure, as text only: it keeps no request and no frame alive."""
    handler, subject, error = failure
    head = getattr(subject, "head", None)
    where = f"{head.method} {head.target}" if head is not None else f"{subject!r}"
    trace = traceback.TracebackException(type(error), error, users_part(error.__traceback__)[0], limit=-_FRAMES)
    notes = [note for note in getattr(error, "__notes__", ()) if LEFT_OUT not in str(note)]
    trace.__notes__ = notes or None  # of the log's line about frames there is no need here
    shown = "".join(trace.format())
    if len(shown) > _CHARACTERS:
        shown = f"… {len(shown) - _CHARACTERS} characters more\n{shown[-_CHARACTERS:]}"
    said = _in_a_line(error)
    return Failure(at, handler, where, said[:500], shown)
