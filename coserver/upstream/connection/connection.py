"""One connection to a member: connect, then (send a request, read its answer)*, then close.

The poller calls ``readable``; nothing here waits but what connects and what sends more than the socket takes at once.
A connection never goes back to its pool half read. How it goes wrong is ``ending.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...protocol.errors import RemoteProtocolError
from ...transport.stream import RECEIVE_SIZE
from ..errors import UpstreamProtocolError
from ..response import StreamedUpstreamResponse
from ..stream import BodyStream
from .connecting import connect
from .dial import Wire
from .ending import BODY, CLOSED, FIRST_BYTE, IDLE, SEND, TLS, Ending
from .readers import HttpReader
from .request_body import send_rest

if TYPE_CHECKING:
    from ..subrequest import Subrequest

_ANY_SIZE = 1 << 63


class UpstreamConnection(Ending):
    """``sub`` is whom it works for, None while it is idle. The sweeper looks at ``deadline``."""

    __slots__ = ()

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
        self.client.spawn(connect, self)

    def connected(self) -> None:
        """The socket is; TLS comes next, if it comes."""
        self.phase = TLS
        sub = self.sub
        if sub is not None:
            sub.connected = now = monotonic()
            self.deadline = min(now + self._limits.tls_timeout, sub.until)

    def ready(self, wire: Wire) -> None:
        """The wire is there: take it and send what it was made for, unless that was given up in the same turn."""
        sub = self.sub
        if sub is None or self.phase is CLOSED:
            wire.close()
            return
        self._wire = wire
        self._recv: Callable[[int], bytes] = wire.recv
        self.send: Callable[[Any], int] = wire.send
        self._fd = wire.fileno()
        self.client.poller.read(self._fd, self.readable)
        now = monotonic()
        if self.phase is TLS:
            sub.secured = now
        else:
            sub.connected = now
        self.begin(sub, now, fresh=True)

    def alive(self) -> bool:
        """Whether the member has left it alone: worth a look for what may not be repeated."""
        try:
            self._recv(1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def begin(self, sub: Subrequest, now: float, *, fresh: bool = False) -> None:
        """Send ``sub``; on an idle connection, or on the ``fresh`` one that was made for it."""
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
            self.broken(error)
            return
        if sent < len(data) or sub.given is not None:
            self._sending = True
            self.phase = SEND
            self.deadline = min(now + self._limits.send_timeout, sub.until)
            self.client.spawn(send_rest, self, sub, memoryview(data)[sent:])
            return
        sub.sent = now
        self.phase = FIRST_BYTE
        deadline = now + self._limits.first_byte_timeout
        self.deadline = deadline if deadline < sub.until else sub.until

    def all_sent(self, sub: Subrequest) -> None:
        """The task that sent the rest has done so, or has been told to stop."""
        self._sending = False
        self.scope = None
        if self.phase is CLOSED and self._wire is not None:
            self._wire.close()
        elif self.sub is sub and self.phase is SEND:
            sub.sent = now = monotonic()
            self.phase = FIRST_BYTE
            self.deadline = min(now + self._limits.first_byte_timeout, sub.until)

    async def wait_writable(self) -> None:
        """Until the socket takes more."""
        assert self._wire is not None
        await self.client.loop.wait_writable(self._wire)

    def readable(self) -> None:
        """The poller: there is something to read, or the end."""
        try:
            data = self._recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.broken(error)
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
            self.fail(UpstreamProtocolError, error.reason, error)
            return
        now = monotonic()
        if not sub.first:
            sub.first = now
            self.pool.took(now - sub.placed)
        if sub.stream:
            self._stream(sub, done, now)
        elif done:
            self._finish(sub, now)
        else:
            self.phase = BODY
            self.deadline = min(now + self._limits.between_timeout, sub.until)

    def _stream(self, sub: Subrequest, done: bool, now: float) -> None:
        """Some of a streamed answer has come: its head settles the subrequest, its body goes on."""
        reader, body = self._reader, self._body
        assert isinstance(reader, HttpReader)
        self.phase = BODY
        if body is None:
            head = reader.head
            if head is None:
                self.deadline = min(now + self._limits.between_timeout, sub.until)
                return
            sub.until = math.inf  # whoever takes the body has all the time that it takes
            body = self._body = sub.body_stream = BodyStream(sub, self)
            sub.finish(StreamedUpstreamResponse(head, body), now)
        self.deadline = now + self._limits.between_timeout
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
        """Read no more for now; the member waits, and nothing is its fault."""
        self.client.poller.pause(self._fd)
        self.deadline = monotonic() + self._limits.take_timeout

    def resume(self) -> None:
        if self.phase is CLOSED:
            return
        self.deadline = monotonic() + self._limits.between_timeout
        try:
            self.client.poller.resume(self._fd)
        except OSError as error:  # the system watches no more descriptors
            self.broken(error)

    def _finish(self, sub: Subrequest, now: float) -> None:
        """The answer is whole: the connection is free before anybody is told."""
        answer = self._reader.answer()
        self._free(sub, now)
        client, pool, status = self.client, self.pool, getattr(answer, "status", 0)
        if client.learns or pool.troubled or status >= 500:
            client.attempt_ended(sub, pool, None, status)
        sub.finish(answer, now)

    def _free(self, sub: Subrequest, now: float) -> None:
        """Back to the pool, or closed."""
        reader, limits = self._reader, self._limits
        self.sub = None
        self.uses += 1
        worn = limits.connection_requests and self.uses >= limits.connection_requests
        worn_out = self.born + limits.connection_age
        if not reader.keep_alive or self._sending or worn or self.pool.leaving or now > worn_out:
            self.close()
            return
        patience, told = limits.idle_timeout, reader.patience
        if told is not None:
            patience = min(patience, told - 1)  # a second for what is on the way
        self.phase = IDLE
        deadline = now + patience
        self.deadline = deadline if deadline < worn_out else worn_out
        self.pool.give_back(self)
