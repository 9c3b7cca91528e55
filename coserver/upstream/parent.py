"""Whose child a subrequest is: the exchange whose handler asked. To this floor that is only what ``Exchange`` says.

A contextvar holds the connection, set once for its life; where there are upstreams another says which of its exchanges:
a task that outlives its own must not ask on behalf of the next. When the exchange ends, its children end: their
connections are closed, and no member is blamed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import anyio.lowlevel

from ..lifecycle.emitter import Emitter
from ..lifecycle.phases import CLOSED, RECYCLE
from .errors import TooDeep

if TYPE_CHECKING:
    from .pool.client import Client
    from .subrequest import Subrequest

log = logging.getLogger("coserver.upstream")

#: The request field that counts how deep a subrequest is; the server at its end reads it.
DEPTH_FIELD = b"coserver-depth"
_TRACE_FIELDS = {b"traceparent", b"tracestate"}


class Exchange(Protocol):
    """What has children. ``children`` is None until it has one."""

    id: int
    children: list[Subrequest] | None
    #: How many of its tasks wait for a child, and the phase that it was in before.
    waiting: int
    waited_from: str
    #: Field lines that its children inherit; empty until it has one.
    handed_on: bytes

    @property
    def received(self) -> list[tuple[bytes, bytes]]:
        """The fields that its request came with, names in lower case."""
        ...


class Host(Protocol):
    """A connection: it has one exchange at a time, whose handler runs in the connection's context."""

    id: int
    exchange: Any
    emitter: Emitter
    phase: str
    peer: str

    def facts(self, of: Any = None) -> dict[str, Any]: ...

    def pause(self) -> object:
        """A child is held: its own deadline does not run until ``go_on`` was called as often."""
        ...

    def go_on(self) -> None: ...

    def hold_drain(self) -> Callable[[], None]:
        """A drain waits, within its grace, until what this returns is called."""
        ...


current_host: ContextVar[Host | None] = ContextVar("coserver_host", default=None)
#: The number of the exchange on whose behalf a task runs; 0: that was begun before there was any upstream.
current_exchange: ContextVar[int] = ContextVar("coserver_exchange", default=0)


#: True once an upstream has been opened in this process. Until then ``current_exchange`` need not be set.
opened = False


def mark_opened() -> None:
    """Set ``opened``, for good."""
    global opened
    opened = True


def exchange_of(host: Host) -> Exchange | None:
    """The exchange of this task, as long as it is under way."""
    exchange: Exchange | None = host.exchange
    if exchange is None:
        return None
    number, phase = current_exchange.get(), host.phase
    if (number != exchange.id and number) or phase is RECYCLE or phase is CLOSED:
        return None
    return exchange


def hand_on(exchange: Exchange, client: Client) -> bytes:
    """What a child says of where it comes from: how deep it is, and the trace (W3C Trace Context §3.2).

    Raises TooDeep.
    """
    depth, trace = 0, b""
    for name, value in exchange.received:
        if name == DEPTH_FIELD:
            depth = int(value) if value.isdigit() and len(value) < 4 else client.limits.depth
        elif name in _TRACE_FIELDS:
            trace += b"%b: %b\r\n" % (name, value)
    if depth >= client.limits.depth:
        raise TooDeep(
            f"a subrequest at depth {depth + 1}, where {client.limits.depth} are allowed (UpstreamLimits.depth): does "
            f"the server ask itself?", upstream=client.name,
        )  # fmt: skip
    exchange.handed_on = b"%b: %d\r\n%b" % (DEPTH_FIELD, depth + 1, trace)
    return exchange.handed_on


async def end_forwarding(exchange: Exchange) -> None:
    """End the children; returns when none of them reads from the exchange's request any more."""
    children = exchange.children or ()
    end_children(exchange)
    while any(child.body_source is not None and child.body_source.taking for child in children):
        await anyio.lowlevel.checkpoint()


def end_children(exchange: Exchange) -> None:
    """The exchange is over: what it still waits for is cancelled; what it never asked for is logged."""
    children = exchange.children
    if not children:
        return
    exchange.children = []
    for child in children:
        if child.body_stream is not None:
            child.body_stream.close()
        if not child.done:  # one whose answer is there may still be held at it
            if not child.awaited:
                log.warning("%r was never awaited and ends with its exchange; use detach=True to let it go on", child)
            child.cancel()
        elif not child.awaited and child.error is not None and not child.cancelled:
            log.warning("%r failed, and nobody awaited it: %s", child, child.error)
