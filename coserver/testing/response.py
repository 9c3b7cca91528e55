"""The answers that a test gets: whole, or with a body that is still coming."""

from __future__ import annotations

import codecs
import json
from email.message import Message
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from ..protocol.fields import Headers
from .request import Outgoing

if TYPE_CHECKING:
    from .http_connection import Line

Answered = TypeVar("Answered", bound="Head")


class BadStatus(Exception):
    """``raise_for_status`` found a 4xx or 5xx; the answer is in ``response``."""

    def __init__(self, message: str, response: Head) -> None:
        super().__init__(message)
        self.response = response


class Disconnected(ConnectionError):
    """The app ended the connection before the answer was whole; the message has the server's reason."""


class Head:
    """Status and fields of an answer, its request, and the 1xx answers before it (``interim``)."""

    def __init__(self, request: Outgoing, status: int, headers: Headers, interim: tuple[Head, ...] = ()) -> None:
        self.request = request
        self.status = status
        self.headers = headers
        self.interim = interim
        self.trailers = Headers()

    def __repr__(self) -> str:
        try:
            phrase = f" {HTTPStatus(self.status).phrase}"
        except ValueError:
            phrase = ""
        return f"<{self.status}{phrase} for {self.request!r}{self._size()}>"

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    @property
    def charset(self) -> str:
        """The charset of Content-Type; UTF-8 if it names none that Python knows."""
        message = Message()
        message["content-type"] = self.headers.get("content-type", "")
        try:
            return codecs.lookup(str(message.get_param("charset", "utf-8"))).name
        except LookupError:
            return "utf-8"

    def raise_for_status(self: Answered) -> Answered:
        """Return the answer itself; raises BadStatus for a 4xx or 5xx."""
        if not self.ok:
            raise BadStatus(f"{self!r}{self._beginning()}", self)
        return self

    def _size(self) -> str:
        return ""

    def _beginning(self) -> str:
        return ""


class Response(Head):
    """A whole answer. ``history`` holds the redirects that led to it.

    ``failure`` is the exception of the handler behind it, if the app did not expect one; the client raises it unless
    ``raise_errors`` is false.
    """

    def __init__(self, head: Head, body: bytes) -> None:
        super().__init__(head.request, head.status, head.headers, head.interim)
        self.body = body
        self.failure: BaseException | None = None
        self.history: tuple[Response, ...] = ()

    @property
    def text(self) -> str:
        """The body as text; invalid bytes become U+FFFD."""
        return self.body.decode(self.charset, "replace")

    def json(self) -> Any:
        """The body read as JSON. Raises ValueError with the beginning of the body."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ValueError(f"{self!r} is not JSON: {error}{self._beginning()}") from error

    def _size(self) -> str:
        failure = self.failure
        notes = getattr(failure, "__notes__", ())
        why = "; ".join(["", f"{type(failure).__name__}: {str(failure)[:200]}", *notes]) if failure is not None else ""
        return f", {len(self.body)} bytes{why}"

    def _beginning(self) -> str:
        return f": {self.text[:200].strip()!r}" if self.body else ""


class StreamedResponse(Head):
    """An answer whose body is still coming: ``async for piece in response``, ``await response.read()``."""

    def __init__(self, head: Head, line: Line, timeout: float | None) -> None:
        super().__init__(head.request, head.status, head.headers, head.interim)
        self._line = line
        self._timeout = timeout

    def __aiter__(self) -> StreamedResponse:
        """Iterate over the pieces of the body as they come, which may differ from those that the handler yielded."""
        return self

    async def __anext__(self) -> bytes:
        piece = await self.receive()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def receive(self) -> bytes | None:
        """The next piece; None at the end. Raises TimeoutError, Disconnected."""
        piece = await self._line.piece(self._timeout)
        if piece is None:
            self.trailers = self._line.trailers
        return piece

    async def read(self) -> bytes:
        """The rest of the body."""
        return b"".join([piece async for piece in self])

    def lines(self) -> Lines:
        """The lines of the body, without their ends: for server-sent events, for example."""
        return Lines(self)


class Lines:
    """The lines of an answer that is still coming. No generator: trio warns about those that a test leaves early."""

    def __init__(self, response: StreamedResponse) -> None:
        self._response = response
        self._rest = b""
        self._lines: list[bytes] = []

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> str:
        while not self._lines:
            piece = await self._response.receive()
            if piece is None:
                if not self._rest:
                    raise StopAsyncIteration
                piece = b"\n"
            *whole, self._rest = (self._rest + piece).split(b"\n")
            self._lines = whole[::-1]
        return self._lines.pop().decode(self._response.charset, "replace").removesuffix("\r")
