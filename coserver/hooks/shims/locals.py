"""What stands for ``threading.local``: in a worker, it has values of its own for each call.

Outside of workers a local is what it was: one set of values for each thread. In a worker the values hang on the call
and end with it, in the worker, where destructors may wait too. What the async libraries keep for their thread stays so,
and so does a local that was made before the install.
"""

from __future__ import annotations

import _thread
import sys
from collections.abc import Mapping
from typing import Any
from weakref import ref

from greenlet import getcurrent

from ..workers import Worker
from .attributes import ABSENT, absent, call, find, is_asked_first, is_set

_local: Any = _thread._local
_get, _set, _delete = _local.__getattribute__, _local.__setattr__, _local.__delattr__
_plain_get = object.__getattribute__

#: What these packages keep in locals belongs to a thread and its loop, whoever runs there.
PER_THREAD = frozenset(("anyio", "asyncio", "coserver", "eventlet", "gevent", "greenlet", "sniffio", "trio", "uvloop"))


def per_thread(module: str | None) -> bool:
    """Whether locals of this module stay per thread."""
    return module is not None and module.partition(".")[0] in PER_THREAD


class _Made(ref[Any]):
    """A local made since the install, and what its ``__init__`` gets once more in each call."""

    __slots__ = ("args", "key", "keywords")
    key: int
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]


class Held(dict[str, Any]):
    """What one local holds in one call. It belongs to the local, as the collector has to see."""

    __slots__ = ("__weakref__",)


class Values(ref[Any]):
    """The call's way to what a local of this key holds in it; when the call ends and this with it, that goes too."""

    __slots__ = ("held", "kept", "key", "rooms")
    key: int
    rooms: dict[int, Values]
    held: ref[Held]
    kept: Held | None  # by the call, where the local has no place for it

    def __del__(self) -> None:
        local = self()
        if local is not None and self.kept is None:
            _place(local).pop(id(self), None)


#: By id.
made_since: dict[int, _Made] = {}


def _unmake(made: _Made) -> None:
    made_since.pop(made.key, None)


def _drop(one: Values) -> None:
    one.rooms.pop(one.key, None)


def _keep(cls: type) -> None:
    for name, original in (("__getattribute__", _get), ("__setattr__", _set), ("__delattr__", _delete)):
        if name not in vars(cls):
            setattr(cls, name, original)
    if "__new__" not in vars(cls):
        setattr(cls, "__new__", _local.__new__)  # noqa: B010


class Local(_local):  # type: ignore[misc]
    # The layout is the original's own, so that classes derived from that can be derived from this one instead.
    __slots__ = ()

    def __new__(cls, /, *args: Any, **keywords: Any) -> Any:
        if cls is Local and per_thread(sys._getframe(1).f_globals.get("__name__")):
            return _local.__new__(Kept, *args, **keywords)
        if cls is Local:
            return Own.__new__(Own, *args, **keywords)
        worker = getcurrent()
        if type(worker) is not Worker:
            self = _local.__new__(cls, *args, **keywords)
            _note(self, args, keywords)
        else:
            self = _elsewhere(cls, args, keywords) if _initialises(cls) else _local.__new__(cls, *args, **keywords)
            _note(self, args, keywords)
            _room(worker, self)
        return self

    def __init_subclass__(cls, /, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if per_thread(cls.__module__):
            _keep(cls)

    def __getattribute__(self, name: str, /) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker:
            return _get(self, name)
        rooms = worker.locals
        one = rooms.get(id(self)) if rooms is not None else None
        if one is None:
            one = _begin(worker, self)
            if one is None:
                return _get(self, name)
        values = one.held()
        assert values is not None
        if name in values:
            cls = type(self)
            if cls is Own and name not in _OWN:
                return values[name]
            if not is_asked_first(find(cls, name)):
                return values[name]
        return values if name == "__dict__" else _plain_get(self, name)

    def __setattr__(self, name: str, value: Any, /) -> None:
        worker = getcurrent()
        if type(worker) is not Worker:
            return _set(self, name, value)  # type: ignore[no-any-return]
        rooms = worker.locals
        one = rooms.get(id(self)) if rooms is not None else None
        if one is None:
            one = _begin(worker, self)
            if one is None:
                return _set(self, name, value)  # type: ignore[no-any-return]
        cls = type(self)
        if cls is not Own or name in _OWN:
            found = find(cls, name)
            if name == "__dict__":
                raise AttributeError(f"{cls.__name__!r} object attribute '__dict__' is read-only")
            if is_set(found):
                return call(found, "__set__", self, value)
        one.held()[name] = value  # type: ignore[index]
        return None

    def __delattr__(self, name: str, /) -> None:
        worker = getcurrent()
        one = _begin(worker, self) if type(worker) is Worker else None
        if one is None:
            return _delete(self, name)  # type: ignore[no-any-return]
        cls = type(self)
        if name == "__dict__":
            raise AttributeError(f"{cls.__name__!r} object attribute '__dict__' is read-only")
        found = find(cls, name)
        if is_set(found):
            return call(found, "__delete__", self)
        values: Any = one.held()
        if name not in values:
            raise absent(cls, name, self)
        del values[name]
        return None


class Own(Local):
    """What ``threading.local()`` itself makes: it has a place for what it holds."""

    __module__ = "_thread"
    __slots__ = ("held",)


_held: Any = vars(Own)["held"]
del Own.held

for _cls in (Local, Own):
    for _name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(_cls, _name, getattr(_local, _name))
#: What every local has from its class.
_OWN = frozenset(dir(Own)) | {"__dict__"}
#: In the instance dictionary that a derived class has and nobody sees.
_PLACE = " held in calls"


class Kept(Local):
    """A local that stays per thread, at its old speed."""

    __slots__ = ()


def _note(self: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    made = _Made(self, _unmake)
    made.key, made.args, made.keywords = id(self), args, keywords
    made_since[id(self)] = made


def _initialises(cls: type) -> bool:
    return cls.__init__ is not object.__init__  # type: ignore[misc]


def _elsewhere(cls: type, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Make one in a thread that ends: so the loop's own thread has not met it yet, and initialises it later."""
    made: list[Any] = []
    done = _thread.allocate_lock()
    _acquire(done)

    def make() -> None:
        try:
            made.append(_local.__new__(cls, *args, **keywords))
        finally:
            _release(done)

    try:
        _thread.start_new_thread(make, ())
    except RuntimeError:  # no more threads
        return _local.__new__(cls, *args, **keywords)
    _acquire(done)
    return made.pop() if made else _local.__new__(cls, *args, **keywords)


_acquire, _release = _thread.LockType.acquire, _thread.LockType.release


def _room(worker: Worker, self: Any) -> Values:
    """Room for its values in this call."""
    if worker.locals is None:
        worker.locals = {}
    held, one = Held(), Values(self, _drop)
    one.key, one.rooms, one.held, one.kept = id(self), worker.locals, ref(held), None
    place = _place(self)
    if place is None:
        one.kept = held
    else:
        place[id(one)] = held
    worker.locals[one.key] = one
    return one


def _place(self: Any) -> Any:
    """The local's own place for what it holds, by the id of each ``Values``. None if its layout has none."""
    cls = type(self)
    if cls is Own:
        try:
            return _held.__get__(self)
        except AttributeError:
            _held.__set__(self, {})
            return _held.__get__(self)
    found = find(cls, "__dict__")
    return None if found is ABSENT else found.__get__(self).setdefault(_PLACE, {})


def _begin(worker: Worker, self: Any) -> Values | None:
    """Its values in this call, initialised if this is its first use there. None if it was made before the install."""
    rooms: dict[int, Values] = worker.locals or {}
    one = rooms.get(id(self))
    if one is not None:
        return one
    made = made_since.get(id(self))
    if made is None:
        return None
    one = _room(worker, self)
    cls = type(self)
    if _initialises(cls):
        try:
            cls.__init__(self, *made.args, **made.keywords)
        except BaseException:
            one.rooms.pop(one.key, None)  # the next use begins anew
            raise
    return one
