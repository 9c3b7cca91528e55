"""The carrier of an HTTP exchange reads and writes for it: an HTTP/1 connection, a stream, or a test's memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from anyio.abc import ByteStream

if TYPE_CHECKING:
    from ..handler.response import Response
    from .exchange import HttpExchange

#: Values of ``HttpExchange.framing`` that are no length. NO_BODY: no body follows. MARKED: the protocol marks the end
#: of the body, HTTP/1 by chunks. UNTIL_CLOSE: the close is the end of the body.
NO_BODY, MARKED, UNTIL_CLOSE = -1, -2, -3
#: How much of a usual answer ``respond_at_once`` has sent.
NONE, PART, ALL = 0, 1, 2
#: A usual answer that is encoded already: its status, the status line with the field lines, and the body.
Usual = tuple[int, bytes, bytes]


class Sent:
    """What a hosted application leaves to be sent when it ends: nothing. One of SENT and APART."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


#: SENT: the application has sent its answer. APART: it has, and its connection goes on in another task already.
SENT, APART = Sent("SENT"), Sent("APART")


class Carrier(Protocol):
    """Reads the request's body and writes the response of an exchange.

    Each method that waits may raise anyio.BrokenResourceError or ClosedResourceError: the client left. A ``prefix`` is
    the result of ``encode_head`` or ``send_data_now``. It is sent first, in one write with the bytes that follow.
    """

    # The request.

    async def read_piece(self, exchange: HttpExchange) -> bytes:
        """The body's next bytes, empty at its end. Reads from the client only when asked: this is the back-pressure.

        Keeps ``exchange.body_done`` up to date. Raises ClientLeft, RemoteProtocolError.
        """
        ...

    def limit_body(self, size: int) -> None:
        """Refuse a body of more than ``size`` bytes. Raises RemoteProtocolError, at once if the head announces more."""
        ...

    @property
    def peer_gone(self) -> bool:
        """Whether the client is known to have left, or its exchange to be ended."""
        ...

    # The response.

    def decide_keep_alive(self, exchange: HttpExchange) -> bool:
        """Whether another request may follow. May claim this exchange as the last one of its connection, once."""
        ...

    def respond_at_once(self, exchange: HttpExchange, answer: Response | bytes | Usual) -> int:
        """Write a usual answer, which is whole and small, without waiting. Returns ALL, PART, or NONE if it is another.

        After a PART, ``exchange.unsent`` holds the rest.
        """
        ...

    def encode_head(self, exchange: HttpExchange, response: Response, date: bytes) -> bytes:
        """The bytes of the response's head; sets ``exchange.framing``, may unset ``exchange.keep_alive``.

        ``date`` is the Date field's value. Raises LocalProtocolError for a field that a handler must not set.
        """
        ...

    async def send_interim(self, exchange: HttpExchange, status: int, fields: Iterable[tuple[str, str]] = ()) -> None:
        """Send an interim response, 100 or 103 (RFC 9110 §15.2). Nothing for a client of HTTP/1.0."""
        ...

    async def send_whole(self, exchange: HttpExchange, head: bytes, body: bytes) -> None:
        """Send a head and the whole body. If this fails, ``exchange.size`` is the number of body bytes sent."""
        ...

    async def send_data(self, exchange: HttpExchange, data: bytes, prefix: bytes = b"") -> None:
        """Send a piece of the body, framed as ``exchange.framing`` says. Empty data sends the prefix alone."""
        ...

    def send_data_now(self, exchange: HttpExchange, data: bytes, prefix: bytes = b"") -> bytes | None:
        """Like ``send_data``, without waiting. Returns the rest, as the next prefix; None if this carrier must wait."""
        ...

    async def send_file(self, exchange: HttpExchange, file: int, start: int, stop: int) -> int:
        """Have the kernel send a span of the file with descriptor ``file``. Returns the offset that it has reached.

        Returns ``start`` if this carrier or the file's system cannot do this.
        """
        ...

    async def send_end(self, exchange: HttpExchange, trailers: Any = None, prefix: bytes = b"") -> None:
        """Send the mark of the response's end, and the trailers if there are any. Call it also if no body follows.

        Raises LocalProtocolError.
        """
        ...

    # Other ends.

    def reset(self, exchange: HttpExchange, reason: str) -> None:
        """End the exchange in a way that no client takes for a whole answer."""
        ...

    def set_apart(self, exchange: HttpExchange) -> bool:
        """Go on in a new task, once the answer is sent. False if the carrier has a task for each exchange anyway."""
        ...

    def hand_over(self, exchange: HttpExchange) -> tuple[ByteStream, bytes]:
        """Hand over the stream, and the bytes that have come already, to another protocol after a 101 (RFC 9110 §7.8).

        Raises RuntimeError if the exchange has no stream of its own.
        """
        ...
