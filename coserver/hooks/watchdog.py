"""Watches a loop from a thread, in debug: logs each place that blocks the loop for 50 ms, once, with its stack.

Every 10 ms the thread asks the loop for a sign of life. Until the answer comes, the thread looks at the loop's stack. A
call that is still there after 50 ms blocks the loop: a driver in C that is not hooked, a computation, an ``async def``
that sleeps. A loop that waits for events answers; a loop with many short calls shows another one at each look.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread, get_ident
from time import monotonic
from traceback import StackSummary
from types import CodeType, FrameType
from typing import Any

from anyio.lowlevel import RunVar

from ..transport.loop import Reach
from .describe import LIBRARIES, OURS
from .workers import Worker, _live

#: Seconds. People notice a loop that is blocked for longer.
THRESHOLD = 0.05
#: Seconds between two looks: five looks in the threshold. 100 looks a second cost one to two percent of a core.
TICK = 0.01
#: Seconds after which a call is logged while it goes on; otherwise an endless call never would be.
ENDLESS = 1.0

log = logging.getLogger("coserver.hooks")
_running: RunVar[Watchdog | None] = RunVar("coserver_watchdog", None)


def asked() -> bool:
    """Whether the logger coserver.hooks is set to debug, which asks for a watchdog too."""
    return 0 < log.level <= logging.DEBUG


@contextmanager
def watching(threshold: float = THRESHOLD) -> Iterator[None]:
    """Watch the running loop during the block. Two servers of one loop share a watchdog."""
    watchdog = _running.get()
    if watchdog is None:
        watchdog = Watchdog(threshold)
        _running.set(watchdog)
        watchdog.start()
    watchdog.users += 1
    try:
        yield
    finally:
        watchdog.users -= 1
        if not watchdog.users:
            _running.set(None)
            watchdog.stop()


class Ping:
    """A sign of life that the loop was asked for. ``answered``: monotonic seconds; None while there is no answer."""

    __slots__ = ("answered", "posted", "rubbish")

    def __init__(self, posted: float, rubbish: list[Any]) -> None:
        self.posted = posted
        self.answered: float | None = None
        self.rubbish = rubbish

    def answer(self) -> None:
        """Called in the loop's thread. It lets go of the frames of earlier looks here, with what they hold."""
        self.answered = monotonic()
        self.rubbish.clear()


class Watchdog:
    """Watches the loop in which it was made, from a thread of its own, between ``start`` and ``stop``."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self.users = 0
        self._reach = Reach()
        self._ident = get_ident()
        self._used = _cpu_clock(self._ident)
        self._over = Event()
        self._thread = Thread(target=self._watch, name="coserver watchdog", daemon=True)
        self._loop: frozenset[CodeType] = frozenset()  # the code of the loop itself, outside of all tasks
        self._logged: set[tuple[str, int | None, str]] = set()
        self._stay: Stay | None = None
        self._rubbish: list[Any] = []
        self._ping = Ping(monotonic(), [])
        self._seen = self._ping.posted  # the time of the last look
        self._collections = _Collections()

    def start(self) -> None:
        """Called in the loop's thread. Nothing is logged that runs before the loop's next turn."""
        gc.callbacks.append(self._collections.note)
        self._reach.post(self._learn)
        self._thread.start()

    def stop(self) -> None:
        """Called in the loop's thread."""
        self._over.set()
        self._thread.join(1.0)  # it may be writing a record that needs a worker of this loop to go on
        gc.callbacks.remove(self._collections.note)
        self._end(monotonic())
        self._rubbish.clear()

    def _learn(self) -> None:
        codes: set[CodeType] = set()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            codes.add(frame.f_code)
            frame = frame.f_back
        self._loop = frozenset(codes)
        self._ping.answer()

    def _watch(self) -> None:
        last = used = math.inf
        while not self._over.wait(TICK):
            try:
                now, now_used = monotonic(), self._used()
                self.look(now, max(now - last, 0.0), max(now_used - used, 0.0))
            except (RuntimeError, OSError):  # the loop has ended, or its thread
                return
            last, used = now, now_used

    def look(self, now: float, since_last: float, used: float) -> None:
        """Look once, ``since_last`` seconds after the last look; the loop computed for ``used`` seconds of them."""
        answered = self._ping.answered
        late = since_last >= self.threshold
        # If it computed less: the process was stopped, the machine asleep, or other threads had the interpreter.
        computed = late and used >= self.threshold
        # If many threads want the interpreter, this one is late, and the loop may be waiting for it as well.
        counts = min(since_last, max(TICK * 1.5, used))
        if answered is not None:
            self._end(answered)
            if computed and answered <= now - since_last + TICK:
                # A call in C that keeps the interpreter is seen only once, here, as it ends.
                self._seen = now - since_last
                self._see(now, counts, only_users=True)
            self._ask(now)
        elif late and not computed:
            self._end(None)
            self._ask(now)
        else:
            self._see(now, counts)

    def _ask(self, now: float) -> None:
        rubbish, self._rubbish = self._rubbish, []
        self._ping = Ping(now, rubbish)
        self._reach.post(self._ping.answer)
        if self._stay is None:
            self._seen = now

    def _see(self, now: float, counts: float, *, only_users: bool = False) -> None:
        frames = inside(sys._current_frames().get(self._ident), self._loop)
        found = blamed(frames, only_users) if self._loop and not debugged(frames) else []
        self._rubbish += (frames, found)
        if self._stay is None or not self._stay.still(found):
            self._end(now)
            self._stay = Stay(list(found), self._seen) if found else None
        self._seen = now
        stay = self._stay
        if stay is None:
            return
        stay.counted += counts
        if stay.counted >= self.threshold and not stay.stack and not self._known(stay):
            stay.show(frames)
        if now - stay.since >= ENDLESS:
            self._log(stay, now, " so far")

    def _end(self, at: float | None) -> None:
        """End the stay, at this time (monotonic seconds); None if the time is unknown."""
        stay, self._stay = self._stay, None
        if stay is None:
            return
        self._rubbish.append(stay.frames)
        if at is not None:
            self._log(stay, at, "")

    def _known(self, stay: Stay) -> bool:
        file, line, function = place = stay.place
        if line is None:
            return any(one[0] == file and one[2] == function for one in self._logged)
        return place in self._logged or (file, None, function) in self._logged

    def _log(self, stay: Stay, at: float, so_far: str) -> None:
        if stay.logged or not stay.stack or self._known(stay):
            return
        stay.logged = True
        seconds = at - stay.since
        collected = self._collections.within(stay.since, at)
        if collected > seconds / 2:
            self._log_collection(collected)
            return
        file, line, function = place = stay.place
        self._logged.add(place)
        where = f"{file}:{line} in {function}" if line is not None else f"{file} in {function}"
        log.warning(
            "%s has blocked the event loop for %.0f ms%s%s: nothing else could run. %s Logged once for each place. "
            "It stood here:\n%s",
            where, seconds * 1000, so_far, stay.whose, _IN_WORKER if stay.in_worker else _IN_LOOP, stay.stack.rstrip(),
            extra={"place": where, "seconds": seconds},
        )  # fmt: skip

    def _log_collection(self, seconds: float) -> None:
        if _COLLECTION not in self._logged:
            self._logged.add(_COLLECTION)
            log.warning(
                "Python's garbage collector has blocked the event loop for %.0f ms: nothing else could run. Fewer "
                "objects make it shorter: call gc.freeze() once all is loaded. Logged once.",
                seconds * 1000, extra={"place": "gc", "seconds": seconds},
            )  # fmt: skip


_IN_WORKER = (
    "If it waits or computes in C, call it in a thread: offload(function)(...), from coserver.hooks, or for a whole "
    "driver offloaded('its name'); a computation in Python belongs in another process."
)
_IN_LOOP = (
    "An async def must not block: call it by await run_blocking(function, ...), where hooked calls suspend only the "
    "caller, or in a thread: await run_blocking(offload(function), ...)."
)
_COLLECTION = ("gc", None, "")


class _Collections:
    """The time of the last garbage collection."""

    __slots__ = ("_ended", "_started")

    def __init__(self) -> None:
        self._started = self._ended = 0.0

    def note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._started = monotonic()
        else:
            self._ended = monotonic()

    def within(self, start: float, end: float) -> float:
        """Seconds of this time in which the collector ran."""
        return max(min(self._ended, end) - max(self._started, start), 0.0)


def _cpu_clock(ident: int) -> Callable[[], float]:
    """A clock of the CPU seconds that this thread has used; always 0 if the system has none."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return lambda: 0.0
    clock = clock_of(ident)
    return lambda: time.clock_gettime(clock)


# What a look shows.

#: Whose code a frame is. In a stack, the last kind on this list is blamed. Code that runs a loop or waits for its
#: events, such as a shim, is never blamed.
_LOOP, _COSERVER, _STANDARD, _INSTALLED, _USER = range(5)
_LOOPS = frozenset(("anyio", "asyncio", "selectors", "trio", "uvloop"))
_HOOKS = os.path.dirname(__file__) + os.sep
_IMPORTS = "<frozen importlib"
#: In a debugger a person looks at a handler, and the loop stands still as it should.
_DEBUGGERS = frozenset(("_pydevd_bundle", "_pydevd_sys_monitoring", "bdb", "pdb", "pydevd"))


def inside(frame: FrameType | None, loop: Collection[CodeType]) -> list[FrameType]:
    """The frames that the loop runs, outermost first, without the loop's own frames, whose code is ``loop``.

    If a worker runs no code of the user's (a function in C, for example), the frames of its caller, which awaits
    ``run_blocking``, come first.
    """
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    while frames and frames[-1].f_code in loop:
        frames.pop()
    frames.reverse()
    if frames and frames[0].f_code is _live.__code__ and max(map(_rank, frames)) < _INSTALLED:
        worker = worker_of(frames)
        if worker is not None and worker.parent is not None:
            frames[:0] = inside(worker.parent.gr_frame, loop)
    return frames


def debugged(frames: Sequence[FrameType]) -> bool:
    """Whether these are the frames of a debugger."""
    return any(_package(frame) in _DEBUGGERS for frame in frames)


def blamed(frames: Sequence[FrameType], only_users: bool = False) -> list[FrameType]:
    """The frames of the code to blame: the user's, if there is any; none while the loop waits for events."""
    ranks = [_rank(frame) for frame in frames]
    best = max(ranks, default=_LOOP)
    if best == _LOOP or (only_users and best < _USER):
        return []
    if best == _STANDARD and _COSERVER not in ranks:
        return []  # a loop that is the guest of another loop, which waits
    if best < _USER and any(frame.f_code.co_filename.startswith(_IMPORTS) for frame in frames):
        return []  # coserver loads a module that it needs for the first time, once in a process
    return [frame for frame, rank in zip(frames, ranks, strict=True) if rank == best]


def worker_of(frames: Sequence[FrameType]) -> Worker | None:
    """The worker in which these frames run; None if there is none."""
    for frame in frames:
        if frame.f_code is _live.__code__:
            held = frame.f_locals
            worker = held.get("worker")
            if type(held) is dict:
                held.clear()  # up to Python 3.12 it is a copy, which would keep the last request alive
            return worker if isinstance(worker, Worker) else None
    return None


def _rank(frame: FrameType) -> int:
    file = frame.f_code.co_filename
    if _package(frame) in _LOOPS or file.startswith(_HOOKS):
        return _LOOP
    if file.startswith((OURS, "<frozen ")):
        return _COSERVER
    if not file.startswith(LIBRARIES):
        return _USER
    return _INSTALLED if f"{os.sep}site-packages{os.sep}" in file else _STANDARD


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


class Stay:
    """One call that blocks the loop since ``since`` (monotonic seconds), as the looks show it; ``counted`` seconds of
    that are certain.

    ``show`` sets ``stack``, ``in_worker`` and ``whose``. The frames are kept alive meanwhile, or the next frames would
    take their places in memory and look the same. Let go of them in the loop's thread, where the objects that they hold
    may end.
    """

    __slots__ = ("_changing", "_line", "counted", "frames", "in_worker", "logged", "since", "stack", "whose")

    def __init__(self, frames: list[FrameType], since: float) -> None:
        self.frames = frames
        self.since = since
        self.counted = 0.0
        self.stack = ""
        self.logged = False
        self.in_worker = False
        self.whose = ""
        self._changing = False
        self._line = frames[-1].f_lineno

    def still(self, frames: list[FrameType]) -> bool:
        """Whether the blamed frames of another look are in the same call. If so, keep the frames that both have."""
        if not frames or frames[0] is not self.frames[0]:
            return False
        common = 1
        while common < min(len(frames), len(self.frames)) and frames[common] is self.frames[common]:
            common += 1
        innermost = self.frames[common - 1]
        if common < len(self.frames):
            del self.frames[common:]
            self._changing, self._line = False, innermost.f_lineno
        elif innermost.f_lineno != self._line:
            self._changing = True
        return True

    @property
    def place(self) -> tuple[str, int | None, str]:
        """File, line, function; the line is None if the looks saw several lines."""
        code = self.frames[-1].f_code
        return code.co_filename, None if self._changing else self._line, code.co_qualname

    def show(self, frames: list[FrameType]) -> None:
        """Keep the call's stack, worker and connection as text. ``frames`` are all frames of a look; the stack begins
        with the first blamed one."""
        worker = worker_of(frames)
        self.in_worker = worker is not None
        if worker is not None and worker.subject is not None:
            self.whose = f", for {worker.subject!r}"
        shown = frames[next(n for n, frame in enumerate(frames) if frame is self.frames[0]) :]
        found = StackSummary.extract(((frame, frame.f_lineno) for frame in shown), lookup_lines=False)
        self.stack = "".join(found.format())
