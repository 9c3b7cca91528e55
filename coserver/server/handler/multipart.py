"""Finds the parts of a multipart/form-data body (RFC 7578, RFC 2046 §5.1.1) as it comes in.

The reader keeps the text, and the position of each file in the body. It also keeps an error, and raises that when a
handler asks for the form. A handler that reads only the body gets any body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from ...protocol.fields import Headers, RawFields
from ...protocol.syntax import is_token
from ...protocol.values import decode_octets, decode_text
from .errors import HTTPException, too_much

if TYPE_CHECKING:
    from ..limits import Limits

#: Blanks after a boundary, "transport padding", that are too many; no client sends any.
_PADDING_MAX = 64
#: Fields of a part's head; browsers send two. python-multipart has 8.
_HEAD_FIELDS = 8
#: Bytes of a line of a part's head, as in python-multipart; a folded field has as many in all.
_LINE_MAX = 4096
_SAFE_ENCODINGS = {"", "binary", "8bit", "7bit"}

_START, _PREAMBLE, _HEAD, _BODY_START, _BODY, _DONE = range(6)
#: What follows the boundary does not tell yet what it is; or tells that it is a line of content.
_UNDECIDED, _CONTENT = -1, -2

_match_blanks = re.compile(rb"[ \t]*").match
_find_parameters = re.compile(
    rb';[ \t]*([^=; \t]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.DOTALL
).finditer
# Of quoted pairs only these two: old browsers send "C:\dir\name" as it is.
_quoted_pair = re.compile(rb'\\(["\\])').sub
_match_extended = re.compile(rb"([^'\s]*)'[^']*'(.*)", re.DOTALL).fullmatch  # RFC 8187 §3.2.1
_CONTROLS = re.compile(rb"[\x00\r\n]").search


class Part:
    """One part. ``filename`` is None for text. ``offset`` and ``size``, in bytes, are the place of its content."""

    __slots__ = ("fields", "filename", "name", "offset", "size", "text")

    def __init__(self) -> None:
        self.fields: RawFields = []
        self.name = ""
        self.filename: str | None = None
        self.offset = self.size = 0
        self.text: list[bytes] = []

    def field(self, name: bytes) -> bytes:
        return next((value for each, value in self.fields if each == name), b"")

    def decoded(self, usual: str) -> str:
        """The text, in the charset that its Content-Type names or the ``usual`` one. Raises HTTPException (400)."""
        charset = Headers(self.fields).get("content-type", "").lower().partition("charset=")[2]
        charset = charset.split(";")[0].strip(" \"'") or usual
        try:
            return decode_text(b"".join(self.text), charset, "replace")
        except ValueError as error:
            raise HTTPException(
                400, f"The form field {self.name!r:.60} is no text in {charset:.40}: {error}"
            ) from error


class MultipartReader:
    """Call ``feed`` for the whole body, then ``parts``."""

    def __init__(self, content_type: str, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[Part] = []
        self._part = Part()
        self._begun = 0
        self._state = _START
        self._read = 0  # bytes of the body before ``_rest``
        self._rest = b""  # bytes that do not tell yet what they are
        self._kept = 0  # bytes of text and heads in memory
        self._delimiters = 0
        self._error: tuple[str, str, int] | None = None  # and not an exception, whose traceback would hold this reader
        boundary = _parameters(content_type.encode("latin-1", "replace")).get(b"boundary")
        if not boundary:
            self._error = _broken("its Content-Type names no boundary (RFC 2046 §5.1.1)").detail, "", 400
        self._boundary = b"--" + (boundary or b"")
        self._delimiter = b"\r\n" + self._boundary

    def feed(self, piece: bytes) -> None:
        """The body's next bytes. Raises nothing. What follows the closing boundary is nobody's (RFC 2046 §5.1.1)."""
        if self._error is not None or self._state == _DONE:
            return
        data = self._rest + piece if self._rest else piece
        try:
            at = self._read_from(data)
        except HTTPException as error:
            self._error = error.detail, error.limit, error.status
            self.close()
            return
        self._read += at
        self._rest = data[at:]

    def parts(self) -> list[Part]:
        """All parts in order. Raises HTTPException: 400 if the body is no form, 413 if it exceeds the limits."""
        if self._error is not None:
            raise too_much(*self._error)
        if self._state != _DONE:
            raise _broken("it ends before its closing boundary")
        return self._parts

    def charset(self) -> str:
        """The charset of text whose part names none: what the field ``_charset_`` says (RFC 7578 §4.6), or UTF-8."""
        for part in self._parts:
            if part.name == "_charset_" and part.filename is None:
                return b"".join(part.text).decode("latin-1").strip().lower() or "utf-8"
        return "utf-8"

    def close(self) -> None:
        """Nothing more will be fed."""
        self._rest = b""

    def _read_from(self, data: bytes) -> int:
        """Read as far as the bytes tell what they are. Returns up to where. Raises HTTPException."""
        at = 0
        while self._state != _DONE:
            after = self._STEPS[self._state](self, data, at)
            if after is None:
                break
            at = after
        else:
            return len(data)
        if self._state in (_PREAMBLE, _BODY):
            # All but what may be the begin of a delimiter; a boundary holds no CR.
            end = data.find(self._delimiter, at)
            if end < 0:
                end = data.rfind(b"\r", max(at, len(data) - len(self._delimiter) + 1))
                if end < 0 or not self._delimiter.startswith(data[end:]):
                    end = len(data)
            if self._state == _BODY:
                self._take(data, at, end)
            at = end
        return at

    def _read_start(self, data: bytes, at: int) -> int | None:
        """The first boundary may begin the body, without a CRLF."""
        after = self._boundary_at(data, at)
        if after == _UNDECIDED:
            return None
        if after != _CONTENT:
            return self._begin_part(after)
        self._state = _PREAMBLE
        return at

    def _read_preamble(self, data: bytes, at: int) -> int | None:
        """Skip to behind the first delimiter; None if it is not there yet."""
        found = data.find(self._delimiter, at)
        if found < 0:
            return None
        after = self._look_behind(data, found + len(self._delimiter))
        if after == _UNDECIDED:
            return None
        self._count_delimiter()
        return found + len(self._delimiter) if after == _CONTENT else self._begin_part(after)

    def _read_head(self, data: bytes, at: int) -> int | None:
        """One line of a part's head. A boundary ends it too: a part may have no body, nor a blank line before it."""
        if (after := self._boundary_at(data, at)) != _CONTENT:
            if after == _UNDECIDED:
                return None
            self._end_head()
            return self._end_part(after)
        end = data.find(b"\r\n", at)
        if (end if end >= 0 else len(data)) - at > _LINE_MAX:
            raise _broken(f"a line in the head of its part {self._begun} is longer than {_LINE_MAX} bytes")
        if end < 0:
            return None
        if end == at:
            self._end_head()
            self._state = _BODY_START
            self._part.offset = self._read + end + 2
        else:
            self._add_line(data[at:end])
        return end + 2

    def _add_line(self, line: bytes) -> None:
        fields = self._part.fields
        self._keep(line)
        if _CONTROLS(line):
            raise _broken(f"a line in the head of its part {self._begun} does not end with CRLF, or holds a NUL")
        if line[:1] in b" \t" and fields:  # folded (RFC 5322 §2.2.3)
            name, value = fields[-1]
            value = b"%b %b" % (value, line.strip(b" \t"))
            if len(value) > _LINE_MAX:
                raise _broken(f"a field in the head of its part {self._begun} is longer than {_LINE_MAX} bytes")
            fields[-1] = name, value.strip(b" \t")
            return
        name, colon, value = line.partition(b":")
        if not colon or not is_token(name):
            raise _broken(f"a line in the head of its part {self._begun} is no 'name: value'")
        if len(fields) >= _HEAD_FIELDS:
            raise _broken(f"the head of its part {self._begun} has more than {_HEAD_FIELDS} fields")
        fields.append((name.lower(), value.strip(b" \t")))

    def _end_head(self) -> None:
        part = self._part
        disposition = part.field(b"content-disposition")
        options = _parameters(disposition)
        kind = disposition.partition(b";")[0].strip(b" \t").lower()
        name = _text(options, b"name")
        if kind != b"form-data" or name is None:
            raise _broken(f"its part {self._begun} has no 'Content-Disposition: form-data; name=...' (RFC 7578 §4.2)")
        part.name = name
        encoding = part.field(b"content-transfer-encoding").lower()
        if encoding.decode("latin-1") not in _SAFE_ENCODINGS:
            raise _broken(f"its part {part.name!r:.60} has a Content-Transfer-Encoding (RFC 7578 §4.7); send it plain")
        part.filename = _text(options, b"filename")

    def _read_body_start(self, data: bytes, at: int) -> int | None:
        """A boundary right behind the blank line: by the grammar its CRLF is the blank line, and there is no body."""
        after = self._boundary_at(data, at)
        if after == _UNDECIDED:
            return None
        if after != _CONTENT:
            return self._end_part(after)
        self._state = _BODY
        return at

    def _read_body(self, data: bytes, at: int) -> int | None:
        """Take a part's content up to a delimiter; None if there is none yet."""
        start = at
        while (found := data.find(self._delimiter, at)) >= 0:
            after = self._look_behind(data, found + len(self._delimiter))
            if after == _UNDECIDED:
                return None if start == found else self._take(data, start, found)
            self._count_delimiter()
            if after != _CONTENT:
                self._take(data, start, found)
                return self._end_part(after)
            at = found + len(self._delimiter)
        return self._take(data, start, at) if at > start else None

    _STEPS = (_read_start, _read_preamble, _read_head, _read_body_start, _read_body)

    def _boundary_at(self, data: bytes, at: int) -> int:
        """The place behind a boundary line at ``at``, or that there is none, or that it is not known yet."""
        boundary = self._boundary
        if data.startswith(boundary, at):
            after = self._look_behind(data, at + len(boundary))
            if after != _UNDECIDED:
                self._count_delimiter()
            return after
        return _UNDECIDED if boundary.startswith(data[at:]) else _CONTENT

    def _look_behind(self, data: bytes, at: int) -> int:
        """What is behind a boundary: the place after its line; after the closing one, the end of all that counts."""
        if data.startswith(b"--", at):
            self._state = _DONE
            return len(data)
        blanks = _match_blanks(data, at, at + _PADDING_MAX)
        assert blanks is not None
        if blanks.end() - at >= _PADDING_MAX:
            raise _broken(f"{_PADDING_MAX} blanks or more follow a boundary")
        end = data[blanks.end() : blanks.end() + 2]
        if end == b"\r\n":
            return blanks.end() + 2
        if len(data) < at + 2 and b"--".startswith(data[at:]):
            return _UNDECIDED
        return _UNDECIDED if len(end) < 2 and b"\r\n".startswith(end) else _CONTENT

    def _begin_part(self, after: int) -> int:
        if self._state != _DONE:
            self._begun += 1
            self._check_count(self._begun)
            self._part = Part()
            self._state = _HEAD
        return after

    def _end_part(self, after: int) -> int:
        self._parts.append(self._part)
        return self._begin_part(after)

    def _take(self, data: bytes, start: int, end: int) -> int:
        part = self._part
        if part.filename is None and end > start:
            part.text.append(self._keep(data[start:end]))
        part.size += end - start
        return end

    def _count_delimiter(self) -> None:
        """Boundaries, and what looks like them, cost much more than other bytes do."""
        self._delimiters += 1
        self._check_count(self._delimiters - 2)  # but the first and the last

    def _check_count(self, count: int) -> None:
        if count > self._limits.form_fields:
            raise too_much(f"A form may have {self._limits.form_fields} fields; this one has more", "form_fields")

    def _keep(self, piece: bytes) -> bytes:
        self._kept += len(piece)
        if self._kept > self._limits.form_text:
            raise too_much(f"A form's text may have {self._limits.form_text} bytes; this one has more", "form_text")
        return piece


def _parameters(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a field's value, names in lower case; of equal names the first counts."""
    found: dict[bytes, bytes] = {}
    for name, quoted, plain in (each.groups() for each in _find_parameters(value)):
        content = plain.strip(b' \t"') if quoted is None else _quoted_pair(rb"\1", quoted)
        found.setdefault(name.lower(), content)
    return found


def _text(options: dict[bytes, bytes], name: bytes) -> str | None:
    """A parameter as text, or its extended form ``name*`` (RFC 8187), which some clients send though RFC 7578 §4.2
    forbids it. None if there is neither.
    """
    if (value := options.get(name)) is not None:
        return decode_octets(value)
    if (value := options.get(name + b"*")) is None:
        return None
    extended = _match_extended(value)
    if extended is None:
        return decode_octets(unquote_to_bytes(value))
    octets = unquote_to_bytes(extended[2])
    try:
        return decode_text(octets, extended[1].decode("latin-1") or "utf-8")
    except ValueError:
        return decode_octets(octets)


def _broken(reason: str) -> HTTPException:
    return HTTPException(400, f"The body is not a multipart form: {reason}")
