"""The answer of a hosted application, which gives it in its own time: a status with fields, then the body's pieces.

The status and the fields are checked at once and sent with the first piece. Nothing is sent for an answer that breaks a
rule: the application gets the error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio

from ..protocol import responses
from ..protocol.errors import LocalProtocolError, RemoteProtocolError
from ..protocol.fields import decode_value
from ..protocol.syntax import is_token, is_value
from ..server.handler.bodies import FilePart, OpenFile
from ..server.handler.errors import ClientLeft, HandlerFailure
from ..server.handler.response import Response
from ..server.http.carrier import ALL, NO_BODY, PART, UNTIL_CLOSE
from ..server.http.response_head import ONE_WRITE
from ..server.http.send_stream import BrokenOff, Sender
from ..transport.cancellation import is_cancellation

if TYPE_CHECKING:
    from ..server.http.exchange import HttpExchange

log = logging.getLogger("coserver.server")  # there ``server.failures`` listens

Fields = Iterable[tuple[bytes, bytes]]

#: How far an answer is: nothing, its status and fields are known, a part is sent, all is sent, it was broken off.
NOTHING, STARTED, PARTLY, WHOLE, BROKEN = range(5)

#: Lines of fields that were found sound, since an application sends the same few. Bounded in number and size.
_lines: dict[tuple[bytes, bytes], bytes] = {}
_LINES_MAX, _LINE_MAX = 1024, 256
#: Fields of the connection, which is the server's (RFC 9110 §7.6.1; the ASGI specification has the server ignore them).
_OF_THE_CONNECTION = frozenset({b"transfer-encoding", b"keep-alive"})
#: Bytes that an application may send before other tasks have their turn; each piece counts as 1 KB at least.
_TURN = 64 * 1024


class ClientGone(OSError):
    """The client has left, so the answer cannot be sent. Raised in the application that sends it."""


class Answer:
    """Base of AsgiRun and WsgiRun. ``state`` is NOTHING, STARTED, PARTLY, WHOLE or BROKEN.

    Every method that sends may raise ClientGone, and LocalProtocolError for what an answer cannot be.
    """

    __slots__ = (
        "_credit", "_lines", "_plain", "_raw", "_replaced", "_sender", "_status", "exchange", "gone", "length",
        "refused", "state",
    )  # fmt: skip

    def __init__(self, exchange: HttpExchange) -> None:
        self.exchange: HttpExchange = exchange
        self.state = NOTHING
        self.gone = False  # the client has left
        self.refused: RemoteProtocolError | None = None  # the client broke the protocol in its body
        self._sender: Sender | None = None
        self._credit = _TURN

    def begin(self, status: int, fields: Fields) -> None:
        """Take the status and the fields, names in any case. Raises LocalProtocolError."""
        if type(status) is not int or not 200 <= status <= 599:
            raise LocalProtocolError(f"a response's status is a whole number from 200 to 599; got {status!r}")
        self._plain = status not in responses.BODILESS
        self.length: int | None = None
        lines = b""
        known = _lines.get
        for name, value in fields:
            if name == b"content-length":
                self.length = _length(value)
            else:
                lines += known((name, value)) or self._take(name, value)
        self._status, self._raw, self._lines = status, fields, lines
        self.state = STARTED

    def _take(self, name: bytes, value: bytes) -> bytes:
        """The line of a field that is not among the known ones; b"" if it is not sent as it is."""
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise LocalProtocolError(f"a field is a name and a value, both bytes; got {name!r:.60} and {value!r:.60}")
        lower = name.lower()
        if not is_token(name):
            raise LocalProtocolError(f"a field's name must be a token (RFC 9110 §5.1); got {name!r}")
        stripped = value.strip(b" \t")
        if not is_value(stripped):
            raise LocalProtocolError(f"field {name!r}: a value must not hold control characters; got {value!r}")
        if lower == b"content-length":
            self.length = _length(value)
            return b""
        if lower in _OF_THE_CONNECTION:
            return b""
        if lower in (b"connection", b"date"):
            self._plain = False
            return b""
        line = b"%b: %b\r\n" % (lower, stripped)
        if len(_lines) < _LINES_MAX and len(line) <= _LINE_MAX:
            _lines[name, value] = line
        return line

    async def send_whole(self, body: bytes) -> None:
        """Send the whole answer, after ``begin``, in one write if it is small."""
        if self.send_whole_now(body):
            return
        exchange = self.exchange
        try:
            if self.state is PARTLY:
                await exchange.send_unsent()
            else:
                self.state = PARTLY
                await exchange.respond(self._response(body))
        except BaseException as error:  # the exchange has told it
            self.state = BROKEN
            self._raise_left(error)
            raise
        self.state = WHOLE

    def send_whole_now(self, body: bytes) -> bool:
        """Send a usual whole answer without waiting. If it returns false, call ``send_whole``, which does the rest."""
        exchange = self.exchange
        if self.state is PARTLY:
            return False
        length = self.length
        if length is not None and length != len(body) and self._plain and exchange.head.method != "HEAD":
            raise LocalProtocolError(f"Content-Length says {length}, but the body has {len(body)} bytes")
        if self.gone:
            raise ClientGone("the client has left")
        exchange.handler_answers()
        if not self._plain or len(body) > ONE_WRITE:
            return False
        status = self._status
        start = responses.starts.get((status, "")) or responses.encode_start(status, "")
        try:
            sent = exchange.carrier.respond_at_once(exchange, (status, start + self._lines, body))
        except BaseException as error:  # the exchange has told it
            self.state = BROKEN
            self._raise_left(error)
            raise
        if sent is ALL:
            self.state = WHOLE
        elif sent is PART:
            self.state = PARTLY
        return sent is ALL

    async def send_piece(self, piece: bytes) -> None:
        """Send a piece of the body, after ``begin``. An empty one is none, but begins the answer."""
        exchange = self.exchange
        if self.gone:
            raise ClientGone("the client has left")
        sender = self._sender
        if sender is None:
            sender = await self._begin_stream()
        if self._replaced or exchange.framing == NO_BODY:
            return
        size = exchange.size + len(piece)
        if 0 <= exchange.framing < size:
            raise LocalProtocolError(f"Content-Length says {exchange.framing}, but the body has {size} bytes or more")
        exchange.size = size
        if exchange.emitter.taps and piece:
            exchange.emitter.pass_on(exchange, piece, sent=True)
        if not piece and sender.started:
            return
        carrier = exchange.carrier
        prefix = b"" if sender.started else sender.begin()
        try:
            rest = carrier.send_data_now(exchange, piece, prefix)
            if rest is None:
                await carrier.send_data(exchange, piece, prefix)
            elif rest:
                await carrier.send_data(exchange, b"", rest)
            else:
                self._credit -= max(len(piece), 1024)
                if self._credit < 0:  # a client that reads fast must not keep other tasks from running
                    self._credit = _TURN
                    await anyio.lowlevel.checkpoint()
        except BaseException as error:
            self._broken(error)
            raise

    async def finish(self, trailers: Iterable[tuple[str, str]] = ()) -> None:
        """Send the end of the body, after ``send_piece``."""
        exchange, sender = self.exchange, self._sender
        assert sender is not None
        if not self._replaced:
            if 0 <= exchange.framing != exchange.size:
                raise LocalProtocolError(
                    f"Content-Length says {exchange.framing}, but the body has {exchange.size} bytes"
                )
            try:
                prefix = b"" if sender.started else sender.begin()
                await exchange.carrier.send_end(exchange, dict(trailers), prefix)
            except BaseException as error:
                self._broken(error)
                raise
            exchange.until_close = False
        exchange.response_sent()
        self.state = WHOLE

    async def send_file(self, path: str) -> None:
        """Send the file at ``path`` as the whole body, after ``begin``. Raises OSError."""
        file = OpenFile(path)
        await self.send_part(file, 0, file.size)

    async def send_part(self, file: OpenFile, start: int, stop: int) -> None:
        """Send the file's bytes from ``start`` to ``stop`` as the whole body, after ``begin``. Closes the file."""
        exchange, size = self.exchange, stop - start
        if self.gone:
            file.close()
            raise ClientGone("the client has left")
        if self.length is not None and self.length != size:
            file.close()
            raise LocalProtocolError(f"Content-Length says {self.length}, but the file has {size} bytes: {file.path}")
        response = self._response(b"")
        response.fields = [field for field in response.fields if field[0] != "content-length"]
        response.body = FilePart(file, [(start, stop)], size)
        exchange.handler_answers()
        self.state = PARTLY
        try:
            await exchange.respond(response)
        except BaseException as error:  # the exchange has told it
            self.state = BROKEN
            self._raise_left(error)
            raise
        self.state = WHOLE

    async def _begin_stream(self) -> Sender:
        """Begin the answer. A gate may hold it here, change it, or put another in its place."""
        exchange = self.exchange
        exchange.handler_answers()
        ours = _Pieces()
        response = self._response(ours)
        if self.length is not None and self._plain:
            response.fields = [*response.fields, ("content-length", str(self.length))]
        self.state = PARTLY
        response, head = await exchange.begin_response(response)
        sender = self._sender = Sender(exchange, head)
        self._replaced = response.body is not ours
        if self._replaced:
            try:
                await exchange._send(response, head)
            except BaseException as error:
                self._broken(error)
                raise
        else:
            exchange.until_close = exchange.framing == UNTIL_CLOSE
        return sender

    def _response(self, body: Any) -> Response:
        """The answer as a Response: for gates, HEAD, a close and the other cases that are not usual."""
        response = Response(content_type="")
        response.status, response.body = self._status, body
        pairs = ((name.lower(), value) for name, value in self._raw)
        response.fields = [
            (name.decode("latin-1"), decode_value(name, value.strip(b" \t")))
            for name, value in pairs
            if name not in _OF_THE_CONNECTION and name != b"content-length"
        ]
        if self.length is not None and body == b"" and self._plain:
            response.fields.append(("content-length", str(self.length)))
        response.content_type = response._take_content_type(None) or ""
        return response

    def _raise_left(self, error: BaseException) -> None:
        """Raises ClientGone if the write failed with ``error`` because the client left."""
        if isinstance(error, anyio.BrokenResourceError | anyio.ClosedResourceError):
            self.gone = True
            self.exchange.connection.end("the client left")
            raise ClientGone(f"the client has left ({error or type(error).__name__})") from error

    def _broken(self, error: BaseException) -> None:
        """Tell that the answer is broken off. Raises ClientGone if the client left."""
        self.state = BROKEN
        self.exchange.tell_broken(error)
        self._raise_left(error)

    # The end.

    def end(self, error: BaseException | None) -> None:
        """The application has ended, with ``error`` or without. Returns if its answer is whole.

        Raises the error if nothing is sent; BrokenOff if a part is; ClientLeft and RemoteProtocolError for failures of
        the client.
        """
        exchange, state = self.exchange, self.state
        if error is not None and is_cancellation(error):
            if state is PARTLY:
                exchange.tell_broken(error)
            raise error
        if state is WHOLE:
            if error is not None and not self.caused_by_client(error):
                self._log(error, "failed after its answer to")
            return
        if self.refused is not None and state in (NOTHING, STARTED):
            raise self.refused
        if self.gone and (error is None or self.caused_by_client(error)):
            raise ClientLeft("the client left")
        if error is None:
            error = RuntimeError(
                "the application returned without a response: send http.response.start and http.response.body"
                if state is NOTHING
                else "the application returned before the last piece of its response: send one with more_body False"
            )
        if state is NOTHING:
            raise error
        self._log(error, "broke off its response to")
        if state is PARTLY:
            exchange.tell_broken(error)
        exchange.carrier.reset(exchange, f"the application broke off its response: {error!r:.80}")
        raise BrokenOff(f"the application broke off its response: {error!r:.80}") from error

    def caused_by_client(self, error: BaseException) -> bool:
        """Whether the error comes from a client that left. Frameworks raise their own in the place of ClientGone."""
        seen: set[int] = set()
        each: BaseException | None = error
        while each is not None and id(each) not in seen:
            if isinstance(each, ClientGone):
                return True
            seen.add(id(each))
            each = each.__cause__ or each.__context__
        return False

    def _log(self, error: BaseException, what: str) -> None:
        exchange = self.exchange
        failure = HandlerFailure(exchange.endpoint_name, exchange, error)
        failure.log(log, f"%s {what} %r, request id %s", exchange.endpoint_name, exchange,
                    exchange.request.request_id, extra=exchange.log_extra)  # fmt: skip


class _Pieces:
    """Stands for a body whose pieces the application sends itself."""

    what = "a stream of the application"

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


def _length(value: bytes) -> int:
    if not isinstance(value, bytes) or not value.isdigit():
        raise LocalProtocolError(f"Content-Length must be a whole number of bytes; got {value!r}")
    return int(value)
