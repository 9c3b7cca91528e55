"""Puts a function in another's place, and back: in its module, its class, and wherever it was bound by name before.

``from time import sleep`` binds the function itself, and so does ``def retry(sleep=time.sleep)``: the collector knows
who holds it. What stands in a tuple, in a C library, or in a variable of a function that runs now stays as it is.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import CellType, FunctionType, ModuleType
from typing import Any

_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Shim:
    """A replacement: ``shim`` for ``name`` of ``where``, "module" or "module:Class".

    What the platform does not have is left out, as is what the class does not have, not even from its bases.
    """

    where: str
    name: str
    shim: Any

    def owner(self) -> Any:
        """The module or class; None where there is none."""
        module, _, path = self.where.partition(":")
        try:
            owner: Any = import_module(module)
        except ImportError:
            return None
        for step in filter(None, path.split(".")):
            owner = getattr(owner, step, None)
        return owner if owner is not None and hasattr(owner, self.name) else None


class Put:
    """A shim in its place. ``take_back`` undoes it."""

    __slots__ = ("before", "owner", "shim")

    def __init__(self, shim: Shim, owner: Any) -> None:
        self.shim = shim
        self.owner = owner
        self.before = vars(owner).get(shim.name, _ABSENT)
        _dress(shim.shim, getattr(owner, shim.name))
        _set(owner, shim.name, shim.shim)

    @property
    def original(self) -> Any:
        """What was bound by name elsewhere, if this is a module's; else None."""
        return self.before if isinstance(self.owner, ModuleType) else None

    def take_back(self) -> None:
        """Put the original back, unless somebody else has put something there since."""
        if vars(self.owner).get(self.shim.name) is self.shim.shim:
            _set(self.owner, self.shim.name, self.before)


def _dress(shim: Any, original: Any) -> None:
    """It goes by the original's name: in tracebacks, for pickle, for help()."""
    if isinstance(shim, FunctionType):
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            try:
                setattr(shim, name, getattr(original, name))
            except (AttributeError, TypeError):
                pass  # a method of C has no module


def _set(owner: Any, name: str, value: Any) -> None:
    """Set, or delete if ``value`` is _ABSENT; in a class made in C too, where Python itself would not."""
    if name in _SLOTS and isinstance(owner, type) and owner.__flags__ & _IMMUTABLE:
        _set_slot(owner, name, value)
    elif isinstance(owner, type) and (owner.__flags__ & _IMMUTABLE or not owner.__flags__ & _HEAP_TYPE):
        namespace = gc.get_referents(owner.__dict__)[0]
        if value is _ABSENT:
            namespace.pop(name, None)
        else:
            namespace[name] = value
        _modified(owner)
    elif value is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _set_slot(owner: type, name: str, value: Any) -> None:
    """What C asks its slot for, not the namespace: Python keeps the two in step, where the class may be changed."""
    import ctypes

    flags = ctypes.c_ulong.from_address(id(owner) + _FLAGS_AT)
    if flags.value != owner.__flags__ or value is _ABSENT:
        return  # another Python, laid out differently: the call stays as it is
    flags.value &= ~_IMMUTABLE
    try:
        setattr(owner, name, value)
    finally:
        flags.value |= _IMMUTABLE


def _modified(owner: type) -> None:
    """Have Python forget what it has cached of a class."""
    import ctypes  # 3 ms, where no class made in C is changed

    function = ctypes.pythonapi.PyType_Modified
    function.argtypes = [ctypes.py_object]
    function.restype = None
    function(owner)


#: Py_TPFLAGS_HEAPTYPE: made at run time. Some of these are immutable all the same (Py_TPFLAGS_IMMUTABLETYPE).
_HEAP_TYPE = 1 << 9
_IMMUTABLE = 1 << 8
#: Where a class keeps its flags: tp_flags, the 22nd word of PyTypeObject.
_FLAGS_AT = 21 * tuple.__itemsize__
#: Methods that ``for`` and its kin find by slots.
_SLOTS = ("__next__", "__iter__")


def rebind(pairs: Mapping[int, tuple[Any, Any]]) -> int:
    """Put new functions where old ones were bound; how many. ``pairs`` is old and new by the old one's id."""
    if not pairs:
        return 0
    ours = {id(vars(module)) for name, module in sys.modules.copy().items() if name.startswith("coserver.hooks.")}
    ours.update(id(pair) for pair in pairs.values())
    count = 0
    for holder in gc.get_referrers(*(old for old, _ in pairs.values())):
        if id(holder) not in ours:
            count += _replace(holder, lambda value: pairs.get(id(value), (None, _ABSENT))[1])
    return count


def _replace(holder: Any, new: Callable[[Any], Any]) -> int:
    """Replace what ``new`` knows in one holder."""
    if type(holder) is dict:
        return _replace_in_dict(holder, new)
    if type(holder) is staticmethod:
        value = new(holder.__func__)
        for namespace in [one for one in gc.get_referrers(holder) if type(one) is dict]:
            _replace_in_class(namespace, {key: value for key, one in namespace.items() if one is holder})
        return 1
    if type(holder) is CellType:
        value = new(holder.cell_contents)
        if value is not _ABSENT:
            holder.cell_contents = value
            return 1
    elif type(holder) is tuple:
        # Perhaps the defaults of functions.
        found = tuple(one if (value := new(one)) is _ABSENT else value for one in holder)
        functions = [one for one in gc.get_referrers(holder) if type(one) is FunctionType]
        for function in functions:
            if function.__defaults__ is holder:
                function.__defaults__ = found
        return len(functions)
    return 0


def _replace_in_dict(holder: dict[Any, Any], new: Callable[[Any], Any]) -> int:
    found = {key: value for key, one in list(holder.items()) if (value := new(one)) is not _ABSENT}
    if found and "__module__" in holder and "__name__" not in holder:
        _replace_in_class(holder, found)
    else:
        holder.update(found)
    return len(found)


def _replace_in_class(namespace: dict[Any, Any], found: dict[Any, Any]) -> None:
    """In a class, whose attributes are cached; and what is a function now would become a method there."""
    for cls in [one for one in gc.get_referrers(namespace) if isinstance(one, type)]:
        for key, value in found.items():
            if vars(cls).get(key) is namespace.get(key):
                _set(cls, key, staticmethod(value) if isinstance(value, FunctionType) else value)
