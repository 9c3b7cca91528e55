"""Runs blocking functions in pooled greenlets: what suspends inside one suspends only it, its task awaits meanwhile.

A worker is no thread. It runs on the loop's own thread, inside the task that called ``run_blocking``, and shares that
task's contextvars. A pooled one costs 1–2 µs a call, a new one ten times that, hence the pool. How it suspends is
``suspension``'s to say; what a cancellation is to it, ``cancellation``'s.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple

import anyio
from greenlet import GreenletExit, getcurrent, greenlet

from ..lifecycle.emitter import Emitter
from .cancellation import AWAITED, BROKEN, IO, RAISED_MAX, Cancellation, Ignored, RequestCancelled, Waits, cancelled_now

T = TypeVar("T")
Args = TypeVarTuple("Args")

#: Idle workers kept for each thread. An idle one holds about 1 KB; bursts beyond this pay for new ones, 10 µs each,
#: which of a thousand handlers asleep at once would be a tenth of what they cost.
IDLE_MAX = 2048
#: Times that destructors of thread-locals' values may make new ones, at the end of a call.
FORGET_MAX = 16
#: Hooked calls that need not wait, one after another, before other tasks get a turn.
CREDIT = 64

log = logging.getLogger("coserver.hooks")

_DONE = object()  # what a worker switches out with when its function has ended
_PARKED = object()  # ... and when it never will

#: Workers that swallow every cancellation. Kept: collected, they would be woken once more, to run their ``finally``.
parked: list[Worker] = []


class Subject(Protocol):
    """What a worker works for, as far as it shows there: a connection."""

    phase: str
    reason: str
    suspended: Worker | None
    emitter: Emitter
    exchange: Any

    def facts(self, of: Any = None) -> dict[str, Any]: ...


class Worker(greenlet):
    """A greenlet that runs one function after another.

    While it is suspended, ``call`` says in which call, ``on`` on what, ``since`` from when on (monotonic seconds); else
    ``call`` is None. May be read from any thread.
    """

    __slots__ = ("call", "cancellation", "credit", "failure", "kind", "locals", "on", "owned", "result", "since",
                 "subject", "waits", "watch")  # fmt: skip
    call: str | None
    on: Any
    since: float
    kind: int
    locals: dict[int, Any] | None  # the values of thread-locals in this call, if it uses any
    owned: int  # RLocks: who ends a call with one is not used again, or the next one's call would own it
    credit: int  # below 0: before its next call other tasks get a turn, and a cancellation is looked for
    cancellation: Cancellation | None
    subject: Subject | None
    waits: Waits
    watch: Any  # its loop's waits for descriptors, once it has had one
    result: Any
    failure: BaseException | None

    def cancel(self) -> NoReturn:
        """Raise what its cancellation raises now. Swallowed too often, it never goes on. Called in it."""
        assert self.cancellation is not None
        raised = self.cancellation.next()
        while raised is None:
            assert self.parent is not None
            self.parent.switch(_PARKED)
        raise raised


class Forked(Worker):
    """What a worker is in a child process that it forked: the loop is its parent's, so nothing there may suspend."""

    __slots__ = ()


def _after_fork() -> None:
    worker = getcurrent()
    if type(worker) is Worker:
        worker.__class__ = Forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Idle(threading.local):
    """A greenlet belongs to the thread that made it, so the pool does too."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []


_idle = _Idle()
#: For blocking functions that no server runs.
_nobody = Waits()


def _live() -> None:
    """The life of a worker: wait for a function, run it, hand over the outcome."""
    worker = getcurrent()
    assert isinstance(worker, Worker)
    while True:
        parent = worker.parent
        assert parent is not None
        function, args = parent.switch(_DONE)
        try:
            worker.result = function(*args)
        except BaseException as error:
            worker.failure = error
        if worker.locals is not None:
            _forget(worker)
        # Nothing of the last call may stay alive while the worker idles.
        del function, args


def _forget(worker: Worker) -> None:
    """End what the call held in thread-locals; in the worker, as destructors may wait, and may use locals again."""
    for _ in range(FORGET_MAX):
        entries, worker.locals = worker.locals, None
        if not entries:
            return
        entries.clear()
        del entries


def _new() -> Worker:
    """A worker that waits for its first function: what a greenlet is started with it would keep for all its life."""
    worker = Worker(_live)
    worker.switch()
    worker.call = worker.on = worker.cancellation = worker.watch = worker.locals = None
    worker.since = 0.0
    worker.kind = IO
    worker.credit = CREDIT
    worker.owned = 0
    return worker


def in_worker() -> bool:
    """Whether the caller runs in a worker, where ``await_`` works."""
    return type(getcurrent()) is Worker


async def run_blocking(function: Callable[[*Args], T], *args: *Args) -> T:
    """Run ``function(*args)`` in a worker: hooked calls and ``await_`` suspend only it. Any anyio task may call this.

    Contextvars are shared both ways. Raises what the function raises. A cancellation breaks hooked I/O, where it raises
    RequestCancelled, but no sleep and no wait for a lock (see ``cancellation``).
    """
    return await run_for(None, _nobody, function, *args)


async def run_for(subject: Subject | None, waits: Waits, function: Callable[[*Args], T], *args: *Args) -> T:
    """``run_blocking`` for a connection, which shows where it is suspended; ``waits`` is its server's."""
    workers = _idle.workers
    worker = workers.pop() if workers else _new()
    owner = getcurrent()
    worker.parent = owner
    worker.gr_context = owner.gr_context
    worker.subject = subject
    worker.waits = waits
    worker.result = worker.failure = None
    outcome, thrown = worker.switch(function, args), 0
    while outcome is not _DONE:
        try:
            value = await outcome
        except BaseException as error:
            if worker.kind == AWAITED or not isinstance(error, anyio.get_cancelled_exc_class()):
                thrown += 1
                if thrown > RAISED_MAX and cancelled_now():
                    worker.cancellation = Ignored(error, waits, "")
                outcome = _enter(worker, worker.throw, error)
                if outcome is _PARKED:
                    _park(worker)
                    raise
                continue
            struck = error
        else:
            outcome = _enter(worker, worker.switch, value)
            continue
        outcome = await _drive_cancelled(worker, outcome, struck)
        del struck
    result: T = _take(worker, workers)
    return result


def _enter(worker: Worker, how: Callable[[Any], Any], value: Any) -> Any:
    # The task may have been resumed from another greenlet than the one that it was started from.
    worker.parent = getcurrent()
    return how(value)


async def _drive_cancelled(worker: Worker, awaitable: Any, error: BaseException) -> Any:
    """The rest of a call whose task was cancelled: each wait in a shield of its own, if it may wait at all."""
    subject = worker.subject
    reason = (subject.reason if subject is not None else "") or "cancelled"
    cancellation = worker.cancellation = Cancellation(error, worker.waits, reason)
    worker.credit = -1
    cancelled = anyio.get_cancelled_exc_class()
    outcome = awaitable if cancellation.leaves(worker.kind) else _enter(worker, worker.switch, BROKEN)
    while outcome is not _DONE:
        if outcome is _PARKED:
            _park(worker)
            raise error
        try:
            value = await _shielded(worker, outcome, cancellation)
        except BaseException as failure:
            if worker.kind == AWAITED or not isinstance(failure, cancelled):
                outcome = _enter(worker, worker.throw, failure)
                continue
            if cancellation.leaves(worker.kind):
                continue  # asked for once more, by asyncio's own cancel()
            value = BROKEN
        outcome = _enter(worker, worker.switch, value)
    return outcome


async def _shielded(worker: Worker, awaitable: Awaitable[Any], cancellation: Cancellation) -> Any:
    with cancellation.shield(worker.kind) as shield:
        worker.waits.add(shield)
        try:
            return await awaitable
        finally:
            worker.waits.discard(shield)
    return BROKEN


def _take(worker: Worker, workers: list[Worker]) -> Any:
    """Take the outcome and give the worker back, with nothing of the request left in it."""
    result, error = worker.result, worker.failure
    worker.result = worker.failure = worker.subject = worker.watch = None
    worker.gr_context = None
    worker.credit = CREDIT
    cancellation, worker.cancellation = worker.cancellation, None
    if len(workers) < IDLE_MAX and not worker.owned:
        workers.append(worker)
    else:
        worker.throw(GreenletExit)
    if cancellation is not None and cancellation.stands and (error is None or isinstance(error, RequestCancelled)):
        error = cancellation.error
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # it holds this frame: a cycle that only the collector would undo


def _park(worker: Worker) -> None:
    """It will not be cancelled: let it stand for ever, and say where."""
    stack = "".join(traceback.format_stack(frame_of(worker)))
    log.error("a handler swallowed its cancellation again and again, and is parked: its finally blocks never run, what "
              "it has locked stays locked; let RequestCancelled pass. It stands here:\n%s", stack)  # fmt: skip
    worker.call = "parked"
    parked.append(worker)


def frame_of(worker: Worker) -> FrameType | None:
    """The innermost frame of a suspended worker; None if it runs or idles. From any thread."""
    frame: FrameType | None = worker.gr_frame
    return frame


def idles(worker: Worker) -> bool:
    """Whether it has no function to run, or is none any more."""
    frame = frame_of(worker)
    return frame is None or frame.f_code is _live.__code__


def idle_workers() -> Sequence[Worker]:
    """This thread's, now and later; any thread may look how many they are."""
    return _idle.workers


def close_idle() -> None:
    """End this thread's idle workers; at the end of a loop, so that nothing of it is left."""
    workers = _idle.workers
    while workers:
        worker = workers.pop()
        worker.parent = getcurrent()
        worker.throw(GreenletExit)
