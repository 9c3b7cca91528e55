"""Family "locals": ``threading.local``. In a worker a local has values of its own for each call.

Outside of workers a local is as ever: one set of values for each thread. In a worker the values belong to the call, and
end with it, in the worker, where destructors may wait too. The locals of async libraries stay per thread. Classes that
were derived from ``threading.local`` before the install are changed too. A local that was made before it cannot be: two
handlers share its values, and ``older`` finds it.
"""

from __future__ import annotations

import _thread
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import ref

from greenlet import getcurrent

from ..patch import ABSENT, Shim
from ..workers import Forked, Worker

original: Any = _thread._local
_get, _set, _delete = original.__getattribute__, original.__setattr__, original.__delattr__
_plain_get = object.__getattribute__

#: Locals of these packages belong to a thread and its loop, so they stay per thread.
PER_THREAD = frozenset(("anyio", "asyncio", "coserver", "eventlet", "gevent", "greenlet", "sniffio", "trio", "uvloop"))


def per_thread(module: str | None) -> bool:
    """Whether locals of this module stay per thread."""
    return module is not None and module.partition(".")[0] in PER_THREAD


class _Made(ref[Any]):
    """A local that was made since the install, and the arguments that its ``__init__`` gets again in each call."""

    __slots__ = ("args", "key", "keywords")
    key: int
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]


class CallValues(dict[str, Any]):
    """The values of one local in one call. The local owns them, so that the garbage collector sees the reference."""

    __slots__ = ("__weakref__",)


class CallEntry(ref[Any]):
    """The call's weak way to the values of one local. When the call ends, this ends, and the values with it.

    ``kept`` are the values where the local has no place for them: then the call owns them.
    """

    __slots__ = ("entries", "kept", "key", "values")
    key: int
    entries: dict[int, CallEntry]
    values: ref[CallValues]
    kept: CallValues | None

    def __del__(self) -> None:
        local = self()
        if local is not None and self.kept is None:
            _place(local).pop(id(self), None)


#: By the local's id.
made_since: dict[int, _Made] = {}


def _forget_made(made: _Made) -> None:
    made_since.pop(made.key, None)


def _forget_entry(entry: CallEntry) -> None:
    entry.entries.pop(entry.key, None)


def _use_originals(cls: type) -> None:
    """Give a class the original's methods, so that its locals stay per thread."""
    for name, method in (("__getattribute__", _get), ("__setattr__", _set), ("__delattr__", _delete)):
        if name not in vars(cls):
            setattr(cls, name, method)
    if "__new__" not in vars(cls):
        setattr(cls, "__new__", original.__new__)  # noqa: B010


class Local(original):  # type: ignore[misc]
    # The layout is that of the original: only so can classes that were derived from that be derived from this instead.
    __slots__ = ()

    def __new__(cls, /, *args: Any, **keywords: Any) -> Any:
        if cls is Local and per_thread(sys._getframe(1).f_globals.get("__name__")):
            return original.__new__(ThreadLocal, *args, **keywords)
        if cls is Local:
            return PlainLocal.__new__(PlainLocal, *args, **keywords)
        worker = getcurrent()
        if type(worker) is not Worker:
            self = original.__new__(cls, *args, **keywords)
            _note_made(self, args, keywords)
        else:
            self = _make_in_thread(cls, args, keywords) if _has_init(cls) else original.__new__(cls, *args, **keywords)
            _note_made(self, args, keywords)
            _add_entry(worker, self)
        return self

    def __init_subclass__(cls, /, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if per_thread(cls.__module__):
            _use_originals(cls)

    def __getattribute__(self, name: str, /) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker:
            return _get(self, name)
        entries = worker.locals
        entry = entries.get(id(self)) if entries is not None else None
        if entry is None:
            entry = _entry_of(worker, self)
            if entry is None:
                return _get(self, name)
        values = entry.values()
        assert values is not None
        if name in values:
            cls = type(self)
            if cls is PlainLocal and name not in _OF_CLASS:
                return values[name]
            if not _precedes_values(_find(cls, name)):
                return values[name]
        return values if name == "__dict__" else _plain_get(self, name)

    def __setattr__(self, name: str, value: Any, /) -> None:
        worker = getcurrent()
        if type(worker) is not Worker:
            return _set(self, name, value)  # type: ignore[no-any-return]
        entries = worker.locals
        entry = entries.get(id(self)) if entries is not None else None
        if entry is None:
            entry = _entry_of(worker, self)
            if entry is None:
                return _set(self, name, value)  # type: ignore[no-any-return]
        cls = type(self)
        if cls is not PlainLocal or name in _OF_CLASS:
            found = _find(cls, name)
            if name == "__dict__":
                raise AttributeError(f"{cls.__name__!r} object attribute '__dict__' is read-only")
            if _is_data_descriptor(found):
                return _call(found, "__set__", self, value)
        entry.values()[name] = value  # type: ignore[index]
        return None

    def __delattr__(self, name: str, /) -> None:
        worker = getcurrent()
        entry = _entry_of(worker, self) if type(worker) is Worker else None
        if entry is None:
            return _delete(self, name)  # type: ignore[no-any-return]
        cls = type(self)
        if name == "__dict__":
            raise AttributeError(f"{cls.__name__!r} object attribute '__dict__' is read-only")
        found = _find(cls, name)
        if _is_data_descriptor(found):
            return _call(found, "__delete__", self)
        values: Any = entry.values()
        if name not in values:
            raise _absent(cls, name, self)
        del values[name]
        return None


class PlainLocal(Local):
    """The class of ``threading.local()`` itself. It has a place for the values of calls."""

    __module__ = "_thread"
    __slots__ = ("_call_values",)


_call_values: Any = vars(PlainLocal)["_call_values"]
del PlainLocal._call_values

for _cls in (Local, PlainLocal):
    for _name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(_cls, _name, getattr(original, _name))
#: Attributes that every local has from its class.
_OF_CLASS = frozenset(dir(PlainLocal)) | {"__dict__"}
#: The place for the values of calls in the instance dictionary of a derived class, which nobody sees.
_PLACE = " held in calls"


class ThreadLocal(Local):
    """A local that stays per thread, at its old speed."""

    __slots__ = ()


# Making a local, and its values in a call.


def _note_made(self: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    made = _Made(self, _forget_made)
    made.key, made.args, made.keywords = id(self), args, keywords
    made_since[id(self)] = made


def _has_init(cls: type) -> bool:
    return cls.__init__ is not object.__init__  # type: ignore[misc]


def _make_in_thread(cls: type, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Make a local in a thread that ends: it is then not initialised yet in the loop's own thread."""
    made: list[Any] = []
    done = _thread.allocate_lock()
    _acquire(done)

    def make() -> None:
        try:
            made.append(original.__new__(cls, *args, **keywords))
        finally:
            _release(done)

    try:
        _thread.start_new_thread(make, ())
    except RuntimeError:  # no more threads
        return original.__new__(cls, *args, **keywords)
    _acquire(done)
    return made.pop() if made else original.__new__(cls, *args, **keywords)


_acquire, _release = _thread.LockType.acquire, _thread.LockType.release


def _add_entry(worker: Worker, self: Any) -> CallEntry:
    """Make a place for the local's values in this call."""
    if worker.locals is None:
        worker.locals = {}
    values, entry = CallValues(), CallEntry(self, _forget_entry)
    entry.key, entry.entries, entry.values, entry.kept = id(self), worker.locals, ref(values), None
    place = _place(self)
    if place is None:
        entry.kept = values
    else:
        place[id(entry)] = values
    worker.locals[entry.key] = entry
    return entry


def _place(self: Any) -> Any:
    """The local's own place for the values of calls, by the id of each entry. None if its layout has none."""
    cls = type(self)
    if cls is PlainLocal:
        try:
            return _call_values.__get__(self)
        except AttributeError:
            _call_values.__set__(self, {})
            return _call_values.__get__(self)
    found = _find(cls, "__dict__")
    return None if found is ABSENT else found.__get__(self).setdefault(_PLACE, {})


def _entry_of(worker: Worker, self: Any) -> CallEntry | None:
    """The local's entry in this call, initialised at its first use there. None if it was made before the install."""
    entries: dict[int, CallEntry] = worker.locals or {}
    entry = entries.get(id(self))
    if entry is not None:
        return entry
    made = made_since.get(id(self))
    if made is None:
        return None
    entry = _add_entry(worker, self)
    cls = type(self)
    if _has_init(cls):
        try:
            cls.__init__(self, *made.args, **made.keywords)
        except BaseException:
            entry.entries.pop(entry.key, None)  # the next use calls __init__ again
            raise
    return entry


# Attributes, looked up as Python's generic lookup does: the values are not where that would look.


def _find(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return ABSENT


def _is_data_descriptor(found: Any) -> bool:
    """Whether an assignment or a deletion goes to this object, not to the values."""
    kind = type(found)
    return hasattr(kind, "__set__") or hasattr(kind, "__delete__")


def _precedes_values(found: Any) -> bool:
    """Whether this is a data descriptor that is read before the values."""
    return _is_data_descriptor(found) and hasattr(type(found), "__get__")


def _call(found: Any, name: str, *args: Any) -> None:
    method = getattr(type(found), name, None)
    if method is None:
        raise AttributeError(name)
    method(found, *args)


def _original_error() -> AttributeError:
    try:
        del original().x
    except AttributeError as error:
        return error
    raise AssertionError("a new local has an attribute 'x'")


def _absent(cls: type, name: str, on: Any) -> AttributeError:
    """The error that this Python raises for the deletion of an attribute that is not there."""
    error = AttributeError(name if _BARE else f"{cls.__name__!r} object has no attribute {name!r}")
    if _NAMED:
        error.name, error.obj = name, on
    return error


_BARE, _NAMED = str(_original_error()) == "x", _original_error().name == "x"  # up to Python 3.11; from 3.13 on


# Classes that were derived from the original before the install.

#: These classes, and their bases before the install.
_derived: dict[type, tuple[type, ...]] = {}


def derived() -> Iterator[type]:
    """The classes that are derived from the original itself, and can be derived from Local instead."""
    for cls in original.__subclasses__():
        if cls is not Local and not per_thread(cls.__module__):
            yield cls


def settle() -> None:
    """After the install, derive the existing classes from Local: locals made of them from now on are per call.

    After the uninstall, derive them from the original again.
    """
    if _thread._local is Local:
        for cls in list(derived()):
            _derive(cls, tuple(Local if base is original else base for base in cls.__bases__))
    else:
        while _derived:
            cls, bases = _derived.popitem()
            cls.__bases__ = bases


def _derive(cls: type, bases: tuple[type, ...]) -> None:
    before = cls.__bases__
    try:
        cls.__bases__ = bases
    except TypeError:  # the layout of the class, or the order of its bases, forbids it
        return
    _derived[cls] = before


def older() -> list[Any]:
    """The locals that were made before the install: handlers share their values."""
    found = [one for one in gc.get_objects() if issubclass(type(one), original)]
    return [one for one in found if id(one) not in made_since and not issubclass(type(one), ThreadLocal)
            and not per_thread(type(one).__module__)]  # fmt: skip


def _after_fork() -> None:
    """In a child process that a worker forked, nothing is hooked: the call's values become the thread's."""
    worker = getcurrent()
    if isinstance(worker, Forked):
        for entry in list((worker.locals or {}).values()):
            local = entry()
            if local is not None:
                _get(local, "__dict__").update(entry.values() or ())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


ROWS = (Shim("_thread", "_local", Local), Shim("threading", "local", Local))
