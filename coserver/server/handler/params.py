"""The client's values by name: query, cookies, form, header fields. A missing or wrong value is a 400.

So a handler needs no check of its own: ``request.query["page"]``, ``request.query.get("page", 1, type=int)``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload
from uuid import UUID

from ...protocol.fields import Headers
from ...protocol.values import Values
from .errors import HTTPException

T = TypeVar("T")
D = TypeVar("D")
R = TypeVar("R")

#: The number of names that the message about a missing one lists.
_LISTED = 10


class MissingValue(HTTPException, KeyError):
    """The client left out a value that a handler asked for by name. A handler may catch it; else it is a 400."""

    __str__ = Exception.__str__  # a KeyError's would put the message in quotes


class RequestHeaders(Headers):
    """A request's fields. ``headers[name]`` raises MissingValue: a KeyError, and a 400."""

    __slots__ = ()

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise MissingValue(400, f"The field {name!r:.60} is missing")
        return ", ".join(values)

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | D) -> str | D: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """The value of ``name``, or ``default``. Makes no message about a missing name."""
        return ", ".join(values) if (values := self.get_all(name)) else default


class Params(Values[T]):
    """The client's values by name, as a mapping: of a query, of cookies, of a form.

    For a repeated name, ``params[name]`` is the first value, and ``get_all(name)`` has all. A missing name raises a
    KeyError that is also an HTTPException: the client gets a 400 if the handler does not catch it.
    """

    __slots__ = ("kind",)

    def __init__(self, kind: str, pairs: Iterable[tuple[str, T]] = ()) -> None:
        """``kind`` is the name of a value in messages, for example "query parameter"."""
        super().__init__(pairs)
        self.kind = kind

    @overload
    def get(self, name: str, /) -> T | None: ...
    @overload
    def get(self, name: str, /, default: T | D) -> T | D: ...
    @overload
    def get(self, name: str, /, *, type: Callable[[str], R]) -> R | None: ...
    @overload
    def get(self, name: str, /, default: D, *, type: Callable[[str], R]) -> R | D: ...
    def get(self, name: str, /, default: Any = None, *, type: Callable[[str], Any] | None = None) -> Any:
        """The first value of ``name``, or ``default``; with ``type``, the value converted by it.

        ``type`` is int ("-" and digits), float and Decimal (finite, as JSON writes them), UUID, bool (true, yes, on, 1
        and their opposites), or any function of a str that raises ValueError, ArithmeticError or LookupError for what
        it cannot take: an enum, date.fromisoformat. The client then gets a 400 (HTTPException) that names the parameter
        and its value.
        """
        found = self._lists.get(name)
        if found is None:
            return default
        return found[0] if type is None else self._convert(name, found[0], type)

    def _convert(self, name: str, value: Any, type: Callable[[str], Any]) -> Any:
        if not isinstance(value, str):
            raise HTTPException(400, f"The {self.kind} {name!r:.60} must be text; this is a file")
        try:
            return _converter(type)(value)
        except (ValueError, ArithmeticError, LookupError) as error:
            called = getattr(type, "__name__", "value")
            raise HTTPException(400, f"The {self.kind} {name!r:.60} is not a valid {called}: {value!r:.60}") from error

    def _missing(self, name: str) -> Exception:
        names = [f"{each!r:.60}" for each in self]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        there = f"there are {', '.join(names[:_LISTED])}{more}" if names else "there is none at all"
        return MissingValue(400, f"The {self.kind} {name!r:.60} is missing; {there}")


def _whole(text: str) -> int:
    if not _is_whole(text):  # int() takes blanks, "+5", "1_000" and the digits of all scripts
        raise ValueError("a whole number is '-' and digits")
    return int(text)


def _finite(text: str) -> float:
    if not _is_number(text):
        raise ValueError("a number is written as in JSON")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("must be finite: JSON has neither infinity nor NaN, and NaN does not compare")
    return number


def _uuid(text: str) -> UUID:
    if not _is_uuid(text):
        raise ValueError("a UUID is 32 hexadecimal digits, with or without dashes")
    return UUID(text)


def _decimal(text: str) -> Any:
    from decimal import Decimal

    if not _is_number(text):
        raise ValueError("a number is written as in JSON")
    return Decimal(text)


def _truth(text: str) -> bool:
    return _TRUTH[text.lower()]


_TRUTH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off", ""), False),
}
#: Types whose own constructor takes what no handler means: bool("false") is true, float("nan") is no number.
_CONVERTERS: dict[Callable[[str], Any], Callable[[str], Any]] = {bool: _truth, int: _whole, float: _finite, UUID: _uuid}
# The same forms as a path's parameters have (RFC 8259 §6 for numbers, but for zeros at the beginning).
_is_whole = re.compile(r"-?[0-9]+", re.ASCII).fullmatch
_is_number = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII).fullmatch
_is_uuid = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII).fullmatch


def _converter(type: Callable[[str], Any]) -> Callable[[str], Any]:
    found = _CONVERTERS.get(type)
    if found is None and getattr(type, "__module__", "") == "decimal" and type.__name__ == "Decimal":
        found = _CONVERTERS[type] = _decimal  # not at import: few need the module
    return found or type
