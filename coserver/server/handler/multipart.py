"""Finds the parts of a multipart/form-data body (RFC 7578) as it comes in; python-multipart parses.

It keeps text and remembers of each file where in the body it lies. What is wrong is kept as well, and raised when a
handler asks for the form: one that does not gets its body whatever it is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from ...protocol.fields import Headers, RawFields
from ...protocol.values import decode_octets, decode_text
from .errors import HTTPException, too_much

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartParser

    from ..limits import Limits

#: Blanks after a boundary: transport padding, which no client sends and the parser takes one by one.
_PADDING_MAX = 64
_SAFE_ENCODINGS = {"", "binary", "8bit", "7bit"}
# RFC 7578 forbids it, urllib3 1.x sends it for names that are not ASCII.
_extended_filename = re.compile(rb"(?i);\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)").search
# The parser logs what clients do wrong; they are told themselves.
_nobody = logging.Logger("nobody", logging.CRITICAL + 1)


class Part:
    """One part: ``filename`` is None for text; ``offset`` and ``size``, in bytes, say where its content lies."""

    __slots__ = ("fields", "filename", "name", "offset", "size", "text")

    def __init__(self) -> None:
        self.fields: RawFields = []
        self.name = ""
        self.filename: str | None = None
        self.offset = self.size = 0
        self.text: list[bytes] = []

    def field(self, name: bytes) -> bytes:
        return next((value for each, value in self.fields if each == name), b"")

    def decoded(self) -> str:
        """The text, in the charset that the part's Content-Type names or UTF-8. Raises HTTPException (400)."""
        charset = Headers(self.fields).get("content-type", "").lower().partition("charset=")[2]
        charset = charset.split(";")[0].strip(" \"'") or "utf-8"
        try:
            return decode_text(b"".join(self.text), charset, "replace")
        except ValueError as error:
            raise HTTPException(
                400, f"The form field {self.name!r:.60} is no text in {charset:.40}: {error}"
            ) from error


class MultipartReader:
    """``feed`` it the whole body, then ask for ``parts``."""

    def __init__(self, content_type: str, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[Part] = []
        self._part = Part()
        self._begun = 0
        self._field, self._value = b"", b""
        self._read = 0  # bytes of the body before the piece that is being fed
        self._piece = b""
        self._kept = 0  # bytes of text and heads in memory
        self._delimiters = 0
        self._ended = False
        self._error: tuple[str, str, int] | None = None  # and not an exception, whose traceback would hold this reader
        self._parser: MultipartParser | None = None
        self._attempt(self._open, content_type)

    def feed(self, piece: bytes) -> None:
        """The body's next bytes. Raises nothing. What follows the closing boundary is nobody's (RFC 2046 §5.1.1)."""
        if self._parser is not None:
            self._attempt(self._write, piece)

    def parts(self) -> list[Part]:
        """All parts in order. Raises HTTPException: 400 for what is no form, 413 for one beyond the limits."""
        if self._error is not None:
            raise too_much(*self._error)
        if not self._ended:
            self.close()
            raise _broken("it ends before its closing boundary")
        return self._parts

    def close(self) -> None:
        """Nothing more will be fed. Parser and reader hold one another, with all the text, until then."""
        self._parser = None

    def _attempt(self, function: Callable[[Any], None], argument: Any) -> None:
        from python_multipart.exceptions import FormParserError

        try:
            function(argument)
        except HTTPException as error:
            self._error = error.detail, error.limit, error.status
        except FormParserError as error:
            self._error = _broken(str(error)).detail, "", 400
        if self._error is not None or self._ended:
            self.close()

    def _open(self, content_type: str) -> None:
        from python_multipart.multipart import MultipartParser, parse_options_header

        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _broken("its Content-Type names no boundary (RFC 2046 §5.1.1)")
        self._delimiter = b"\r\n--" + boundary
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )
        self._parser.logger = _nobody

    def _write(self, piece: bytes) -> None:
        self._look_for_floods(piece)
        self._piece = piece
        assert self._parser is not None
        self._parser.write(piece)
        self._read += len(piece)
        self._piece = b""

    def _look_for_floods(self, piece: bytes) -> None:
        """Boundaries, and what looks like them, cost the parser a hundred times what other bytes do."""
        at = piece.find(self._delimiter)
        while at >= 0:
            self._delimiters += 1
            self._check_count(self._delimiters - 1)
            at += len(self._delimiter)
            padding = piece[at : at + _PADDING_MAX]
            if len(padding) == _PADDING_MAX and not padding.strip(b" \t"):
                raise _broken(f"{_PADDING_MAX} blanks or more follow a boundary")
            at = piece.find(self._delimiter, at)

    def _check_count(self, count: int) -> None:
        if count > self._limits.form_fields:
            raise too_much(f"A form may have {self._limits.form_fields} fields; this one has more", "form_fields")

    def _keep(self, piece: bytes) -> bytes:
        self._kept += len(piece)
        if self._kept > self._limits.form_text:
            raise too_much(f"A form's text may have {self._limits.form_text} bytes; this one has more", "form_text")
        return piece

    # The parser's calls, in their order.

    def _on_part_begin(self) -> None:
        self._begun += 1
        self._check_count(self._begun)
        self._part = Part()

    def _on_header_field(self, piece: bytes, start: int, end: int) -> None:
        self._field += self._keep(piece[start:end])

    def _on_header_value(self, piece: bytes, start: int, end: int) -> None:
        self._value += self._keep(piece[start:end])

    def _on_header_end(self) -> None:
        self._part.fields.append((self._field.lower(), self._value.strip(b" \t")))
        self._field, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        from python_multipart.multipart import parse_options_header

        part = self._part
        disposition = part.field(b"content-disposition")
        kind, options = parse_options_header(disposition)
        name = options.get(b"name")
        if kind.strip() != b"form-data" or name is None:
            raise _broken(f"its part {self._begun} has no 'Content-Disposition: form-data; name=...' (RFC 7578 §4.2)")
        part.name = decode_octets(name)
        encoding = part.field(b"content-transfer-encoding").lower()
        if encoding.decode("latin-1") not in _SAFE_ENCODINGS:
            raise _broken(f"its part {part.name!r:.60} has a Content-Transfer-Encoding (RFC 7578 §4.7); send it plain")
        if (filename := options.get(b"filename")) is not None:
            part.filename = decode_octets(filename)
        elif extended := _extended_filename(disposition):
            part.filename = decode_octets(unquote_to_bytes(extended[1]))

    def _on_part_data(self, piece: bytes, start: int, end: int) -> None:
        part = self._part
        if part.filename is None:
            part.text.append(self._keep(piece[start:end]))
        elif not part.size:
            # What looked like a boundary at the end of one piece, and was none, comes with the next, ahead of it.
            part.offset = self._read + start if piece is self._piece else self._read - (end - start)
        part.size += end - start

    def _on_part_end(self) -> None:
        self._parts.append(self._part)

    def _on_end(self) -> None:
        self._ended = True


def _broken(reason: str) -> HTTPException:
    return HTTPException(400, f"The body is not a multipart form: {reason}")
