"""One accepted byte stream: who it is, in which phase, until when, and how it ends. Both stories stand on it.

A task, a cancel scope and a deadline for each connection, none for a phase. Whoever wants it gone says why and cancels
the scope (see ``outside``); the story unwinds, and what is still owed to the client is said after the scope has ended.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream

from ...hooks.workers import Worker
from ...lifecycle import events as ev
from ...lifecycle import phases
from ...transport.cancellation import is_cancellation, parkable
from ...transport.stream import SocketStream
from ...transport.tls import TlsStream
from ...transport.tls_info import TlsInfo
from ...upstream.parent import current_exchange, current_host
from .hold import Pause, be_held
from .outside import EndedFromOutside
from .pace import Pace
from .proxy_protocol import arrive
from .tls_handshake import secure

if TYPE_CHECKING:
    from ..service import Service

# Of the process: a server that replaces another must not give its numbers again.
_ids = itertools.count(1)

_NOTHING_OWED = (0, None)

log = logging.getLogger("coserver.server")


class Accepted(EndedFromOutside):
    """Base of HttpConnection and TcpConnection. ``phase``, ``since`` and the counters may be read from any thread."""

    __slots__ = (
        "_context",
        "emitter",
        "id",
        "opened",
        "pace",
        "running",
        "send_now",
        "served",
        "spent",
        "stream",
        "suspended",
    )
    protocol = ""

    def __init__(self, service: Service, stream: ByteStream, peer: str) -> None:
        self.service = service
        self.limits = service.limits  # those of the route, while it is known which one it is
        self.emitter = service.emitter
        self.running = service.loop.sweeper.running
        self.stream = stream
        self.peer = peer
        self.id = next(_ids)
        self._socket = stream if isinstance(stream, SocketStream) else None
        #: Sends what can be sent at once, without waiting; how many bytes that were.
        self.send_now: Callable[[bytes], int] = self._socket.send_now if self._socket else _send_nothing
        self._fd = self._socket.fileno() if self._socket else -1
        self.hang_up_watched = False
        self._context: Context | None = copy_context()
        self._context.run(current_host.set, self)  # a handler's subrequests find their exchange by it
        self.scope = anyio.CancelScope()
        self.phase = phases.ACCEPT
        self.opened = self.since = monotonic()
        self.deadline = self.since + self.limits.head_timeout
        self.exchange: Any = None
        self._pause: Pause | None = None  # made by the first hold
        self.arriving = ""  # "tls": its handshake is under way
        self.aborted = False  # it must end in a reset
        self.pace: Pace | None = None  # made by the first write that has to wait
        self.suspended: Worker | None = None  # the worker that waits for it in a blocking call
        self.served = 0
        self.spent = 0.0  # seconds, of all exchanges that were served, together
        self.reason = ""  # why it ends; the first word counts
        self.ended_by: tuple[int, Any] = _NOTHING_OWED  # the status, and the exchange that a deadline ended

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.peer} {self.phase}, {self.served} served>"

    @property
    def tls(self) -> TlsInfo | None:
        """What was agreed on, and who the client is by its certificate; None without TLS."""
        return self.stream.info if isinstance(self.stream, TlsStream) else None

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way and nothing has ended it yet. May be read from any thread."""
        return self.exchange is not None and not self.reason

    @property
    def received(self) -> int:
        """Bytes that came; 0 for a stream that is no socket. May be read from any thread, as ``sent``."""
        return self._socket.received if self._socket is not None else 0

    @property
    def sent(self) -> int:
        """Bytes that the socket has taken; 0 for a stream that is none."""
        return self._socket.sent if self._socket is not None else 0

    def lived(self) -> Coroutine[Any, Any, None]:
        """The whole life, as a task of the server's group. Nothing but a cancellation from outside leaves it."""
        return parkable(self._live, self.scope, self._cancelled, self.parked)

    def _cancelled(self) -> bool:
        return self.scope.cancel_called or self.service.cancelled

    def parked(self, where: str) -> None:
        """Its handler swallows every cancellation: end without it."""
        self.end("its handler goes on though it was cancelled")
        log.error("%r: %s; it is given up at %s", self, self.reason, where)
        self.close()

    def strand(self, where: str) -> None:
        """Nothing can end its task: the client at least is let go."""
        log.error("%r goes on where no cancellation reaches it, at %s; its client is let go", self, where)
        self.end("the server stops")
        if self._socket is not None:
            self.unwatch()
            self._socket.reset()

    async def _live(self) -> None:
        handed_over = False
        try:
            with self.scope:
                if self.phase != phases.ACCEPT or await self._arrive():
                    handed_over = await self.story()
            if not handed_over:
                await self.last_words()
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
        """Say that it has come, once it is known who it is; false if it is to go at once."""
        arrived = True
        try:
            if self.service.proxy_protocol:
                arrived = await arrive(self)
            if arrived and self.service.certificates is not None:
                arrived = await secure(self, self.service.certificates)
        except BaseException:
            if self.emitter.watched:
                self.emitter.tell(self._opened())
            raise
        if self.emitter.watched:
            await self.reach(self._opened())
        return arrived

    def _opened(self) -> ev.Event:
        return ev.ConnectionOpened(**self.facts(), peer=self.peer, protocol=self.protocol)

    def carry(self, stream: SocketStream) -> None:
        """Go on over ``stream``, which has the same descriptor."""
        self.stream = self._socket = stream
        self.send_now = stream.send_now

    async def story(self) -> bool:
        """What this protocol does, from the first byte on; true if it goes on in a new task."""
        raise NotImplementedError

    async def last_words(self) -> None:
        """What the client is still told when the scope has ended. Nothing, unless a protocol has something to say."""

    def close(self) -> None:
        """The end: close the socket, leave every table, say so. Cannot wait, so no cancellation can strike in it."""
        service = self.service
        self.unwatch()
        service.loop.sweeper.discard(self)
        if self._socket is not None:
            if self.aborted:
                self._socket.reset()
            self._socket.close()
        self.phase = phases.CLOSED
        self._context = None  # it knows this connection: a cycle that only the collector would undo
        service.left(self)
        reason = self.reason or "cancelled by the server"
        log.debug("%r closed: %s", self, reason)
        if self.emitter.heard:
            self.emitter.tell(ev.ConnectionClosed(**self.facts(), reason=reason))

    # What the stories share.

    def facts(self, of: Any = None) -> dict[str, Any]:
        """What every event says, ``of`` the exchange under way unless another is named."""
        exchange = self.exchange if of is None else of
        source = self if exchange is None else exchange
        return {
            "at": monotonic(),
            "connection": self.id,
            "exchange": None if exchange is None else exchange.id,
            "source": source,
        }

    async def reach(self, event: ev.Event) -> None:
        """Tell ``event``, then wait while gates hold it. Only between steps of the story, never in a ``finally``."""
        emitter = self.emitter
        emitter.tell(event)
        if emitter.gates and not self.service.draining:
            for hold in emitter.holds(event):
                await be_held(self, hold, event)
                if self.service.draining:
                    break

    @property
    def held(self) -> bool:
        """Whether a gate holds it, or a subrequest of its handler. May be read from any thread."""
        return self._pause is not None and self._pause.holds > 0

    def pause(self) -> Pause:
        """Something of it is held: no deadline runs until ``go_on`` was called as often."""
        if self._pause is None:
            self._pause = Pause()
        self._pause.begin(self)
        return self._pause

    def go_on(self) -> None:
        assert self._pause is not None
        self._pause.end(self)

    def tell_broken(self, error: BaseException, of: Any = None) -> None:
        """Say that a response was broken off, by a failure or a cancellation.

        After a write that failed the close is a reset: where the system ran out of buffers the client is still there,
        and some take a head that ends anywhere for a whole one.
        """
        if isinstance(error, anyio.BrokenResourceError):
            self.aborted = True
        if not self.emitter.heard:
            return
        if isinstance(error, Exception):
            self.emitter.tell(ev.ResponseFailed(**self.facts(of), error=error))
        else:
            self.emitter.tell(ev.ResponseCancelled(**self.facts(of)))

    def hold_drain(self) -> Callable[[], None]:
        """A drain waits, within its grace, until what this returns is called."""
        self.service.working += 1
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
        """A write begins to wait for the client; ``end`` of what this returns says that it waits no more."""
        if self.pace is None:
            self.pace = Pace(self, self._socket)
        self.pace.begin()
        return self.pace

    def _hand_over(self) -> None:
        """Go on in a new task with a fresh copy of the first one's context.

        A handler that sets a contextvar must not hand it to the next request of the connection.
        """
        self.scope = anyio.CancelScope()
        self.begin()

    def begin(self) -> None:
        """Take a task, in the connection's own context."""
        assert self._context is not None
        self._context.run(self.service.adopt, self)

    def tell_tasks(self, exchange: int) -> None:
        """What is started from here on runs for this exchange: its number stands in the connection's context."""
        current_exchange.set(exchange)
        self._context = copy_context()

    def context_changed(self) -> bool:
        """Whether a handler has set a contextvar in the connection's own context."""
        try:
            return copy_context() != self._context
        except Exception:  # a value whose comparison raises, a NumPy array say
            return True


def _send_nothing(_: bytes) -> int:
    return 0
