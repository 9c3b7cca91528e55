"""Parking: a task that goes on although it is cancelled again and again is ended, its work is set aside for ever.

A task group waits for its tasks. So one handler with ``while True: try: ... except BaseException: pass`` would keep a
server from stopping and a core busy, since a cancellation strikes again at every await. Parked work never continues.
Work that waits under a shield, or that computes, meets no cancellation, and nothing can end it.
"""

from __future__ import annotations

import gc
import logging
import math
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from types import FrameType, coroutine
from typing import Any

import anyio

Work = Coroutine[Any, Any, None]

#: Cancellations after which a task is parked. Unwinding meets one at each await of a ``finally``: a dozen or two. A
#: worker is parked after half as many, which leaves its task in order.
SWALLOWED_MAX = 200

#: Modules whose frames are passed over when the place of a handler is shown.
_NOT_THE_USERS = ("coserver.", "anyio.", "asyncio.", "trio.", "outcome.", "contextlib")

log = logging.getLogger("coserver.transport")

#: Threads in which work is being closed after the end of its loop. Only there does a GeneratorExit come from outside.
_closing: set[int] = set()


def is_cancellation(error: BaseException) -> bool:
    """Whether ``error`` must propagate: a requested cancellation, or the end of the interpreter.

    The backend's cancellation exception without a requested cancellation (the code awaited a future that was cancelled)
    is an ordinary failure. So is KeyboardInterrupt outside the main thread, the only one in which Ctrl+C raises.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, BaseExceptionGroup):  # of a task group
        return any(is_cancellation(each) for each in error.exceptions)
    if isinstance(error, GeneratorExit):
        return threading.get_ident() in _closing
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    if isinstance(error, anyio.get_cancelled_exc_class()):
        return anyio.current_effective_deadline() == -math.inf
    return False


def is_interrupt(error: BaseException) -> bool:
    """Whether ``error`` is a KeyboardInterrupt of the main thread, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_interrupt(each) for each in error.exceptions)
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


async def parkable(
    work: Callable[[], Work], scope: anyio.CancelScope, cancelled: Callable[[], bool], parked: Callable[[str], None]
) -> None:
    """Run ``work()``, the whole of a task. If it has to be parked, call ``parked(where)`` and return.

    ``scope`` is the outermost cancel scope that the work enters. ``cancelled()`` tells whether the work as a whole is
    cancelled; it may cancel parts of itself at any time. ``where`` is the place, as "line 5 of shop.py, in sell".
    """
    await _driven(work(), scope, cancelled, parked)


@coroutine
def _driven(
    work: Work, scope: anyio.CancelScope, cancelled: Callable[[], bool], parked: Callable[[str], None]
) -> Generator[Any, Any, None]:
    """``yield from work`` that counts the cancellations thrown in. Costs 50 ns each time the task is resumed."""
    send, swallowed = work.send, 0
    try:
        trap = send(None)
        while True:
            try:
                value = yield trap
            except GeneratorExit:
                thread = threading.get_ident()
                _closing.add(thread)
                try:
                    work.close()
                finally:
                    _closing.discard(thread)
                raise
            except BaseException as error:
                trap = work.throw(error)
            else:
                trap = send(value)
                # asyncio sends None, and throws exceptions; trio sends an outcome, which raises them.
                if value is None or getattr(value, "error", None) is None:
                    continue
            swallowed += cancelled()
            if swallowed == SWALLOWED_MAX and _leave_scopes(scope):
                _keep_for_ever(work)
                parked(where(work))
                return
    except StopIteration:
        return


def _keep_for_ever(work: Work) -> None:
    """Keep the work from being freed, which would close it, also at the end of the interpreter: swallowing that never
    ends.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(work))


def _leave_scopes(outermost: anyio.CancelScope) -> bool:
    """Leave the cancel scopes that the parked work is in, from the innermost on; false if that is impossible.

    anyio has no public list of them. This reads the private state of its backends, and gives up if that looks
    different.
    """
    last = getattr(outermost, "_CancelScope__original", outermost)  # trio's scope, inside anyio's
    try:
        while True:
            scope = _innermost_scope()
            scope.__exit__(None, None, None)
            if scope is last:
                return True
    except Exception:
        log.exception("work that goes on though it is cancelled cannot be given up with this version of anyio")
        return False


def _innermost_scope() -> Any:
    info: Any = anyio.get_current_task()
    status = getattr(info._task, "_cancel_status", None)
    if status is not None:
        info._task._child_nurseries.clear()  # their tasks are cancelled, and end on their own
        return status._scope
    task = info._task()
    return vars(__import__(type(info).__module__, fromlist=["_task_states"]))["_task_states"][task].cancel_scope


def where(work: Any) -> str:
    """The place where suspended work waits: the innermost frame of the user's own code."""
    return _told(_frames(work))


def where_raised(error: BaseException) -> str:
    """The place where an exception was raised: the innermost frame of the user's own code."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return _told(frame for frame, _ in traceback.walk_tb(error.__traceback__))


def where_thread(thread: int) -> str:
    """The place of a thread, given by its identifier."""
    return _told(_outermost_first(sys._current_frames().get(thread)))


def _told(frames: Iterable[FrameType]) -> str:
    found = None
    for frame in frames:
        if found is None or not frame.f_globals.get("__name__", "").startswith(_NOT_THE_USERS):
            found = frame
    if found is None:
        return "an unknown place"
    code = found.f_code
    return f"line {found.f_lineno} of {code.co_filename}, in {code.co_qualname}"


def _frames(work: Any) -> Iterator[FrameType]:
    """Frames from the outermost on, through coroutines, generators, and the worker of a blocking handler."""
    while work is not None:
        frame = _first(work, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            yield frame
            for value in list(frame.f_locals.values()):
                if isinstance(inner := getattr(value, "gr_frame", None), FrameType):
                    yield from _outermost_first(inner)
        following = _first(work, "cr_await", "gi_yieldfrom", "ag_await")
        if frame is not None and frame.f_code is _driven.__code__:
            following = frame.f_locals["work"]
        if frame is not None and frame.f_code is _driven.__code__:
            following = frame.f_locals["work"]
        # the awaitable that ``__anext__`` returned does not lead to its generator
        if following is None and frame is None:
            following = next((one for one in gc.get_referents(work) if hasattr(one, "ag_frame")), None)
        work = following


def _first(work: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(work, name, None)) is not None), None)


def _outermost_first(frame: FrameType | None) -> Iterator[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return reversed(frames)
