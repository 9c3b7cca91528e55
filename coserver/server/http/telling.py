"""What observers are told of a handler and its usual response, at once or when it is over (see ``Emitter``)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ...lifecycle import events as ev

if TYPE_CHECKING:
    from .exchange import Exchange
    from .http1 import HttpConnection


def handler_started(connection: HttpConnection, exchange: Exchange) -> ev.Event:
    """The event that has not been told yet."""
    at, exchange.untold = exchange.untold, 0.0
    return ev.make_handler_started(
        at=at, connection=connection.id, exchange=exchange.id, source=exchange, handler=exchange.endpoint_name
    )


def tell_started(connection: HttpConnection, exchange: Exchange) -> None:
    """The handler starts; or has, and its exchange goes another way than smoothly."""
    connection.emitter.tell(handler_started(connection, exchange))


def tell_handled(connection: HttpConnection, exchange: Exchange, at: float) -> None:
    """It returned ``at`` that moment."""
    connection.emitter.tell(
        ev.make_handler_finished(at=at, connection=connection.id, exchange=exchange.id, source=exchange)
    )


def tell_held_back(connection: HttpConnection, exchange: Exchange, at: float) -> None:
    """What was to be told when all is over, if anything was, is told now; the handler returned ``at`` that moment."""
    if exchange.untold:
        tell_started(connection, exchange)
        tell_handled(connection, exchange, at)


def tell_begun(connection: HttpConnection, exchange: Exchange) -> None:
    """The usual response is about to go out, and somebody wants to know at once."""
    tell_held_back(connection, exchange, connection.since)
    if connection.emitter.watched:
        connection.emitter.tell(ev.ResponseStarted(**connection.facts(), status=exchange.status))


def tell_served(connection: HttpConnection, exchange: Exchange) -> None:
    """The response has gone out whole."""
    if exchange.untold:
        connection.emitter.tell_served(exchange, monotonic())
        exchange.untold = 0.0
    else:
        connection.emitter.tell(
            ev.make_response_finished(
                at=monotonic(), connection=connection.id, exchange=exchange.id, source=exchange, size=exchange.size
            )
        )
