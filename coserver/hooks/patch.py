"""Puts a function in another's place, and back: in its module or its class, also one made in C.

``Patch`` changes the one place that a shim names. ``rebind`` finds the other places that hold the same function:
``from time import sleep`` binds the function itself, and so does ``def retry(sleep=time.sleep)``. The garbage collector
knows who holds it. To ask it is to look at every object of the process, a tenth of a second where there are many. So
``rebind`` asks three times at most, for all functions and all their holders at once. A function in a list, in a C
library, or in a variable of a running function stays as it is.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import CellType, FunctionType, ModuleType
from typing import Any

ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Shim:
    """A replacement: ``shim`` for ``name`` of ``where``, "module" or "module:Class".

    A shim is left out if the platform lacks the module or the class lacks the name, its bases included. A ``late`` shim
    does not import its module: it is put in place once somebody else has imported it. Its ``shim`` is a function that
    makes the replacement; its arguments are the original, in a tuple, and the original's name. (The tuple hides the
    original from ``rebind``, which would replace it in a closure.)
    """

    where: str
    name: str
    shim: Any
    late: bool = False

    @property
    def module(self) -> str:
        return self.where.partition(":")[0]

    def owner(self) -> Any:
        """The module or class; None if there is none, or not yet."""
        module, _, path = self.where.partition(":")
        try:
            owner: Any = sys.modules.get(module) if self.late else import_module(module)
        except ImportError:
            return None
        for step in filter(None, path.split(".")):
            owner = getattr(owner, step, None)
        return owner if owner is not None and hasattr(owner, self.name) else None


class Patch:
    """A shim in its place. ``undo`` puts the original back."""

    __slots__ = ("before", "owner", "shim")

    def __init__(self, shim: Shim, owner: Any) -> None:
        if shim.late:
            label = f"{shim.where.replace(':', '.')}.{shim.name}"
            shim = replace(shim, shim=shim.shim((getattr(owner, shim.name),), label))
        self.shim = shim
        self.owner = owner
        self.before = vars(owner).get(shim.name, ABSENT)
        _copy_names(shim.shim, getattr(owner, shim.name))
        set_attribute(owner, shim.name, shim.shim)

    @property
    def original(self) -> Any:
        """The original function of a module, which other code may have bound by name; None for a class's method."""
        return self.before if self.in_module else None

    @property
    def in_module(self) -> bool:
        """Whether the shim replaces a function of a module, not a method of a class."""
        return isinstance(self.owner, ModuleType)

    def undo(self) -> None:
        """Put the original back, unless somebody else has replaced the shim since."""
        if vars(self.owner).get(self.shim.name) is self.shim.shim:
            set_attribute(self.owner, self.shim.name, self.before)


def _copy_names(shim: Any, original: Any) -> None:
    """Give a shim the original's names and docstring: for tracebacks, pickle and help()."""
    if isinstance(shim, FunctionType):
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            try:
                setattr(shim, name, getattr(original, name))
            except (AttributeError, TypeError):
                pass  # a method of C has no module


# One place.


def set_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute, or delete it if ``value`` is ABSENT. Works for a class made in C, where setattr refuses."""
    if name in _SLOTS and isinstance(owner, type) and owner.__flags__ & _IMMUTABLE:
        _set_slot(owner, name, value)
    elif isinstance(owner, type) and (owner.__flags__ & _IMMUTABLE or not owner.__flags__ & _HEAP_TYPE):
        namespace = gc.get_referents(owner.__dict__)[0]
        if value is ABSENT:
            namespace.pop(name, None)
        else:
            namespace[name] = value
        _clear_type_cache(owner)
    elif value is ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _set_slot(owner: type, name: str, value: Any) -> None:
    """Set a method that C code calls by its slot, not by the namespace.

    Python keeps slot and namespace in step, but only for a class that may be changed: so the class is one for a moment.
    """
    import ctypes

    flags = ctypes.c_ulong.from_address(id(owner) + _FLAGS_AT)
    if flags.value != owner.__flags__ or value is ABSENT:
        return  # another Python, with another layout: the call stays as it is
    flags.value &= ~_IMMUTABLE
    try:
        setattr(owner, name, value)
    finally:
        flags.value |= _IMMUTABLE


def change_class(one: Any, cls: type) -> bool:
    """Make ``one``, an instance of a class made in C, an instance of ``cls``, which is derived from that class and adds
    no slots. Whether Python allows it: it compares the layouts of the two.
    """
    import ctypes

    owner = type(one)
    for _ in range(_TRIES):
        flags = ctypes.c_ulong.from_address(id(owner) + _FLAGS_AT)
        if flags.value != owner.__flags__:
            return False  # another Python, with another layout
        flags.value &= ~_IMMUTABLE
        try:
            one.__class__ = cls
            return True
        except TypeError:
            pass  # another thread does the same, and has just put the flag back
        finally:
            flags.value |= _IMMUTABLE
    return False


def _clear_type_cache(owner: type) -> None:
    """Make Python forget the attributes that it has cached of a class."""
    import ctypes  # 3 ms: loaded only if a class made in C is changed

    function = ctypes.pythonapi.PyType_Modified
    function.argtypes = [ctypes.py_object]
    function.restype = None
    function(owner)


#: Py_TPFLAGS_HEAPTYPE: made at run time. Some of these are immutable all the same (Py_TPFLAGS_IMMUTABLETYPE).
_HEAP_TYPE = 1 << 9
_IMMUTABLE = 1 << 8
#: Where a class keeps its flags: tp_flags, the 22nd word of PyTypeObject.
_FLAGS_AT = 21 * tuple.__itemsize__
#: Methods that a ``for`` loop and other C code find by slots.
_SLOTS = ("__next__", "__iter__", "__init__")
#: Times to try to change a class, as threads may hinder each other.
_TRIES = 3


# All other places.

_Pairs = Mapping[int, tuple[Any, Any]]


def rebind(pairs: _Pairs) -> int:
    """Replace old functions by new ones wherever they are bound; return the number of places.

    ``pairs`` is (old, new) by the id of the old function.
    """
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
    """The replacement of ``value``; ABSENT if there is none."""
    return pairs.get(id(value), (None, ABSENT))[1]


def _in_cell(cell: CellType, value: Any) -> int:
    if value is ABSENT:
        return 0
    cell.cell_contents = value
    return 1


def _in_dict(holder: dict[Any, Any], found: dict[Any, Any], classes: dict[int, Any]) -> int:
    """Replace in the namespace of a module, or any dict. A class's namespace is left for ``_in_classes``."""
    found = {key: value for key, value in found.items() if value is not ABSENT}
    if found and "__module__" in holder and "__name__" not in holder:
        classes.setdefault(id(holder), (holder, {}))[1].update(found)
    else:
        holder.update(found)
    return len(found)


def _in_wrapped(wrapped: list[Any], pairs: _Pairs, classes: dict[int, Any]) -> int:
    """Replace in static methods, and in tuples that are the defaults of functions."""
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
    """Replace in classes, by setattr, as Python caches their attributes.

    A function becomes a static method there, or it would be bound to the instance.
    """
    if not classes:
        return
    for cls in gc.get_referrers(*(namespace for namespace, _ in classes.values())):
        if isinstance(cls, type) and (held := classes.get(id(gc.get_referents(cls.__dict__)[0]))):
            for key, value in held[1].items():
                set_attribute(cls, key, staticmethod(value) if isinstance(value, FunctionType) else value)
