"""One HTTP connection of the client: requests out, answers in, parsed by h11.

A task of its own sends a body that does not fit while the answer is read: a server may answer first, and both sides may
stream. An exchange that ends early closes the connection, and the server sees its client leave.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import h11
from anyio.abc import TaskGroup

from ..protocol.fields import Headers, encode_value
from .app_host import Link
from .request import HOST, Outgoing
from .response import Disconnected, Head

T = TypeVar("T")

#: Bytes of an answer's head: more than the server sends by its default settings.
_HEAD_SIZE = 1 << 20


class Line:
    """A connection that serves one request after another. ``failure`` is the exception of a request's own body."""

    def __init__(self, link: Link, tasks: TaskGroup) -> None:
        self.link = link
        self.trailers = Headers()
        self._tasks = tasks
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_SIZE)
        self._request = Outgoing("", "")
        self._sending: anyio.CancelScope | None = None  # while a task sends a body
        self._sent = anyio.Event()
        self._go = anyio.Event()
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Line {self.link.accepted.id} {self._request!r}>"

    async def ask(self, request: Outgoing, seconds: float | None) -> Head:
        """Send ``request`` and read the head of its answer. Raises Disconnected, TimeoutError, LocalProtocolError."""
        self._request = request
        self._sent, self._go = anyio.Event(), anyio.Event()
        self.trailers = Headers()
        with self._leaving_on_error():
            self._send(request)
            return await self._within(seconds, self._head)

    async def piece(self, seconds: float | None = None) -> bytes | None:
        """The next piece of the answer's body; None at its end. Raises Disconnected, TimeoutError."""
        if self._h11.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED):
            return None
        with self._leaving_on_error():
            event = await self._within(seconds, self._event)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self.trailers = Headers(event.headers)
        return None

    async def finish(self) -> bool:
        """End the exchange, read to its end or not. Returns whether the connection can serve another request."""
        if self._sending is not None:
            if self._h11.our_state in (h11.DONE, h11.MUST_CLOSE) and self._h11.their_state is h11.DONE:
                with self._leaving_on_error():
                    await self._sent.wait()  # the last bytes are on their way
            else:
                self._sending.cancel()
        if self._h11.our_state is self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            return True
        self.link.leave()
        return False

    # Sending.

    def _send(self, request: Outgoing) -> None:
        """Send the head, and the part of the body that the socket takes at once."""
        framed = self._framed(request)
        fields = [(raw := name.encode("ascii"), encode_value(raw.lower(), value)) for name, value in framed]
        data = self._h11.send(h11.Request(method=request.method, target=request.target, headers=fields)) or b""
        later = request.waits_for_go or not isinstance(request.body, bytes | None)
        if not later:
            data += self._framed_piece(request.body or b"") + (self._h11.send(h11.EndOfMessage()) or b"")
        try:
            taken = self.link.stream.send_now(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # the server's last bytes, if there are any, are read next
        if later or taken < len(data):
            self._sending = anyio.CancelScope()
            rest = memoryview(data)[taken:]
            self._tasks.start_soon(self._send_rest, rest, request if later else None, name=f"body of {request!r}")

    @staticmethod
    def _framed(request: Outgoing) -> list[tuple[str, str]]:
        fields = [("host", HOST)] if not request.has("host") else []
        fields += request.headers
        if request.body is None or request.has("content-length") or request.has("transfer-encoding"):
            return fields
        if isinstance(request.body, bytes):
            return [*fields, ("content-length", str(len(request.body)))]
        return [*fields, ("transfer-encoding", "chunked")]

    def _framed_piece(self, piece: Any) -> bytes:
        if not isinstance(piece, bytes | str | bytearray | memoryview):
            raise TypeError(f"a body yields bytes or str; got {piece!r:.60}")
        return self._h11.send(h11.Data(piece.encode() if isinstance(piece, str) else bytes(piece))) or b""

    async def _send_rest(self, first: memoryview, request: Outgoing | None) -> None:
        """Send the rest, then the body of ``request``. A task."""
        scope, sent = self._sending, self._sent
        assert scope is not None
        with scope:
            try:
                await self.link.stream.send(first)
                if request is not None:
                    await self._send_body(request)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # the server stopped reading; its answer says why
            except Exception as error:
                self._failure = error
                self.link.leave()
            finally:
                self._sending = None
                sent.set()

    async def _send_body(self, request: Outgoing) -> None:
        body = [request.body] if isinstance(request.body, bytes) else request.body
        try:
            if request.waits_for_go:
                await self._go.wait()
            if hasattr(body, "__aiter__"):
                async for piece in body:
                    await self.link.stream.send(self._framed_piece(piece))
            else:
                for piece in body:
                    await self.link.stream.send(self._framed_piece(piece))
            await self.link.stream.send(self._h11.send(h11.EndOfMessage()) or b"")
        finally:
            if hasattr(body, "aclose"):
                await body.aclose()

    # Receiving.

    async def _head(self) -> Head:
        interim: list[Head] = []
        while True:
            event = await self._event()
            if not isinstance(event, h11.InformationalResponse | h11.Response):
                raise self._disconnected(f"{event!r} instead of an answer")
            head = Head(self._request, event.status_code, Headers(event.headers))
            if isinstance(event, h11.Response):
                head.interim = tuple(interim)
                return head
            interim.append(head)
            if event.status_code == 101:
                raise self._disconnected("the app switched protocols, which this client does not support")
            if event.status_code == 100:
                self._go.set()

    async def _event(self) -> Any:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise self._disconnected(str(error)) from error
            if event is not h11.NEED_DATA:
                return event
            try:
                self._h11.receive_data(await self.link.stream.receive())
            except anyio.EndOfStream:
                self._h11.receive_data(b"")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise self._disconnected(str(error)) from error

    async def _within(self, seconds: float | None, call: Callable[[], Awaitable[T]]) -> T:
        with anyio.move_on_after(seconds):
            return await call()
        raise TimeoutError(f"{self._request!r}: nothing came within {seconds} s (timeout)")

    @contextmanager
    def _leaving_on_error(self) -> Iterator[None]:
        """Leave on an error or a cancellation. The exception of the request's own body takes precedence over its
        consequences.
        """
        try:
            yield
        except BaseException as error:
            if self._sending is not None:
                self._sending.cancel()
            self.link.leave()
            failure, self._failure = self._failure, None
            if failure is not None and isinstance(error, Exception):
                raise failure from None
            raise

    def _disconnected(self, what: str) -> Disconnected:
        reason = self.link.accepted.reason
        because = f"; the server says: {reason}" if reason else ""
        return Disconnected(f"{self._request!r}: the connection ended before the answer was whole ({what}){because}")
