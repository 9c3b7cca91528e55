"""An HTTP/1 connection: it reads a head, serves the exchange as its carrier, and begins again (RFC 9112).

Failures between two exchanges are handled here: a head that breaks the protocol, a deadline, a client that leaves.
``exchange`` has the steps of one exchange.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream

from ...lifecycle import events as ev
from ...lifecycle.emitter import Answered
from ...lifecycle.phases import ACCEPT, CLOSED, HEAD, RECYCLE, RESPONSE
from ...protocol import responses
from ...protocol.errors import RemoteProtocolError
from ...protocol.http1 import Http1Reader
from ...transport.stream import CAN_SENDFILE, SocketStream
from ...upstream import parent
from ..connection.base import Connection
from ..exchange import next_exchange_id
from ..handler.bodies import FileBody
from ..handler.errors import ClientLeft
from ..handler.response import TEXT, Response
from .carrier import ALL, APART, MARKED, NONE, PART, Sent, Usual
from .exchange import HttpExchange
from .response_head import ONE_WRITE, encode_head
from .send_stream import BrokenOff

if TYPE_CHECKING:
    from ..service import Service

#: Seconds in which a client with a request begins to send it. Browsers also connect ahead of time, and send nothing.
_SILENT = 1.0
_NEVER = math.inf
#: Bytes that the kernel sends in one call. Other clients are served between two calls. nginx's sendfile_max_chunk is
#: 2 MiB; 512 KiB take 0.1 ms on a loopback.
SENDFILE_CHUNK = 512 * 1024
#: Heads of texts that a service keeps for a second, one for each length.
HEADS_MAX = 256
#: Errors by which sendfile says that this file or system has none. Stacked and network file systems use any of them.
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

log = logging.getLogger("coserver.server")


class HttpConnection(Connection):
    """One HTTP/1.0 or 1.1 connection; ``current`` is the exchange that is being served, None between two."""

    __slots__ = ("last_served", "reader")
    protocol = "http/1.1"
    patient = True
    current: HttpExchange | None

    def __init__(self, service: Service, stream: ByteStream, peer: Any) -> None:
        super().__init__(service, stream, peer)
        self.reader = Http1Reader(service.parsers, service.head_limits)
        self.last_served = service.last_served  # number of exchanges before the last one

    async def run(self) -> bool:
        """Read a head, serve the exchange, recycle; begin again."""
        reader, service, limits = self.reader, self.service, self.service.limits
        socket = self._socket
        try:
            if self.current is not None and not await self._recycle(self.current):  # see ``set_apart``
                return False
            while True:
                head = None
                if reader.buffer:
                    await service.loop.checkpoint()  # a flood of pipelined requests must not starve the others
                    head = reader.read_head()
                while head is None:
                    if reader.buffer:
                        self._await_head()
                    data = await (socket.take() if socket is not None else self.stream.receive())
                    if self.reason:
                        await anyio.lowlevel.checkpoint()  # data and a deadline in one tick: the deadline counts
                    head = reader.read_head(data)
                data = None  # type: ignore[assignment]  # a body's beginning may keep 64 KB in it
                if self.served >= self.last_served:
                    head.keep_alive = False  # Limits.requests_per_connection
                exchange = self.current = HttpExchange(next_exchange_id(), self, head, limits, reader.body_done)
                self.deadline = _NEVER  # the exchange has a deadline of its own
                if parent.opened:
                    self.tell_tasks(exchange.id)
                if service.heads is not None:
                    service.heads(exchange)
                try:
                    answer = await exchange.handle()
                except Answered as given:
                    answer = given.answer
                if type(answer) is Sent:
                    if answer is APART:
                        return False
                    sent = ALL if exchange.keep_alive and reader.body_done and not service.closing else PART
                else:
                    sent = self.respond_at_once(exchange, answer)  # type: ignore[arg-type]  # isinstance would cost a call
                    if sent is not ALL:
                        await (exchange.respond(answer) if sent is NONE else exchange.send_unsent())  # type: ignore[arg-type]
                if sent is ALL and not self.hang_up_watched and exchange.spooled is None and exchange.children is None:
                    self.running.discard(exchange)
                    self.served += 1
                    self.spent += exchange.since - exchange.started
                    exchange.phase = RECYCLE
                    if self.emitter.watched:
                        self.emitter.tell(ev.ConnectionRecycled(**exchange.event_fields()))
                    self._make_ready(exchange.since)
                if self.current is not None and not await self._recycle(exchange):
                    return False
                if self.context_changed() or (self.cancels is not None and self.cancels()):
                    return True
                head = exchange = answer = None  # type: ignore[assignment]  # an idle connection takes 1 KB less
        except anyio.EndOfStream:
            self.end("the client left in the middle of a head" if reader.buffer else "the client closed it")
        except RemoteProtocolError as error:
            await self._refuse(error)
        except (ClientLeft, BrokenOff) as error:
            self.end(str(error))
        return False

    def _await_head(self) -> None:
        """Set the deadline of the whole head, ``Limits.head_timeout``, when its first bytes have come."""
        if self.own_phase is not HEAD:
            self.own_since = monotonic()
            self.deadline = self.own_since + self.service.limits.head_timeout
            self.own_phase = HEAD

    # The end of an exchange, and of the connection.

    def set_apart(self, exchange: HttpExchange) -> bool:
        """Go on in a new task: the answer is sent, and this task still runs the application of ``exchange``.

        From now on this task is work after a response. Returns false if there is too much of that
        (``Limits.after_tasks``): then the next request waits until the application has ended.
        """
        service = self.service
        if service.pending_work >= service.limits.after_tasks:
            return False
        service.pending_work += 1
        self.own_phase = RECYCLE  # the new task begins behind the accept
        self.renew_task()
        return True

    async def _recycle(self, exchange: HttpExchange) -> bool:
        """Make the connection ready for its next request; false if it ends."""
        service, reader = self.service, self.reader
        if exchange.after:
            await service.run_after_in_turn(exchange)
        self.running.discard(exchange)
        self.unwatch()
        if exchange.children is not None and not reader.body_done:
            await parent.end_forwarding(exchange)
        if not exchange.keep_alive or (not reader.body_done and not await self._discard_body(exchange)):
            self.served += 1
            self.spent += monotonic() - exchange.started
            self.end("the response said close")
            await self.linger(exchange.limits, owed=bool(reader.buffer) or not reader.body_done)
            return False
        exchange.close()
        self._end_exchange(exchange)
        if self.emitter.watched:
            await exchange.tell_and_hold(ev.ConnectionRecycled(**exchange.event_fields()))
        self._make_ready(monotonic())
        if service.draining:
            self.drain()
        return True

    def _end_exchange(self, exchange: HttpExchange) -> None:
        """Count the exchange, and move it to the phase RECYCLE."""
        now = monotonic()
        self.served += 1
        self.spent += now - exchange.started
        exchange.phase = RECYCLE
        exchange.since = now
        exchange.deadline = math.inf

    def _make_ready(self, now: float) -> None:
        """Expect the next request, within ``Limits.idle_timeout``."""
        self.current = None
        self.own_phase = RECYCLE
        self.own_since = now
        self.deadline = now + self.service.limits.idle_timeout

    async def _discard_body(self, exchange: HttpExchange) -> bool:
        """Read and drop the rest of the body, up to ``Limits.drain_size``; false if there is more: close then."""
        left = exchange.limits.drain_size
        exchange.continued = True  # the final status has been sent: no 100 may follow it
        while left >= 0 and not self.reader.body_done:
            left -= len(await self.read_piece(exchange))
        return self.reader.body_done

    async def _refuse(self, error: RemoteProtocolError) -> None:
        """Answer a client that broke the protocol. The connection reads no further request."""
        self.end(f"refused: {error.reason}")
        reason, level = error.reason, logging.WARNING
        if isinstance(error.__cause__, OSError):  # the server failed, not the client: its disk is full
            reason, level = f"{reason}: {error.__cause__}", logging.ERROR
        note = self.service.breaches.note
        note(error.limit or "protocol", self.peer, "%r: refused with %d: %s", self, error.status, reason, level=level)
        if self.service.heads is not None and self.current is None:
            self.service.heads.refused(self, self.reader.buffer)
        exchange = self._exchange_to_refuse()
        if await exchange.refuse(error):
            await self.linger(exchange.limits, owed=True)

    async def answer_deadline(self) -> None:
        """Answer 408 or 503 after a deadline that passed before a response began; within ``Limits.linger_timeout``."""
        exchange = self.current
        # The handler may have answered after all. The client would read a second answer as that to its next request.
        if not (self.late_status if exchange is None else exchange.late_status and not exchange.status):
            return
        exchange = self._exchange_to_refuse()
        with anyio.move_on_after(exchange.limits.linger_timeout):
            await exchange.answer_deadline()
            await self.linger(exchange.limits, owed=True)

    def _exchange_to_refuse(self) -> HttpExchange:
        """The exchange that gets the last answer: the current one, or a new one if the request had no sound head."""
        exchange = self.current
        if exchange is None:
            self.deadline = _NEVER  # the exchange has its own
            exchange = self.current = HttpExchange(
                next_exchange_id(), self, None, self.service.limits, self.reader.body_done
            )
            exchange.started = exchange.since = self.own_since
            exchange.late_status = self.late_status
        return exchange

    def close(self) -> None:
        exchange = self.current
        if exchange is not None:
            if exchange.until_close and self._socket is not None:
                self._socket.reset()
            exchange.cut_short(self.reason)
        super().close()

    def parked(self, where: str) -> None:
        if self.current is not None:
            self.current.tell_parked()
        super().parked(where)

    def idle(self, now: float) -> bool:
        """Whether it waits for its next request, or has sent nothing for longer than ``_SILENT`` since its accept."""
        if self.current is not None or self.reason:
            return False
        phase = self.own_phase
        return phase is RECYCLE or (phase is ACCEPT and now - self.own_since > _SILENT)

    def give_way(self) -> None:
        self.last_served = 0  # a request that has just arrived is answered with Connection: close
        super().give_way()

    # The carrier: the request's body.

    @property
    def peer_gone(self) -> bool:
        return bool(self.reason) or self.own_phase is CLOSED

    def limit_body(self, size: int) -> None:
        self.reader.limit_body(size)

    async def read_piece(self, exchange: HttpExchange) -> bytes:
        reader = self.reader
        while not reader.body_done:
            if exchange.broken:
                raise ClientLeft("the rest of this body cannot be read")
            try:
                data = reader.read_body()
            except RemoteProtocolError:
                exchange.broken = True
                raise
            if reader.body_done:
                exchange.body_done = True
                if reader.trailers:
                    exchange.request.trailers_raw = reader.trailers
            await exchange.take_piece(data)
            if data:
                if reader.buffer and not reader.body_done:  # many small chunks: other tasks run first
                    await self.service.loop.checkpoint()
                return data
            if not reader.body_done:
                await self._receive_body(exchange)
        return b""

    async def _receive_body(self, exchange: HttpExchange) -> None:
        """Wait for more of the body. Send the 100 Continue before, since the body is now certainly wanted."""
        if exchange.head.expect_continue and not exchange.continued:
            await self.send_interim(exchange, 100)
        self.reader.receive(await exchange.await_body(self.stream.receive))

    # The carrier: the response.

    def decide_keep_alive(self, exchange: HttpExchange) -> bool:
        """Whether both sides want it, and the unread rest of the body can be read and dropped."""
        head, service = exchange.head, self.service
        if exchange.broken or not head.keep_alive or service.draining:
            return False
        if service.closing and not exchange.last:
            exchange.last = service.capacity.claim_last_exchange(self)
        if exchange.last:
            return False
        if self.reader.body_done:
            return True
        if head.expect_continue and not exchange.continued:
            return False  # the client may send the body now or not: the next bytes are ambiguous (RFC 9110 §10.1.1)
        return head.length is None or head.length <= exchange.limits.drain_size

    def respond_at_once(self, exchange: HttpExchange, answer: Response | bytes | Usual) -> int:
        head, emitter, service = exchange.head, self.emitter, self.service
        if emitter.gates or service.closing or head.method == "HEAD" or exchange.after:
            return NONE
        if not (head.keep_alive and head.minor and self.reader.body_done):
            return NONE
        exchange.since = now = monotonic()
        if now >= service.date_until:
            service.date(now)
        if type(answer) is bytes and (head_of_text := service.heads_of_texts.get(len(answer))) is not None:
            exchange.status, body = 200, answer
            data = head_of_text + answer
        else:
            usual = answer if isinstance(answer, tuple) else _usual_start(answer) or _usual_file(exchange, answer)
            if usual is None:
                return NONE
            exchange.status, start, body = usual
            data = b"%bcontent-length: %d\r\n%b" % (start, len(body), service.head_end)
            if answer is body and len(service.heads_of_texts) < HEADS_MAX:
                service.heads_of_texts[len(body)] = data
            data += body
        exchange.phase = RESPONSE
        exchange.keep_alive = True
        if emitter.heard:
            exchange.answer_head = data
            if emitter.prompt:
                exchange.tell_response_started()
        try:
            socket = self._socket
            taken = socket.send_now(data) if socket is not None else 0
        except Exception as error:
            exchange.tell_deferred(now)
            exchange.tell_broken(error)
            raise
        exchange.size = len(body)
        if service.heads is not None:
            service.heads(exchange, data)
        if taken < len(data):
            exchange.deadline = math.inf  # the write has a deadline of its own
            exchange.tell_deferred(now)
            exchange.answer_head = data
            exchange.unsent = data[taken:]
            return PART
        if emitter.heard:
            exchange.tell_served()
        if service.access is not None:
            exchange.answer_head = data
            service.access(exchange)
        return ALL

    def encode_head(self, exchange: HttpExchange, response: Response, date: bytes) -> bytes:
        return encode_head(exchange, response, date)

    async def send_interim(self, exchange: HttpExchange, status: int, fields: Iterable[tuple[str, str]] = ()) -> None:
        if not exchange.head.minor:
            return
        if status == 100:
            exchange.continued = True
        elif exchange.status:
            return  # the response may have begun
        data = responses.encode_interim(status, fields)
        exchange.show_head(data)
        await self.send(data)

    async def send_whole(self, exchange: HttpExchange, head: bytes, body: bytes) -> None:
        """In one write, unless the body is so large that the copy would cost more."""
        before, exchange.size = self.sent, len(body)
        try:
            if len(body) <= ONE_WRITE:
                await self.send(head + body if body else head)
            else:
                await self.send(head)
                await self.send(body)
        except BaseException:
            exchange.size = min(max(self.sent - before - len(head), 0), len(body))
            raise

    async def send_data(self, exchange: HttpExchange, data: bytes, prefix: bytes = b"") -> None:
        if data and exchange.framing == MARKED:
            data = responses.encode_chunk(data)
        if prefix or data:
            await self.send(prefix + data if prefix else data)

    def send_data_now(self, exchange: HttpExchange, data: bytes, prefix: bytes = b"") -> bytes | None:
        if not isinstance(self.stream, SocketStream):
            return None
        if data and exchange.framing == MARKED:
            data = responses.encode_chunk(data)
        data = prefix + data
        return data[self.send_now(data) :]

    async def send_file(self, exchange: HttpExchange, file: int, start: int, stop: int) -> int:
        stream = self.stream
        # A stream in memory has no descriptor; a TLS stream must read and encrypt.
        if not CAN_SENDFILE or not isinstance(stream, SocketStream) or stream.fileno() < 0:
            return start
        pace = self.begin_pace()
        try:
            while start < stop:
                sent = await stream.sendfile(file, start, min(stop - start, SENDFILE_CHUNK))
                if not sent:
                    break
                start += sent
                exchange.size += sent
                # A client that reads fast must not keep other tasks from running.
                await self.service.loop.checkpoint()
        except OSError as error:
            if error.errno not in _NO_SENDFILE:
                raise
        finally:
            pace.end()
        return start

    async def send_end(self, exchange: HttpExchange, trailers: Any = None, prefix: bytes = b"") -> None:
        end = b""
        if exchange.framing == MARKED:
            end = responses.encode_last_chunk(trailers.items()) if trailers else responses.LAST_CHUNK
        if prefix or end:
            await self.send(prefix + end)

    # The carrier: other ends.

    def reset(self, exchange: HttpExchange, reason: str) -> None:
        exchange.abort(reason)

    def hand_over(self, exchange: HttpExchange) -> tuple[ByteStream, bytes]:
        exchange.head.keep_alive = False  # no request follows: the bytes are another's now
        exchange.broken = True
        buffered, self.reader.buffer = bytes(self.reader.buffer), b""
        return self.stream, buffered


def _usual_start(answer: Response | bytes) -> Usual | None:
    """Status, start of the head and body of a usual response: small, whole, without fields of its own. Else None."""
    if isinstance(answer, bytes):
        status, body, content_type = 200, answer, TEXT
    elif type(answer.body) is not bytes or answer.fields or answer.status in responses.BODILESS:
        return None
    else:
        status, body, content_type = answer.status, answer.body, answer.content_type
    if len(body) > ONE_WRITE:
        return None
    try:
        start = responses.starts.get((status, content_type)) or responses.encode_start(status, content_type)
    except Exception:  # it cannot be sent; ``encode_head`` raises the reason
        return None
    return status, start, body


def _usual_file(exchange: HttpExchange, answer: Response | bytes) -> Usual | None:
    if isinstance(answer, bytes) or type(answer.body) is not FileBody:
        return None
    from .send_file import usual_file  # loaded with the first file that is served: many APIs serve none

    return usual_file(exchange, answer)
