"""Family "loops": ``asyncio.run`` and similar functions, which refuse to run where a loop runs. In a worker they may.

A worker has its loop's thread, and a thread can keep only one running loop, with its task and its generators. So in a
worker these functions run in a thread of their own, and the worker waits for it. Elsewhere nothing changes.

``anyio.from_thread.run`` and ``run_sync``, and trio's, are for threads that the loop started. In a worker they suspend
the worker, and run the function in its task.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any

from anyio.lowlevel import current_token
from greenlet import getcurrent

from ..import_hook import ImportHook
from ..install import install_late, installed
from ..offload import in_thread_to_the_end
from ..patch import Shim
from ..suspension import await_
from ..workers import Worker, on_loop


def _run(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    """A shim of a function that makes a loop and runs it."""

    def run(*args: Any, **kwargs: Any) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker:
            return original[0](*args, **kwargs)
        return _in_a_thread(worker, name, partial(original[0], *args, **kwargs))

    return run


def _run_loop(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    """A shim of a loop's own method."""

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker:
            return original[0](self, *args, **kwargs)
        if self.is_running():  # for example the worker's own loop: the original raises
            if name.endswith("run_forever"):  # but Python 3.13's raises late: the loop then counts as not running
                raise RuntimeError("This event loop is already running")
            return original[0](self, *args, **kwargs)
        return _in_a_thread(worker, name, partial(original[0], self, *args, **kwargs))

    return run


def _in_a_thread(worker: Worker, name: str, function: Callable[[], Any]) -> Any:
    """Call it in a thread as if it ran right here: with the same debugger, and chained to the same exception."""
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


def _lazy_init(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    """A shim of the method by which a Runner makes its loop, and keeps a copy of the context.

    The copy must not say which async library runs around the worker.
    """

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


def _from_thread(awaits: bool, option: str) -> Callable[[tuple[Callable[..., Any]], str], Callable[..., Any]]:
    """The maker of a shim of a function that calls back into the loop. ``option`` is the argument that names a loop."""

    def make(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
        def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if type(getcurrent()) is not Worker or not _is_own_loop(kwargs.get(option), option):
                return original[0](function, *args, **kwargs)
            return await_(_awaiting(function, args) if awaits else _calling(function, args))

        return run

    return make


def _is_own_loop(token: Any, option: str) -> bool:
    """Whether the token is that of the worker's loop, or None."""
    own = on_loop(current_token).native_token
    if option == "trio_token":
        return hasattr(own, "run_sync_soon") and (token is None or token is own)
    return token is None or getattr(token, "native_token", None) is own


async def _awaiting(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return await function(*args)


async def _calling(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return function(*args)


ROWS = (
    Shim("asyncio.runners", "run", _run, late=True),
    Shim("asyncio.runners:Runner", "run", _run, late=True),
    Shim("asyncio.runners:Runner", "_lazy_init", _lazy_init, late=True),
    Shim("asyncio.base_events:BaseEventLoop", "run_until_complete", _run_loop, late=True),
    Shim("asyncio.base_events:BaseEventLoop", "run_forever", _run_loop, late=True),
    Shim("uvloop", "run", _run, late=True),
    Shim("uvloop:Loop", "run_until_complete", _run_loop, late=True),
    Shim("uvloop:Loop", "run_forever", _run_loop, late=True),
    Shim("trio._core._run", "run", _run, late=True),
    Shim("anyio._core._eventloop", "run", _run, late=True),
    Shim("asgiref.sync:AsyncToSync", "__call__", _run, late=True),
    Shim("anyio.from_thread", "run", _from_thread(True, "token"), late=True),
    Shim("anyio.from_thread", "run_sync", _from_thread(False, "token"), late=True),
    Shim("trio._threads", "from_thread_run", _from_thread(True, "trio_token"), late=True),
    Shim("trio._threads", "from_thread_run_sync", _from_thread(False, "trio_token"), late=True),
)


def _imported(module: Any) -> None:
    install_late("loops", module.__name__)


_import_hook = ImportHook(frozenset(shim.module for shim in ROWS), _imported)


def settle() -> None:
    """After the install and after the uninstall."""
    _import_hook.switch("loops" in installed())
