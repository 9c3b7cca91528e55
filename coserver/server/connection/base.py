"""One accepted byte stream: who the client is, which exchanges are under way, and how the connection ends.

A connection has one task and one cancel scope, none for a phase. To end it from outside (at a deadline, when the client
leaves, in a drain) note why and cancel the scope; the protocol's ``run`` unwinds, and what the client is still owed is
sent after the scope has ended. Both protocols stand on this class: ``http.http1`` and ``tcp``.
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

from ...hooks.workers import Worker
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

#: Of the process: a server that replaces another must not give its numbers again.
_ids = itertools.count(1)

#: Seconds for the first byte of a client that connects as the server stops; a round trip around the world is 0.3.
_FIRST_WORD = 0.5
#: A client that owes nothing is given this part of ``Limits.linger_timeout``: it may be sending what it should not.
_NOT_OWED = 1 / 8

log = logging.getLogger("coserver.server")


class Connection(Holdable):
    """Base of HttpConnection and TcpConnection.

    ``current`` is the exchange under way where there is one at a time. ``phase``, ``since`` and ``held`` are then that
    exchange's; else they are the connection's own. They and the counters may be read from any thread.
    """

    __slots__ = (
        "_context",
        "_fd",
        "_pause",
        "_peer",
        "_socket",
        "_suspended",
        "aborted",
        "current",
        "deadline",
        "emitter",
        "hang_up_watched",
        "id",
        "late_status",
        "opened",
        "own_phase",
        "own_since",
        "pace",
        "reason",
        "running",
        "scope",
        "send_now",
        "served",
        "service",
        "spent",
        "stream",
    )
    protocol = ""
    #: Whether it may have several exchanges at once; then ``current`` is None.
    multiplexed = False
    reason: str
    #: A suspension outside of any exchange is shown, and told to nobody.
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
        #: Sends what can be sent at once, without waiting; how many bytes that were.
        self.send_now: Callable[[bytes], int] = self._socket.send_now if self._socket else _send_nothing
        self._fd = self._socket.fileno() if self._socket else -1
        self.hang_up_watched = False
        self._context: Context | None = copy_context()
        self._context.run(current_connection.set, self)  # a handler's subrequests find their exchange by it
        self.scope = anyio.CancelScope()
        self.current = None
        self.own_phase = phases.ACCEPT
        self.opened = self.own_since = monotonic()
        self.deadline = self.opened + service.limits.head_timeout
        self._pause: Pause | None = None  # made by the first hold
        self._suspended: Worker | None = None
        self.aborted = False  # it must end in a reset
        self.pace: Pace | None = None  # made by the first write that has to wait
        self.served = 0
        self.spent = 0.0  # seconds, of all exchanges that were served, together
        self.reason = ""  # why it ends; the first reason counts
        self.late_status = 0  # what a deadline is answered with that passed while no exchange was under way

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
        """Itself: a connection is a subject as its exchanges are."""
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
        """The exchange under way with this number; for 0 the only one there is."""
        exchange = self.current
        return exchange if exchange is not None and (exchange.id == number or not number) else None

    @property
    def limits(self) -> Limits:  # type: ignore[override]
        """The limits that hold now: those of the current exchange's route, or the listener's."""
        exchange = self.current
        return self.service.limits if exchange is None else exchange.limits

    @property
    def phase(self) -> str:
        """The phase of the current exchange, or its own while there is none."""
        exchange = self.current
        return self.own_phase if exchange is None or self.own_phase is phases.CLOSED else exchange.phase

    @phase.setter
    def phase(self, phase: str) -> None:
        self.own_phase = phase

    @property
    def since(self) -> float:
        """When that phase began, in monotonic seconds."""
        exchange = self.current
        return self.own_since if exchange is None else exchange.since

    @since.setter
    def since(self, since: float) -> None:
        self.own_since = since

    @property
    def held(self) -> bool:
        """Whether a gate holds it, or any of its exchanges."""
        pause = self._pause
        return (pause is not None and pause.holds > 0) or any(one.held for one in self.exchanges)

    @property
    def suspended(self) -> Worker | None:
        """The worker that waits for it, or for its current exchange, in a blocking call."""
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
        """What was agreed on, and who the client is by its certificate; None without TLS."""
        return self.stream.info if isinstance(self.stream, TlsStream) else None

    @property
    def received(self) -> int:
        """Bytes that came; 0 for a stream that is no socket. May be read from any thread, as ``sent``."""
        return self._socket.received if self._socket is not None else 0

    @property
    def sent(self) -> int:
        """Bytes that the socket has taken; 0 for a stream that is no socket."""
        return self._socket.sent if self._socket is not None else 0

    def event_fields(self) -> dict[str, Any]:
        """The fields of an event: of the current exchange, while there is one."""
        exchange = self.current
        return {
            "at": monotonic(),
            "connection": self.id,
            "exchange": None if exchange is None else exchange.id,
            "source": self if exchange is None else exchange,
        }

    # Its life, from the task's first turn to the close.

    def begin(self) -> None:
        """Take a task, in the connection's own context."""
        assert self._context is not None
        self._context.run(self.service.start_task, self)

    def main(self) -> Coroutine[Any, Any, None]:
        """The whole life, as a task of the server's group. Nothing but a cancellation from outside leaves it."""
        return parkable(self._live, self.scope, self._cancelled, self.parked)

    def _cancelled(self) -> bool:
        return self.scope.cancel_called or self.service.cancelled

    async def _live(self) -> None:
        handed_over = False
        try:
            with self.scope:
                if self.own_phase is not phases.ACCEPT or await self._arrive():
                    handed_over = await self.run()
            if not handed_over:
                await self.answer_deadline()
                if self._socket is None:
                    await self.stream.aclose()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream) as error:
            self.end(f"the client left ({error or type(error).__name__})")
        except BaseException as error:
            if is_cancellation(error):
                raise
            if isinstance(error, anyio.get_cancelled_exc_class()):
                # A handler has kept asyncio's own task, or cancelled it as it returned: that ends no other connection.
                self.end("its task was cancelled, by none of the server's scopes")
                log.warning("%r: %s; the connection is closed", self, self.reason)
            else:
                self.end("internal error")
                log.exception("%r: internal error, the connection is closed", self)
        finally:
            if handed_over:
                self._hand_over()
            else:
                self.close()

    async def _arrive(self) -> bool:
        """Find out who the client is, then tell that the connection is open; false if it is to be closed."""
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
        """Do what this protocol does, from the first byte on; true if it goes on in a new task."""
        raise NotImplementedError

    async def answer_deadline(self) -> None:
        """Tell the client that a deadline has passed, once the scope has ended. Nothing, unless a protocol can."""

    def _hand_over(self) -> None:
        """Go on in a new task with a fresh copy of the first one's context.

        A handler that sets a contextvar must not hand it to the next request of the connection.
        """
        self.scope = anyio.CancelScope()
        self.begin()

    def close(self) -> None:
        """The end: close the socket, leave every table, tell it. Cannot wait, so no cancellation can strike in it."""
        service = self.service
        self.unwatch()
        service.loop.sweeper.discard(self)
        if self._socket is not None:
            if self.aborted:
                self._socket.reset()
            self._socket.close()
        self.own_phase = phases.CLOSED
        self._context = None  # it knows this connection: a cycle that only the collector would undo
        service.connection_closed(self)
        reason = self.reason or "cancelled by the server"
        log.debug("%r closed: %s", self, reason)
        if self.emitter.heard:
            self.emitter.tell(ev.ConnectionClosed(**self.event_fields(), reason=reason))

    # What the protocols share.

    def replace_stream(self, stream: SocketStream) -> None:
        """Go on over ``stream``, which has the same descriptor."""
        self.stream = self._socket = stream
        self.send_now = stream.send_now

    def hold_drain(self) -> Callable[[], None]:
        """Have a drain wait, within its grace, until what this returns is called."""
        self.service.pending_work += 1
        return self.service.work_done

    async def end_sending(self) -> None:
        """Half-close, where the stream can: the client reads the end of what was sent."""
        if self._socket is not None:
            await self._socket.send_eof()

    async def send(self, data: bytes) -> None:
        """Send all; a client that does not read is cut at ``Limits.write_timeout`` without progress."""
        taken = self.send_now(data)
        if taken < len(data):
            await self.send_rest(data, taken)

    async def send_rest(self, data: bytes, taken: int) -> None:
        """Send what ``send_now`` left."""
        pace = self.begin_pace()
        try:
            await self.stream.send(memoryview(data)[taken:])  # type: ignore[arg-type]
        finally:
            pace.end()

    def begin_pace(self) -> Pace:
        """A write begins to wait for the client; call ``end`` of what this returns when it waits no more."""
        if self.pace is None:
            self.pace = Pace(self, self._socket)
        self.pace.begin()
        return self.pace

    async def linger(self, limits: Limits, *, owed: bool) -> None:
        """Let the client read the answer before the close: unread bytes would make the close a reset (RFC 9112 §9.6).

        ``owed``: the client has sent, or is still to send, what nobody will read.
        """
        with anyio.move_on_after(limits.linger_timeout * (1 if owed else _NOT_OWED)):
            try:
                await self.end_sending()
                while True:
                    await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    def tell_tasks(self, exchange: int) -> None:
        """Note in the context that what is started from here on runs for the exchange with this number."""
        current_exchange.set(exchange)
        self._context = copy_context()

    def context_changed(self) -> bool:
        """Whether a handler has set a contextvar in the connection's own context."""
        try:
            return copy_context() != self._context
        except Exception:  # a value whose comparison raises, a NumPy array say
            return True

    # What ends it from outside, on its own loop: the sweeper, the poller, the drain, the capacity. None of it waits.

    def end(self, reason: str) -> None:
        """Note why the connection ends; only the first reason is kept."""
        self.reason = self.reason or reason

    def cancel(self, reason: str, status: int = 0) -> None:
        """Note why it ends, and cancel its task. ``status`` is what the client is still told, where it can be."""
        self.late_status = status
        self.end(reason)
        self.scope.cancel()

    def abort(self, reason: str) -> None:
        """End it in a reset."""
        self.end(reason)
        self.aborted = True
        self.scope.cancel()

    def expire(self, now: float) -> None:
        """The deadline of its own phase has passed."""
        if self.service.draining and self.own_phase in (phases.ACCEPT, phases.HANDSHAKE):
            self.deadline = math.inf
            self.drain()
        else:
            super().expire(now)

    def parked(self, where: str) -> None:
        """Its handler swallows every cancellation: end without it."""
        self.end("its handler goes on though it was cancelled")
        log.error("%r: %s; it is given up at %s", self, self.reason, where)
        self.close()

    def abandon(self, where: str) -> None:
        """Nothing can end its task: the client at least is let go."""
        log.error("%r goes on where no cancellation reaches it, at %s; its client is let go", self, where)
        self.end("the server stops")
        if self._socket is not None:
            self.unwatch()
            self._socket.reset()

    def outlive(self, now: float) -> None:
        """It runs a handler, outside of any exchange, at a look of the sweeper."""
        if not self.scope.cancel_called:
            self.watch_hang_up(now - self.own_since, self.limits)

    def watch_hang_up(self, lasted: float, limits: Limits) -> None:
        """Have the poller tell when the client leaves, once a subject with these limits has lasted ``lasted`` seconds.

        One watch serves all exchanges of the socket.
        """
        # Once: the handler of a client that has left may take its time to end, and would be told again at each look.
        if not self.hang_up_watched and self._fd >= 0 and lasted >= TICK:
            self.hang_up_watched = True
            half_close = limits.on_half_close == "cancel"
            self.service.loop.poller.watch(self._fd, self.hung_up, half_close=half_close)

    def hung_up(self) -> None:
        """The poller saw the client leave."""
        self.hang_up_watched = False
        self.end("the client left")
        self.scope.cancel()

    def unwatch(self) -> None:
        """Watch for a hang-up no more."""
        if self.hang_up_watched:
            self.hang_up_watched = False
            self.service.loop.poller.forget(self._fd)

    def drain(self) -> None:
        """The server stops: an idle connection ends now, but what has arrived on it is still served.

        What a gate holds goes on.
        """
        self.release_hold()
        exchanges = self.exchanges
        for exchange in exchanges:
            exchange.drain()
        if exchanges or self.own_phase not in (phases.ACCEPT, phases.HANDSHAKE, phases.RECYCLE):
            return
        first_word = self.own_since + _FIRST_WORD
        if self.own_phase is not phases.RECYCLE and monotonic() < first_word:
            self.deadline = first_word  # it has just come, and what it came for is on the way
            return
        self.end("the server stops")
        self.end_receiving()

    def idle(self, now: float) -> bool:
        """Whether it may give way to a client that waits; false, unless a protocol says otherwise."""
        return False

    def give_way(self) -> None:
        """An idle connection ends now, but what has arrived on it is still served."""
        self.end("it gave way to a client that waited")
        self.end_receiving()

    def end_receiving(self) -> None:
        """Receive no more: what has arrived is still served, then the stream ends."""
        if self._socket is not None:
            self._socket.end_receiving()
        else:
            self.scope.cancel()


def _send_nothing(_: bytes) -> int:
    return 0
