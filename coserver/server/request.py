"""The request as a handler sees it. Its body has been read before the handler starts, or is read by ``stream()``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any

from ..hooks.workers import await_
from ..protocol.fields import Headers, RawFields
from ..protocol.head import RequestHead
from .errors import HTTPException


class Request:
    """One HTTP request.

    ``params`` are the path's parameters, ``peer`` the client's address as text. Everything else is worked out when it
    is asked for.
    """

    # Defaults of the class, not set one by one: most requests never change them.
    _body: bytes | None = b""
    _file: IO[bytes] | None = None
    _headers: Headers | None = None
    _pieces: Callable[[], Awaitable[bytes]] | None = None
    trailers_raw: RawFields = []  # noqa: RUF012 - replaced, never changed

    def __init__(self, head: RequestHead, number: int, peer: str, params: Mapping[str, Any]) -> None:
        self.head = head
        self.id = number
        self.peer = peer
        self.params = params

    def __repr__(self) -> str:
        return f"<Request {self.id} {self.method} {self.target} from {self.peer}>"

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def target(self) -> str:
        """The request-target as sent (RFC 9112 §3.2)."""
        return self.head.target

    @property
    def path(self) -> str:
        """The target's path, percent-encoding undone."""
        return self.head.plain_path

    @property
    def query_string(self) -> str:
        """What follows the "?", as sent."""
        return self.head.query

    @property
    def http_version(self) -> str:
        return f"1.{self.head.minor}"

    @property
    def host(self) -> str:
        """The authority that the request is for: the target's, else the Host field's; "" if HTTP/1.0 sent none."""
        return self.head.host.decode("ascii")

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers(self.head.fields)
        return self._headers

    @property
    def trailers(self) -> Headers:
        """The fields that came after a chunked body; empty until it has been read (RFC 9110 §6.5)."""
        return Headers(self.trailers_raw)

    @property
    def body(self) -> bytes:
        """The whole body. Raises RuntimeError in a route with ``stream=True``, which reads ``stream()``."""
        if self._body is None:
            file = self.body_file
            self._body = file.read()
            file.seek(0)
        return self._body

    @property
    def body_file(self) -> IO[bytes]:
        """The body as a binary file, at its start; on disk if it was longer than ``Limits.body_buffer``."""
        if self._pieces is not None:
            raise RuntimeError(
                "this route has stream=True: read 'async for piece in request.stream()' (in a def: 'for')"
            )
        if self._file is None:
            from io import BytesIO

            self._file = BytesIO(self._body or b"")
        self._file.seek(0)
        return self._file

    def text(self) -> str:
        """The body as text, in the charset that Content-Type names or UTF-8. Raises HTTPException (400)."""
        content_type = self.headers.get("content-type", "")
        _, _, charset = content_type.lower().partition("charset=")
        charset = charset.split(";")[0].strip(" \"'") or "utf-8"
        try:
            return self.body.decode(charset)
        except (LookupError, ValueError) as error:  # Python knows codecs that raise more than UnicodeDecodeError
            raise HTTPException(400, f"The body is not text in {charset}: {error}") from error

    def json(self) -> Any:
        """The body as JSON (RFC 8259). Raises HTTPException (400) for what is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"The body is not JSON: {error}") from error

    def stream(self) -> RequestStream:
        """The body piece by piece as it comes, ``async for`` or, in a ``def``, ``for``.

        Nothing is read ahead: the client waits while the handler does. Works in every route; only with ``stream=True``
        does the handler start before the body is there. Raises ClientLeft if the client leaves in the middle.
        """
        return RequestStream(self._pieces or self._whole())

    def _whole(self) -> Callable[[], Awaitable[bytes]]:
        file = self.body_file

        async def read() -> bytes:
            return file.read(64 * 1024)

        return read

    # The three below are the connection's.

    def set_body(self, body: bytes) -> None:
        self._body = body

    def set_body_file(self, file: IO[bytes]) -> None:
        self._file, self._body = file, None

    def set_pieces(self, pieces: Callable[[], Awaitable[bytes]]) -> None:
        self._pieces, self._body = pieces, None


class RequestStream:
    """Iterates over a body once, in either world."""

    __slots__ = ("_next",)

    def __init__(self, pieces: Callable[[], Awaitable[bytes]]) -> None:
        self._next = pieces

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        return piece

    def __iter__(self) -> RequestStream:
        return self

    def __next__(self) -> bytes:
        piece = await_(self._next())
        if not piece:
            raise StopIteration
        return piece
