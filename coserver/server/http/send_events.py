"""Sending server-sent events: each one whole, a heartbeat where the source is silent, an end when the server stops.

The heart is no task: the sweeper looks at the sender's deadline, and what is due is written at once, between two
events. A stream that is no socket cannot be written to at once; its heartbeat borrows a task for one write.
"""

from __future__ import annotations

import math
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ...protocol import responses
from ...protocol.errors import LocalProtocolError
from ...protocol.jsons import encode_json
from ...protocol.sse import HEARTBEAT, ServerSentEvent, encode_event
from ...transport.stream import SocketStream
from ..handler.eventbody import EventBody
from . import response_head as wire
from .send_stream import BrokenOff, Sender, send_by

if TYPE_CHECKING:
    from .exchange import Exchange
    from .http1 import HttpConnection

#: Seconds that the head waits for the first event, so that a source that fails at once is still answered with an error;
#: with the sweeper's 0.1 it goes out within 0.25, and a browser knows that it is connected.
HEAD_WAIT = 0.15
#: Seconds until a heartbeat that a full socket took a part of is tried again.
_TRY_AGAIN = 0.5


async def send_events(
    connection: HttpConnection, exchange: Exchange, body: EventBody, head: bytes, framing: int
) -> None:
    """Send the head and the events until the source ends, the client leaves or the server stops. Closes the source.

    Raises NothingSent, BrokenOff, ClientLeft, RemoteProtocolError.
    """
    sender = EventSender(connection, exchange, head, framing, body.heartbeat)
    try:
        await send_by(sender, body.pieces)
    finally:
        sender.close()


def encode_any(piece: Any) -> bytes:
    """What a source yields, as one event. Raises LocalProtocolError, or TypeError for what JSON cannot say."""
    if isinstance(piece, ServerSentEvent):
        return encode_event(_text(piece.data), piece.event, piece.id, piece.retry)
    if isinstance(piece, str | dict | list):
        return encode_event(_text(piece))
    raise LocalProtocolError(f"a source of events yields str, dict, list or ServerSentEvent; got "
                             f"{type(piece).__name__}: {piece!r:.60}")  # fmt: skip


def _text(data: Any) -> str | None:
    return data if data is None or isinstance(data, str) else encode_json(data).decode()


class EventSender(Sender):
    """A Sender that the sweeper looks at: ``deadline`` is when the head, or the next heartbeat, is due."""

    encode = staticmethod(encode_any)

    def __init__(
        self, connection: HttpConnection, exchange: Exchange, head: bytes, framing: int, heartbeat: float
    ) -> None:
        super().__init__(connection, exchange, head, framing)
        self.deadline = monotonic() + HEAD_WAIT
        self._heartbeat = heartbeat
        self._beat = responses.encode_chunk(HEARTBEAT) if framing == wire.CHUNKED else HEARTBEAT
        self._rest = b""  # of a heartbeat that the socket took a part of
        self._stuck_since = math.inf
        self._writing = False
        self._beating: anyio.Event | None = None  # set when a heartbeat's own task is done
        self._borrowed: anyio.CancelScope | None = None  # of that task

    async def pump(self, pieces: Any) -> None:
        """Raises BrokenOff if the server's stop came in the middle of an event."""
        sweeper = self.connection.service.loop.sweeper
        with anyio.CancelScope() as self.exchange.endless:
            if self.connection.service.draining:
                self.exchange.endless.cancel()
            sweeper.add(self)
            try:
                await super().pump(pieces)
            finally:
                sweeper.discard(self)
                self.exchange.endless = None
        if self._writing:
            raise BrokenOff("the server stopped in the middle of an event, which the client did not read")

    async def _write(self, data: bytes) -> None:
        while self._beating is not None:
            await self._beating.wait()
        self._writing = True
        data, self._rest = self._rest + (data if self.started else self._first() + data), b""
        await self.connection.send(data)
        self._writing = False  # not if it was cancelled: nobody knows then where the client is
        self._stuck_since = math.inf
        self.deadline = monotonic() + self._heartbeat

    def _first(self) -> bytes:
        self.started = True
        self.exchange.continued = True  # no 100 may follow a final status
        self.show_head()
        return self.head

    # What the sweeper does; it must not wait.

    def expire(self, now: float) -> None:
        """The head or a heartbeat is due, unless something is being written anyway."""
        self.deadline = now + self._heartbeat
        if self._writing or self._beating is not None:
            return
        connection = self.connection
        data = self._rest
        if not data:
            data = self._beat if self.started else self._first()
            if data is self._beat:
                self.exchange.size += len(HEARTBEAT)
                if connection.emitter.taps:
                    connection.emitter.pass_on(self.exchange, HEARTBEAT, sent=True)
        if not isinstance(connection.stream, SocketStream):
            self._beating, self._borrowed = anyio.Event(), anyio.CancelScope()
            work = partial(self._send_slowly, data, self._beating, self._borrowed)
            connection.service.start_work(work, f"coserver heartbeat of connection {connection.id}")
            return
        try:
            taken = connection.send_now(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._client_left(error)
            return
        self._rest = data[taken:]
        if taken:
            self._stuck_since = math.inf
        if self._rest:
            self._wait_for_client(now)

    def _wait_for_client(self, now: float) -> None:
        """It does not read: ``Limits.write_timeout`` holds for heartbeats as for all that is written."""
        timeout = self.connection.limits.write_timeout
        self._stuck_since = min(self._stuck_since, now)
        self.deadline = now + min(_TRY_AGAIN, timeout)
        if now - self._stuck_since >= timeout:
            seconds = round(timeout, 3)
            self.connection.cut("write_timeout", f"the client read nothing for {seconds} s (write_timeout)")

    async def _send_slowly(self, data: bytes, done: anyio.Event, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self.connection.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._client_left(error)
        finally:
            self._beating = None
            done.set()

    def _client_left(self, error: Exception) -> None:
        self.connection.end(f"the client left ({error or type(error).__name__})")
        self.connection.scope.cancel()

    def close(self) -> None:
        """Whatever is still being written is of no use to anybody."""
        if self._borrowed is not None:
            self._borrowed.cancel()
