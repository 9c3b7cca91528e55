"""The answer a handler gives, and how what it returned becomes one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from importlib.util import find_spec
from typing import Any

from ..protocol.errors import LocalProtocolError
from .errors import HTTPException, phrase

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"

Body = bytes | Iterator[Any] | AsyncIterator[Any]

if find_spec("orjson"):
    import orjson

    def encode_json(value: Any) -> bytes:
        try:
            return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # it stops at 64-bit integers, which JSON does not
            return encode_json_slowly(value)
else:

    def encode_json(value: Any) -> bytes:
        return encode_json_slowly(value)


def encode_json_slowly(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


class Response:
    """A status, fields and a body: str, bytes, or an iterator or async iterator of either, which is streamed.

    ``trailers`` is a mapping that is read when the stream has ended, so that the stream may fill it (RFC 9110 §6.5).
    ``content_type`` defaults to text for str and to bytes for the rest; "" leaves it out.
    """

    # Defaults of the class: what a handler's plain str needs is then its body alone.
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
        size = f"{len(self.body)} bytes" if isinstance(self.body, bytes) else "a stream"
        return f"<Response {self.status} {self.content_type or 'no type'}, {size}>"

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """``value`` as JSON. Raises TypeError or ValueError for what JSON cannot say."""
        return cls(encode_json(value), status, headers, content_type=JSON)

    def _take_content_type(self, given: str | None) -> str | None:
        for field in self.fields:
            if field[0].lower() == "content-type":
                self.fields = [other for other in self.fields if other is not field]
                return field[1] if given is None else given
        return given


def as_body(body: Any) -> tuple[Body, str]:
    """What can be sent of ``body``, and the content type natural to it. Raises TypeError."""
    if isinstance(body, str):
        return body.encode(), TEXT
    if isinstance(body, bytes):  # a subclass's too: what is sent whole is bytes and nothing else
        return bytes(body), BYTES if body else ""
    if isinstance(body, bytearray | memoryview):
        return bytes(body), BYTES
    if isinstance(body, AsyncIterator | Iterator):
        return body, TEXT
    raise TypeError(
        f"a response's body is str, bytes, or an iterator of them; got {type(body).__name__} "
        f"(dict and list: Response.json)"
    )


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
    if not 2 <= len(value) <= 3 or isinstance(value[1], bool) or not isinstance(value[1], int):
        raise TypeError(f"a handler's tuple is (body, status) or (body, status, headers); got {value!r:.80}")
    response = copy(to_response(value[0]))  # a Response may be shared between requests
    response.status = value[1]
    if len(value) == 3:
        fields = Response(b"", headers=value[2], content_type=None)
        response.fields = [*response.fields, *fields.fields]
        response.content_type = fields.content_type or response.content_type
    return response


_BY_TYPE: dict[type, Callable[[Any], Response]] = {
    str: _from_text,
    bytes: _from_bytes,
    bytearray: _from_bytes,
    memoryview: _from_bytes,
    dict: Response.json,
    list: Response.json,
    type(None): _from_none,
    Response: _from_response,
    tuple: _from_tuple,
}


def to_response(value: Any) -> Response:
    """What a handler returned, as a Response. Raises TypeError for any other kind, and for what JSON cannot say."""
    if type(value) is str:
        return _from_text(value)
    convert = _BY_TYPE.get(type(value))
    if convert is not None:
        return convert(value)
    for kind, convert in _BY_TYPE.items():  # a subclass: OrderedDict, a named tuple, a Response of one's own
        if isinstance(value, kind):
            return convert(value)
    if isinstance(value, AsyncIterator | Iterator):
        return Response(value)
    raise TypeError(
        f"a handler returns str, bytes, dict, list, None, (body, status[, headers]), a Response or an iterator of str "
        f"or bytes; got {type(value).__name__}: {value!r:.60}"
    )


def encode_piece(piece: Any) -> bytes:
    """One piece of a streamed body. Raises LocalProtocolError."""
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise LocalProtocolError(f"a streamed response yields str or bytes; got {type(piece).__name__}: {piece!r:.60}")


def error_response(error: HTTPException) -> Response:
    """What a client reads of an error: the status in words, and the detail if it says more."""
    title = phrase(error.status)
    detail = "" if error.detail == title else f"{error.detail}\n"
    return Response(f"{error.status} {title}\n{detail}", error.status, error.headers)
