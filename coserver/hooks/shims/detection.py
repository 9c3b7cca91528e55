"""Family "detection": which loop runs here? In a worker the answer is none, as in a thread other than the main one.

A worker runs on its loop's thread, inside a task. Code that finds the loop there takes itself for async code. It
refuses to block, or to run a loop of its own: Playwright's plain interface, ``get_event_loop().run_until_complete()``.

C code finds asyncio's running loop in the thread's state. So the worker's task takes the loop out of there while the
worker runs (``workers._enter``), and so it does with trio's task. This file only says where these are. Python code
answers for sniffio and ``set_event_loop``, so these have shims. coserver's own code in a worker finds the loop by
``on_loop``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from greenlet import getcurrent

from ..import_hook import ImportHook
from ..install import install_late, installed
from ..patch import Shim
from ..workers import OwnLoops, Worker, hide_loops, hide_tasks, show_loops, worker_around

#: The module that keeps the running loop. Its functions are C, and the loops in C use them too.
_KEEPER = "asyncio.events"
#: The module that keeps trio's running task, for each thread. The loop stays there: a worker may set a trio.Event.
_CONTEXT = "trio._core._run"


def _caller(policy: Any) -> Worker | None:
    """The worker that asks asyncio's policy for a loop, itself or in a greenlet that it made; else None.

    Only the process's policy is asked for that; another one keeps its loop for each thread.
    """
    worker = worker_around()
    if worker is None or worker.shown or policy is not sys.modules[_KEEPER]._event_loop_policy:
        return None
    return worker


# The loop of set_event_loop, which asyncio keeps for each thread.


def _get_event_loop(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    def get_event_loop(self: Any) -> Any:
        worker = _caller(self)
        if worker is None:
            return original[0](self)
        own = worker.own_loops
        if own is None or own.current is None:
            here = vars(threading)["current_thread"]()  # not by its name: coserver's code gets the loop's thread
            raise RuntimeError(f"There is no current event loop in thread {here.name!r}.")
        return own.current

    return get_event_loop


def _set_event_loop(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    def set_event_loop(self: Any, loop: Any) -> None:
        worker = _caller(self)
        if worker is None:
            return original[0](self, loop)  # type: ignore[no-any-return]
        kind = sys.modules[_KEEPER].AbstractEventLoop
        if loop is not None and not isinstance(loop, kind):
            raise TypeError(f"loop must be an instance of AbstractEventLoop or None, not {type(loop).__name__!r}")
        if worker.own_loops is None:
            worker.own_loops = OwnLoops()
        worker.own_loops.current = loop
        return None

    return set_event_loop


# The name of the library, in sniffio.


def _current_async_library(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    sniffio = sys.modules["sniffio._impl"]
    local, variable = sniffio.thread_local, sniffio.current_async_library_cvar
    error = sniffio.AsyncLibraryNotFoundError

    def current_async_library() -> Any:
        worker = getcurrent()
        if type(worker) is not Worker or worker.shown:
            return local.name or variable.get() or original[0]()  # the original begins so too, and costs a call
        # sniffio's context variable is the task's, and so is its local, if the task is not one of asyncio's.
        if worker.hidden is not None and local.name is not None:
            return local.name
        if _own_running() is not None:
            return "asyncio"
        raise error("unknown async library, or not in async context")

    return current_async_library


def _own_running() -> Any:
    events = sys.modules.get(_KEEPER)
    return None if events is None else events._get_running_loop()


# trio, which is asked in Python alone.


def _raises(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    def ask() -> Any:
        if _hides_trio():
            raise RuntimeError("must be called from async context")
        return original[0]()

    return ask


def _is_false(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    def ask() -> bool:
        return not _hides_trio() and original[0]()

    return ask


def _hides_trio() -> bool:
    """Whether the caller runs in a worker of a trio task. On asyncio's loops a worker may run trio itself."""
    worker = getcurrent()
    return type(worker) is Worker and worker.hidden_task is not None and not worker.shown


_POLICIES = ("BaseDefaultEventLoopPolicy", "_BaseDefaultEventLoopPolicy")  # up to Python 3.13; from 3.14 on
_UNIX = ("_UnixDefaultEventLoopPolicy",)  # its set_event_loop also tells a watcher of child processes
_TRIO = ("current_trio_token", "current_root_task", "current_clock", "current_statistics")  # no call of a usual request

ROWS = (
    *(Shim(f"asyncio.events:{policy}", "get_event_loop", _get_event_loop, late=True) for policy in _POLICIES),
    *(Shim(f"asyncio.events:{policy}", "set_event_loop", _set_event_loop, late=True) for policy in _POLICIES),
    *(Shim(f"asyncio.unix_events:{policy}", "set_event_loop", _set_event_loop, late=True) for policy in _UNIX),
    Shim("sniffio._impl", "current_async_library", _current_async_library, late=True),
    Shim("trio._core._run", "in_trio_run", _is_false, late=True),
    *(Shim("trio._core._generated_run", name, _raises, late=True) for name in _TRIO),
)


def _imported(module: Any) -> None:
    if module.__name__ in (_KEEPER, _CONTEXT):
        _hide(module)
    install_late("detection", module.__name__)


_import_hook = ImportHook(frozenset({_KEEPER, _CONTEXT, *(shim.module for shim in ROWS)}), _imported)


def _hide(module: Any) -> None:
    """Hide what this module keeps, which is imported."""
    if module.__name__ == _CONTEXT:
        hide_tasks(module.GLOBAL_RUN_CONTEXT)
        return
    events = module
    swap_task = None
    if sys.version_info >= (3, 14):  # there a thread keeps its task too
        swap_task = sys.modules["_asyncio"]._swap_current_task
    ask, set_loop = events._get_running_loop, events._set_running_loop
    hide_loops(ask, set_loop, partial(_put, events, set_loop), swap_task)


def _put(events: Any, set_loop: Callable[[Any], Any], loop: Any) -> None:
    """Set the running loop, also for a function that has replaced asyncio's."""
    set_loop(loop)
    if events._set_running_loop is not set_loop:
        events._set_running_loop(loop)


def settle() -> None:
    """After the install and after the uninstall."""
    on = "detection" in installed()
    _import_hook.switch(on)
    if not on:
        show_loops()
        return
    for name, needs in ((_KEEPER, "_set_running_loop"), (_CONTEXT, "GLOBAL_RUN_CONTEXT")):
        module = sys.modules.get(name)
        if hasattr(module, needs):
            _hide(module)
