"""Errors: those that a handler raises as an answer, and those that tell a developer of a mistake in an app."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, NamedTuple

from ...keywords import checked_keywords
from ...protocol.jsons import encode_json


class HTTPException(Exception):
    """Raise it in a handler to answer with ``status`` and ``detail``: as text, or a dict or list as JSON.

    ``headers`` are added to the answer. A Content-Type among them replaces that of JSON: RFC 9457 has
    application/problem+json. Raises ValueError for another status, TypeError for a detail that JSON does not have.
    """

    #: The field of Limits that the request broke, "" if none: it is counted and logged.
    limit = ""

    @checked_keywords("an HTTPException", status_code="status", code="status", description="detail", message="detail")
    def __init__(
        self,
        status: int,
        detail: str | dict[str, Any] | list[Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(
                f"an HTTPException's status must be from 400 to 599; got {status}. Return a Response for another status"
            )
        self.status = status
        if isinstance(detail, dict | list):
            encode_json(detail)  # a mistake is told where it is made
        self.detail: Any = phrase(status) if detail is None else detail
        self.headers = dict(headers or {})
        super().__init__(f"{status} {self.detail}")


def too_much(detail: str, limit: str, status: int = 413) -> HTTPException:
    """Make the error of a request that exceeds ``limit``, a field of Limits."""
    error = HTTPException(status, detail)
    error.limit = limit
    return error


class SetupError(Exception):
    """An app has a mistake in its setup: a route, a parameter, a name. The message names the place and the way out."""


#: The attribute of a log record that holds its HandlerFailure.
FAILURE = "coserver_failure"


class HandlerFailure(NamedTuple):
    """An exception that the app did not expect. The log record about it carries this, for ``server.failures``."""

    handler: str
    subject: Any  # the exchange, or the TCP connection
    error: BaseException

    def log(self, log: logging.Logger, message: str, *args: Any, extra: Mapping[str, Any] | None = None) -> None:
        """Log it as an ERROR, with a traceback that begins with the user's first frame. See ``log_failure``."""
        log_failure(log, self.error, message, *args, extra={**(extra or {}), FAILURE: self}, stacklevel=3)


def log_failure(
    log: logging.Logger,
    error: BaseException,
    message: str,
    *args: Any,
    extra: Mapping[str, Any] | None = None,
    stacklevel: int = 2,
) -> None:
    """Log an exception of the user's code as an ERROR, with its traceback.

    The frames of coserver before the user's first one are left out, and a line says so, unless ``log`` has level DEBUG.
    The record's ``hidden_frames`` is their number.
    """
    trace, hidden = error.__traceback__, 0
    if not log.isEnabledFor(logging.DEBUG):
        trace, hidden = users_part(trace)
    extra = {**(extra or {}), "hidden_frames": hidden}
    with _noted(error, hidden, log.name):
        log.error(message, *args, exc_info=(type(error), error, trace), stacklevel=stacklevel, extra=extra)


#: In the line about frames that are left out.
LEFT_OUT = "left out; level DEBUG of the logger"


@contextmanager
def _noted(error: BaseException, hidden: int, logger: str) -> Iterator[None]:
    """Let the printed traceback end with a line about the hidden frames, as a note that the error has meanwhile."""
    if not hidden:
        yield
        return
    frames = "1 frame of coserver is" if hidden == 1 else f"{hidden} frames of coserver are"
    note = f"({frames} {LEFT_OUT} {logger} shows them)"
    error.add_note(note)
    try:
        yield
    finally:
        notes = error.__notes__
        notes.remove(note)
        if not notes:
            del error.__notes__


def users_part(trace: TracebackType | None) -> tuple[TracebackType | None, int]:
    """The traceback from the user's first frame on, and the number of coserver's frames before it.

    All of it, and 0, if the first frame that is not coserver's is one of the standard library or of a library that
    coserver is built on: then the error is coserver's own, and every frame counts.
    """
    at, hidden = trace, 0
    while at is not None and (package := _package_of(at)) == "coserver":
        at, hidden = at.tb_next, hidden + 1
    if at is None or package in sys.stdlib_module_names or package in _BELOW:
        return trace, 0
    return at, hidden


#: Libraries that coserver is built on.
_BELOW = frozenset({
    "anyio", "trio", "sniffio", "outcome", "uvloop", "h11", "httptools", "greenlet", "orjson", "regex", "rich", "typer",
    "coserver_cli",
})  # fmt: skip


def _package_of(at: TracebackType) -> str:
    return str(at.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


class ClientLeft(Exception):
    """The client left while the server was reading its request's body."""


def phrase(status: int) -> str:
    """The reason phrase of a status (RFC 9110 §15); for an unregistered status, that of its class."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Error" if status < 500 else "Server Error"
