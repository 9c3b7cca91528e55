"""What an HTTP exchange needs of the protocol that carries it: HTTP/1's connection, a stream, a test's memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from anyio.abc import ByteStream

if TYPE_CHECKING:
    from ..handler.response import Response
    from .exchange import HttpExchange

#: Values of ``HttpExchange.framing`` that are no length: no body follows; the protocol marks the end of the body (in
#: HTTP/1 by chunks); only the close does.
NO_BODY, MARKED, UNTIL_CLOSE = -1, -2, -3
#: How much of a usual answer ``respond_at_once`` has sent.
NONE, PART, ALL = 0, 1, 2


class Carrier(Protocol):
    """Reads the request's body and writes the response of an exchange.

    What has waited for the client may raise anyio.BrokenResourceError or ClosedResourceError: the client left. A
    ``prefix`` is what ``encode_head`` or ``send_data_now`` returned: it goes out before anything else, in one write
    with what follows.
    """

    # The request.

    async def read_piece(self, exchange: HttpExchange) -> bytes:
        """The body's next bytes, empty at its end. Reads from the client only when asked: this is the back-pressure.

        Keeps ``exchange.body_done`` true to the fact. Raises ClientLeft, RemoteProtocolError.
        """
        ...

    def limit_body(self, size: int) -> None:
        """Refuse a body of more bytes. Raises RemoteProtocolError, at once if the head announces more."""
        ...

    @property
    def peer_gone(self) -> bool:
        """Whether the client is known to have left, or its exchange to be ended."""
        ...

    # The response.

    def decide_keep_alive(self, exchange: HttpExchange) -> bool:
        """Whether another request may follow. May claim this exchange as the last one of its connection, once."""
        ...

    def respond_at_once(self, exchange: HttpExchange, answer: Response | bytes) -> int:
        """Write a usual answer, whole and small, without waiting: ALL of it, or a PART; NONE of any other answer.

        What was not taken of a part stands in ``exchange.unsent``.
        """
        ...

    def encode_head(self, exchange: HttpExchange, response: Response, date: bytes) -> bytes:
        """The bytes of the response's head; sets ``exchange.framing``, may unset ``exchange.keep_alive``.

        ``date`` is the Date field's value. Raises LocalProtocolError for what a handler must not say.
        """
        ...

    async def send_interim(self, exchange: HttpExchange, status: int, fields: Iterable[tuple[str, str]] = ()) -> None:
        """Send an interim response, 100 or 103 (RFC 9110 §15.2). Nothing for a client of HTTP/1.0."""
        ...

    async def send_whole(self, exchange: HttpExchange, head: bytes, body: bytes) -> None:
        """Send a head and the whole body behind it; ``exchange.size`` is what went out of it if that fails."""
        ...

    async def send_data(self, exchange: HttpExchange, data: bytes, prefix: bytes = b"") -> None:
        """Send a piece of the body, framed as ``exchange.framing`` says. Empty data sends the prefix alone."""
        ...

    def send_data_now(self, exchange: HttpExchange, data: bytes, prefix: bytes = b"") -> bytes | None:
        """The same without waiting: what was not taken, to be the next prefix; None if this carrier must wait."""
        ...

    async def send_file(self, exchange: HttpExchange, file: int, start: int, stop: int) -> int:
        """Have the kernel send a span of the file with descriptor ``file``; up to where it went.

        That is ``start`` where this carrier or the file's system cannot.
        """
        ...

    async def send_end(self, exchange: HttpExchange, trailers: Any = None, prefix: bytes = b"") -> None:
        """Send what marks the response's end, with its trailers where there are any; also where no body follows.

        Raises LocalProtocolError.
        """
        ...

    # Other ends.

    def reset(self, exchange: HttpExchange, reason: str) -> None:
        """End the exchange in a way that no client takes for a whole answer."""
        ...

    def hand_over(self, exchange: HttpExchange) -> tuple[ByteStream, bytes]:
        """The stream, and the bytes that have come already, for another protocol after a 101 (RFC 9110 §7.8).

        Raises RuntimeError where there is no stream of its own to hand over.
        """
        ...
