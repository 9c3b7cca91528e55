"""Edits of messages, checked in one place for requests, responses and subrequests: names, fields, status, body.

Every mistake is a ValueError at the holder of the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .fields import RawFields, encode_value
from .jsons import encode_json

#: The phases in which each name can be changed, for an edit that comes too early or too late.
_WHERE = {
    "status": ". Hold it at 'response' to change the status, or answer by respond()",
    "body": ". Hold it at 'body' or 'handler' for the request's body, at 'response' for the answer's",
}


def check_names(phase: str, given: Iterable[str], names: tuple[str, ...]) -> None:
    """Check that all of ``given`` are among ``names``, which can be changed in this phase. Raises ValueError."""
    for name in given:
        if name not in names:
            can = f"{', '.join(names)} can" if names else "nothing can be"
            raise ValueError(f"{name} cannot be changed at {phase!r}; {can}{_WHERE.get(name, '')}")


def check_status(status: Any) -> None:
    """Check a final status (RFC 9110 §15). Raises ValueError."""
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"a status is a whole number from 200 to 599; got {status!r}")


def as_bytes(body: Any) -> bytes:
    """The body of an edit as bytes: str, bytes, or a value for JSON. Raises ValueError."""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    try:
        return encode_json(body)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a body is str, bytes, or a value for JSON: {error}") from None


def merge(old: Iterable[tuple[bytes, bytes]], given: Any) -> RawFields:
    """Fields with changes, names in lower case. A mapping sets its fields, and removes those set to None; pairs replace
    all.

    Raises ValueError.
    """
    if given is None:
        return list(old)
    try:
        pairs = list(given.items() if isinstance(given, Mapping) else given)
        named = [(name.lower().encode("ascii"), value) for name, value in pairs]
        added = [(name, encode_value(name, str(value))) for name, value in named if value is not None]
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"headers are a mapping or pairs of names and values, as text; got {given!r:.80}") from None
    if not isinstance(given, Mapping):
        return added
    names = {name for name, _ in named}
    return [*(field for field in old if field[0] not in names), *added]
