"""One accepted connection: its client, its exchanges under way, its writes, and its end.

A connection has one task and one cancel scope, but no scope for a phase. To end a connection from outside (at a
deadline, when the client leaves, in a drain), note the reason and cancel the scope. Then the protocol's ``run``
unwinds, and a last answer is sent after the scope has ended. ``http.http1`` and ``tcp`` have the subclasses.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream

from ...hooks.workers import Worker, on_loop
from ...lifecycle import events as ev
from ...lifecycle import phases
from ...transport.cancellation import is_cancellation, parkable
from ...transport.deadlines import TICK
from ...transport.peer import show_address
from ...transport.stream import SocketStream
from ...transport.tls import TlsStream
from ...transport.tls_info import TlsInfo
from ...upstream.parent import current_connection, current_exchange
from ..exchange import Exchange
from ..hold import Holdable, Pause
from ..limits import Limits
from .pace import Pace
from .proxy_protocol import read_client
from .tls_handshake import secure

if TYPE_CHECKING:
    from ..service import Service

#: One counter for the process: a server that replaces another must not repeat its numbers.
_ids = itertools.count(1)

#: Seconds for the first byte of a client that connects as the server stops; a round trip around the world is 0.3.
_FIRST_WORD = 0.5
#: The part of ``Limits.linger_timeout`` for a client that has no more to send: it may send something all the same.
_NOT_OWED = 1 / 8

log = logging.getLogger("coserver.server")


class Connection(Holdable):
    """Base of HttpConnection and TcpConnection.

    ``current`` is the exchange under way, if the protocol has one at a time. While there is one, ``phase``, ``since``
    and ``limits`` are its own; else they are the connection's. Any thread may read them, ``held`` and the counters.
    """

    __slots__ = (
        "_context",
        "_fd",
        "_pause",
        "_peer",
        "_socket",
        "_suspended",
        "aborted",
        "cancels",
        "current",
        "deadline",
        "emitter",
        "hang_up_watched",
        "id",
        "known",
        "late_status",
        "opened",
        "own_phase",
        "own_since",
        "pace",
        "reason",
        "running",
        "scope",
        "served",
        "service",
        "spent",
        "stream",
    )
    protocol = ""
    #: Whether the connection may have several exchanges at once; then ``current`` is None.
    multiplexed = False
    reason: str
    #: Whether its own deadlines are those of ``head_timeout``, ``handshake_timeout`` and ``idle_timeout`` alone.
    patient = False
    #: A suspension outside of any exchange is shown in snapshots, but no event tells it.
    tells_suspensions = False
    current: Exchange | None

    def __init__(self, service: Service, stream: ByteStream, peer: str | tuple[Any, ...]) -> None:
        """``peer`` is the client's address, as text or as the accepted socket gave it."""
        self.service = service
        self.emitter = service.emitter
        self.running = service.loop.sweeper.running
        self.stream = stream
        self._peer = peer
        self.id = next(_ids)
        self._socket = stream if isinstance(stream, SocketStream) else None
        self._fd = self._socket.fileno() if self._socket else -1
        self.hang_up_watched = False
        self._context: Context | None = copy_context()
        self._context.run(current_connection.set, self)  # a handler's subrequests find their exchange by this
        self.scope = anyio.CancelScope()
        self.current = None
        self.own_phase = phases.ACCEPT
        self.opened = self.own_since = monotonic()
        self.deadline = self.opened + service.limits.head_timeout
        self._pause: Pause | None = None  # made by the first hold
        self._suspended: Worker | None = None
        self.known: Any = None  # what hosted applications are told of it
        #: The number of pending ``cancel()`` calls of its task; None until a handler could have made one.
        self.cancels: Callable[[], int] | None = None
        self.aborted = False  # whether the connection must end in a reset
        self.pace: Pace | None = None  # made by the first write that has to wait
        self.served = 0
        self.spent = 0.0  # seconds, the sum over all exchanges that were served
        self.reason = ""  # why it ends; the first reason counts
        self.late_status = 0  # the status that answers a deadline which passed while no exchange was under way

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.peer} {self.phase}, {self.served} served>"

    @property
    def peer(self) -> str:
        """The client's address as text: host:port, [v6]:port, or "unix"."""
        if not isinstance(self._peer, str):
            self._peer = show_address(self._peer)
        return self._peer

    @peer.setter
    def peer(self, peer: str) -> None:
        self._peer = peer

    # What is under way.

    @property
    def connection(self) -> Connection:  # type: ignore[override]
        """The connection itself. So code for a subject works on connections and on exchanges."""
        return self

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """The exchanges under way, the oldest first. May be read from any thread."""
        exchange = self.current
        return () if exchange is None else (exchange,)

    @property
    def exchange(self) -> Exchange | None:
        """The first of ``exchanges``, None without any. Deprecated: use ``exchanges``."""
        from ...deprecated import deprecated

        deprecated("connection.exchange", "connection.exchanges")
        return self.exchanges[0] if self.exchanges else None

    def find_exchange(self, number: int) -> Exchange | None:
        """The exchange under way with this number; for 0 the current one. None if there is none."""
        exchange = self.current
        return exchange if exchange is not None and (exchange.id == number or not number) else None

    @property
    def limits(self) -> Limits:  # type: ignore[override]
        """The limits that apply now: those of the current exchange's route, or the listener's."""
        exchange = self.current
        return self.service.limits if exchange is None else exchange.limits

    @property
    def phase(self) -> str:
        """The phase of the current exchange; without one, the connection's own."""
        exchange = self.current
        return self.own_phase if exchange is None or self.own_phase is phases.CLOSED else exchange.phase

    @phase.setter
    def phase(self, phase: str) -> None:
        self.own_phase = phase

    @property
    def since(self) -> float:
        """When ``phase`` began, in monotonic seconds."""
        exchange = self.current
        return self.own_since if exchange is None else exchange.since

    @since.setter
    def since(self, since: float) -> None:
        self.own_since = since

    @property
    def held(self) -> bool:
        """Whether a gate holds the connection or one of its exchanges."""
        pause = self._pause
        return (pause is not None and pause.holds > 0) or any(one.held for one in self.exchanges)

    @property
    def suspended(self) -> Worker | None:
        """The worker that waits in a blocking call, for the connection or for its current exchange."""
        exchange = self.current
        return self._suspended if exchange is None else exchange.suspended

    @suspended.setter
    def suspended(self, worker: Worker | None) -> None:
        self._suspended = worker

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way and nothing has ended it yet. May be read from any thread."""
        return bool(self.exchanges) and not self.reason

    @property
    def tls(self) -> TlsInfo | None:
        """The agreed TLS version and cipher, and the client's certificate; None without TLS."""
        return self.stream.info if isinstance(self.stream, TlsStream) else None

    @property
    def received(self) -> int:
        """Bytes received; 0 for a stream that is no socket. Any thread may read this and ``sent``."""
        return self._socket.received if self._socket is not None else 0

    @property
    def sent(self) -> int:
        """Bytes that the socket has taken; 0 for a stream that is no socket."""
        return self._socket.sent if self._socket is not None else 0

    def event_fields(self) -> dict[str, Any]:
        """The fields that every event has; those of the current exchange, while there is one."""
        exchange = self.current
        return {
            "at": monotonic(),
            "connection": self.id,
            "exchange": None if exchange is None else exchange.id,
            "source": self if exchange is None else exchange,
        }

    # The connection's life, from the task's first turn to the close.

    def begin(self) -> None:
        """Start the connection's task, in the connection's own context."""
        assert self._context is not None
        self._context.run(self.service.start_task, self)

    def main(self) -> Coroutine[Any, Any, None]:
        """Run the whole life, as a task of the server's group. Raises nothing but a cancellation from outside."""
        scope = self.scope

        def cancelled() -> bool:
            return scope.cancel_called or self.service.cancelled

        def parked(where: str) -> None:
            if self.scope is scope:
                self.parked(where)
            else:
                self.service.tell_parked("work after a response", where)
                self.service.work_done()

        return parkable(self._live, scope, cancelled, parked)

    async def _live(self) -> None:
        scope = self.scope
        handed_over = False
        try:
            with scope:
                if self.own_phase is not phases.ACCEPT or await self._arrive():
                    handed_over = await self.run()
            if not handed_over and self.scope is scope:
                await self.answer_deadline()
                if self._socket is None:
                    await self.stream.aclose()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream) as error:
            self.end(f"the client left ({error or type(error).__name__})")
        except BaseException as error:
            exchange = self.current
            whose = f"handler {exchange.handler}, {exchange!r}," if exchange is not None else repr(self)
            if self.service.interrupted(error, whose):
                self.end("its handler raised KeyboardInterrupt")
                return
            if is_cancellation(error):
                raise
            if isinstance(error, anyio.get_cancelled_exc_class()):
                # A handler cancelled its own asyncio task, later or as it returned. No other connection ends by that.
                self.end("its task was cancelled, by none of the server's scopes")
                log.warning("%r: %s; the connection is closed", self, self.reason)
            else:
                self.end("internal error")
                log.exception("%r: internal error, the connection is closed", self)
        finally:
            if self.scope is not scope:  # another task has the connection; this one did work after a response
                self.service.work_done()
            elif handed_over:
                self.renew_task()
            else:
                self.close()

    async def _arrive(self) -> bool:
        """Read the PROXY header, do the TLS handshake, tell that the connection is open; false to close it."""
        arrived = True
        try:
            if self.service.proxy_protocol:
                arrived = await read_client(self)
            if arrived and self.service.certificates is not None:
                arrived = await secure(self, self.service.certificates)
        except BaseException:
            if self.emitter.watched:
                self.emitter.tell(self._opened())
            raise
        if self.emitter.watched:
            await self.tell_and_hold(self._opened())
        return arrived

    def _opened(self) -> ev.Event:
        return ev.ConnectionOpened(**self.event_fields(), peer=self.peer, protocol=self.protocol)

    async def run(self) -> bool:
        """Speak the protocol, from the first byte on. True if the connection goes on in a new task."""
        raise NotImplementedError

    async def answer_deadline(self) -> None:
        """Tell the client, after the scope has ended, that a deadline has passed. Does nothing if a protocol cannot."""

    def renew_task(self) -> None:
        """Go on in a new task, with a fresh copy of the connection's context.

        So a contextvar that a handler has set does not reach the next request of the connection.
        """
        self.scope = anyio.CancelScope()
        self.cancels = None
        self.begin()

    def close(self) -> None:
        """Close the socket, leave every table, tell the end. This does not wait, so no cancellation interrupts it."""
        service = self.service
        self.unwatch()
        service.loop.sweeper.discard(self)
        if self._socket is not None:
            if self.aborted:
                self._socket.reset()
            self._socket.close()
        self.own_phase = phases.CLOSED
        self._context = None  # it refers to this connection: a cycle that only the garbage collector would free
        service.connection_closed(self)
        reason = self.reason or "cancelled by the server"
        log.debug("%r closed: %s", self, reason)
        if self.emitter.heard:
            self.emitter.tell(ev.ConnectionClosed(**self.event_fields(), reason=reason))

    # Used by both protocols.

    def replace_stream(self, stream: SocketStream) -> None:
        """Go on over ``stream``, which has the same descriptor."""
        self.stream = self._socket = stream

    def hold_drain(self) -> Callable[[], None]:
        """Have a drain wait, within its grace, until the returned function is called."""
        self.service.pending_work += 1
        return self.service.work_done

    async def end_sending(self) -> None:
        """Half-close the stream, if it can do that: the client then reads the end of the data."""
        if self._socket is not None:
            await self._socket.send_eof()

    def send_now(self, data: bytes) -> int:
        """Send as much as is possible without waiting, and return the number of bytes."""
        return self._socket.send_now(data) if self._socket is not None else 0

    async def send(self, data: bytes) -> None:
        """Send all of ``data``. A client that reads nothing is cut after ``Limits.write_timeout``."""
        taken = self.send_now(data)
        if taken < len(data):
            await self.send_rest(data, taken)

    async def send_rest(self, data: bytes, taken: int) -> None:
        """Send ``data`` without its first ``taken`` bytes, which ``send_now`` has sent."""
        pace = self.begin_pace()
        try:
            await self.stream.send(memoryview(data)[taken:])  # type: ignore[arg-type]
        finally:
            pace.end()

    def begin_pace(self) -> Pace:
        """Start the patience of a write that waits for the client. Call ``end`` of the result after the wait."""
        if self.pace is None:
            self.pace = Pace(self, self._socket)
        self.pace.begin()
        return self.pace

    async def linger(self, limits: Limits, *, owed: bool) -> None:
        """Let the client read the answer before the close: unread bytes would make the close a reset (RFC 9112 §9.6).

        ``owed``: the client has sent, or still has to send, bytes that the server will not use.
        """
        with anyio.move_on_after(limits.linger_timeout * (1 if owed else _NOT_OWED)):
            try:
                await self.end_sending()
                while True:
                    await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    def tell_tasks(self, exchange: int) -> None:
        """Note in the context the number of the exchange that subrequests from here on belong to."""
        current_exchange.set(exchange)
        self._context = copy_context()

    def context_changed(self) -> bool:
        """Whether a handler has set a contextvar in the connection's own context."""
        try:
            return copy_context() != self._context
        except Exception:  # a value whose comparison raises, for example a NumPy array
            return True

    # Called from outside, on the connection's loop: by the sweeper, the poller, the drain, the capacity. None waits.

    def end(self, reason: str) -> None:
        """Note why the connection ends. The first reason is kept."""
        self.reason = self.reason or reason

    def cancel(self, reason: str, status: int = 0) -> None:
        """Note why the connection ends, and cancel its task. The client still gets ``status``, if that is possible."""
        self.late_status = status
        self.end(reason)
        on_loop(self.scope.cancel)

    def abort(self, reason: str) -> None:
        """End the connection in a reset."""
        self.end(reason)
        self.aborted = True
        on_loop(self.scope.cancel)

    def expire(self, now: float) -> None:
        """End the connection: the deadline of its own phase has passed."""
        if self.service.draining and self.own_phase in (phases.ACCEPT, phases.HANDSHAKE):
            self.deadline = math.inf
            self.drain()
        else:
            super().expire(now)

    def parked(self, where: str) -> None:
        """Close the connection without its handler, which swallows every cancellation."""
        self.end("its handler goes on though it was cancelled")
        log.error("%r: %s; it is given up at %s", self, self.reason, where)
        self.close()

    def abandon(self, where: str) -> None:
        """Reset the socket for the client's sake: no cancellation reaches the task."""
        log.error("%r ignores its cancellation, at %s; its connection is closed", self, where)
        self.end("the server stops")
        if self._socket is not None:
            self.unwatch()
            self._socket.reset()

    def outlive(self, now: float) -> None:
        """Watch for a hang-up, if a handler outside of any exchange still runs at a look of the sweeper."""
        if not self.scope.cancel_called:
            self.watch_hang_up(now - self.own_since, self.limits)

    def watch_hang_up(self, lasted: float, limits: Limits) -> None:
        """Have the poller call ``hung_up`` when the client leaves. One watch serves all exchanges of the socket.

        ``lasted`` is in seconds: how long the subject with these limits has run. A short one is not watched.
        """
        # Only once: the handler of a client that has left may take long to end, and each look would report it again.
        if not self.hang_up_watched and self._fd >= 0 and lasted >= TICK:
            self.hang_up_watched = True
            half_close = limits.on_half_close == "cancel"
            self.service.loop.poller.watch(self._fd, self.hung_up, half_close=half_close)

    def hung_up(self) -> None:
        """End the connection: the poller saw the client leave."""
        self.hang_up_watched = False
        self.end("the client left")
        exchange = self.current
        if exchange is None:
            self.scope.cancel()
        else:
            exchange.client_left()

    def unwatch(self) -> None:
        """Stop the watch for a hang-up."""
        if self.hang_up_watched:
            self.hang_up_watched = False
            self.service.loop.poller.forget(self._fd)

    def drain(self) -> None:
        """Release every hold, and end the connection if it is idle. Bytes that have arrived are still served."""
        self.release_hold()
        exchanges = self.exchanges
        for exchange in exchanges:
            exchange.drain()
        if exchanges or self.own_phase not in (phases.ACCEPT, phases.HANDSHAKE, phases.RECYCLE):
            return
        first_word = self.own_since + _FIRST_WORD
        if self.own_phase is not phases.RECYCLE and monotonic() < first_word:
            self.deadline = first_word  # it has just connected, and its request may be on the way
            return
        self.end("the server stops")
        self.end_receiving()

    def idle(self, now: float) -> bool:
        """Whether the connection may close to give its place to a client that waits. A protocol may override this."""
        return False

    def give_way(self) -> None:
        """End an idle connection now. Bytes that have arrived are still served."""
        self.end("it gave way to a client that waited")
        self.end_receiving()

    def end_receiving(self) -> None:
        """Receive no more. Bytes that have arrived are still served, then the stream ends."""
        if self._socket is not None:
            self._socket.end_receiving()
        else:
            self.scope.cancel()
