"""Attributes by hand, for objects whose own values are not where Python would look: as its generic lookup does it."""

from __future__ import annotations

import _thread
from typing import Any

ABSENT: Any = object()


def find(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return ABSENT


def is_set(found: Any) -> bool:
    """Whether it is a data descriptor: what is set goes there."""
    kind = type(found)
    return hasattr(kind, "__set__") or hasattr(kind, "__delete__")


def is_asked_first(found: Any) -> bool:
    """Whether it is a data descriptor that is asked before the values are."""
    return is_set(found) and hasattr(type(found), "__get__")


def call(found: Any, name: str, *args: Any) -> None:
    method = getattr(type(found), name, None)
    if method is None:
        raise AttributeError(name)
    method(found, *args)


def _complaint() -> AttributeError:
    try:
        del _thread._local().x
    except AttributeError as error:
        return error
    raise AssertionError("a local had what nobody set")


def absent(cls: type, name: str, on: Any) -> AttributeError:
    """As this Python complains when what is deleted is not there."""
    error = AttributeError(name if _BARE else f"{cls.__name__!r} object has no attribute {name!r}")
    if _NAMED:
        error.name, error.obj = name, on
    return error


_BARE, _NAMED = str(_complaint()) == "x", _complaint().name == "x"  # up to Python 3.11; from 3.13 on
