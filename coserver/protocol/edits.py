"""What an edit of a message may say, wherever in the house the message is: which names, what fields, what body.

Everything wrong is a ValueError, said to whoever edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .fields import RawFields
from .jsons import encode_json

#: Where the changed ones can be, for whoever tries too early or too late.
_WHERE = {
    "status": ". An answer's status is changed where there is one; respond() gives another",
    "body": ". A request's body is there at 'body' and 'handler', an answer's at 'response'",
}


def check_names(phase: str, given: Iterable[str], names: tuple[str, ...]) -> None:
    """Raises ValueError unless all of ``given`` are among ``names``, what can be changed in this phase."""
    for name in given:
        if name not in names:
            way_out = f"it may be {', '.join(names)}" if names else "nothing can be"
            raise ValueError(f"{name} cannot be changed at {phase!r}, {way_out}{_WHERE.get(name, '')}")


def check_status(status: Any) -> None:
    """Raises ValueError for what is no final status (RFC 9110 §15)."""
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"a status is a whole number from 200 to 599; got {status!r}")


def as_bytes(body: Any) -> bytes:
    """A body as it is given in an edit: str, bytes, or what JSON can say. Raises ValueError."""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    try:
        return encode_json(body)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a body is str, bytes, or what JSON can say: {error}") from None


def merge(old: Iterable[tuple[bytes, bytes]], given: Any) -> RawFields:
    """Fields with the changes, names in lower case: a mapping sets those fields, None removing one; pairs replace all.

    Raises ValueError.
    """
    if given is None:
        return list(old)
    try:
        pairs = list(given.items() if isinstance(given, Mapping) else given)
        named = [(name.lower().encode("ascii"), value) for name, value in pairs]
        added = [(name, str(value).encode("latin-1")) for name, value in named if value is not None]
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"headers are a mapping or pairs of names and values, as text; got {given!r:.80}") from None
    if not isinstance(given, Mapping):
        return added
    names = {name for name, _ in named}
    return [*(field for field in old if field[0] not in names), *added]
