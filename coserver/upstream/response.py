"""An upstream's answer, as whoever asked sees it."""

from __future__ import annotations

from typing import Any

from ..protocol.fields import Headers, RawFields
from ..protocol.jsons import decode_json
from ..protocol.values import decode_text


class UpstreamResponse:
    """``status``, ``headers``, ``body`` (bytes); ``fields`` are the raw header fields, names in lower case."""

    # Defaults of the class, not set one by one: most answers never change them.
    _headers: Headers | None = None
    trailers_raw: RawFields = []  # noqa: RUF012 - replaced, never changed

    def __init__(self, status: int, fields: RawFields, body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body

    def __repr__(self) -> str:
        return f"<UpstreamResponse {self.status}, {len(self.body)} bytes>"

    @property
    def ok(self) -> bool:
        """Whether the status is from 200 to 299."""
        return 200 <= self.status < 300

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers(self.fields)
        return self._headers

    @property
    def trailers(self) -> Headers:
        """The fields that came after a chunked body (RFC 9110 §6.5)."""
        return Headers(self.trailers_raw)

    def text(self) -> str:
        """The body as text, in the charset that Content-Type names or UTF-8. Raises ValueError."""
        _, _, charset = self.headers.get("content-type", "").lower().partition("charset=")
        return decode_text(self.body, charset.split(";")[0].strip(" \"'") or "utf-8")

    def json(self) -> Any:
        """The body as JSON (RFC 8259). Raises ValueError for what is none."""
        return decode_json(self.body)
