"""Family "idents": ``threading.get_ident`` and ``current_thread``. In a worker each call has a number and an object of
its own, as a thread has.

Code that excludes others by the thread's number (``reprlib.recursive_repr``, diskcache, fasteners) would otherwise take
two handlers of one loop for the same caller. A number is made when somebody first asks for it, and ends with the call.

C keeps the thread's real number: RLock, sqlite3, ``io``, ``sys._current_frames``. So do the import system, async
libraries, debuggers, ``threading`` itself and coserver, which ask for the thread that runs the loop. Greenlets that a
handler makes itself see the thread's number.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

from greenlet import getcurrent

from ..patch import Shim
from ..workers import Worker
from .locals import PER_THREAD

_get_ident, _get_native_id = _thread.get_ident, getattr(_thread, "get_native_id", None)
_current_thread = threading.current_thread

#: Packages whose code needs the real thread. ``threading`` checks there that no thread joins itself, and its children
#: inherit ``daemon``; the import system has locks of its own.
REAL = PER_THREAD | {
    "_frozen_importlib", "_frozen_importlib_external", "_pydev_bundle", "_pydevd_bundle", "_pydevd_frame_eval",
    "_pydevd_sys_monitoring", "debugpy", "importlib", "pydevd", "threading",
}  # fmt: skip

#: Numbers of calls begin here, and are odd. The number of a thread is the address of its structure: even, and smaller.
FIRST = (1 << 48) + 1
_numbers = count(FIRST, 2)

#: The calls that have a number, by the number.
living: dict[int, WorkerThread] = {}


class WorkerThread(threading.Thread):
    """The object that ``threading.current_thread`` returns in a worker, one for each call.

    Like the object of a thread that ``threading`` did not start, it cannot be started or joined. ``native_id`` is that
    of the loop's thread.
    """

    #: The number of the thread that runs the loop.
    real: int

    def is_alive(self) -> bool:
        """Whether the call has not ended."""
        return self.ident in living

    def join(self, timeout: float | None = None) -> None:
        """Raise RuntimeError."""
        if living.get(_of_worker(getcurrent())) is self:
            raise RuntimeError("cannot join current thread")
        raise RuntimeError(f"{self.name!r} is a handler's call, not a thread, and cannot be joined")

    def end(self) -> None:
        """Forget the number, at the end of the call."""
        living.pop(self.ident, None)  # type: ignore[arg-type]


def _template() -> dict[str, Any]:
    """The attributes of a thread that has been started. To copy them takes a tenth of the time of ``__init__``."""
    thread = threading.Thread(name="worker", daemon=False)
    threading._dangling.discard(thread)  # type: ignore[attr-defined]
    thread._started.set()  # type: ignore[attr-defined]
    return {**vars(thread), "_stderr": None}


_attributes = _template()


def _number(worker: Worker) -> WorkerThread:
    """Give this call of the worker its number."""
    thread = WorkerThread.__new__(WorkerThread)
    ident = next(_numbers)
    own = vars(thread)
    own.update(_attributes)
    own["real"] = _get_ident()
    own["_ident"] = ident
    own["_name"] = f"worker-{(ident - FIRST) // 2 + 1}"
    own["_daemonic"] = _current_thread().daemon
    if _get_native_id is not None:
        own["_native_id"] = _get_native_id()
    living[ident] = thread
    worker.thread = thread
    if worker.locals is None:
        worker.locals = {}  # the end of the call looks at this only
    return thread


def _of_worker(worker: Any) -> int:
    return worker.thread.ident if type(worker) is Worker and worker.thread is not None else 0


def _needs_real(name: str) -> bool:
    """Whether the shim's caller is code of REAL that calls the function by its name.

    It is not if such code calls any function that it was given, as a worker calls the handler.
    """
    frame = sys._getframe(2)
    package = frame.f_globals.get("__name__") or ""
    return package.partition(".")[0] in REAL and name in frame.f_code.co_names


def get_ident() -> int:
    worker = getcurrent()
    if type(worker) is not Worker or _needs_real("get_ident"):
        return _get_ident()
    thread: Any = worker.thread or _number(worker)
    return thread._ident  # type: ignore[no-any-return]


def current_thread() -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or _needs_real("current_thread"):
        return _current_thread()
    return worker.thread or _number(worker)


def current_thread_by_its_old_name() -> Any:
    worker = getcurrent()
    text = "currentThread() is deprecated, use current_thread() instead"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    if type(worker) is not Worker:
        return _current_thread()
    return worker.thread or _number(worker)


# Calls in C that take a thread's number, and crash if it is none.


def _real(ident: Any) -> Any:
    """The number of the thread that runs this call. Raises ProcessLookupError if the call has ended."""
    if type(ident) is not int or ident < FIRST or not ident & 1:
        return ident
    thread = living.get(ident)
    if thread is None:
        raise ProcessLookupError(3, "the call of this number has ended")
    return thread.real


def _translating(original: tuple[Callable[..., Any]]) -> Callable[..., Any]:
    def call(thread_id: Any, *args: Any) -> Any:
        return original[0](_real(thread_id), *args)

    return call


def _rows() -> tuple[Shim, ...]:
    rows = [
        Shim("_thread", "get_ident", get_ident),
        Shim("threading", "get_ident", get_ident),
        Shim("threading", "current_thread", current_thread),
        Shim("threading", "currentThread", current_thread_by_its_old_name),
    ]
    if hasattr(signal, "pthread_kill"):
        rows.append(Shim("signal", "pthread_kill", _translating((signal.pthread_kill,))))
    if hasattr(time, "pthread_getcpuclockid"):
        rows.append(Shim("time", "pthread_getcpuclockid", _translating((time.pthread_getcpuclockid,))))
    return tuple(rows)


ROWS = _rows()


def settle() -> None:
    """After the install, name the module ``signal`` as that of its Python function; the name of a C function is copied
    from ``_signal``."""
    for row in ROWS:
        if row.where == "signal":
            row.shim.__module__ = "signal"
