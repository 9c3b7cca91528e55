"""An exchange that fails: who answers it, and what the log says of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ...upstream.errors import UpstreamError
from ..handler.endpoint import Endpoint
from ..handler.error_handlers import find_handler
from ..handler.errors import HandlerFailure, HTTPException

if TYPE_CHECKING:
    from .exchange import Exchange
    from .http1 import HttpConnection

log = logging.getLogger("coserver.server")


def endpoint_for(connection: HttpConnection, exchange: Exchange, error: BaseException) -> Endpoint | None:
    """The app's own handler for ``error``, if it has one; what the app did not expect is logged."""
    endpoint, expected = _find(connection, exchange, error)
    if isinstance(error, UpstreamError):  # where it went wrong stands in its words, not in a traceback
        if not expected:
            log.warning("handler %s, %r, request id %s: %s", exchange.endpoint_name, exchange,
                        exchange.request.request_id, error, extra=exchange.marks)  # fmt: skip
    elif not expected and not isinstance(error, HTTPException):
        failure = HandlerFailure(exchange.endpoint_name, exchange, error)
        log.error("handler %s failed on %r, request id %s", exchange.endpoint_name, exchange,
                  exchange.request.request_id, exc_info=error, extra={**exchange.marks, **failure.extra})  # fmt: skip
    if isinstance(error, HTTPException) and error.limit:
        breaches = connection.service.breaches
        breaches.note(error.limit, connection.peer, "%r: %s (%s)", connection, error.detail, error.limit)
    return endpoint


def _find(connection: HttpConnection, exchange: Exchange, error: BaseException) -> tuple[Endpoint | None, bool]:
    """An error handler that fails itself has none."""
    if exchange.failed or not isinstance(error, Exception):
        return None, False
    tables = exchange.endpoint.errors if exchange.endpoint else ()
    if isinstance(error, HTTPException):
        tables = error.tables or tables
    endpoint, expected = find_handler(error, tables)
    if endpoint is None and not isinstance(error, HTTPException | UpstreamError):
        return connection.service.last_resort, False
    return endpoint, expected
