"""Finds where a function is bound by name, and puts another in its place there.

``from time import sleep`` binds the function itself, and so does ``def retry(sleep=time.sleep)``: the collector knows
who holds it. To ask it is to look at everything that lives in the process, a tenth of a second where that is much; so
it is asked three times at most, for all functions and all of their holders at once. What stands in a list, in a C
library, or in a variable of a function that runs now stays as it is.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Mapping
from types import CellType, FunctionType
from typing import Any

from .patch import ABSENT, put_into

_Pairs = Mapping[int, tuple[Any, Any]]


def rebind(pairs: _Pairs) -> int:
    """Put new functions where old ones were bound; how many. ``pairs`` is old and new by the old one's id."""
    if not pairs:
        return 0
    ours = {id(vars(module)) for name, module in sys.modules.copy().items() if name.startswith("coserver.hooks.")}
    ours.update(id(pair) for pair in pairs.values())
    holders = [one for one in gc.get_referrers(*(old for old, _ in pairs.values())) if id(one) not in ours]
    classes: dict[int, tuple[dict[Any, Any], dict[Any, Any]]] = {}
    count = 0
    for holder in holders:
        if type(holder) is dict:
            count += _in_dict(holder, {key: _new(pairs, one) for key, one in list(holder.items())}, classes)
        elif type(holder) is CellType:
            count += _in_cell(holder, _new(pairs, holder.cell_contents))
    count += _in_wrapped([one for one in holders if type(one) in (staticmethod, tuple)], pairs, classes)
    _in_classes(classes)
    return count


def _new(pairs: _Pairs, value: Any) -> Any:
    """What takes the place of ``value``; ABSENT if nothing does."""
    return pairs.get(id(value), (None, ABSENT))[1]


def _in_cell(cell: CellType, value: Any) -> int:
    if value is ABSENT:
        return 0
    cell.cell_contents = value
    return 1


def _in_dict(holder: dict[Any, Any], found: dict[Any, Any], classes: dict[int, Any]) -> int:
    """In a module, or any dict; what looks like a class's is left for ``_in_classes``."""
    found = {key: value for key, value in found.items() if value is not ABSENT}
    if found and "__module__" in holder and "__name__" not in holder:
        classes.setdefault(id(holder), (holder, {}))[1].update(found)
    else:
        holder.update(found)
    return len(found)


def _in_wrapped(wrapped: list[Any], pairs: _Pairs, classes: dict[int, Any]) -> int:
    """In static methods, and in tuples that are perhaps the defaults of functions."""
    if not wrapped:
        return 0
    by_id = {id(one): one for one in wrapped}
    count = 0
    for around in gc.get_referrers(*wrapped):
        if type(around) is dict and around is not by_id:
            found = {
                key: _new(pairs, by_id[id(one)].__func__)
                for key, one in list(around.items())
                if type(one) is staticmethod and id(one) in by_id
            }
            if found:
                classes.setdefault(id(around), (around, {}))[1].update(found)
                count += 1
        elif type(around) is FunctionType and id(around.__defaults__) in by_id:
            around.__defaults__ = _in_tuple(around.__defaults__, pairs)
            count += 1
    return count


def _in_tuple(values: Iterable[Any] | None, pairs: _Pairs) -> tuple[Any, ...]:
    return tuple(one if (value := _new(pairs, one)) is ABSENT else value for one in values or ())


def _in_classes(classes: dict[int, tuple[dict[Any, Any], dict[Any, Any]]]) -> None:
    """In classes, whose attributes are cached; and what is a function now would become a method there."""
    if not classes:
        return
    for cls in gc.get_referrers(*(namespace for namespace, _ in classes.values())):
        if isinstance(cls, type) and (held := classes.get(id(gc.get_referents(cls.__dict__)[0]))):
            for key, value in held[1].items():
                put_into(cls, key, staticmethod(value) if isinstance(value, FunctionType) else value)
