"""Family "buffers": buffered files and text files on pipes and sockets, which several workers use.

A buffered file has a lock in C, which knows threads, not workers: a second worker that calls while the first is
suspended in the file would get "reentrant call", and the text above it would lose data. So a file above anything that
may have to wait (a pipe, a socket, a stream in Python) gets a class with one more guard: the second worker
waits until the first has left the file. A file on disk never waits, and stays as it is.

A text file that reads from one buffer and writes to another (``makefile("rw")``) has two guards: one handler may write
while another waits for the answer.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from greenlet import getcurrent

from ..cancellation import IO
from ..locks.owners import place_of_caller, place_of_worker, within
from ..locks.waiters import take, waiting, wake_next
from ..patch import Shim, change_class
from ..workers import Worker, idles
from .pipes import PipeIO

_sleep = time.sleep  # the system's own
#: Seconds between two looks of a thread that waits for a worker to leave a file: at first, at most.
_FIRST, _LAST = 0.001, 0.02
#: Where a file notes the greenlet that is inside; of a text file with two guards, the one that reads and that writes.
_INSIDE, _WRITES = "_inside", "_inside_to_write"


def _guarded(name: str, original: Callable[..., Any], guard: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        current = getcurrent()
        noted = self.__dict__
        if noted.get(guard) is current:  # close() calls flush()
            return original(self, *args, **kwargs)
        # In one step, as other threads may enter too.
        if noted.setdefault(guard, current) is not current and not _enter(self, guard, current, name):
            return original(self, *args, **kwargs)
        try:
            return original(self, *args, **kwargs)
        finally:
            del noted[guard]
            key = id(self) + (guard is _WRITES)
            del self, args, kwargs  # a traceback keeps this frame, and must not keep the file: its end closes a socket
            if waiting:
                wake_next(key)

    method.__name__ = name
    method.__qualname__ = getattr(original, "__qualname__", name)
    method.__doc__ = original.__doc__
    return method


def _enter(file: Any, guard: str, current: Any, name: str) -> bool:
    """Wait until nobody is in the file, and note the caller there; false if the caller is in it already.

    Raises RequestCancelled, as the call does I/O, and RuntimeError on an event loop.
    """
    noted = file.__dict__
    if type(current) is Worker:
        # An id is even, so an odd number is the key of no other queue.
        key = id(file) + (guard is _WRITES)
        take(current, f"file.{name}", file, lambda: noted.setdefault(guard, current) is current, None, IO, key)
        return True
    period = _FIRST
    while (inside := noted.setdefault(guard, current)) is not current:
        if type(inside) is Worker:
            if within(inside):  # a greenlet of its own
                return False
            # Of a worker that runs in another thread nothing can be read: it is in the file.
            if _thread_of(inside) is _thread_of(current):
                if idles(inside):  # it was broken off
                    return False
                raise RuntimeError(
                    f"{file!r} is in use by a handler that is suspended ({place_of_worker(inside)}), and the event "
                    f"loop would wait for it for ever, at {place_of_caller()}: use it in a def handler or in "
                    f"run_blocking(), where a wait suspends only the caller"
                )
        _sleep(period)
        period = min(period * 2, _LAST)
    return True


def _thread_of(one: Any) -> Any:
    """The main greenlet of its thread."""
    while one.parent is not None:
        one = one.parent
    return one


_READS = ("read", "read1", "readinto", "readinto1", "readline", "readlines", "peek", "__next__")
_OTHERS = ("write", "writelines", "flush", "seek", "tell", "truncate", "close")
#: These change or drop the buffer below, so nobody else may be inside.
_ALONE = ("detach", "reconfigure")


def _class(base: Any, writes: str = _INSIDE) -> Any:
    """The guarded class of a class. ``writes``: the guard of all that writes or moves."""
    guards = {
        **dict.fromkeys(_READS, (_INSIDE,)),
        **dict.fromkeys(_OTHERS, (writes,)),
        **dict.fromkeys(_ALONE, (_INSIDE, writes)),
    }
    names = {"__slots__": (), "__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    if issubclass(base, io.BufferedReader):
        del guards["flush"]  # takes no lock in C either: http.client calls it while another thread reads
    methods: dict[str, Any] = {"_guard_to_write": writes}
    for name, of_it in guards.items():
        if hasattr(base, name):
            methods[name] = reduce(partial(_guarded, name), of_it, getattr(base, name))
    return type(base)(base.__name__, (base,), {**names, **methods})


_BUFFERS = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
#: The guarded class for each class: of buffered and text files, and of text files above two buffers.
_guarded_classes: dict[Any, Any] = {each: _class(each) for each in (*_BUFFERS, io.TextIOWrapper)}
_DUPLEX = _class(io.TextIOWrapper, _WRITES)
_GUARDED_BUFFERS = tuple(_guarded_classes[each] for each in _BUFFERS)
#: Never suspends: a file on disk (any other is a PipeIO), bytes in memory, a buffer above one of these.
_NEVER_WAITS = (io.FileIO, io.BytesIO, *_BUFFERS)

_reader_init, _writer_init, _random_init, _text_init = (each.__init__ for each in _guarded_classes)


def _guard(file: Any, cls: Any, guarded: Any) -> None:
    """Give the file, of class ``cls`` or one derived from it, the guarded class."""
    own = type(file)
    if own is cls:
        change_class(file, guarded)
    elif not hasattr(own, "_guard_to_write") and not hasattr(own.__init_subclass__, "__func__"):
        writes = guarded._guard_to_write
        try:
            # Kept by its instances alone, or a class made in a function would never end.
            found = (each for each in own.__subclasses__() if vars(each).get("_guard_to_write") == writes)
            file.__class__ = next(found, None) or _class(own, writes)
        except TypeError:
            pass  # a class that allows none derived from it, or no other in its place


def reader_init(self: Any, raw: Any, *args: Any, **kwargs: Any) -> None:
    _reader_init(self, raw, *args, **kwargs)
    if type(raw) not in _NEVER_WAITS:
        _guard(self, io.BufferedReader, _guarded_classes[io.BufferedReader])


def writer_init(self: Any, raw: Any, *args: Any, **kwargs: Any) -> None:
    _writer_init(self, raw, *args, **kwargs)
    if type(raw) not in _NEVER_WAITS:
        _guard(self, io.BufferedWriter, _guarded_classes[io.BufferedWriter])
        if type(raw) is PipeIO:
            raw.in_pieces = True


def random_init(self: Any, raw: Any, *args: Any, **kwargs: Any) -> None:
    _random_init(self, raw, *args, **kwargs)
    if type(raw) not in _NEVER_WAITS:
        _guard(self, io.BufferedRandom, _guarded_classes[io.BufferedRandom])
        if type(raw) is PipeIO:
            raw.in_pieces = True


def text_init(self: Any, buffer: Any, *args: Any, **kwargs: Any) -> None:
    _text_init(self, buffer, *args, **kwargs)
    if isinstance(buffer, _GUARDED_BUFFERS):
        _guard(self, io.TextIOWrapper, _guarded_classes[io.TextIOWrapper])
    elif type(buffer) not in _NEVER_WAITS:
        _guard(self, io.TextIOWrapper, _DUPLEX)


ROWS: tuple[Shim, ...] = (
    Shim("io:BufferedReader", "__init__", reader_init),
    Shim("io:BufferedWriter", "__init__", writer_init),
    Shim("io:BufferedRandom", "__init__", random_init),
    Shim("io:TextIOWrapper", "__init__", text_init),
)
