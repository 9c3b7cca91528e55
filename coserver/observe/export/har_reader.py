"""Read HAR files: those of coserver, and those of browsers and proxies, whose timings become steps.

An error names the place of a missing or wrong value: ``log.entries[3].request.url``. Unknown names are ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..text import Fields
from ..trace.trace import OK, STEP, Body, Message, Span, Trace

T = TypeVar("T")

#: A browser's timings, in their order; ``ssl`` is a part of ``connect``.
_TIMINGS = ("blocked", "dns", "connect", "send", "wait", "receive")
#: The greatest number: seconds, bytes or id. A greater one was not measured, and no axis could show it.
_LARGEST = 1e15
#: The deepest nesting of spans.
_DEPTH = 20


class HarError(ValueError):
    """The HAR cannot be read; the message names the place."""


def read_har(given: str | bytes | Mapping[str, Any], make: type[Trace] = Trace) -> list[Trace]:
    """Read the traces of a HAR, given as JSON text or as its objects. Raises HarError."""
    if isinstance(given, str | bytes):
        try:
            given = json.loads(given.decode("utf-8-sig") if isinstance(given, bytes) else given.removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            raise HarError(f"a HAR is JSON; this is not: {error}") from None
    log = _Reader(given, "").inner("log")
    return [_trace(entry, number, make) for number, entry in enumerate(log.rows("entries"), 1)]


class _Reader:
    """One object of the file, with its place."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise HarError(f"{path or 'a HAR'} must be an object; got {type(value).__name__}")
        self.value = value
        self.path = path

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def inner(self, name: str, *, needed: bool = True) -> _Reader:
        if not needed and self.value.get(name) is None:
            return _Reader({}, self._at(name))
        if name not in self.value:
            raise HarError(f"{self._at(name)} is missing; a HAR 1.2 has it")
        return _Reader(self.value[name], self._at(name))

    def rows(self, name: str, *, needed: bool = True) -> list[_Reader]:
        value = self.value.get(name)
        if value is None and not needed:
            return []
        if not isinstance(value, list):
            raise HarError(f"{self._at(name)} must be a list; got {type(value).__name__}")
        return [_Reader(one, f"{self._at(name)}[{at}]") for at, one in enumerate(value)]

    def text(self, name: str, default: str | None = "") -> str:
        value = self.value.get(name, default)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise HarError(f"{self._at(name)} must be a text; got {type(value).__name__}")
        return value

    def number(self, name: str, default: float = 0.0) -> float:
        value = self.value.get(name, default)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise HarError(f"{self._at(name)} must be a number, {_LARGEST:g} at most; got {value!r:.40}")
        return value

    def read(self, name: str, convert: Callable[[str], T], what: str) -> T:
        text = self.text(name, None)
        try:
            return convert(text)
        except (ValueError, OverflowError):
            raise HarError(f"{self._at(name)} must be {what}; got {text!r:.60}") from None


def _trace(entry: _Reader, number: int, make: type[Trace]) -> Trace:
    request, response = entry.inner("request"), entry.inner("response")
    own = entry.inner("_coserver", needed=False)
    url = request.read("url", urlsplit, "a URL")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if (
        url.scheme not in ("http", "https") or not url.netloc
    ):  # the target alone would lose the scheme; "data:" has no host
        target = request.text("url")
    seconds = max(own.number("seconds", entry.number("time") / 1e3), 0.0)
    spans = tuple([_span(one, 0) for one in own.rows("spans", needed=False)]) or _steps(entry, seconds)
    status = max(int(response.number("status")), 0)
    if status > 999:
        raise HarError(f"{response.path}.status must have three digits; got {status}")
    return make(
        id=int(own.number("id", number)),
        connection=_whole(entry.value.get("connection")),
        server=own.text("server") or url.hostname or "",
        listener=own.text("listener"),
        protocol="http",
        secure=url.scheme == "https",
        src=own.text("src"),
        dst=own.text("dst") or entry.text("serverIPAddress"),
        at=entry.read("startedDateTime", _moment, "a date of ISO 8601"),
        seconds=seconds,
        method=request.text("method", None),
        raw_target=target,
        host=url.netloc,
        version=request.text("httpVersion"),
        request=Message(unmasked=_fields(request), body=_posted(request)),
        status=status,
        response=Message(unmasked=_fields(response), body=_answered(response)),
        handler=own.text("handler"),
        replay_of=int(own.number("replay_of")),
        traceback=own.text("traceback"),
        route=own.text("route"),
        phase=own.text("phase", "recycle"),
        error=own.text("error") or response.text("_error") or ("" if status else "no response"),
        marked=own.value.get("marked") is True,
        skipped=int(own.number("skipped")),
        spans=spans,
    )


def _moment(text: str) -> float:
    moment = datetime.fromisoformat(text)
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    datetime.fromtimestamp(seconds, UTC)  # raises for a time beyond the calendar
    return seconds


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else 0


def _fields(message: _Reader) -> Fields:
    return tuple([(row.text("name", None), row.text("value")) for row in message.rows("headers", needed=False)])


def _posted(request: _Reader) -> Body:
    data = request.inner("postData", needed=False)
    content = _content(data, data.text("_encoding") or data.text("encoding"))
    return Body(content=content, size=max(int(request.number("bodySize")), len(content)))


def _answered(response: _Reader) -> Body:
    body = response.inner("content", needed=False)
    content = _content(body, body.text("encoding"))
    return Body(content=content, size=max(int(body.number("size")), len(content)))


def _content(body: _Reader, coding: str) -> bytes:
    text = body.text("text")
    if coding != "base64":
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HarError(f"{body.path}.text must be base64, as its encoding says") from None


def _span(row: _Reader, depth: int) -> Span:
    if depth > _DEPTH:
        raise HarError(f"{row.path}: spans may be nested {_DEPTH} deep")
    start, end = row.number("start"), row.number("end")
    if not 0 <= start <= end:
        raise HarError(f"{row.path}.end must not be before start, and start not before 0; got {start:g} to {end:g}")
    return Span(
        kind=row.text("kind", None),
        name=row.text("name"),
        start=start,
        end=end,
        outcome=row.text("outcome", OK),
        detail=row.text("detail"),
        upstream=row.text("upstream"),
        children=tuple([_span(one, depth + 1) for one in row.rows("children", needed=False)]),
    )


def _steps(entry: _Reader, seconds: float) -> tuple[Span, ...]:
    """The timings of a browser as spans, one after another."""
    timings = entry.inner("timings", needed=False)
    found, at = [], 0.0
    for name in _TIMINGS:
        length = timings.number(name, -1) / 1e3
        if length > 0:
            end = min(at + length, seconds)  # rounded timings may add up to more than the whole
            found.append(Span(kind=STEP, name=name, start=at, end=end))
            at = end
    return tuple(found)
