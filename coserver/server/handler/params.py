"""What a client gave by name: fields, query, cookies, form fields. What it left out or got wrong is its fault: 400.

So a handler may ask for what it needs and go on: ``request.query["page"]``, ``request.query.get("page", 1, type=int)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from ...protocol.fields import Headers
from ...protocol.values import Values
from .errors import HTTPException

T = TypeVar("T")
D = TypeVar("D")
R = TypeVar("R")

#: Names listed to a client that left one out.
_LISTED = 10


class MissingValue(HTTPException, KeyError):
    """A client did not give what a handler asked for by name. Unanswered by the handler it is a 400."""

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
        """The value of ``name``, or ``default``; no message is made for nobody."""
        return ", ".join(values) if (values := self.get_all(name)) else default


class Params(Values[T]):
    """A mapping of what a client gave; of a repeated name the first counts, ``get_all`` has them all.

    ``given[name]`` raises MissingValue, which is both a KeyError and an HTTPException (400).
    """

    __slots__ = ("what",)

    def __init__(self, what: str, pairs: Iterable[tuple[str, T]] = ()) -> None:
        """``what`` one of them is called in messages."""
        super().__init__(pairs)
        self.what = what

    @overload
    def get(self, name: str, /) -> T | None: ...
    @overload
    def get(self, name: str, /, default: T | D) -> T | D: ...
    @overload
    def get(self, name: str, /, *, type: Callable[[str], R]) -> R | None: ...
    @overload
    def get(self, name: str, /, default: D, *, type: Callable[[str], R]) -> R | D: ...
    def get(self, name: str, /, default: Any = None, *, type: Callable[[str], Any] | None = None) -> Any:
        """The first value of ``name``, or ``default``; with ``type`` made of its text.

        ``type`` is int, float (a finite one), bool (true, yes, on, 1 and their opposites), or any function of a str
        that raises ValueError, ArithmeticError or LookupError for what it cannot take: an enum, UUID, Decimal,
        date.fromisoformat. The client then gets a 400 (HTTPException) that names the parameter and its value.
        """
        found = self._lists.get(name)
        if found is None:
            return default
        return found[0] if type is None else self._convert(name, found[0], type)

    def _convert(self, name: str, value: Any, type: Callable[[str], Any]) -> Any:
        if not isinstance(value, str):
            raise HTTPException(400, f"The {self.what} {name!r:.60} must be text; this is a file")
        try:
            return _CONVERTERS.get(type, type)(value)
        except (ValueError, ArithmeticError, LookupError) as error:
            called = getattr(type, "__name__", "value")
            raise HTTPException(400, f"The {self.what} {name!r:.60} is no {called}: {value!r:.60}") from error

    def _missing(self, name: str) -> Exception:
        names = [f"{each!r:.60}" for each in self]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        there = f"there are {', '.join(names[:_LISTED])}{more}" if names else "there is none at all"
        return MissingValue(400, f"The {self.what} {name!r:.60} is missing; {there}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("JSON could not say it, nor does it compare")
    return number


def _truth(text: str) -> bool:
    return _TRUTH[text.lower()]


_TRUTH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off", ""), False),
}
#: Types whose own constructor takes what no handler means: bool("false") is true, float("nan") is no number.
_CONVERTERS: dict[Callable[[str], Any], Callable[[str], Any]] = {bool: _truth, float: _finite}
