"""``offload``: what waits or computes in C, where no shim reaches, runs in a thread; only the worker waits for it.

A thread cannot be stopped. So a call that has begun is not broken by a client that leaves: it ends, and the next call
raises. Only at the end of a stopping server's grace it is left behind, and the log says so.
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
from .workers import Worker

P = ParamSpec("P")
T = TypeVar("T")

#: Threads of one loop for offloaded calls; as many as anyio has for its own. A pool of connections is smaller.
THREADS = 40
#: Calls of one loop that wait for one of them. More than that never catch up: they fail at once.
WAITING = 1000

log = logging.getLogger("coserver.hooks")


class OffloadFull(RuntimeError):
    """As many offloaded calls wait for a thread as may. ``status`` is a hint for the answer: 503."""

    status = 503


class _Limit:
    threads = THREADS
    waiting = WAITING


def check_threads(threads: int, waiting: int) -> None:
    """Raises ValueError for what ``choose_threads`` would not take."""
    for name, value, least in (("offload_threads", threads, 1), ("offload_waiting", waiting, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be {least} or more; got {value!r}")


def choose_threads(threads: int = THREADS, waiting: int = WAITING) -> None:
    """How many threads offloaded calls may use, and how many may wait for one, from now on; each loop by itself.

    Raises ValueError.
    """
    check_threads(threads, waiting)
    _Limit.threads, _Limit.waiting = threads, waiting


def offload(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, to be called as ever: in a worker it runs in a thread, and the other requests go on meanwhile.

    A decorator, or a wrapper for one call: ``offload(cursor.execute)(query)``. Anywhere else (threads, async code) it
    is the plain call: an ``async def`` awaits ``run_blocking(offload(function), ...)``. Contextvars flow in, and those
    it sets flow out; exceptions keep their traceback. A ``threading.local`` is the thread's, and threads change from
    call to call: what is bound to its thread belongs into one function.

    The call raises OffloadFull if too many wait for a thread, RequestCancelled if the request is cancelled before it
    begins. Raises TypeError for an async or generator function, whose call would not do the work.
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
    """What a call of it is suspended on: module and name."""
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}" if module and module != "__main__" else str(name)


def in_thread_to_the_end(worker: Worker, name: str, function: Callable[[], T]) -> T:
    """Call ``function()`` in a thread of this loop; suspend until it is done. Called in a worker; ``name`` is shown."""
    if worker.cancellation is not None and worker.cancellation.breaks(IO):
        worker.cancel()
    threads = _threads()
    job = _Job(threads, function)
    threads.enter(worker, job, name)
    try:
        suspend(worker, WAIT, "offload", name, _same, job)
    finally:
        job.left_behind(name)
    result: T = job.take()
    return result


def _same(job: _Job) -> _Job:
    return job


class _Threads:
    """One loop's threads for offloaded calls."""

    __slots__ = ("_free", "_line", "_waiting")

    def __init__(self) -> None:
        self._free = anyio.CapacityLimiter(_Limit.threads)
        self._line = anyio.CapacityLimiter(math.inf)  # anyio's own count, which forgets who is left behind
        self._waiting = 0

    def enter(self, worker: Worker, job: _Job, name: str) -> None:
        """Take a thread, or wait for one: nothing has begun, so a cancellation breaks that."""
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
        await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=self._line)


_kept: RunVar[_Threads] = RunVar("coserver_offload_threads")


def _threads() -> _Threads:
    try:
        return _kept.get()
    except LookupError:
        threads = _Threads()
        _kept.set(threads)
        return threads


class _Job:
    """One call in a thread. It may be awaited once more after a cancellation, as a WAIT has to."""

    __slots__ = ("_changed", "_done", "_event", "_failure", "_function", "_left", "_out", "_post", "_result", "_since",
                 "_threads")  # fmt: skip

    def __init__(self, threads: _Threads, function: Callable[[], Any]) -> None:
        self._threads = threads
        self._function: Callable[[], Any] | None = function
        self._result: Any = None
        self._failure: BaseException | None = None
        self._changed: list[tuple[Any, Any]] = []
        self._since: float | None = None  # when a thread began with it, monotonic seconds
        self._done = False
        self._left = False  # the task that started it was struck: the thread tells the loop when it is done
        self._out = False  # its thread is free again
        self._event = anyio.Event()
        self._post = poster()

    def __await__(self) -> Generator[Any, Any, None]:
        return (self._event.wait() if self._since is not None else self._start()).__await__()

    async def _start(self) -> None:
        claim = allocate_lock()  # whoever has it decides whether this start counts: a thread, or a cancellation
        try:
            await self._threads.run(self._call, claim)
        except BaseException:
            if not claim.acquire(False):  # a thread goes on with it, and is waited for
                self._since = self._since or monotonic()
                self._left = True
                if self._done:
                    self._over()
            raise
        self._over()

    def _call(self, claim: Any) -> None:
        """In the thread. Raises nothing."""
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
                pass  # the loop has ended, and whoever waited with it

    def _over(self) -> None:
        """On the loop: its thread is free, whoever waits goes on."""
        if not self._out:
            self._out = True
            self._threads.leave(self)
            self._event.set()

    def left_behind(self, name: str) -> None:
        """The worker goes on, whatever the reason. Said aloud if the call does not end with that."""
        if self._out:
            return
        if self._since is None:
            self._over()
        elif not self._done:
            took = monotonic() - self._since
            log.warning("the server stops, and %s is left behind: it runs on in its thread, %.1f s so far; what it "
                        "comes to is lost. A timeout of its own would end it", name, took)  # fmt: skip

    def take(self) -> Any:
        """What the call came to. In the worker, whose contextvars become those that it has set."""
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
