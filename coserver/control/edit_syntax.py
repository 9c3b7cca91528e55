"""What a person types to change what is held, as one line: ``target=/x status=404 X-Tag:a Cookie: body='{"a": 1}'``.

``name=value`` sets target, method, status or body; ``Name:value`` a field, ``Name:`` removes it. Quotes as in a shell.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from ..observe.step.actions import ACTIONS

_AT, _QUOTED = re.compile(r"\s@(\S+)"), re.compile(r"'[^']*'|\"[^\"]*\"")
_NAMES = ("method", "target", "status", "body")
_item = re.compile(r"(?P<name>[A-Za-z0-9!#$%&'*+.^_`|~-]+)(?P<sign>[=:])(?P<value>.*)", re.DOTALL)


def read_arguments(action: str, line: str) -> dict[str, Any]:
    """The arguments of an action on something held, as a person types them after its name. Raises ValueError."""
    if action == "until":
        return {"phase": line}
    if action == "edit":
        return read_edit(line)
    if action == "respond":
        return dict(zip(ACTIONS[action], read_answer(line), strict=True))
    return {}


def read_edit(line: str) -> dict[str, Any]:
    """What ``Held.edit`` takes. Raises ValueError, which says what is written how."""
    changes: dict[str, Any] = {}
    headers: dict[str, str | None] = {}
    for word in _words(line):
        match = _item.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!r:.60} changes nothing: write target=/x, status=404, body=text, or Name:value")
        name, value = match["name"], match["value"]
        if match["sign"] == ":":
            headers[name] = value or None
        elif name not in _NAMES:
            raise ValueError(f"{name!r:.40} cannot be set; the names are {', '.join(_NAMES)}; a field is {name}:value")
        else:
            changes[name] = _status(value) if name == "status" else value
    if headers:
        changes["headers"] = headers
    if not changes:
        raise ValueError("nothing to change: write target=/x, status=404, body=text, or Name:value")
    return changes


def read_answer(line: str) -> tuple[int, str, dict[str, str]]:
    """``503 'come later' Retry-After:5``: status, body and fields. Raises ValueError."""
    words = _words(line)
    status = _status(words[0]) if words else 200
    body, fields = "", {}
    for word in words[1:]:
        match = _item.fullmatch(word)
        if match is not None and match["sign"] == ":":
            fields[match["name"]] = match["value"]
        elif body:
            raise ValueError(f"{word!r:.60} comes after the body; put a body of several words in quotes")
        else:
            body = word
    return status, body, fields


def read_hold(line: str) -> tuple[str, list[str]]:
    """``~u /x @handler,response``: a filter, and the phases after the @; "handler" if there are none.

    Raises ValueError for a second @: two holds, one typed after the other.
    """
    filter, sign, phases = f" {line}".rpartition(" @")
    if sign and (other := _AT.search(_QUOTED.sub("", filter))) is not None:
        raise ValueError(
            f"a hold has one '@', before the phases at its end: '~u /page @handler'; got '@{other[1]:.40}' before that"
        )
    if not sign:
        filter, phases = phases, ""
    return filter.strip(), [phase for one in phases.split(",") if (phase := one.strip())] or ["handler"]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"{line!r:.60}: {str(error).lower()}") from None


def _status(value: str) -> int:
    if not re.fullmatch(r"[0-9]{3}", value):
        raise ValueError(f"a status is three digits; got {value!r:.40}")
    return int(value)
