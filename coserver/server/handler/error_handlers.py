"""An app's error handlers: by status, or by the exception's class.

``@app.error(404)`` answers errors with that status, of the router or raised by a handler. ``@app.error(ValueError)``
answers exceptions of a handler. The app of the route is asked first, then the apps that it is mounted in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from types import CoroutineType
from typing import Any

from ...upstream.errors import UpstreamError
from .endpoint import AWAIT, Endpoint
from .errors import HTTPException, SetupError
from .params import MissingValue
from .response import Response, error_response, to_response

#: The bases of MissingValue, besides HTTPException.
_LOOKUPS = (KeyError, LookupError)


class ErrorEndpoint(Endpoint):
    """A handler for errors. It may take ``request`` and ``error``. The request's body may not have been read."""

    __slots__ = ()

    def __init__(self, handler: Callable[..., Any]) -> None:
        """Raises SetupError."""
        wants_error = "error" in inspect.signature(handler).parameters
        super().__init__(handler, "request", ("error",) if wants_error else (), stream=True)
        run = self.call

        def call(request: Any, params: Mapping[str, Any]) -> Any:
            return _answer(run(request, params if wants_error else {}), params["error"])

        async def call_async(request: Any, params: Mapping[str, Any]) -> Any:
            return _answer(await run(request, params if wants_error else {}), params["error"])

        self.call = call_async if self.kind is AWAIT else call
        self.bare = None  # its answer gets the error's status


class ErrorHandlers:
    """The error handlers of one app. A new one replaces that for the same status or class."""

    def __init__(self) -> None:
        self._by_status: dict[int, ErrorEndpoint] = {}
        self._by_type: dict[type[Exception], ErrorEndpoint] = {}

    def add(self, what: int | type[Exception], endpoint: ErrorEndpoint) -> None:
        """Let ``endpoint`` answer this status, or exceptions of this class."""
        if isinstance(what, int):
            self._by_status[what] = endpoint
        else:
            self._by_type[what] = endpoint

    def __iter__(self) -> Iterator[ErrorEndpoint]:
        return iter((*self._by_status.values(), *self._by_type.values()))

    def __reduce__(self) -> Any:
        """Pickle the handlers, for another process, as they were declared."""
        given = [(what, one.handler) for what, one in (*self._by_status.items(), *self._by_type.items())]
        return _declared_again, (given,)

    def find(self, error: Exception) -> tuple[ErrorEndpoint | None, bool]:
        """Find the handler for ``error``, and whether the app expects the error: by its status, or by a class.

        The nearest class counts. An exception that fits no class is a 500. A MissingValue, for a value that the client
        left out, is a KeyError for the request's handler only: ``@app.error(KeyError)`` does not answer it.
        """
        status = error.status if isinstance(error, HTTPException | UpstreamError) else 0
        if status in self._by_status:
            return self._by_status[status], True
        missing = isinstance(error, MissingValue)
        for kind in type(error).__mro__:
            if kind in self._by_type and not (missing and kind in _LOOKUPS):
                return self._by_type[kind], kind is not Exception
        return (None if status else self._by_status.get(500)), False


def _declared_again(given: list[tuple[Any, Callable[..., Any]]]) -> ErrorHandlers:
    handlers = ErrorHandlers()
    for what, handler in given:
        handlers.add(what, ErrorEndpoint(handler))
    return handlers


def check_error_key(what: Any) -> int | type[Exception]:
    """Check the argument of ``@app.error``: a status from 400 to 599, or an exception class. Raises SetupError."""
    if isinstance(what, int) and not isinstance(what, bool) and 400 <= what <= 599:
        return what
    if isinstance(what, type) and issubclass(what, Exception):
        return what
    raise SetupError(f"an error handler is for a status from 400 to 599 or a subclass of Exception; got {what!r}")


def find_handler(error: Exception, tables: Iterable[ErrorHandlers]) -> tuple[ErrorEndpoint | None, bool]:
    """Find the handler for ``error`` in the first of ``tables`` that has one, and whether the app expects the error."""
    for table in tables:
        endpoint, expected = table.find(error)
        if endpoint is not None:
            return endpoint, expected
    return None, False


def plain_answer(error: BaseException) -> Response:
    """Make the answer to an error without a handler: the text of an HTTPException, else the status alone.

    An upstream's failure is 502, 504 or 508; any other error is 500.
    """
    if isinstance(error, HTTPException):
        return error_response(error)
    return error_response(HTTPException(error.status if isinstance(error, UpstreamError) else 500))


def _answer(value: Any, error: Exception) -> Any:
    """Make a response of an error handler's value, with the error's status and fields as defaults. None: the usual."""
    if isinstance(value, CoroutineType):  # a lambda or a decorator that hides an async def
        return _answer_later(value, error)
    if value is None:
        return plain_answer(error)
    response = copy(to_response(value))
    if not isinstance(value, Response | tuple):
        response.status = error.status if isinstance(error, HTTPException | UpstreamError) else 500
    if isinstance(error, HTTPException):  # every 405 must have Allow (RFC 9110 §15.5.6)
        given = {name.lower() for name, _ in response.fields}
        added = [(name, text) for name, text in error.headers.items() if name.lower() not in given]
        response.fields = [*response.fields, *added]
    return response


async def _answer_later(value: CoroutineType[Any, Any, Any], error: Exception) -> Any:
    return _answer(await value, error)
