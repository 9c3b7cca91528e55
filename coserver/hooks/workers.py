"""Runs blocking functions in workers, which are pooled greenlets. A hooked call suspends only its worker; the worker's
task awaits meanwhile.

A worker is no thread. It runs on the loop's own thread, inside the task that called ``run_blocking``, and shares that
task's contextvars. A pooled worker costs 1–2 µs a call, a new one ten times that, hence the pool. See ``suspension``
for how a worker suspends, ``cancellation`` for what a cancellation does to it.
"""

from __future__ import annotations

import logging
import os
import sys
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

#: Idle workers kept for each thread. An idle worker holds about 1 KB. Bursts beyond this number make new workers, 10 µs
#: each: for a thousand handlers asleep at once, a tenth of their cost.
IDLE_MAX = 2048
#: Rounds in which thread-locals' values are dropped at the end of a call, as their destructors may make new ones.
FORGET_MAX = 16
#: Hooked calls in a row that need not wait, before other tasks get a turn.
CREDIT = 64

log = logging.getLogger("coserver.hooks")

_DONE = object()  # a worker switches to its task with this when its function has ended
_PARKED = object()  # ... and with this when its function will never end

#: Workers that swallow every cancellation. Kept alive here: the collector would wake them to run their ``finally``.
parked: list[Worker] = []


class Subject(Protocol):
    """All that a worker needs of the thing it works for: an exchange, or a connection without one.

    ``run_for`` takes a subject, or None. Only this module and ``suspension`` use its attributes:

    - ``phase``: its lifecycle phase. A suspension sets SUSPEND, and puts the old phase back, unless another phase was
      set meanwhile.
    - ``suspended``: the worker that is suspended for it, else None. Set by the suspension.
    - ``reason``: why its task is cancelled, the text of RequestCancelled; "" if unknown. Read only.
    - ``emitter``: takes Suspended and Resumed, if somebody observes. Read only.
    - ``tells_suspensions``: whether these events are emitted; not for a connection without an exchange. Read only.
    - ``event_fields()``: the fields of these events that name the connection and the exchange.

    Its repr is shown in the debug log and by the watchdog.
    """

    phase: str
    suspended: Worker | None

    @property
    def reason(self) -> str:
        """Why it is cancelled; "" while it is not."""
        ...

    @property
    def emitter(self) -> Emitter: ...

    @property
    def tells_suspensions(self) -> bool:
        """Whether Suspended and Resumed are told of it."""
        ...

    def event_fields(self) -> dict[str, Any]:
        """The fields of every event about it."""
        ...


class Worker(greenlet):
    """A greenlet that runs one function after another.

    While it is suspended, ``call`` is the name of the call, ``on`` the thing it waits for, and ``since`` the start, in
    monotonic seconds; else ``call`` is None. Any thread may read them.
    """

    __slots__ = ("call", "cancellation", "credit", "failure", "hidden", "hidden_task", "kind", "locals", "on",
                 "own_loops", "owned", "result", "shown", "since", "subject", "thread", "waits", "watch")  # fmt: skip
    call: str | None
    on: Any
    since: float
    kind: int
    locals: dict[int, Any] | None  # this call's values of thread-locals, if it uses any; see shims/locals
    thread: Any  # this call's current_thread(), once it was asked for; see shims/idents
    owned: int  # RLocks that it holds. A worker whose call ends with one is not pooled: the next call would own it
    credit: int  # below 0: at its next call other tasks get a turn, and a cancellation is looked for
    cancellation: Cancellation | None
    subject: Subject | None
    waits: Waits
    watch: Any  # its loop's Watch, once the call has waited for a descriptor
    hidden: Any  # the running loop that it does not see while it runs, if it is one that C code asks for
    hidden_task: Any  # the running task that it does not see, of a loop that no C code asks for
    shown: bool  # whether it sees that loop for a moment; see ``on_loop``
    own_loops: OwnLoops | None  # this call's loops, if it has any
    result: Any
    failure: BaseException | None

    def cancel(self) -> NoReturn:
        """Raise RequestCancelled, or stand still for ever if that was swallowed too often. Called in the worker."""
        assert self.cancellation is not None
        raised = self.cancellation.next()
        while raised is None:
            assert self.parent is not None
            self.parent.switch(_PARKED)
        raise raised


class OwnLoops:
    """The loops of one call. ``current`` is the one that ``set_event_loop`` has set.

    ``running`` is the one that runs in the worker itself, and is kept here while that is suspended, with its hooks for
    asynchronous generators, and its task where a thread has one (Python 3.14).
    """

    __slots__ = ("current", "generators", "running", "task")

    def __init__(self) -> None:
        self.running: Any = None
        self.current: Any = None
        self.generators: Any = None
        self.task: Any = None


class Forked(Worker):
    """A worker in a child process that it forked. The loop is the parent process's, so nothing may suspend here."""

    __slots__ = ()


def _after_fork() -> None:
    worker = getcurrent()
    if type(worker) is Worker:
        worker.__class__ = Forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Idle(threading.local):
    """The pool of a thread: a greenlet belongs to the thread that made it."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []


_idle = _Idle()
#: The waits of blocking functions that no server runs.
no_server = Waits()


def _live() -> None:
    """The life of a worker: wait for a function, run it, hand over the outcome; and again."""
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
        # An idle worker must keep nothing of the last call alive.
        del function, args


def _forget(worker: Worker) -> None:
    """Drop the call's values of thread-locals, then its number as a thread.

    In the worker, as destructors may wait, and may use locals again.
    """
    for _ in range(FORGET_MAX):
        entries, worker.locals = worker.locals, None
        if not entries:
            break
        entries.clear()
        del entries
    thread, worker.thread = worker.thread, None
    if thread is not None:
        thread.end()


def _new() -> Worker:
    """A worker that waits for its first function. (A greenlet keeps the arguments of its start for all its life.)"""
    worker = Worker(_live)
    worker.switch()
    worker.call = worker.on = worker.cancellation = worker.watch = worker.locals = worker.thread = None
    worker.hidden = worker.hidden_task = worker.own_loops = None
    worker.shown = False
    worker.since = 0.0
    worker.kind = IO
    worker.credit = CREDIT
    worker.owned = 0
    return worker


def work_for(subject: Subject) -> None:
    """From now on the current worker works for ``subject``; nothing happens outside of workers."""
    worker = getcurrent()
    if type(worker) is Worker:
        worker.subject = subject


def in_worker() -> bool:
    """Whether the caller runs in a worker, where ``await_`` works."""
    return type(getcurrent()) is Worker


def _nobody() -> tuple[Subject | None, Waits]:
    return None, no_server


#: Finds the subject that the current task works for, and the waits of its server. The server sets it.
find_subject: Callable[[], tuple[Subject | None, Waits]] = _nobody


async def run_blocking(function: Callable[[*Args], T], *args: *Args) -> T:
    """Run ``function(*args)`` in a worker: hooked calls and ``await_`` suspend only that. Any anyio task may call this.

    Contextvars are shared both ways. Raises the function's exception. A cancellation breaks hooked I/O, which raises
    RequestCancelled, but no sleep and no wait for a lock (see ``cancellation``). In a handler's task, the suspensions
    are those of its exchange: phases, snapshots and traces show them.
    """
    subject, waits = find_subject()
    return await run_for(subject, waits, function, *args)


async def run_for(subject: Subject | None, waits: Waits, function: Callable[[*Args], T], *args: *Args) -> T:
    """``run_blocking`` for a subject, which shows where the worker is suspended; ``waits`` is its server's."""
    workers = _idle.workers
    worker = workers.pop() if workers else _new()
    worker.parent = owner = getcurrent()
    worker.gr_context = owner.gr_context
    worker.subject = subject
    worker.waits = waits
    worker.result = worker.failure = None
    thrown = 0
    hidden = _get_loop()
    if hidden is None or _swap_task is not None:
        outcome = _enter_elsewhere(worker, hidden, worker.switch, function, args)
    else:  # as in ``_enter``, without the call: most workers are entered but once
        worker.hidden = hidden
        _set_loop(None)
        try:
            outcome = worker.switch(function, args)
        finally:
            if worker.own_loops is not None or _ask_loop() is not None:
                _leave_own(worker, _generators_of(hidden))
            else:
                _set_loop(hidden)
            worker.hidden = None
    del hidden
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
    """Run the worker until it suspends or ends. Meanwhile its thread shows the worker's own running loop, or none."""
    # The task may have been resumed from another greenlet than the one that it was started from.
    worker.parent = getcurrent()
    hidden = _get_loop()
    if hidden is None or worker.own_loops is not None or _swap_task is not None:
        return _enter_elsewhere(worker, hidden, how, value)
    worker.hidden = hidden
    _set_loop(None)
    try:
        return how(value)
    finally:
        if worker.own_loops is not None or _ask_loop() is not None:
            _leave_own(worker, _generators_of(hidden))
        else:
            _set_loop(hidden)
        worker.hidden = None


def _enter_elsewhere(worker: Worker, hidden: Any, how: Callable[..., Any], *args: Any) -> Any:
    """``_enter`` in the other cases: no C code asks for the task's loop, or the worker has loops of its own, or the
    thread keeps its task too."""
    context = _task_context
    if context is None:
        if hidden is None and worker.own_loops is None:
            return how(*args)  # no loop is hidden
        return _enter_with_own(worker, hidden, how, args)
    state = context.__dict__  # of this thread
    task = worker.hidden_task = state.get("task")
    if task is not None:
        del state["task"]
        if _GENERATORS not in state:
            state[_GENERATORS] = sys.get_asyncgen_hooks()
    try:
        if hidden is not None or worker.own_loops is not None:
            return _enter_with_own(worker, hidden, how, args)
        outcome = how(*args)
        if worker.own_loops is not None or _ask_loop() is not None:
            _leave_own(worker, state.get(_GENERATORS, (None, None)))
        return outcome
    finally:
        if task is not None:
            state["task"] = task
            worker.hidden_task = None


def _enter_with_own(worker: Worker, hidden: Any, how: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    generators = sys.get_asyncgen_hooks()
    own = worker.own_loops
    task = _swap_task(hidden, None) if _swap_task is not None and hidden is not None else None
    worker.hidden = hidden
    if own is not None:
        _put_loop(own.running)
        if own.running is not None:
            sys.set_asyncgen_hooks(*own.generators)
            if _swap_task is not None:
                _swap_task(own.running, own.task)
    else:
        _set_loop(None)
    try:
        return how(*args)
    finally:
        if worker.own_loops is not None or _ask_loop() is not None:
            _leave_own(worker, generators)
        elif hidden is not None:
            _set_loop(hidden)
        if hidden is not None and _swap_task is not None:
            _swap_task(hidden, task)
        worker.hidden = None


def _leave_own(worker: Worker, generators: Any) -> None:
    """Keep the loop that runs in the worker itself until the worker is entered again; show the hidden one again."""
    own = worker.own_loops
    if own is None:
        own = worker.own_loops = OwnLoops()
    own.running = _ask_loop()
    own.generators = own.task = None
    if own.running is not None:
        own.generators = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(*generators)
        if _swap_task is not None:
            own.task = _swap_task(own.running, None)
    _put_loop(worker.hidden)


def _generators_of(loop: Any) -> tuple[Any, Any]:
    """The hooks for asynchronous generators that a running loop has set."""
    return getattr(loop, "_asyncgen_firstiter_hook", None), getattr(loop, "_asyncgen_finalizer_hook", None)


def worker_around() -> Worker | None:
    """The current worker, or the one in which the current greenlet was made; None outside of workers."""
    here: Any = getcurrent()
    while here is not None and type(here) is not Worker:
        here = here.parent
    return here


def on_loop(function: Callable[[*Args], T], *args: *Args) -> T:
    """Call ``function(*args)``, from a worker as if from its task: it finds the loop, which is hidden from the worker.

    For coserver's own code, which must not suspend there. Outside of workers it is the plain call.
    """
    worker = worker_around()
    if worker is None or worker.shown:
        return function(*args)
    hidden = worker.hidden
    worker.shown = True
    if hidden is None:
        task = worker.hidden_task
        if task is not None:
            _tasks.task = task
        try:
            return function(*args)
        finally:
            if task is not None:
                del _tasks.task
            worker.shown = False
    own = _ask_loop()
    _put_loop(hidden)
    try:
        return function(*args)
    finally:
        _put_loop(own)
        worker.shown = False


#: Answers None, and has no frame.
_no_loop: Callable[[], Any] = [].clear

#: Asks which loop runs in this thread, if that is hidden from workers; else always None.
_get_loop: Callable[[], Any] = _no_loop
#: Ask and set that loop, where C code finds it; ``_put_loop`` also tells functions that have replaced these, in a test
#: for example. The last swaps the loop's task, where the thread keeps that too. All are set once.
_ask_loop: Callable[[], Any] = _no_loop
_set_loop: Callable[[Any], Any]
_put_loop: Callable[[Any], Any]
_swap_task: Callable[[Any, Any], Any] | None = None
#: Has the running task in its attribute ``task``, for each thread. The first is None if no task is hidden.
_task_context: Any = None
_tasks: Any = None
#: There the thread's hooks for asynchronous generators are kept too; they end with the loop, as all that is there.
_GENERATORS = " hooks of coserver"


def hide_loops(
    ask: Callable[[], Any],
    set_loop: Callable[[Any], Any],
    put: Callable[[Any], Any],
    swap_task: Callable[[Any, Any], Any] | None,
) -> None:
    """Hide the running loop from workers from now on, by these functions."""
    global _get_loop, _ask_loop, _set_loop, _put_loop, _swap_task
    _get_loop, _ask_loop, _set_loop, _put_loop, _swap_task = ask, ask, set_loop, put, swap_task


def hide_tasks(context: Any) -> None:
    """Hide the running task from workers from now on. It is the attribute ``task`` of this object, for each thread."""
    global _task_context, _tasks
    _task_context = _tasks = context


def show_loops() -> None:
    """Undo ``hide_loops`` and ``hide_tasks``, for the calls that begin or go on from now on."""
    global _get_loop, _task_context
    _get_loop, _task_context = _no_loop, None


async def _drive_cancelled(worker: Worker, awaitable: Any, error: BaseException) -> Any:
    """Drive the rest of a call whose task was cancelled. Each wait that is still allowed has a shield of its own."""
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
                continue  # cancelled once more, by asyncio's own cancel()
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
    """Return the result or raise the exception, and put the worker, emptied, back into the pool."""
    result, error = worker.result, worker.failure
    worker.result = worker.failure = worker.subject = worker.watch = worker.own_loops = None
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
        del error  # it holds this frame: a cycle, which only the collector would end


def _park(worker: Worker) -> None:
    """Let a worker that swallows every cancellation stand for ever, and log where it stands."""
    stack = "".join(traceback.format_stack(frame_of(worker)))
    log.error("a handler caught its cancellation again and again and is given up: its finally blocks never run, its "
              "locks stay locked. Do not catch RequestCancelled. It waits here:\n%s", stack)  # fmt: skip
    worker.call = "parked"
    parked.append(worker)


def frame_of(worker: Worker) -> FrameType | None:
    """The innermost frame of a suspended worker; None if it runs or has ended. From any thread."""
    frame: FrameType | None = worker.gr_frame
    return frame


def idles(worker: Worker) -> bool:
    """Whether the worker has no function to run, or has ended."""
    frame = frame_of(worker)
    return frame is None or frame.f_code is _live.__code__


def idle_workers() -> Sequence[Worker]:
    """The pool of this thread, which changes. Any thread may read its length."""
    return _idle.workers


def close_idle() -> None:
    """End this thread's idle workers, at the end of a loop, so that they keep nothing of it."""
    workers = _idle.workers
    while workers:
        worker = workers.pop()
        worker.parent = getcurrent()
        worker.throw(GreenletExit)
