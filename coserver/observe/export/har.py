"""Traces as a HAR file, version 1.2, which every browser's network panel opens.

Values that HAR has no name for are under ``_coserver``, where ``har_reader`` finds them. Times are milliseconds, sizes
bytes; -1 means "not known". Source: http://www.softwareishard.com/blog/har-12-spec/.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ..secrets import MASK
from ..text import Fields, unpack
from ..trace.trace import HELD, REQUEST, RESPONSE, Body, Trace, span_dict

_TEXT = ("text/", "application/json", "application/xml", "application/javascript", "application/x-www-form-urlencoded")


def to_har(traces: Iterable[Trace], *, secrets: bool = False) -> dict[str, Any]:
    """Make a HAR of ``traces``, without those of TCP. With ``secrets`` nothing is masked."""
    try:
        own = version("coserver")
    except PackageNotFoundError:  # run from a bare checkout
        own = "unknown"
    entries = [_entry(trace, secrets) for trace in traces if trace.protocol == "http"]
    return {"log": {"version": "1.2", "creator": {"name": "coserver", "version": own}, "entries": entries}}


def _entry(trace: Trace, secrets: bool) -> dict[str, Any]:
    timings = _timings(trace)
    entry = {
        "startedDateTime": datetime.fromtimestamp(trace.at, UTC).isoformat(timespec="microseconds"),
        "time": round(sum(value for value in timings.values() if value > 0), 6),
        "request": _request(trace, secrets),
        "response": _response(trace, secrets),
        "cache": {},
        "timings": timings,
        "connection": str(trace.connection),
        "_coserver": _own(trace),
    }
    if held := trace.held_seconds:
        entry["_held"] = round(held * 1e3, 6)
        timings["comment"] = f"a stepper held it for {entry['_held']:.0f} ms, which these times leave out"
    if trace.error:
        entry["comment"] = trace.error
    return entry


def _timings(trace: Trace) -> dict[str, Any]:
    """The server's times under HAR's names: "send" is the reading of the request, "wait" the time to the response.

    Time that a stepper held the exchange is in none of them.
    """
    read = next((span.end for span in trace.spans if span.kind == REQUEST), 0.0)
    starts = [span.start for span in trace.spans if span.kind == RESPONSE]
    answered = max(starts[-1], read) if starts else trace.seconds
    edges = ((0.0, read), (read, answered), (answered, trace.seconds))
    parts = [end - start - _held_between(trace, start, end) for start, end in edges]
    send, wait, receive = (round(max(part, 0.0) * 1e3, 6) for part in parts)
    return {"blocked": -1, "dns": -1, "connect": -1, "send": send, "wait": wait, "receive": receive, "ssl": -1}


def _held_between(trace: Trace, start: float, end: float) -> float:
    holds = (span for span in trace.spans if span.kind == HELD)
    return sum(max(min(one.end, end) - max(one.start, start), 0.0) for one in holds)


def _request(trace: Trace, secrets: bool) -> dict[str, Any]:
    fields = trace.request.unmasked if secrets else trace.request.fields
    url = trace.raw_url if secrets else trace.url
    found: dict[str, Any] = {
        "method": trace.method,
        "url": url,
        "httpVersion": trace.version,
        "cookies": _cookies(trace.request.unmasked, "cookie", secrets),
        "headers": _headers(fields),
        "queryString": [_pair(*pair) for pair in parse_qsl(urlsplit(url).query, keep_blank_values=True)],
        "headersSize": -1,
        "bodySize": trace.request.body.size,
    }
    if trace.request.body.size:
        text, coding = _text(trace.request.body.content, trace.request.get("content-type"))
        found["postData"] = {"mimeType": trace.request.get("content-type"), "params": [], "text": text}
        if coding:
            found["postData"]["_encoding"] = coding
        _say_truncated(found["postData"], trace.request.body)
    return found


def _response(trace: Trace, secrets: bool) -> dict[str, Any]:
    message = trace.response
    fields = message.unmasked if secrets else message.fields
    content, left = unpack(message.body.content, message.get("content-encoding").lower())
    text, coding = _text(content, message.get("content-type"))
    size = message.body.size + len(content) - len(message.body.content)
    body: dict[str, Any] = {"size": size, "mimeType": message.get("content-type") or "x-unknown"}
    if message.body.size:
        body["text"] = text
        if coding:
            body["encoding"] = coding
        if content is not message.body.content:
            body["compression"] = len(content) - len(message.body.content)
    if left:
        body["comment"] = "only a part of it was unpacked"
    _say_truncated(body, message.body)
    return {
        "status": trace.status,
        "statusText": _reason(trace.status),
        "httpVersion": trace.version or "HTTP/1.1",
        "cookies": _cookies(message.unmasked, "set-cookie", secrets),
        "headers": _headers(fields),
        "content": body,
        "redirectURL": next((value for name, value in fields if name.lower() == "location"), ""),
        "headersSize": -1,
        "bodySize": message.body.size,
    }


def _own(trace: Trace) -> dict[str, Any]:
    names = (
        "id", "server", "listener", "src", "dst", "seconds", "handler", "route", "phase", "error", "marked", "skipped",
        "secure", "replay_of", "traceback",
    )  # fmt: skip
    return {**{name: getattr(trace, name) for name in names}, "spans": [span_dict(span) for span in trace.spans]}


def _headers(fields: Fields) -> list[dict[str, str]]:
    return [_pair(name, value) for name, value in fields]


def _pair(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def _cookies(fields: Fields, kind: str, secrets: bool) -> list[dict[str, str]]:
    found = []
    for name, value in fields:
        if name.lower() == kind:
            for pair in [value.partition(";")[0]] if kind == "set-cookie" else value.split(";"):
                key, equals, cookie = pair.strip().partition("=")
                if equals:
                    found.append(_pair(key, cookie if secrets else MASK))
    return found


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _text(content: bytes, kind: str) -> tuple[str, str]:
    """A body as text; as base64, with the word "base64", if it is no UTF-8 text."""
    if not kind or kind.lower().startswith(_TEXT) or "json" in kind or "xml" in kind:
        try:
            return content.decode(), ""
        except UnicodeDecodeError:
            pass
    return base64.b64encode(content).decode(), "base64"


def _say_truncated(found: dict[str, Any], body: Body) -> None:
    if body.truncated:
        found["comment"] = f"the first {len(body.content)} of {body.size} bytes"
