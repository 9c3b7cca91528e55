"""Family "buffers": buffered files and text files on pipes and sockets, which several workers use.

A buffered file has a lock in C, which knows threads, not workers: a second worker that calls while the first is
suspended in the file would get "reentrant call", and the text above it would lose data. So a file on a descriptor that
may have to wait gets a class with one more guard: the second worker waits until the first has left the file. A file on
disk never waits, and stays as it is.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from socket import SocketIO
from typing import Any

from greenlet import getcurrent

from ..locks.owners import place_of_caller, place_of_worker, within
from ..locks.waiters import take, waiting, wake_next
from ..patch import Shim, change_class
from ..workers import Worker, idles
from .pipes import PipeIO

_sleep = time.sleep  # the system's own
#: Seconds between two looks of a thread that waits for a worker to leave a file: at first, at most.
_FIRST, _LAST = 0.001, 0.02




def _guarded(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        current = getcurrent()
        inside = self._inside
        if inside is not None and inside is not current and not _enter(self, current, name):
            return original(self, *args, **kwargs)
        if inside is current:  # close() calls flush()
            return original(self, *args, **kwargs)
        self._inside = current
        try:
            return original(self, *args, **kwargs)
        finally:
            self._inside = None
            key = id(self)
            del self, args, kwargs  # a traceback keeps this frame, and must not keep the file: its end closes a socket
            if waiting:
                wake_next(key)

    method.__name__ = name
    method.__doc__ = original.__doc__
    return method


def _enter(file: Any, current: Any, name: str) -> bool:
    """Wait until nobody is in the file; false if the caller is in it already. Raises RuntimeError on an event loop."""
    if type(current) is Worker:
        take(current, f"file.{name}", file, lambda: file._inside is None, None)
        return True
    period = _FIRST
    while (inside := file._inside) is not None:
        if type(inside) is Worker:
            if within(inside) or idles(inside):  # a greenlet of its own, or a worker that was broken off
                return False
            if inside.gr_frame is not None and _thread_of(inside) is _thread_of(current):
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


_IN_BUFFERS = (
    "read", "read1", "readinto", "readinto1", "readline", "readlines", "peek", "seek", "tell", "truncate", "flush",
    "write", "writelines", "close", "detach", "__next__",
)  # fmt: skip


def _class(base: Any) -> Any:
    methods = {name: _guarded(name, getattr(base, name)) for name in _IN_BUFFERS if hasattr(base, name)}
    names = {"__slots__": (), "_inside": None, "__module__": base.__module__, "__qualname__": base.__qualname__}
    return type(base.__name__, (base,), {**methods, **names, "__doc__": base.__doc__})


#: The guarded class for each class.
_guarded_classes: dict[Any, Any] = {
    each: _class(each) for each in (io.BufferedReader, io.BufferedWriter, io.TextIOWrapper)
}
_Waits = (PipeIO, SocketIO)
_Buffers = (_guarded_classes[io.BufferedReader], _guarded_classes[io.BufferedWriter], io.BufferedRWPair)

_reader_init, _writer_init, _text_init = (each.__init__ for each in _guarded_classes)


def reader_init(self: Any, raw: Any, *args: Any, **kwargs: Any) -> None:
    _reader_init(self, raw, *args, **kwargs)
    if type(self) is io.BufferedReader and isinstance(raw, _Waits):
        change_class(self, _guarded_classes[io.BufferedReader])


def writer_init(self: Any, raw: Any, *args: Any, **kwargs: Any) -> None:
    _writer_init(self, raw, *args, **kwargs)
    if type(self) is io.BufferedWriter and isinstance(raw, _Waits):
        change_class(self, _guarded_classes[io.BufferedWriter])
        if type(raw) is PipeIO:
            raw.in_pieces = True


def text_init(self: Any, buffer: Any, *args: Any, **kwargs: Any) -> None:
    _text_init(self, buffer, *args, **kwargs)
    if type(self) is io.TextIOWrapper and isinstance(buffer, _Buffers):
        change_class(self, _guarded_classes[io.TextIOWrapper])


ROWS: tuple[Shim, ...] = (
    Shim("io:BufferedReader", "__init__", reader_init),
    Shim("io:BufferedWriter", "__init__", writer_init),
    Shim("io:TextIOWrapper", "__init__", text_init),
)
