"""Family "loops": ``asyncio.run`` and its kin, which refuse to run where a loop runs; in blocking code they may.

A worker has its loop's thread, and what a thread keeps of a running loop (which it is, its task, its generators) it
keeps once. So in a worker they run in a thread of their own, and the worker waits for that; elsewhere as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any

from greenlet import getcurrent

from ..import_hook import Arrivals
from ..offload import in_thread_to_the_end
from ..patch import Shim
from ..workers import Worker


def _running(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker:
            return original[0](*args, **kwargs)
        return _in_a_thread(worker, name, partial(original[0], *args, **kwargs))

    return run


def _running_loop(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker:
            return original[0](self, *args, **kwargs)
        if self.is_running():  # the worker's own loop, say: the original has the error
            if name.endswith("run_forever"):  # but that of 3.13 raises late: then the loop counts as not running
                raise RuntimeError("This event loop is already running")
            return original[0](self, *args, **kwargs)
        return _in_a_thread(worker, name, partial(original[0], self, *args, **kwargs))

    return run


def _in_a_thread(worker: Worker, name: str, function: Callable[[], Any]) -> Any:
    """There as if it were right here: under the eyes of the same debugger, and chained to the same exception."""
    trace, profile, error = sys.gettrace(), sys.getprofile(), sys.exception()
    if trace is not None or profile is not None:
        function = partial(_traced, trace, profile, function)
    if error is not None:
        function = partial(_handling, error, error.__traceback__, function)
    try:
        return in_thread_to_the_end(worker, name, function)
    finally:
        del error, function  # they hold this frame


def _traced(trace: Any, profile: Any, function: Callable[[], Any]) -> Any:
    before = sys.gettrace(), sys.getprofile()
    sys.setprofile(profile)
    sys.settrace(trace)
    try:
        return function()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])


def _handling(error: BaseException, trace: TracebackType | None, function: Callable[[], Any]) -> Any:
    try:
        raise error
    except BaseException:
        error.__traceback__ = trace
        return function()
    finally:
        del error, trace


def _making_one(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    """A runner keeps the context it finds when it makes its loop; which library runs around the worker is no part."""

    def make(self: Any) -> None:
        if type(getcurrent()) is not Worker:
            return original[0](self)  # type: ignore[no-any-return]
        return copy_context().run(_without_library, original[0], self)

    return make


def _without_library(function: Callable[..., None], *args: Any) -> None:
    try:
        from sniffio import current_async_library_cvar
    except ImportError:
        pass
    else:
        current_async_library_cvar.set(None)
    function(*args)


ROWS = (
    Shim("asyncio.runners", "run", _running, late=True),
    Shim("asyncio.runners:Runner", "run", _running, late=True),
    Shim("asyncio.runners:Runner", "_lazy_init", _making_one, late=True),
    Shim("asyncio.base_events:BaseEventLoop", "run_until_complete", _running_loop, late=True),
    Shim("asyncio.base_events:BaseEventLoop", "run_forever", _running_loop, late=True),
    Shim("uvloop", "run", _running, late=True),
    Shim("uvloop:Loop", "run_until_complete", _running_loop, late=True),
    Shim("uvloop:Loop", "run_forever", _running_loop, late=True),
    Shim("trio._core._run", "run", _running, late=True),
    Shim("anyio._core._eventloop", "run", _running, late=True),
    Shim("asgiref.sync:AsyncToSync", "__call__", _running, late=True),
)


def _tell(module: Any) -> None:
    from ..install import arrive

    arrive("loops", module.__name__)


_arrivals = Arrivals(frozenset(shim.module for shim in ROWS), _tell)


def settle() -> None:
    """After the install and the uninstall."""
    from ..install import installed

    _arrivals.watch("loops" in installed())
