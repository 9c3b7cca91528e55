"""The parent of a subrequest: the exchange whose handler asked. ``Exchange`` lists all that this layer knows of it.

A contextvar holds the connection, set once for its life. Once an upstream has been opened, a second contextvar holds
the number of the exchange, so that a task that outlives its exchange does not act for the next one. When an exchange
ends, its subrequests end: their connections are closed, and no member is blamed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import anyio.lowlevel

from ..lifecycle.emitter import Emitter
from .errors import TooDeep

if TYPE_CHECKING:
    from .pool.client import Client
    from .subrequest import Subrequest

log = logging.getLogger("coserver.upstream")

#: The request field that says how deep a subrequest is nested; the server at the other end reads it.
DEPTH_FIELD = b"coserver-depth"
_TRACE_FIELDS = {b"traceparent", b"tracestate"}


class Exchange(Protocol):
    """An exchange with subrequests. ``children`` is None before the first."""

    id: int
    phase: str
    children: list[Subrequest] | None
    #: The number of its tasks that wait for a subrequest, and the phase before the first began to wait.
    waiting: int
    waited_from: str
    #: Field lines that its subrequests inherit; empty before the first.
    handed_on: bytes

    @property
    def connection(self) -> Any:
        """Its connection, which has an ``id`` and a ``peer``."""
        ...

    @property
    def emitter(self) -> Emitter: ...

    @property
    def over(self) -> bool:
        """Whether its response has been sent, or its connection is closed."""
        ...

    @property
    def received(self) -> list[tuple[bytes, bytes]]:
        """The fields of its request, names in lower case."""
        ...

    def event_fields(self) -> dict[str, Any]:
        """The fields of every event about it."""
        ...

    def pause(self) -> object:
        """Suspend the deadline because a subrequest is held. Each call needs one ``go_on()``."""
        ...

    def go_on(self) -> None: ...

    def hold_drain(self) -> Callable[[], None]:
        """Make a drain wait, within its grace, until the returned function is called."""
        ...


class Connection(Protocol):
    """Carries exchanges, one or several at once."""

    def find_exchange(self, number: int) -> Exchange | None:
        """The exchange under way with this number; for 0 the only one there is."""
        ...


#: The connection whose handler runs in this context.
current_connection: ContextVar[Connection | None] = ContextVar("coserver_connection", default=None)
#: The number of the exchange for which a task runs; 0: the task began before any upstream was opened.
current_exchange: ContextVar[int] = ContextVar("coserver_exchange", default=0)


#: True once an upstream has been opened in this process. Until then ``current_exchange`` need not be set.
opened = False


def mark_opened() -> None:
    """Set ``opened``, for good."""
    global opened
    opened = True


def find_parent() -> Exchange | None:
    """The exchange of the current task, or None if that exchange is over."""
    connection = current_connection.get()
    exchange = connection.find_exchange(current_exchange.get()) if connection is not None else None
    return None if exchange is None or exchange.over else exchange


def hand_on(exchange: Exchange, client: Client) -> bytes:
    """The field lines that subrequests inherit: the depth, and the trace (W3C Trace Context §3.2). Raises TooDeep."""
    depth, trace = 0, b""
    for name, value in exchange.received:
        if name == DEPTH_FIELD:
            depth = int(value) if value.isdigit() and len(value) < 4 else client.limits.depth
        elif name in _TRACE_FIELDS:
            trace += b"%b: %b\r\n" % (name, value)
    if depth >= client.limits.depth:
        raise TooDeep(
            f"a subrequest at depth {depth + 1}, where {client.limits.depth} are allowed (UpstreamLimits.depth): does "
            f"the server send requests to itself?", upstream=client.name,
        )  # fmt: skip
    exchange.handed_on = b"%b: %d\r\n%b" % (DEPTH_FIELD, depth + 1, trace)
    return exchange.handed_on


async def end_forwarding(exchange: Exchange) -> None:
    """End the subrequests, and wait until none of them reads the body of the exchange's request any more."""
    children = exchange.children or ()
    end_children(exchange)
    while any(child.body_source is not None and child.body_source.taking for child in children):
        await anyio.lowlevel.checkpoint()


def end_children(exchange: Exchange) -> None:
    """Cancel the unfinished subrequests of an exchange that is over; log those that were never awaited."""
    children = exchange.children
    if not children:
        return
    exchange.children = []
    for child in children:
        if child.body_stream is not None:
            child.body_stream.close()
        if not child.done:  # one that has its response may still be held
            if not child.awaited:
                log.warning("%r was never awaited and is cancelled with its request; use detach=True to keep it", child)
            child.cancel()
        elif not child.awaited and child.error is not None and not child.cancelled:
            log.warning("%r failed, and nobody awaited it: %s", child, child.error)
