"""What goes in and out of the control's handlers: a checked JSON object, a stream as lines, the loggers by name."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from ..server.handler.errors import HTTPException
from ..server.handler.request import Request
from ..server.handler.response import Response

_JSON_LINES = "application/jsonl"
#: No number that is meant has more: in seconds 30,000 years. JSON knows greater ones than any clock can add.
_LARGEST = 1e12


def lines(stream: AsyncIterator[dict[str, Any]]) -> Response:
    """A stream as lines of JSON."""

    async def encoded() -> AsyncIterator[str]:
        try:
            async for each in stream:
                yield json.dumps(each) + "\n"  # in ASCII: a file's name in an error's words may be no text
        finally:
            await stream.aclose()  # type: ignore[attr-defined]

    return Response(encoded(), content_type=_JSON_LINES)


def object_json(found: dict[str, Any]) -> Response:
    """A JSON object; what UTF-8 cannot say, half a surrogate pair in a file's name, is escaped."""
    try:
        return Response.json(found)
    except (TypeError, ValueError):
        return Response(json.dumps(found), content_type="application/json")


def body_of(request: Request, known: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """A JSON object that holds known names with values of their types, or nothing. Raises HTTPException (400)."""
    given = request.json() if request.body else {}
    if not isinstance(given, dict):
        raise HTTPException(400, f"the body is a JSON object; got {type(given).__name__}")
    for name, value in given.items():
        if name not in known:
            raise HTTPException(400, f"{name!r:.40} is not known here; there are {', '.join(known)}")
        right = isinstance(value, known[name]) and (not isinstance(value, bool) or bool in known[name])
        if not right or (isinstance(value, int | float) and not abs(value) <= _LARGEST):
            raise HTTPException(400, f"{name} may not be {value!r:.40}")
    return given


def loggers() -> dict[str, logging.Logger]:
    """coserver's own, by name."""
    known = logging.Logger.manager.loggerDict
    return {
        name: one
        for name, one in known.items()
        if isinstance(one, logging.Logger) and (name == "coserver" or name.startswith("coserver."))
    }
