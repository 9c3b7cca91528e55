"""How what is seen of a server goes over the control socket as JSON, and comes back: events, traces."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

from ..lifecycle.events import Event
from ..observe.step.held import shown_body
from ..observe.trace.spans import words_of
from ..observe.trace.trace import Body, Message, Span, Trace

#: The protocol's version: it changes when something that was there means something else, not when something is added.
PROTOCOL = 1


def event_dict(event: Event) -> dict[str, Any]:
    """``event`` is its kind; an error becomes words."""
    found: dict[str, Any] = {"event": type(event).__name__}
    for each in dataclasses.fields(event):
        if each.name == "source":
            continue
        value = getattr(event, each.name)
        found[each.name] = words_of(value)[0] if isinstance(value, BaseException) else value
    return found


def trace_dict(trace: Trace, *, whole: bool = False) -> dict[str, Any]:
    """A trace, masked; ``whole`` with fields and bodies, these cut as a held one's are."""
    found = {**trace.as_dict(), "host": trace.host}
    if whole:
        for name, message in (("request", trace.request), ("response", trace.response)):
            body = shown_body(message.body.content) or {}
            body["size"] = message.body.size
            found[name] = {"headers": [list(pair) for pair in message.fields], "body": body}
    return found


def read_trace(given: Mapping[str, Any]) -> Trace:
    """What ``trace_dict`` made. Raises ValueError for what is none."""
    try:
        names = (
            "id", "connection", "server", "listener", "protocol", "src", "dst", "at", "seconds", "method", "version",
            "status", "handler", "route", "phase", "error", "marked", "skipped",
        )  # fmt: skip
        return Trace(
            **{name: given[name] for name in names},
            secure=bool(given.get("secure")),
            replay_of=int(given.get("replay_of", 0)),
            traceback=given.get("traceback", ""),
            raw_target=given["target"],
            host=given.get("host", ""),
            request=_message(given.get("request"), given["request_size"]),
            response=_message(given.get("response"), given["response_size"]),
            spans=tuple(_span(one) for one in given["spans"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not a trace of coserver: {error!r}") from error


def _message(given: Mapping[str, Any] | None, size: int) -> Message:
    if given is None:
        return Message(body=Body(size=size))
    return Message(
        unmasked=tuple((name, value) for name, value in given["headers"]),
        body=Body(content=content_of(given["body"]), size=size),
    )


def content_of(shown: Mapping[str, Any] | None) -> bytes:
    """The bytes of a body as ``shown_body`` shows it."""
    if not shown:
        return b""
    text = shown.get("text")
    return text.encode() if text is not None else base64.b64decode(shown.get("base64", ""))


def _span(given: Mapping[str, Any]) -> Span:
    return Span(
        kind=given["kind"], name=given["name"], start=given["start"], end=given["end"], outcome=given["outcome"],
        detail=given.get("detail", ""), upstream=given.get("upstream", ""),
        children=tuple(_span(one) for one in given.get("children", ())),
    )  # fmt: skip
