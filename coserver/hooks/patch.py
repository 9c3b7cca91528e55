"""Puts a function in another's place, and back: in its module or its class, one made in C too.

Where it was bound by name before is ``rebinding``'s to find.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Shim:
    """A replacement: ``shim`` for ``name`` of ``where``, "module" or "module:Class".

    What the platform does not have is left out, as is what the class does not have, not even from its bases. A
    ``late`` one does not import its module: it is put there once somebody has. Its ``shim`` makes the replacement, of
    the original in a tuple (what a closure holds bare is rebound) and its name.
    """

    where: str
    name: str
    shim: Any
    late: bool = False

    @property
    def module(self) -> str:
        return self.where.partition(":")[0]

    def owner(self) -> Any:
        """The module or class; None where there is none, or not yet."""
        module, _, path = self.where.partition(":")
        try:
            owner: Any = sys.modules.get(module) if self.late else import_module(module)
        except ImportError:
            return None
        for step in filter(None, path.split(".")):
            owner = getattr(owner, step, None)
        return owner if owner is not None and hasattr(owner, self.name) else None


class Put:
    """A shim in its place. ``take_back`` undoes it."""

    __slots__ = ("before", "owner", "shim")

    def __init__(self, shim: Shim, owner: Any) -> None:
        if shim.late:
            label = f"{shim.where.replace(':', '.')}.{shim.name}"
            shim = replace(shim, shim=shim.shim((getattr(owner, shim.name),), label))
        self.shim = shim
        self.owner = owner
        self.before = vars(owner).get(shim.name, ABSENT)
        _dress(shim.shim, getattr(owner, shim.name))
        put_into(owner, shim.name, shim.shim)

    @property
    def original(self) -> Any:
        """What was bound by name elsewhere, if this is a module's; else None."""
        return self.before if isinstance(self.owner, ModuleType) else None

    def take_back(self) -> None:
        """Put the original back, unless somebody else has put something there since."""
        if vars(self.owner).get(self.shim.name) is self.shim.shim:
            put_into(self.owner, self.shim.name, self.before)


def _dress(shim: Any, original: Any) -> None:
    """It goes by the original's name: in tracebacks, for pickle, for help()."""
    if isinstance(shim, FunctionType):
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            try:
                setattr(shim, name, getattr(original, name))
            except (AttributeError, TypeError):
                pass  # a method of C has no module


def put_into(owner: Any, name: str, value: Any) -> None:
    """Set, or delete if ``value`` is ABSENT; in a class made in C too, where Python itself would not."""
    if name in _SLOTS and isinstance(owner, type) and owner.__flags__ & _IMMUTABLE:
        _set_slot(owner, name, value)
    elif isinstance(owner, type) and (owner.__flags__ & _IMMUTABLE or not owner.__flags__ & _HEAP_TYPE):
        namespace = gc.get_referents(owner.__dict__)[0]
        if value is ABSENT:
            namespace.pop(name, None)
        else:
            namespace[name] = value
        _modified(owner)
    elif value is ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _set_slot(owner: type, name: str, value: Any) -> None:
    """What C asks its slot for, not the namespace: Python keeps the two in step, where the class may be changed."""
    import ctypes

    flags = ctypes.c_ulong.from_address(id(owner) + _FLAGS_AT)
    if flags.value != owner.__flags__ or value is ABSENT:
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
