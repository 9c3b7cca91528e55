"""An upstream's answer, as whoever asked sees it: whole, or with a body that is still on its way."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..protocol.fields import Headers, RawFields
from ..protocol.jsons import decode_json
from ..protocol.response_head import ResponseHead
from ..protocol.values import decode_text

if TYPE_CHECKING:
    from .stream import BodyStream


class _Answer:
    """What both kinds have."""

    _headers: Headers | None = None
    _fields: RawFields | None = None
    trailers_raw: RawFields = []  # noqa: RUF012 - replaced, never changed
    status: int
    head: ResponseHead

    @property
    def fields(self) -> RawFields:
        """The raw header fields, names in lower case."""
        if self._fields is None:
            self._fields = self.head.fields.copy()  # several answers may have one head
        return self._fields

    @fields.setter
    def fields(self, value: RawFields) -> None:
        self._fields = value

    @property
    def ok(self) -> bool:
        """Whether the status is from 200 to 299."""
        return 200 <= self.status < 300

    @property
    def headers(self) -> Headers:
        """The header fields of the final answer."""
        if self._headers is None:
            self._headers = Headers(self.fields)
        return self._headers

    @property
    def trailers(self) -> Headers:
        """The fields that came after a chunked body (RFC 9110 §6.5); of a streamed one, when it has been read."""
        return Headers(self.trailers_raw)


class UpstreamResponse(_Answer):
    """``status``, ``headers``, ``body`` (bytes); ``fields`` are the raw header fields, names in lower case."""

    def __init__(self, head: ResponseHead, body: bytes) -> None:
        self.status = head.status
        self.head = head
        self.body = body

    @classmethod
    def of(cls, status: int, fields: RawFields, body: bytes) -> UpstreamResponse:
        """One that no upstream sent."""
        response = cls.__new__(cls)
        response.status, response.fields, response.body = status, fields, body
        return response

    def __repr__(self) -> str:
        return f"<UpstreamResponse {self.status}, {len(self.body)} bytes>"

    def text(self) -> str:
        """The body as text, in the charset that Content-Type names or UTF-8. Raises ValueError."""
        if self._fields is None and b"charset" not in self.head.raw:  # spares taking the head apart
            return self.body.decode()
        _, _, charset = self.headers.get("content-type", "").lower().partition("charset=")
        return decode_text(self.body, charset.split(";")[0].strip(" \"'") or "utf-8")

    def json(self) -> Any:
        """The body as JSON (RFC 8259). Raises ValueError for what is none."""
        return decode_json(self.body)


class StreamedUpstreamResponse(_Answer):
    """Of ``stream=True``: ``body`` is iterated over once, ``async for`` or, in a worker or a plain thread, ``for``.

    Leave it early by ``close()``, or use it in a block: ``async with await users.get("/big", stream=True) as answer:``.
    """

    def __init__(self, head: ResponseHead, body: BodyStream) -> None:
        self.status = head.status
        self.head = head
        self.body = body

    def __repr__(self) -> str:
        return f"<StreamedUpstreamResponse {self.status}, {self.body!r}>"

    async def read(self) -> bytes:
        """All of the body that has not been taken, however long."""
        return b"".join([piece async for piece in self.body])

    def close(self) -> None:
        """Take no more of the body."""
        self.body.close()

    async def __aenter__(self) -> StreamedUpstreamResponse:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __enter__(self) -> StreamedUpstreamResponse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
