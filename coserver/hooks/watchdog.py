"""Watches a loop from a thread, in debug: what keeps it for 50 ms is told once for each place, with its stack.

Every 10 ms the loop is asked for a sign of life; while that is outstanding, the thread looks at what runs there. One
and the same call, seen until 50 ms are over, blocks the loop: a driver in C that nobody hooked, a computation, an
``async def`` that sleeps. A loop that waits for events answers; one that has many short things to do is seen in
different ones.
"""

from __future__ import annotations

import gc
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, get_ident
from time import monotonic
from types import CodeType, FrameType
from typing import Any

from anyio.lowlevel import RunVar

from ..transport.loop import Reach
from .stays import Stay, blamed, debugged, inside

#: Seconds. What holds the loop for longer is felt by everybody whom it keeps waiting.
THRESHOLD = 0.05
#: Seconds between two looks: five of them in the threshold. 100 a second cost one to two percent of a core.
TICK = 0.01
#: A call that goes on is told after this many seconds, or an endless one never would be.
ENDLESS = 1.0

log = logging.getLogger("coserver.hooks")
_running: RunVar[Watchdog | None] = RunVar("coserver_watchdog", None)


def asked() -> bool:
    """Whether the logger coserver.hooks was set to debug, which asks for a watchdog too."""
    return 0 < log.level <= logging.DEBUG


@contextmanager
def watching(threshold: float = THRESHOLD) -> Iterator[None]:
    """Watch the running loop during the block. If it is watched already, for another server, that is enough."""
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
    """A sign of life that the loop was asked for. ``answered``: when, in monotonic seconds; else None."""

    __slots__ = ("answered", "posted", "rubbish")

    def __init__(self, posted: float, rubbish: list[Any]) -> None:
        self.posted = posted
        self.answered: float | None = None
        self.rubbish = rubbish

    def answer(self) -> None:
        """In the loop's thread, in which the frames that were looked at end, and what they hold."""
        self.answered = monotonic()
        self.rubbish.clear()


class Watchdog:
    """Looks at the loop that it was made in, from a thread of its own between ``start`` and ``stop``."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self.users = 0
        self._reach = Reach()
        self._ident = get_ident()
        self._used = _cpu_clock(self._ident)
        self._over = Event()
        self._thread = Thread(target=self._watch, name="coserver watchdog", daemon=True)
        self._loop: frozenset[CodeType] = frozenset()  # the codes of the loop itself, outside of all tasks
        self._told: set[tuple[str, int | None, str]] = set()
        self._stay: Stay | None = None
        self._rubbish: list[Any] = []
        self._ping = Ping(monotonic(), [])
        self._seen = self._ping.posted  # the last look at what is there now
        self._collecting = _Collecting()

    def start(self) -> None:
        """In the loop's thread. Nothing is told of what runs before its next turn."""
        gc.callbacks.append(self._collecting.note)
        self._reach.post(self._learn)
        self._thread.start()

    def stop(self) -> None:
        """In the loop's thread."""
        self._over.set()
        self._thread.join(1.0)  # it may be writing a record for which a worker of this loop would have to go on
        gc.callbacks.remove(self._collecting.note)
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
        """One look, ``since_last`` seconds after the last one; the loop has computed for ``used`` seconds of them."""
        answered = self._ping.answered
        late = since_last >= self.threshold
        # Less: the process was stopped, the machine asleep, or other threads had the interpreter.
        computed = late and used >= self.threshold
        # This thread comes late where many want the interpreter. Then the loop may be waiting for it just as well.
        counts = min(since_last, max(TICK * 1.5, used))
        if answered is not None:
            self._end(answered)
            if computed and answered <= now - since_last + TICK:
                # What computes in C without letting go of the interpreter is seen once, as it ends: here.
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
            self._tell(stay, now, " so far")

    def _end(self, at: float | None) -> None:
        """It is over; at what time is unknown if None."""
        stay, self._stay = self._stay, None
        if stay is None:
            return
        self._rubbish.append(stay.frames)
        if at is not None:
            self._tell(stay, at, "")

    def _known(self, stay: Stay) -> bool:
        file, line, function = place = stay.place
        if line is None:
            return any(told[0] == file and told[2] == function for told in self._told)
        return place in self._told or (file, None, function) in self._told

    def _tell(self, stay: Stay, at: float, so_far: str) -> None:
        if stay.told or not stay.stack or self._known(stay):
            return
        stay.told = True
        seconds = at - stay.since
        collected = self._collecting.within(stay.since, at)
        if collected > seconds / 2:
            self._tell_collection(collected)
            return
        file, line, function = place = stay.place
        self._told.add(place)
        where = f"{file}:{line} in {function}" if line is not None else f"{file} in {function}"
        log.warning(
            "%s has blocked the event loop for %.0f ms%s%s: nothing else could run. %s Told once for each place. "
            "It stood here:\n%s",
            where, seconds * 1000, so_far, stay.whose, _IN_WORKER if stay.in_worker else _IN_LOOP, stay.stack.rstrip(),
            extra={"place": where, "seconds": seconds},
        )  # fmt: skip

    def _tell_collection(self, seconds: float) -> None:
        if _COLLECTION not in self._told:
            self._told.add(_COLLECTION)
            log.warning(
                "Python's garbage collector has blocked the event loop for %.0f ms: nothing else could run. Less to "
                "look at makes it shorter: gc.freeze() once all is loaded. Told once.",
                seconds * 1000, extra={"place": "gc", "seconds": seconds},
            )  # fmt: skip


_IN_WORKER = (
    "If it waits or computes in C, call it in a thread: offload(function)(...), from coserver.hooks, or for a whole "
    "driver offloaded('its name'); what computes in Python belongs into another process."
)
_IN_LOOP = (
    "An async def must not block: call it by await run_blocking(function, ...), where hooked calls suspend only the "
    "caller, or in a thread: await run_blocking(offload(function), ...)."
)
_COLLECTION = ("gc", None, "")


class _Collecting:
    """When the garbage collector ran last."""

    __slots__ = ("_ended", "_started")

    def __init__(self) -> None:
        self._started = self._ended = 0.0

    def note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._started = monotonic()
        else:
            self._ended = monotonic()

    def within(self, start: float, end: float) -> float:
        """For how many of these seconds."""
        return max(min(self._ended, end) - max(self._started, start), 0.0)


def _cpu_clock(ident: int) -> Callable[[], float]:
    """Seconds that this thread has computed; always 0 where the system does not say."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return lambda: 0.0
    clock = clock_of(ident)
    return lambda: time.clock_gettime(clock)
