"""``offload``: a function that waits or computes in C, where no shim reaches, runs in a thread. Only the worker waits.

A thread cannot be stopped. So a client that leaves does not break an offloaded call: it runs to its end, and the next
call raises. Only at the end of a stopping server's grace it is left behind, and the log says so. ``in_thread`` is for
shims whose call may be left behind at once.
"""

from __future__ import annotations

import inspect
import logging
import math
from _thread import allocate_lock
from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from functools import partial, wraps
from time import monotonic
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from greenlet import getcurrent

from ..transport.loop import poster
from .cancellation import IO, WAIT
from .suspension import suspend
from .workers import Worker, on_loop

P = ParamSpec("P")
T = TypeVar("T")

#: Threads of one loop for offloaded calls; as many as anyio has for its own. Pools of database connections are smaller.
THREADS = 40
#: Calls of one loop that wait for a thread. Further calls fail at once, as such a queue never gets shorter.
WAITING = 1000
#: Threads of one loop for ``in_thread``; as many as anyio's own limit, which other code shares.
SHIM_THREADS = 40

log = logging.getLogger("coserver.hooks")


class OffloadFull(RuntimeError):
    """Too many offloaded calls wait for a thread. ``status`` is a hint for the response: 503."""

    status = 503


class _Limit:
    threads = THREADS
    waiting = WAITING


def check_threads(threads: int, waiting: int) -> None:
    """Raise ValueError for arguments that ``choose_threads`` does not take."""
    for name, value, least in (("offload_threads", threads, 1), ("offload_waiting", waiting, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be {least} or more; got {value!r}")


def choose_threads(threads: int = THREADS, waiting: int = WAITING) -> None:
    """Set how many threads offloaded calls may use, and how many calls may wait for one, in each loop, from now on.

    Raises ValueError.
    """
    check_threads(threads, waiting)
    _Limit.threads, _Limit.waiting = threads, waiting


def offload(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap ``function``: called in a worker it runs in a thread, and the other requests go on meanwhile.

    A decorator, or a wrapper for one call: ``offload(cursor.execute)(query)``. Outside of workers (threads, async code)
    it is the plain call: an ``async def`` awaits ``run_blocking(offload(function), ...)``. Contextvars flow in, and the
    changes flow out; exceptions keep their traceback. A ``threading.local`` is the thread's, and each call may have
    another thread: put work that is bound to its thread into one function.

    The call raises OffloadFull if too many calls wait for a thread, RequestCancelled if the request is cancelled before
    the call begins. Raises TypeError for an async or generator function, whose call would not do the work.
    """
    if not callable(function):
        raise TypeError(f"offload takes a function, offload(cursor.execute)(query); got {function!r:.100}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"offload takes a blocking function; {name_of(function)} is async: await it")
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{name_of(function)} is a generator: offload the function that goes through it")
    name = name_of(function)

    @wraps(function)
    def offloaded(*args: P.args, **kwargs: P.kwargs) -> T:
        worker = getcurrent()
        if type(worker) is not Worker:
            return function(*args, **kwargs)
        return in_thread_to_the_end(worker, name, partial(function, *args, **kwargs))

    return offloaded


def name_of(function: Any) -> str:
    """The module and name of a function, shown while a call of it suspends a worker."""
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}" if module and module != "__main__" else str(name)


def in_thread_to_the_end(worker: Worker, name: str, function: Callable[[], T]) -> T:
    """Call ``function()`` in a thread; suspend the worker until it is done. A cancellation does not break it.

    Called in the worker. ``name`` is shown while it waits.
    """
    if worker.cancellation is not None and worker.cancellation.breaks(IO):
        worker.cancel()
    threads = on_loop(_threads)
    job = on_loop(_Job, threads, function)
    threads.enter(worker, job, name)
    try:
        suspend(worker, WAIT, "offload", name, job)
    finally:
        job.left_behind(name)
    result: T = job.take()
    return result


def in_thread(worker: Worker, call: str, on: Any, function: Callable[[], T]) -> T:
    """Call ``function()`` in a thread, with this context's variables; suspend the worker until it is done.

    A cancellation leaves the call behind: it goes on in its thread, and its result is lost. ``call`` and ``on`` are
    shown.
    """
    return suspend(worker, IO, call, on, _run_in_thread, function)


async def _run_in_thread(function: Callable[[], T]) -> T:
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(SHIM_THREADS)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)


_limiter: RunVar[anyio.CapacityLimiter] = RunVar("coserver_hook_threads")


class _Threads:
    """One loop's threads for offloaded calls."""

    __slots__ = ("_free", "_unlimited", "_waiting")

    def __init__(self) -> None:
        self._free = anyio.CapacityLimiter(_Limit.threads)
        self._unlimited = anyio.CapacityLimiter(math.inf)  # anyio's own count would forget calls that are left behind
        self._waiting = 0

    def enter(self, worker: Worker, job: _Job, name: str) -> None:
        """Take a thread, or wait for one; a cancellation breaks this wait. Raises OffloadFull."""
        if self._free.total_tokens != _Limit.threads:
            self._free.total_tokens = _Limit.threads
        try:
            self._free.acquire_on_behalf_of_nowait(job)
            return
        except anyio.WouldBlock:
            pass
        if self._waiting >= _Limit.waiting:
            raise OffloadFull(
                f"{name}: all {_Limit.threads} threads for offloaded calls are taken, and {self._waiting} calls wait "
                f"for one already; allow more by offload_threads and offload_waiting in [hooks]"
            )
        self._waiting += 1
        try:
            suspend(worker, IO, "offload", f"a thread for {name}", self._free.acquire_on_behalf_of, job)
        finally:
            self._waiting -= 1

    def leave(self, job: _Job) -> None:
        self._free.release_on_behalf_of(job)

    async def run(self, function: Callable[..., None], *args: Any) -> None:
        await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=self._unlimited)


_running: RunVar[_Threads] = RunVar("coserver_offload_threads")


def _threads() -> _Threads:
    try:
        return _running.get()
    except LookupError:
        threads = _Threads()
        _running.set(threads)
        return threads


class _Job:
    """One call in a thread. It may be awaited again after a cancellation, as suspend requires for WAIT."""

    __slots__ = ("_changed", "_done", "_event", "_failure", "_function", "_left", "_out", "_post", "_result", "_since",
                 "_threads")  # fmt: skip

    def __init__(self, threads: _Threads, function: Callable[[], Any]) -> None:
        self._threads = threads
        self._function: Callable[[], Any] | None = function
        self._result: Any = None
        self._failure: BaseException | None = None
        self._changed: list[tuple[Any, Any]] = []
        self._since: float | None = None  # when a thread began the call, monotonic seconds
        self._done = False
        self._left = False  # its task was cancelled: the thread tells the loop when the call is done
        self._out = False  # its thread is free again
        self._event = anyio.Event()
        self._post = poster()

    def __await__(self) -> Generator[Any, Any, None]:
        return (self._event.wait() if self._since is not None else self._start()).__await__()

    async def _start(self) -> None:
        claim = allocate_lock()  # the first to take it wins: the thread, which begins the call, or the cancellation
        try:
            await self._threads.run(self._call, claim)
        except BaseException:
            if not claim.acquire(False):  # the thread has begun: it is waited for
                self._since = self._since or monotonic()
                self._left = True
                if self._done:
                    self._over()
            raise
        self._over()

    def _call(self, claim: Any) -> None:
        """Run the call, in the thread. Raises nothing."""
        if not claim.acquire(False):
            return
        self._since = monotonic()
        function, self._function = self._function, None
        before = copy_context()
        try:
            assert function is not None
            self._result = function()
        except BaseException as error:
            self._failure = error
        del function
        self._changed = _changes(before, copy_context())
        self._done = True
        if self._left:
            try:
                self._post(self._over)
            except RuntimeError:
                pass  # the loop has ended, and the worker with it

    def _over(self) -> None:
        """Free the thread and wake the worker. Called on the loop's own thread."""
        if not self._out:
            self._out = True
            self._threads.leave(self)
            self._event.set()

    def left_behind(self, name: str) -> None:
        """The worker goes on, for whatever reason. Log a warning if the call has not ended."""
        if self._out:
            return
        if self._since is None:
            self._over()
        elif not self._done:
            took = monotonic() - self._since
            log.warning("the server stops while %s still runs in its thread, %.1f s so far; its result is lost. Give "
                        "the call a timeout", name, took)  # fmt: skip

    def take(self) -> Any:
        """Return the result, or raise the exception. Called in the worker, which gets the contextvars of the call."""
        for variable, value in self._changed:
            variable.set(value)
        error, self._failure = self._failure, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # it holds this frame


def _changes(before: Context, after: Context) -> list[tuple[Any, Any]]:
    missing = object()
    return [(variable, value) for variable, value in after.items() if before.get(variable, missing) is not value]
