"""One connection to a member: connect, then (send a request, read its answer)*, then close.

The poller calls ``readable``; nothing here waits but what connects and what sends more than the socket takes at once.
Whoever gives it up closes it: a connection never goes back to its pool half read.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ..protocol.errors import RemoteProtocolError
from ..protocol.http1_client import ResponseReader
from ..protocol.requests import IDEMPOTENT
from ..transport.stream import RECEIVE_SIZE, Socket
from .dial import dial
from .errors import UpstreamConnectError, UpstreamError, UpstreamProtocolError, UpstreamTimeout
from .response import UpstreamResponse

if TYPE_CHECKING:
    from .client import Client
    from .pool import Pool
    from .subrequest import Subrequest

log = logging.getLogger("coserver.upstream")

# What it is at, as ``UpstreamTimeout.phase`` says it.
CONNECT, SEND, FIRST_BYTE, BODY, IDLE, CLOSED = "connect", "send", "first byte", "body", "idle", "closed"


class UpstreamConnection:
    """``sub`` is whom it works for, None while it is idle. The sweeper looks at ``deadline``."""

    __slots__ = (
        "_fd", "_limits", "_reader", "_recv", "_scope", "_sending", "_socket", "born", "client", "deadline",
        "phase", "pool", "sub", "uses",
    )  # fmt: skip

    def __init__(self, client: Client, pool: Pool) -> None:
        self.client = client
        self.pool = pool
        self._limits = client.limits
        self._reader = ResponseReader(client.make_codec, client.response_limits)
        self._socket: Socket | None = None
        self._fd = -1
        self._scope: anyio.CancelScope | None = None  # around a task that works for it
        self._sending = False
        self.sub: Subrequest | None = None
        self.phase = CONNECT
        self.uses = 0
        self.born = monotonic()
        self.deadline = math.inf
        pool.connections.add(self)
        client.sweeper.add(self)

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.pool.address} {self.phase}, {self.uses} served>"

    # In order of life.

    def connect(self, sub: Subrequest) -> None:
        """Begin to connect, for ``sub``."""
        self.sub = sub
        sub.via = self
        sub.placed = self.born
        sub.attempts += 1
        self.deadline = min(self.born + self._limits.connect_timeout, sub.until)
        self.client.spawn(self._connect)

    async def _connect(self) -> None:
        # Its scopes are made by the tasks: whoever spawns them may be the loop itself, which may not.
        with anyio.CancelScope() as self._scope:
            if self.phase is CLOSED:
                return
            try:
                sock = await dial(self.pool.member, self.client.loop)
            except OSError as error:
                self._fail(UpstreamConnectError, f"cannot connect: {error.strerror or error}", error)
                return
            except Exception as error:
                log.exception("%r: internal error", self)
                self._fail(UpstreamConnectError, f"internal error: {error!r}", error)
                return
            sub = self.sub
            if sub is None or self.phase is CLOSED:  # given up in the same turn as it came about
                sock.close()
                return
            self._scope = None
            self._socket = sock
            self._recv = sock.recv
            self._fd = sock.fileno()
            self.client.poller.read(self._fd, self.readable)
            sub.connected = monotonic()
            self._send(sub, sub.connected)

    def alive(self, sub: Subrequest) -> bool:
        """Whether it may be used for ``sub``. One that may not be repeated is worth a look whether the member left."""
        now = monotonic()
        if now >= self.deadline or now - self.born > self._limits.connection_age:
            return False
        if sub.method in IDEMPOTENT:
            return True
        try:
            self._recv(1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def begin(self, sub: Subrequest) -> None:
        """Send ``sub`` on this idle connection."""
        self.sub = sub
        sub.via = self
        sub.attempts += 1
        sub.placed = now = monotonic()
        self._send(sub, now)

    def _send(self, sub: Subrequest, now: float) -> None:
        self._reader.expect(sub.method, sub.client.limits.body_size)
        host = b"" if sub.own_host else self.pool.host_field
        data = b"%b%b%b%b" % (sub.start, host, sub.fields, sub.body)
        assert self._socket is not None
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broken(error)
            return
        if sent < len(data):
            self._sending = True
            self.phase = SEND
            self.deadline = min(now + self._limits.send_timeout, sub.until)
            self.client.spawn(self._send_rest, sub, memoryview(data)[sent:])
            return
        sub.sent = now
        self.phase = FIRST_BYTE
        deadline = now + self._limits.first_byte_timeout
        self.deadline = deadline if deadline < sub.until else sub.until

    async def _send_rest(self, sub: Subrequest, rest: memoryview) -> None:
        """The socket is full: wait until the member reads. Its answer may come before."""
        sock = self._socket
        assert sock is not None
        if self.phase is CLOSED:
            return
        with anyio.CancelScope() as self._scope:
            try:
                while rest:
                    await self.client.loop.wait_writable(sock)
                    try:
                        taken = sock.send(rest)
                    except BlockingIOError:
                        continue
                    rest = rest[taken:]
                    self.deadline = min(monotonic() + self._limits.send_timeout, sub.until)
            except OSError as error:
                if self.sub is sub:
                    self._broken(error)
            finally:
                self._sending = False
                self._scope = None
                if self.phase is CLOSED:
                    sock.close()
            if self.sub is sub and self.phase is SEND:
                sub.sent = now = monotonic()
                self.phase = FIRST_BYTE
                self.deadline = min(now + self._limits.first_byte_timeout, sub.until)

    def readable(self) -> None:
        """The poller: there is something to read, or the end."""
        try:
            data = self._recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(error)
            return
        sub = self.sub
        if sub is None:
            self.close()  # the member closed an idle connection, or said what nobody asked for
            return
        try:
            if data:
                done = self._reader.receive(data)
            else:
                if self._is_stale(sub):
                    self._again(sub)
                    return
                self._reader.end()
                done = True
        except RemoteProtocolError as error:
            self._fail(UpstreamProtocolError, error.reason, error)
            return
        now = monotonic()
        if not sub.first:
            sub.first = now
        if done:
            self._finish(sub, now)
        else:
            self.phase = BODY
            self.deadline = min(now + self._limits.between_timeout, sub.until)

    def _finish(self, sub: Subrequest, now: float) -> None:
        """The answer is whole: the connection is free before anybody is told."""
        reader = self._reader
        head = reader.head
        assert head is not None
        response = UpstreamResponse(head.status, head.fields, reader.take())
        if reader.trailers:
            response.trailers_raw = reader.trailers
        self.sub = None
        self.uses += 1
        if reader.keep_alive and not self._sending and not self._worn_out(now) and not self.client.closed:
            patience = self._limits.idle_timeout
            if head.patience is not None:
                patience = min(patience, head.patience - 1)  # a second for what is on the way
            self.phase = IDLE
            self.deadline = now + patience
            self.pool.give_back(self)
        else:
            self.close()
        self.client.attempt_ended(sub, self.pool, None)
        sub.finish(response, now)

    def _worn_out(self, now: float) -> bool:
        limits = self._limits
        return bool(limits.connection_requests and self.uses >= limits.connection_requests) or (
            now - self.born > limits.connection_age
        )

    def close(self, *, hand_on: bool = True) -> None:
        """The end; whom it worked for is told by whoever calls. Twice is fine."""
        if self.phase is CLOSED:
            return
        was_idle = self.phase is IDLE
        self.phase = CLOSED
        client = self.client
        client.sweeper.discard(self)
        self._reader.close()
        sock = self._socket
        if sock is not None:
            client.poller.forget(self._fd)
            if self._scope is None:  # else the task that sends does, when it waits no more
                sock.close()
        if self._scope is not None:
            self._scope.cancel()
        if was_idle and hand_on:
            try:
                self.pool.idle.remove(self)
            except ValueError:
                pass
        self.pool.left(self, hand_on=hand_on)

    # What the sweeper calls.

    def expire(self, now: float) -> None:
        """The deadline of what it is at has passed."""
        sub, limits = self.sub, self._limits
        if sub is None:
            self.close()
            return
        if now >= sub.until:
            self._fail(UpstreamTimeout, f"no whole answer in {sub.until - sub.started:.3g} s", phase="total")
            return
        seconds, what = {
            CONNECT: (limits.connect_timeout, "no connection"),
            SEND: (limits.send_timeout, "nothing of the request was taken"),
            FIRST_BYTE: (limits.first_byte_timeout, "no first byte of an answer"),
        }.get(self.phase, (limits.between_timeout, "nothing more of the answer"))
        self._fail(UpstreamTimeout, f"{what} in {seconds:.3g} s", phase=self.phase)

    def outlive(self, now: float) -> None:
        """Nothing: only deadlines matter here."""

    # How it goes wrong.

    def _broken(self, error: OSError) -> None:
        """The socket says that the member is gone."""
        sub = self.sub
        if sub is None:
            self.close()
        elif self._is_stale(sub):
            self._again(sub)
        else:
            self._fail(UpstreamProtocolError, f"the connection broke: {error.strerror or error}", error)

    def _is_stale(self, sub: Subrequest) -> bool:
        """Whether the member closed a kept connection as the request went out, which nobody can help."""
        return bool(self.uses) and not self._reader.begun and not sub.resent and sub.method in IDEMPOTENT

    def _again(self, sub: Subrequest) -> None:
        """Once more on a new connection, which takes this one's place; another kept one may be as dead."""
        sub.resent = True
        sub.via = self.sub = None
        pool = self.pool
        self.close(hand_on=False)
        pool.open += 1
        self.client.connect(pool, sub)

    def _fail(
        self, kind: type[UpstreamError], reason: str, cause: BaseException | None = None, *, phase: str = ""
    ) -> None:
        sub, self.sub = self.sub, None
        self.close()
        if sub is None or sub.done:
            return
        error = sub.make_error(kind, reason, phase=phase) if phase else sub.make_error(kind, reason)
        error.__cause__ = cause
        self.client.attempt_ended(sub, self.pool, error)
        self.client.failed(sub, error)
