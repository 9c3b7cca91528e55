"""Subrequests held at gates: before they are sent, and when their response is there.

A held subrequest has a task, and its parent's deadline is suspended. Cancelling releases it at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ...lifecycle.emitter import Answered
from ...lifecycle.events import Event

if TYPE_CHECKING:
    from ..parent import Exchange
    from ..subrequest import Subrequest
    from .client import Client

log = logging.getLogger("coserver.upstream")


class Holds:
    """The held subrequests of one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.held: set[Subrequest] = set()

    def __repr__(self) -> str:
        return f"<Holds of {self._client.name}: {len(self.held)} held>"

    def hold(self, sub: Subrequest, event: Event, then: Callable[[], None]) -> None:
        """Call ``then`` when all gates have released ``event``. The time limit of ``sub`` is extended by the time of
        the hold.
        """
        self.held.add(sub)
        self._client.spawn(self._hold, sub, event, then)

    async def _hold(self, sub: Subrequest, event: Event, then: Callable[[], None]) -> None:
        assert sub.exchange is not None
        began, exchange, answer = monotonic(), sub.exchange, None
        exchange.pause()
        try:
            with anyio.CancelScope() as scope:
                sub.scope = scope
                if sub.cancelled or sub.done:
                    scope.cancel()
                answer = await _let_go_by_all(exchange, event)
        finally:
            exchange.go_on()
            sub.scope = None
            self.held.discard(sub)
        if scope.cancelled_caught or sub.done:
            return
        sub.until += monotonic() - began
        if answer is None:
            then()
        elif sub.response is None:
            sub.finish(answer, monotonic())
        else:
            sub.response = answer
            then()

    def close(self) -> None:
        """Cancel all held subrequests."""
        for sub in tuple(self.held):
            sub.cancel()


async def _let_go_by_all(exchange: Exchange, event: Event) -> Any:
    """Wait for the gates, one after the other. Returns the answer that one of them gives instead, or None."""
    for hold in exchange.emitter.holds(event):
        try:
            await hold
        except Answered as given:
            return given.answer
        except Exception:
            log.exception("the gate holding %r raised; it goes on", event)
    return None
