"""Send server-sent events: whole events, heartbeats while the source is silent, and an end when the server stops.

Heartbeats need no task: the sweeper looks at the sender's deadline, and writes a due heartbeat at once, between two
events. A stream that is no socket cannot be written to at once. Its heartbeat gets a task for one write.
"""

from __future__ import annotations

import math
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ...protocol.errors import LocalProtocolError
from ...protocol.jsons import encode_json
from ...protocol.sse import HEARTBEAT, ServerSentEvent, encode_event
from ..handler.bodies import EventBody
from .send_stream import BrokenOff, Sender, send_by

if TYPE_CHECKING:
    from .exchange import HttpExchange

#: Seconds that the head waits for the first event. So a source that fails at once still gets an error answer. With the
#: sweeper's 0.1 the head is sent within 0.25, and a browser knows that it is connected.
HEAD_WAIT = 0.15
#: Seconds until the rest of a heartbeat is tried again, after a full socket took only a part.
_TRY_AGAIN = 0.5


async def send_events(exchange: HttpExchange, body: EventBody, head: bytes) -> None:
    """Send the head and the events until the source ends, the client leaves or the server stops. Closes the source.

    Raises NothingSent, BrokenOff, ClientLeft, RemoteProtocolError.
    """
    sender = EventSender(exchange, head, body.heartbeat)
    try:
        await send_by(sender, body.pieces)
    finally:
        sender.close()


def encode_any(piece: Any) -> bytes:
    """Encode a value of the source as one event. Raises LocalProtocolError, or TypeError if JSON cannot express it."""
    if isinstance(piece, ServerSentEvent):
        return encode_event(_text(piece.data), piece.event, piece.id, piece.retry)
    if isinstance(piece, str | dict | list):
        return encode_event(_text(piece))
    raise LocalProtocolError(f"a source of events yields str, dict, list or ServerSentEvent; got "
                             f"{type(piece).__name__}: {piece!r:.60}")  # fmt: skip


def _text(data: Any) -> str | None:
    return data if data is None or isinstance(data, str) else encode_json(data).decode()


class EventSender(Sender):
    """A Sender with a deadline for the sweeper: the time at which the head, or the next heartbeat, is due."""

    encode = staticmethod(encode_any)

    def __init__(self, exchange: HttpExchange, head: bytes, heartbeat: float) -> None:
        super().__init__(exchange, head)
        self.deadline = monotonic() + HEAD_WAIT
        self._heartbeat = heartbeat
        self._rest = b""  # the rest of a heartbeat, after the socket took only a part
        self._stuck_since = math.inf
        self._writing = False
        self._beating: anyio.Event | None = None  # set when a heartbeat's own task is done
        self._borrowed: anyio.CancelScope | None = None  # the scope of that task

    async def pump(self, pieces: Any) -> None:
        """Send the events, until a drain cancels. Raises BrokenOff if the drain came in the middle of an event."""
        service = self.exchange.connection.service
        sweeper = service.loop.sweeper
        with anyio.CancelScope() as self.exchange.drain_scope:
            if service.draining:
                self.exchange.drain_scope.cancel()
            sweeper.add(self)
            try:
                await super().pump(pieces)
            finally:
                sweeper.discard(self)
                self.exchange.drain_scope = None
        if self._writing:
            raise BrokenOff("the server stopped in the middle of an event, which the client did not read")

    async def _write(self, data: bytes, trailers: Any, end: bool) -> None:
        while self._beating is not None:
            await self._beating.wait()
        self._writing = True
        prefix, self._rest = self._rest + (b"" if self.started else self.begin()), b""
        await self._carry(data, trailers, end, prefix)
        self._writing = False  # stays true if the write is cancelled: a part of the event may be on its way
        self._stuck_since = math.inf
        self.deadline = monotonic() + self._heartbeat

    # Called by the sweeper. These must not wait.

    def expire(self, now: float) -> None:
        """Send the head or a heartbeat, which is due, unless a write is under way."""
        self.deadline = now + self._heartbeat
        if self._writing or self._beating is not None:
            return
        exchange, prefix, data = self.exchange, self._rest, b""
        if not prefix:
            if self.started:
                data = HEARTBEAT
                exchange.size += len(data)
                if exchange.emitter.taps:
                    exchange.emitter.pass_on(exchange, data, sent=True)
            else:
                prefix = self.begin()
        try:
            rest = exchange.carrier.send_data_now(exchange, data, prefix)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._client_left(error)
            return
        if rest is None:
            self._beating, self._borrowed = anyio.Event(), anyio.CancelScope()
            work = partial(self._send_slowly, data, prefix, self._beating, self._borrowed)
            exchange.connection.service.start_work(work, f"coserver heartbeat of exchange {exchange.id}")
            return
        if len(rest) < len(prefix) + len(data):
            self._stuck_since = math.inf
        self._rest = rest
        if rest:
            self._wait_for_client(now)

    def _wait_for_client(self, now: float) -> None:
        """Try again later. Cut a client that reads nothing for ``Limits.write_timeout``, as for all writes."""
        timeout = self.exchange.limits.write_timeout
        self._stuck_since = min(self._stuck_since, now)
        self.deadline = now + min(_TRY_AGAIN, timeout)
        if now - self._stuck_since >= timeout:
            seconds = round(timeout, 3)
            self.exchange.cut("write_timeout", f"the client read nothing for {seconds} s (write_timeout)")

    async def _send_slowly(self, data: bytes, prefix: bytes, done: anyio.Event, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self.exchange.carrier.send_data(self.exchange, data, prefix)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._client_left(error)
        finally:
            self._beating = None
            done.set()

    def _client_left(self, error: Exception) -> None:
        self.exchange.cancel(f"the client left ({error or type(error).__name__})")

    def close(self) -> None:
        """Cancel the heartbeat's write that is under way."""
        if self._borrowed is not None:
            self._borrowed.cancel()
