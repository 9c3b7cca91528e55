"""Notices from a thread that an event loop stands still: told in the log, shown to observers, ended by a signal.

A loop stands still while one call on it goes on: an endless computation, a call in C that waits, a lock in C that the
loop itself holds. Nothing on the loop can tell that, and no signal is heard there. So one thread for each loop asks it
for a sign of life every second.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread, get_ident, get_native_id
from time import monotonic
from traceback import StackSummary
from types import CodeType, FrameType

from anyio.lowlevel import RunVar

from ..hooks.describe import place_of
from ..hooks.watchdog import blamed, debugged, inside, worker_of
from ..transport.loop import Reach

#: Seconds between two signs of life that the loop is asked for. A wake-up a second costs 20 µs.
BEAT = 1.0
#: Seconds after which observers are told that the loop stands: no call that is in order takes as long.
SHOWN = 2.0

log = logging.getLogger("coserver.app")
_running: RunVar[LoopWatch | None] = RunVar("coserver_loop_watch", None)


@dataclass(frozen=True, slots=True)
class Standstill:
    """A loop that stands still, for ``seconds``. ``place`` is the user's line, "shop.py:15 in read".

    ``whose`` is the exchange whose handler is there, "" if that is not known. ``doing`` says whether the thread
    computes or waits. ``stack`` is the Python stack.
    """

    seconds: float
    place: str
    whose: str
    doing: str
    stack: str


@contextmanager
def loop_watched(after: float) -> Iterator[LoopWatch]:
    """Watch the running loop during the block, and log a standstill of ``after`` seconds; 0: log none.

    Servers of one loop share a watch.
    """
    watch = _running.get()
    if watch is None:
        watch = LoopWatch(after)
        _running.set(watch)
        watch.start()
    watch.users += 1
    try:
        yield watch
    finally:
        watch.users -= 1
        if not watch.users:
            _running.set(None)
            watch.stop()


class _Ping:
    """A sign of life that the loop was asked for."""

    __slots__ = ("answered", "posted")

    def __init__(self, posted: float) -> None:
        self.posted = posted
        self.answered = False

    def answer(self) -> None:
        self.answered = True


class LoopWatch:
    """Watches the loop in which it was made. ``standstill`` may be asked from any thread."""

    def __init__(self, after: float) -> None:
        self.after = after
        self._beat = min(BEAT, after / 3) if after else BEAT
        self.users = 0
        self._reach = Reach()
        self._ident, self._native = get_ident(), get_native_id()
        self._over = Event()
        self._thread = Thread(target=self._watch, name="coserver loop watch", daemon=True)
        self._loop: frozenset[CodeType] = frozenset()  # the code of the loop itself, outside of all tasks
        self._ping = _Ping(monotonic())

    def start(self) -> None:
        """Called in the loop's thread."""
        self._reach.post(self._learn)
        self._thread.start()

    def stop(self) -> None:
        """Called in the loop's thread."""
        self._over.set()

    def _learn(self) -> None:
        codes: set[CodeType] = set()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            codes.add(frame.f_code)
            frame = frame.f_back
        self._loop = frozenset(codes)
        self._ping.answer()

    def ask(self) -> None:
        """Ask the loop for a sign of life, unless one is awaited. Raises RuntimeError after the loop's end."""
        if self._ping.answered:
            self._ping = ping = _Ping(monotonic())
            self._reach.post(ping.answer)

    @property
    def stood(self) -> float:
        """Seconds since the sign of life was asked for that the loop still owes; 0.0 if it owes none."""
        ping = self._ping
        return 0.0 if ping.answered else max(monotonic() - ping.posted, 0.0)

    def standstill(self, least: float = SHOWN) -> Standstill | None:
        """The loop's standstill, if it has lasted ``least`` seconds; None also while a debugger holds it."""
        seconds = self.stood
        if seconds < least:
            return None
        frames = inside(sys._current_frames().get(self._ident), self._loop)
        if not frames or debugged(frames):
            return None
        found = blamed(frames) or frames[-1:]
        worker = worker_of(frames)
        subject = worker.subject if worker is not None else None
        shown = frames[frames.index(found[0]) :]
        stack = StackSummary.extract(((frame, frame.f_lineno) for frame in shown), lookup_lines=False).format()
        place = place_of(frames[-1]) or place_of(found[-1])
        return Standstill(
            seconds, place, "" if subject is None else repr(subject), _doing(self._native), "".join(stack).rstrip()
        )

    def _watch(self) -> None:
        told = 0.0  # when the present standstill began, if it is logged
        last = monotonic()
        while not self._over.wait(self._beat):
            now = monotonic()
            if now - last > 2 * BEAT:  # the process was stopped, or the machine asleep
                self._ping.posted += now - last
            last = now
            if told and self._ping.answered:
                log.warning("the event loop goes on after a standstill of %.1f s", now - told)
                told = 0.0
            try:
                self.ask()
            except RuntimeError:  # the loop has ended
                return
            if self.after and not told and (found := self.standstill(self.after)) is not None:
                told = now - found.seconds
                log_standstill(found)


def log_standstill(found: Standstill) -> None:
    """Log a standstill as an error."""
    whose = f", for {found.whose}" if found.whose else ""
    log.error(
        "the event loop has stood still for %.0f s, at %s%s: no request goes on. The thread %s. It stands here:\n%s\n"
        "(a call in C below the last line is not shown)",
        found.seconds, found.place, whose, found.doing, found.stack, extra={"place": found.place},
    )  # fmt: skip


def _doing(thread: int) -> str:
    """What a thread does, as the system sees it."""
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
        with open(f"/proc/self/task/{thread}/wchan", "rb") as file:
            where = file.read().decode(errors="replace").strip("\0\n 0")
    except (OSError, IndexError):
        return "is in one call"
    if state == b"R":
        return "computes"
    if "futex" in where:
        return "waits for a lock, in C"
    return f"waits in the kernel ({where})" if where else "waits, in C"


