"""The response of a handler, and the conversion of other values that a handler returns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from os import PathLike, fsdecode
from os.path import basename
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...protocol.errors import LocalProtocolError
from ...protocol.jsons import encode_json, rule_for
from ...upstream.errors import UpstreamProtocolError
from ...upstream.response import StreamedUpstreamResponse, UpstreamResponse
from .bodies import EventBody, FileBody, FilePart, check_fields, disposition
from .errors import HTTPException, phrase

if TYPE_CHECKING:
    from datetime import datetime

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
HTML = "text/html; charset=utf-8"
JSON = "application/json"

Body = bytes | Iterator[Any] | AsyncIterator[Any] | FileBody | FilePart | EventBody


class Response:
    """A status, fields and a body: str, bytes, or an iterator or async iterator of either, which is streamed.

    ``trailers`` is a mapping that is read after the end of the stream, so the stream may fill it (RFC 9110 §6.5).
    ``content_type`` defaults to text for a str or a stream, and to octet-stream for bytes; "" leaves the field out.
    """

    # Defaults of the class: the response of a plain str then sets its body alone.
    body: Body = b""
    status = 200
    content_type = TEXT
    fields: Sequence[tuple[str, str]] = ()
    trailers: Mapping[str, str] | None = None

    def __init__(
        self,
        body: str | Body | bytearray | memoryview = b"",
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        *,
        content_type: str | None = None,
        trailers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        if headers:
            self.fields = list(headers.items() if isinstance(headers, Mapping) else headers)
            content_type = self._take_content_type(content_type)
        self.body, natural_type = as_body(body)
        self.content_type = natural_type if content_type is None else content_type
        self.trailers = trailers

    def __repr__(self) -> str:
        body = self.body
        size = f"{len(body)} bytes" if isinstance(body, bytes) else getattr(body, "what", "a stream")
        return f"<Response {self.status} {self.content_type or 'no type'}, {size}>"

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """``value`` as JSON. Raises TypeError or ValueError if JSON cannot express it."""
        return cls(encode_json(value), status, headers, content_type=JSON)

    @classmethod
    def html(cls, text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """``text`` as HTML. Escape what a client has sent: ``html.escape``, or a template engine that escapes."""
        return cls(text, status, headers, content_type=HTML)

    @classmethod
    def redirect(cls, target: str, status: int = 302) -> Response:
        """Send the client to ``target``, a URL or a path. Characters that a URL cannot have are percent-encoded.

        301 and 308 are permanent and may be cached. 303 turns any method into GET; 307 and 308 keep the method. Raises
        ValueError for another status.
        """
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(f"a redirect's status is 301, 302, 303, 307 or 308; got {status!r}")
        if not isinstance(target, str) or not target:
            raise ValueError(f"a redirect needs a URL or a path; got {target!r}")
        # Line ends, blanks, quotes and angle brackets are not safe. So the target cannot add a field; nor a tag, if a
        # browser takes the text for HTML.
        location = quote(target, safe="%/:?#[]@!$&'()*+,;=~", errors="replace")
        return cls(f"{status} {phrase(status)}\n{location}\n", status, {"location": location})

    @classmethod
    def file(
        cls,
        path: str | PathLike[str],
        *,
        content_type: str | None = None,
        download: bool | str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The file at ``path``, whole or the part that the request asks for (RFC 9110 §13, §14).

        The default type is that of the file's suffix. With ``download``, a browser saves the file: under this name, or
        with True under the file's own. An ETag or Last-Modified in ``headers`` replaces the file's own. Raises OSError
        if the file cannot be read (FileNotFoundError, IsADirectoryError, PermissionError), ValueError.
        """
        path = fsdecode(path)
        if headers:
            check_fields(headers)
        response = cls(FileBody(path), status, headers, content_type=content_type)
        if download:
            name = basename(path) if download is True else download
            response.fields = [*response.fields, ("content-disposition", disposition(name))]
        return response

    @classmethod
    def events(
        cls, source: Any, *, heartbeat: float | None = 15.0, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Server-sent events from an iterable or async iterable of str, dict or list (JSON) or ServerSentEvent.

        After ``heartbeat`` seconds of silence a comment shows client and proxies that the connection is alive; None:
        never. A browser that reconnects names the last id that it saw in ``request.headers["last-event-id"]``. When the
        client leaves or the server stops, the source is closed. Raises TypeError, ValueError.
        """
        if headers:
            check_fields(headers)
        response = cls(EventBody(source, heartbeat), 200, headers)
        given = {name.lower() for name, _ in response.fields}
        # X-Accel-Buffering: else nginx keeps events until its buffer is full.
        usual = (("cache-control", "no-store"), ("x-accel-buffering", "no"))
        response.fields = [*response.fields, *(field for field in usual if field[0] not in given)]
        return response

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        expires: datetime | float | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: str | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Have the client keep a cookie (RFC 6265 §4.1). Any text may be its value; ``request.cookies`` returns it.

        ``max_age`` is in seconds. ``expires`` is a datetime with a time zone, or seconds from now. Without either the
        cookie lasts as long as the browser runs. ``samesite`` is "lax", "strict", "none" or None (left out). With
        ``partitioned`` the browser keeps a separate cookie for each site that embeds this one (CHIPS). Browsers
        silently drop a cookie of more than 4,096 bytes. Raises ValueError for a cookie that browsers refuse or change.
        """
        from ...protocol.cookies import Attributes, encode_cookie

        attributes: Attributes = {
            "max_age": max_age,
            "expires": _from_now(expires) if isinstance(expires, int | float) else expires,
            "path": path,
            "domain": domain,
            "secure": secure,
            "httponly": httponly,
            "samesite": samesite,
            "partitioned": partitioned,
        }
        self.fields = [*self.fields, ("set-cookie", encode_cookie(name, value, attributes))]

    def delete_cookie(
        self,
        name: str,
        *,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: str | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Have the client delete a cookie. Give the values that it was set with, without its age.

        Another path, domain or ``partitioned`` names another cookie. On a page of another site, a browser deletes only
        with ``samesite="none"``. A name that begins with ``__Secure-`` or ``__Host-`` implies ``secure``. Raises the
        errors of ``set_cookie``.
        """
        self.set_cookie(
            name,
            "",
            max_age=0,
            expires=-86_400,  # a day ago, not now: some clients do not know Max-Age, and clocks differ
            path=path,
            domain=domain,
            secure=secure or name.lower().startswith(("__secure-", "__host-")),
            httponly=httponly,
            samesite=samesite,
            partitioned=partitioned,
        )

    def _take_content_type(self, given: str | None) -> str | None:
        for field in self.fields:
            if field[0].lower() == "content-type":
                self.fields = [other for other in self.fields if other is not field]
                return field[1] if given is None else given
        return given


def as_body(body: Any) -> tuple[Body, str]:
    """Convert ``body`` to a kind that can be sent; also return its default content type. Raises TypeError."""
    if isinstance(body, str):
        return body.encode(), TEXT
    if isinstance(body, bytes):  # also a subclass, as plain bytes: senders test for this very type
        return bytes(body), BYTES if body else ""
    if isinstance(body, bytearray | memoryview):
        return bytes(body), BYTES
    if isinstance(body, AsyncIterator | Iterator):
        return body, TEXT
    if isinstance(body, FileBody | EventBody):
        return body, body.content_type
    way_out = f"Response.{'file' if isinstance(body, PathLike) else 'json'}"
    raise TypeError(
        f"a response's body is str, bytes, or an iterator of them; got {type(body).__name__}: {body!r:.60} ({way_out})"
    )


def _from_now(seconds: float) -> datetime:
    from datetime import UTC, datetime, timedelta

    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"expires must be before the year 10000; got {seconds} seconds from now") from error


def _from_text(value: str) -> Response:
    response = Response.__new__(Response)
    response.body = value.encode()
    return response


def _from_bytes(value: bytes) -> Response:
    return Response(value, content_type=BYTES)


def _from_none(_: None) -> Response:
    return Response(b"", 204)


def _from_response(value: Response) -> Response:
    return value


def _from_tuple(value: tuple[Any, ...]) -> Response:
    """(body, status) or (body, status, headers)."""
    status = value[1] if 2 <= len(value) <= 3 else None
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise TypeError(
            f"a handler's tuple is read as (body, status) or (body, status, headers), and a status is a whole number "
            f"from 200 to 599; got {value!r:.80}. For an array of JSON return a list"
        )
    response = copy(to_response(value[0]))  # a Response may be shared between requests
    response.status = value[1]
    if len(value) == 3:
        fields = Response(b"", headers=value[2], content_type=None)
        response.fields = [*response.fields, *fields.fields]
        response.content_type = fields.content_type or response.content_type
    return response


def _from_upstream(value: UpstreamResponse | StreamedUpstreamResponse) -> Response:
    """Make our answer of an upstream's, without the fields that are only for its hop."""
    from .gateway import LateTrailers, fields_of

    if not 100 <= value.status <= 599:
        if isinstance(value, StreamedUpstreamResponse):
            value.close()
        raise UpstreamProtocolError(
            f"the member answered with status {value.status}; one that is passed on is from 100 to 599 (RFC 9110 §15)"
        )
    response = Response(value.body, value.status, fields_of(value), content_type=None)
    if not any(name == b"content-type" for name, _ in value.fields):
        response.content_type = ""
    response.trailers = LateTrailers(value)
    return response


_BY_TYPE: dict[type, Callable[[Any], Response]] = {
    str: _from_text,
    bytes: _from_bytes,
    bytearray: _from_bytes,
    memoryview: _from_bytes,
    dict: Response.json,
    list: Response.json,
    int: Response.json,
    float: Response.json,
    bool: Response.json,
    type(None): _from_none,
    Response: _from_response,
    UpstreamResponse: _from_upstream,
    StreamedUpstreamResponse: _from_upstream,
    tuple: _from_tuple,
}


def to_response(value: Any) -> Response:
    """Convert a handler's value to a Response. Raises TypeError for a wrong type, or if JSON cannot express it.

    A type that is not in the table is JSON if ``encode_json`` knows it: a dataclass, a model of pydantic, an array.
    """
    if type(value) is str:
        return _from_text(value)
    convert = _BY_TYPE.get(type(value))
    if convert is not None:
        return convert(value)
    for kind, convert in _BY_TYPE.items():  # a subclass: OrderedDict, a named tuple, a user's Response
        if isinstance(value, kind):
            return convert(value)
    if isinstance(value, AsyncIterator | Iterator):
        return Response(value)
    if (rule := rule_for(type(value))) is not None:
        return Response.json(rule(value))
    way_out = ". To send the file, return Response.file(path)" if isinstance(value, PathLike) else ""
    raise TypeError(
        f"a handler returns str, bytes, None, (body, status[, headers]), a Response, an iterator of str or bytes, or a "
        f"value for JSON: dict, list, int, float, bool, a dataclass, a model of pydantic ...; "
        f"got {type(value).__name__}: {value!r:.60}{way_out}"
    )


def encode_piece(piece: Any) -> bytes:
    """Convert a piece of a streamed body to bytes. Raises LocalProtocolError."""
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise LocalProtocolError(f"a streamed response yields str or bytes; got {type(piece).__name__}: {piece!r:.60}")


def error_response(error: HTTPException) -> Response:
    """Make the answer to an error: the status in words, and the detail if it says more. A dict or list is JSON."""
    title = phrase(error.status)
    detail = "" if error.detail == title else f"{error.detail}\n"
    if isinstance(error.detail, dict | list):
        typed = any(name.lower() == "content-type" for name in error.headers)
        return Response(encode_json(error.detail), error.status, error.headers, content_type=None if typed else JSON)
    # A detail may quote text that UTF-8 cannot encode, for example a file's name. It must be sent all the same.
    text = f"{error.status} {title}\n{detail}".encode(errors="backslashreplace")
    return Response(text, error.status, error.headers, content_type=TEXT)
