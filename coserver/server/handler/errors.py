"""Errors: those that a handler raises as an answer, and those that tell a developer of a mistake in an app."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
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

    @property
    def extra(self) -> dict[str, Any]:
        """For ``extra=`` of a log call."""
        return {FAILURE: self}


class ClientLeft(Exception):
    """The client left while the server was reading its request's body."""


def phrase(status: int) -> str:
    """The reason phrase of a status (RFC 9110 §15); for an unregistered status, that of its class."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Error" if status < 500 else "Server Error"
