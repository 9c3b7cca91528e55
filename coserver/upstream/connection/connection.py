"""One connection to a member: connect, then (send a request, read its response)*, then close.

The poller calls ``readable``, the sweeper ``expire``. Nothing here waits except for two tasks: the one that connects,
and the one that sends more than the socket takes at once. A connection never returns to its pool half read.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ...protocol.errors import RemoteProtocolError
from ...transport.deadlines import NEAR
from ...transport.stream import RECEIVE_SIZE
from ..errors import UpstreamConnectError, UpstreamError, UpstreamProtocolError, UpstreamTimeout
from ..response import BodyStream, StreamedUpstreamResponse
from .dial import Wire, dial, start_tls
from .readers import HttpReader, Reader
from .request_body import close_untaken, send_rest

if TYPE_CHECKING:
    from ..pool.client import Client
    from ..pool.pool import Pool
    from ..subrequest import Subrequest

log = logging.getLogger("coserver.upstream")

# The phases, by the names that ``UpstreamTimeout.phase`` has for them.
CONNECT, TLS, SEND, FIRST_BYTE, BODY, IDLE, CLOSED = "connect", "tls", "send", "first byte", "body", "idle", "closed"

#: For each phase the limit behind its deadline, and the text of the error.
_LATE = {
    CONNECT: ("connect_timeout", "no connection"),
    TLS: ("tls_timeout", "no end of the TLS handshake"),
    SEND: ("send_timeout", "the member read nothing of the request"),
    FIRST_BYTE: ("first_byte_timeout", "no first byte of an answer"),
    BODY: ("between_timeout", "nothing more of the answer"),
}
_ANY_SIZE = 1 << 63


class UpstreamConnection:
    """``sub`` is the subrequest under way, None while the connection is idle. ``deadline`` is that of the phase."""

    __slots__ = (
        "_body", "_fd", "_limits", "_reader", "_recv", "_sending", "_wire", "born", "broke", "client", "deadline",
        "phase", "pool", "scope", "send", "sub", "uses",
    )  # fmt: skip

    def __init__(self, client: Client, pool: Pool) -> None:
        self.client = client
        self.pool = pool
        self._limits = client.limits
        self._reader: Reader = client.make_reader()
        self._wire: Wire | None = None
        self._recv: Callable[[int], bytes]  # the wire's two methods, once there is one
        self.send: Callable[[Any], int]
        self._fd = -1
        self.scope: anyio.CancelScope | None = None  # around the task that connects or sends
        self._sending = False
        self.broke: OSError | None = None  # the error of a send, while the answer that came before it is read
        self._body: BodyStream | None = None  # of a streamed response
        self.sub: Subrequest | None = None
        self.phase = CONNECT
        self.uses = 0
        self.born = monotonic()
        self.deadline = math.inf
        pool.connections.add(self)
        client.sweeper.add(self)

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.pool.address} {self.phase}, {self.uses} served>"

    def _set_deadline(self, now: float, seconds: float, sub: Subrequest) -> None:
        """Begin a phase that may last so long, and no longer than the whole of ``sub``."""
        deadline = now + seconds
        self.deadline = deadline = deadline if deadline < sub.until else sub.until
        if deadline < now + NEAR:
            self.client.sweeper.hasten(self)

    # Connecting.

    def connect(self, sub: Subrequest) -> None:
        """Begin to connect, in order to send ``sub``."""
        self.sub = sub
        sub.via = self
        sub.placed = self.born
        sub.attempts += 1
        self._set_deadline(self.born, self._limits.connect_timeout, sub)
        self.client.spawn(self._connect)

    async def _connect(self) -> None:
        """Dial and call ``ready`` or ``fail``. A task of the client's group: it never raises."""
        # The task makes the scope itself: ``spawn`` may be called by the loop, outside any task.
        with anyio.CancelScope() as self.scope:
            if self.sub is None:
                return
            client, pool = self.client, self.pool
            try:
                if not pool.addresses and pool.name is not None:
                    await pool.name.answered()
                    if self.sub is None:
                        return  # the look-up has given ``sub`` to one of the members that it found
                sock = await dial(pool.addresses, client.loop)
                wire: Wire = sock
                if client.tls is not None and pool.member.scheme == "https":
                    self._socket_connected()
                    wire = await start_tls(sock, client.loop, client.tls, client.server_name or pool.member.name)
            except OSError as error:
                if pool.addresses and pool.name is not None:
                    pool.name.doubt()
                self.fail(UpstreamConnectError, f"cannot connect: {error.strerror or error}", error)
            except anyio.BrokenResourceError as error:  # TLS
                self.fail(UpstreamConnectError, f"cannot connect: {error}", error)
            except Exception as error:
                log.exception("%r: internal error", self)
                self.fail(UpstreamConnectError, f"internal error: {error!r}", error)
            else:
                self.scope = None
                try:
                    self._ready(wire)
                except OSError as error:  # the system watches no more descriptors (epoll_ctl(2): ENOSPC, ENOMEM)
                    self.fail(UpstreamConnectError, f"cannot watch it: {error.strerror or error}", error)

    def _socket_connected(self) -> None:
        """Enter phase TLS: the TCP connection stands, the handshake begins."""
        self.phase = TLS
        sub = self.sub
        if sub is not None:
            sub.connected = now = monotonic()
            self._set_deadline(now, self._limits.tls_timeout, sub)

    def _ready(self, wire: Wire) -> None:
        """Take the finished wire and send the subrequest, unless that was given up in the same turn of the loop."""
        sub = self.sub
        if sub is None or self.phase is CLOSED:
            wire.close()
            return
        self._wire = wire
        self._recv = wire.recv
        self.send = wire.send
        self._fd = wire.fileno()
        self.client.poller.read(self._fd, self.readable)
        now = monotonic()
        if self.phase is TLS:
            sub.secured = now
        else:
            sub.connected = now
        self.begin(sub, now, fresh=True)

    # Sending.

    def alive(self) -> bool:
        """Whether the idle socket is still open and silent. One ``recv``: for requests that may not be repeated."""
        try:
            self._recv(1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def begin(self, sub: Subrequest, now: float, *, fresh: bool = False) -> None:
        """Send ``sub``, on an idle connection or on the ``fresh`` one that was opened for it."""
        if not fresh:
            self.sub = sub
            sub.via = self
            sub.attempts += 1
            sub.placed = now
        self._reader.expect(sub.method, _ANY_SIZE if sub.stream else self._limits.body_size)
        host = b"" if sub.own_host else self.pool.host_field
        data = b"".join((sub.start, host, sub.fields, sub.body))
        try:
            sent = self.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.send_failed(error)
            if sub.body_source is not None:
                self.client.spawn(close_untaken, self, sub.body_source)
            return
        if sent < len(data) or sub.body_source is not None:
            self._sending = True
            self.phase = SEND
            self._set_deadline(now, self._limits.send_timeout, sub)
            self.client.spawn(send_rest, self, sub, memoryview(data)[sent:])
            return
        sub.sent = now
        self.phase = FIRST_BYTE
        self._set_deadline(now, self._limits.first_byte_timeout, sub)

    def sender_ended(self, sub: Subrequest) -> None:
        """Note the end of the sending task: it has sent the rest, or was told to stop."""
        self._sending = False
        self.scope = None
        if self.phase is CLOSED and self._wire is not None:
            self._wire.close()
        elif self.sub is sub and self.phase is SEND:
            sub.sent = now = monotonic()
            self.phase = FIRST_BYTE
            self._set_deadline(now, self._limits.first_byte_timeout, sub)

    def send_failed(self, error: OSError) -> None:
        """Handle an error of a send. A member may answer and close before it has taken all: read what has come.

        If the stream has not ended, the answer may still come: a member may shut only its receiving side.
        """
        sub, self.broke = self.sub, error
        while sub is not None and self.sub is sub:
            if self._body is not None and self._body.paused:
                return  # ``readable`` goes on when somebody has taken the body so far
            try:
                data = self._recv(RECEIVE_SIZE)
            except BlockingIOError:
                self._await_answer(sub)
                return
            except ConnectionAbortedError as reason:  # of TLS: the member's alert says why
                self.broken(reason)
                return
            except OSError:
                data = b""
            if not data:
                self.broken(error)
                return
            self._take(sub, data)
        if sub is None:
            self.close()

    def _await_answer(self, sub: Subrequest) -> None:
        """Go on without sending; ``readable`` takes what comes, or the end."""
        now, seconds = monotonic(), self._limits.between_timeout
        if self.phase is not BODY:
            self.phase, seconds = FIRST_BYTE, self._limits.first_byte_timeout
        self._set_deadline(now, seconds, sub)

    async def wait_writable(self) -> None:
        """Wait until the socket takes more."""
        assert self._wire is not None
        await self.client.loop.wait_writable(self._wire)

    # Receiving.

    def readable(self) -> None:
        """Read what has come, or the end of the stream. Called by the poller."""
        try:
            data = self._recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.broken(error)
            return
        sub = self.sub
        if sub is None:
            self.close()  # the member closed an idle connection, or sent bytes that answer nothing
        elif not data and self.broke is not None:
            self.broken(self.broke)
        else:
            self._take(sub, data)

    def _take(self, sub: Subrequest, data: bytes) -> None:
        """Take bytes of the answer; empty at the end of the stream."""
        try:
            if data:
                done = self._reader.receive(data)
            else:
                if self._is_stale(sub):
                    self._resend(sub)
                    return
                self._reader.end()
                done = True
        except RemoteProtocolError as error:
            self.fail(UpstreamProtocolError, error.reason, error)
            return
        now = monotonic()
        if not sub.first:
            sub.first = now
            self.pool.note_latency(now - sub.placed)
        if sub.stream:
            self._stream(sub, done, now)
        elif done:
            self._finish(sub, now)
        else:
            self.phase = BODY
            self._set_deadline(now, self._limits.between_timeout, sub)

    def _stream(self, sub: Subrequest, done: bool, now: float) -> None:
        """Pass on a part of a streamed response: its head settles the subrequest, its body goes on."""
        reader, body = self._reader, self._body
        assert isinstance(reader, HttpReader)
        self.phase = BODY
        if body is None:
            if reader.interim:
                heads, reader.interim = reader.interim, []
                sub.interim_came(heads)
            head = reader.head
            if head is None:
                self._set_deadline(now, self._limits.between_timeout, sub)
                return
            sub.until = math.inf  # the reader of the body has all the time that it needs
            body = self._body = sub.body_stream = BodyStream(sub, self)
            sub.finish(StreamedUpstreamResponse(head, body), now)
        self._set_deadline(now, self._limits.between_timeout, sub)
        data = reader.take()
        if data:
            body.give(data)
        if done and self.sub is sub:
            head = reader.head
            assert head is not None
            if reader.trailers and sub.response is not None:
                sub.response.trailers_raw = reader.trailers
            self._body = None
            body.end()
            self._free(sub, now)
            self.client.attempt_ended(sub, self.pool, None, head.status)

    def pause(self) -> None:
        """Stop reading for now: the body's buffer is full. The member has to wait and is not to blame."""
        self.client.poller.pause(self._fd)
        self.deadline = monotonic() + self._limits.take_timeout

    def resume(self) -> None:
        """Read again after ``pause``."""
        if self.phase is CLOSED:
            return
        self.deadline = monotonic() + self._limits.between_timeout
        try:
            self.client.poller.resume(self._fd)
        except OSError as error:  # the system watches no more descriptors
            self.broken(error)

    def _finish(self, sub: Subrequest, now: float) -> None:
        """Settle the subrequest with its whole response. The connection is free before anybody is woken."""
        answer = self._reader.answer()
        self._free(sub, now)
        client, pool, status = self.client, self.pool, getattr(answer, "status", 0)
        if client.learns or pool.troubled or status >= 500:
            client.attempt_ended(sub, pool, None, status)
        sub.finish(answer, now)

    def _free(self, sub: Subrequest, now: float) -> None:
        """Return to the pool, or close if this connection must not be used again."""
        reader, limits = self._reader, self._limits
        self.sub = None
        self.uses += 1
        worn = limits.connection_requests and self.uses >= limits.connection_requests
        worn_out = self.born + limits.connection_age
        spoiled = self._sending or self.broke is not None
        if not reader.keep_alive or spoiled or worn or self.pool.leaving or now > worn_out:
            self.close()
            return
        patience, told = limits.idle_timeout, reader.patience
        if told is not None:
            patience = min(patience, told - 1)  # one second for a request that is on its way
        self.phase = IDLE
        deadline = now + patience
        self.deadline = deadline if deadline < worn_out else worn_out
        self.pool.give_back(self)

    # Ends.

    def close(self, *, hand_on: bool = True) -> None:
        """Close the socket and leave the pool; a second call does nothing. The caller settles the subrequest.

        ``hand_on``: the free place may go to the first in the queue.
        """
        if self.phase is CLOSED:
            return
        was_idle = self.phase is IDLE
        self.phase = CLOSED
        self.client.sweeper.discard(self)
        self._reader.close()
        wire = self._wire
        if wire is not None:
            self.client.poller.forget(self._fd)
            if self.scope is None:  # otherwise the sending task closes it, after its wait has ended
                wire.close()
        if self.scope is not None:
            self.scope.cancel()
        if was_idle and hand_on:
            try:
                self.pool.idle.remove(self)
            except ValueError:
                pass
        self.pool.connection_closed(self, hand_on=hand_on)

    def release_unsent(self) -> Subrequest | None:
        """Close because the member leaves, and return the subrequest if nothing of it was sent; else None."""
        sub = self.sub
        if sub is None or self.phase not in (CONNECT, TLS):
            return None
        self.sub = None
        sub.attempts -= 1
        self.close(hand_on=False)
        return sub

    def expire(self, now: float) -> None:
        """End the phase that has passed its deadline. Called by the sweeper."""
        sub, limits = self.sub, self._limits
        if sub is None:
            self.close()
            return
        if self._body is not None and self._body.paused:
            what = f"nobody took the body for {limits.take_timeout:.3g} s"
            self.abandon(sub.make_error(UpstreamTimeout, what, phase="take"))
            return
        if now >= sub.until:
            self.fail(UpstreamTimeout, f"no whole answer in {sub.until - sub.started:.3g} s", phase="total")
            return
        limit, what = _LATE[self.phase]
        self.fail(UpstreamTimeout, f"{what} in {getattr(limits, limit):.3g} s ({limit})", phase=self.phase)

    def broken(self, error: OSError) -> None:
        """Handle an error of the socket: the member is gone."""
        sub = self.sub
        if sub is None:
            self.close()
        elif self._is_stale(sub):
            self._resend(sub)
        else:
            self.fail(UpstreamProtocolError, f"the connection broke: {error.strerror or error}", error)

    def request_body_failed(self, sub: Subrequest, error: BaseException) -> None:
        """The caller's body iterator raised: fail the subrequest, blame no member."""
        if self.sub is sub:
            self.abandon(error)
            if not sub.done:
                sub.fail(error)

    def abandon(self, error: BaseException) -> None:
        """Close before the response is whole: nobody wants the rest. A later read of the body raises ``error``."""
        body, self._body = self._body, None
        self.sub = None
        self.close()
        if body is not None:
            body.end(error)

    def _is_stale(self, sub: Subrequest) -> bool:
        """Whether the member closed a kept connection just as the request went out, which no side can prevent."""
        return bool(self.uses) and not self._reader.begun and not sub.resent and sub.may_repeat

    def _resend(self, sub: Subrequest) -> None:
        """Send ``sub`` again on a new connection in this one's place. Another idle one might be as dead."""
        sub.resent = True
        sub.via = self.sub = None
        pool = self.pool
        self.close(hand_on=False)
        if pool.leaving:
            self.client.place_first([sub])
            return
        pool.open += 1
        self.client.connect(pool, sub)

    def fail(
        self, kind: type[UpstreamError], reason: str, cause: BaseException | None = None, *, phase: str = ""
    ) -> None:
        """Close, and end the attempt with an error of ``kind``. The client may try again at another member."""
        sub, self.sub = self.sub, None
        body, self._body = self._body, None
        self.close()
        if sub is None:
            return
        error = sub.make_error(kind, reason, phase=phase) if phase else sub.make_error(kind, reason)
        error.__cause__ = cause
        self.client.attempt_ended(sub, self.pool, error, 0)
        if body is not None:
            body.end(error)
        elif not sub.done:
            self.client.attempt_failed(sub, error)
