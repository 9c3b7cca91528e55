"""Keywords that a call does not have: the error names the one that was meant.

Python says that a keyword is unexpected, and no more. ``checked_keywords`` is for a function, ``checked_fields`` for a
dataclass. Neither changes what a type checker sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def unknown_keyword(what: str, name: str, known: Iterable[str], elsewhere: Mapping[str, str]) -> TypeError:
    """The error about the keyword ``name``. ``elsewhere`` has names of other libraries, each with the known name that
    stands for it, or with a sentence that says the way out.
    """
    from difflib import get_close_matches  # loaded for a mistake only

    names = sorted(known)
    meant = elsewhere.get(name) or next(iter(get_close_matches(name.lower(), names, 1)), "")
    way_out = f"did you mean {meant!r}?" if meant in names else meant or f"there are {', '.join(names)}"
    return TypeError(f"{what} has no option {name!r}; {way_out}")


def checked_keywords(what: str, **elsewhere: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: calls with an unknown keyword raise the TypeError of ``unknown_keyword``."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        code = function.__code__
        names = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])

        @wraps(function)
        def checked(*args: P.args, **keywords: P.kwargs) -> R:
            if not names.issuperset(keywords):
                name = next(name for name in keywords if name not in names)
                raise unknown_keyword(what, name, names - {"self"}, elsewhere)
            return function(*args, **keywords)

        return checked

    return decorate


def checked_fields(what: str, **elsewhere: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: ``checked_keywords`` for the fields of a dataclass."""

    def decorate(kind: type[T]) -> type[T]:
        checked = checked_keywords(what, **elsewhere)(kind.__init__)
        setattr(kind, "__init__", checked)  # noqa: B010 - a checker refuses the plain assignment
        return kind

    return decorate
