"""A request's form: text fields and uploads, from an urlencoded or a multipart body (RFC 7578, WHATWG URL §5).

A multipart body on disk has been parsed on its way there. Other bodies are parsed here, when a handler asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...protocol.errors import RemoteProtocolError
from ...protocol.fields import Headers
from ...protocol.values import parse_urlencoded
from ..limits import Limits
from .errors import HTTPException, too_much
from .params import Params
from .uploads import Upload

if TYPE_CHECKING:
    from .multipart import MultipartReader
    from .request import Request

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


class Form(Params[str | Upload]):
    """The fields of a form: str for text, Upload for a file. ``form[name]`` is the first value, ``get_all`` has all.

    A client may send a file for a text field, or text for a file: ``text`` and ``upload`` then answer 400.
    """

    __slots__ = ()

    def text(self, name: str) -> str:
        """The text of a field. Raises HTTPException (400) if it is missing or a file."""
        value = self[name]
        if not isinstance(value, str):
            raise HTTPException(400, f"The form field {name!r:.60} must be text; this is a file")
        return value

    def upload(self, name: str) -> Upload:
        """The file of a field. Raises HTTPException (400) if it is missing or text."""
        value = self[name]
        if isinstance(value, str):
            raise HTTPException(400, f"The form field {name!r:.60} must be a file; this is text")
        return value

    def uploads(self, name: str | None = None) -> list[Upload]:
        """All files, or those of one name. Fields that a browser sent empty are left out."""
        values = [value for _, value in self.pairs()] if name is None else self.get_all(name)
        return [value for value in values if isinstance(value, Upload) and value]


def kind_of_form(headers: Headers) -> str:
    """The media type of a body, in lower case and without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip(" \t").lower()


def reader_for(headers: Headers, limits: Limits) -> MultipartReader | None:
    """Make the reader that parses a body on its way to disk; None if the body is no multipart form."""
    if kind_of_form(headers) != MULTIPART:
        return None
    from .multipart import MultipartReader

    return MultipartReader(headers["content-type"], limits)


def read_form(request: Request, limits: Limits) -> Form:
    """Parse the form in a request's body, which has been read.

    Raises HTTPException: 400 if the body is no form, 413 if it exceeds the limits, 415 for another kind of body.
    """
    kind, spool = kind_of_form(request.headers), request.spool
    if kind == URLENCODED:
        return Form("form field", _urlencoded(request, limits))
    reader = spool.reader if spool is not None else reader_for(request.headers, limits)
    if reader is None:
        raise HTTPException(
            415,
            f"A form is wanted: {MULTIPART} or {URLENCODED}; the body's Content-Type is {kind[:80] or 'missing'}",
            {"accept": f"{MULTIPART}, {URLENCODED}"},
        )
    source = spool or request.body
    if isinstance(source, bytes):
        reader.feed(source)
    parts, charset = reader.parts(), reader.charset()
    return Form(
        "form field",
        [
            (part.name, part.decoded(charset))
            if part.filename is None
            else (part.name, Upload(part.filename, Headers(part.fields), source, part.offset, part.size))
            for part in parts
        ],
    )


def _urlencoded(request: Request, limits: Limits) -> list[tuple[str, str]]:
    size = request.body_file.seek(0, os.SEEK_END)
    if size > limits.form_text:
        raise too_much(f"A form's text may have {limits.form_text} bytes; this one has {size}", "form_text")
    try:
        return parse_urlencoded(request.body, limits.form_fields)
    except RemoteProtocolError as error:
        raise too_much(f"A form is too long: {error.reason}", "form_fields") from error
