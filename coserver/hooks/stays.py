"""What a look at a running loop from outside shows: which frames are its tasks', whose code they are, and whether the
next look finds the same call still there.

A stay is one call, as far as looks can tell. Its frames are kept alive meanwhile, or the next ones would take their
places in memory and look the same: let go of them in the loop's thread, where what they hold may end.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from traceback import StackSummary
from types import CodeType, FrameType

from .describe import LIBRARIES, OURS
from .workers import Worker, _live

#: Whose code a frame is; the last one on this list that stands in a stack is blamed. What runs a loop, or waits for its
#: events, a shim of the hooks too, never is.
_LOOP, _COSERVER, _STANDARD, _INSTALLED, _USER = range(5)
_LOOPS = frozenset(("anyio", "asyncio", "selectors", "trio", "uvloop"))
_HOOKS = os.path.dirname(__file__) + os.sep
_IMPORTS = "<frozen importlib"
#: In them somebody reads what a handler holds, and the loop stands still as it should.
_DEBUGGERS = frozenset(("_pydevd_bundle", "_pydevd_sys_monitoring", "bdb", "pdb", "pydevd"))


def inside(frame: FrameType | None, loop: Collection[CodeType]) -> list[FrameType]:
    """The frames of what the loop runs, outermost first: past those of the loop itself, whose codes are given.

    Where a worker runs no code of a user's, a function in C say, those of who called ``run_blocking`` come before.
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
    """Whether a debugger stands in these."""
    return any(_package(frame) in _DEBUGGERS for frame in frames)


def blamed(frames: Sequence[FrameType], only_users: bool = False) -> list[FrameType]:
    """Those of the code that is to blame: the user's, if there is any; none while the loop waits for events."""
    ranks = [_rank(frame) for frame in frames]
    best = max(ranks, default=_LOOP)
    if best == _LOOP or (only_users and best < _USER):
        return []
    if best == _STANDARD and _COSERVER not in ranks:
        return []  # a loop that is the guest of another, which waits
    if best < _USER and any(frame.f_code.co_filename.startswith(_IMPORTS) for frame in frames):
        return []  # what coserver loads when it is first needed, once in a process
    return [frame for frame, rank in zip(frames, ranks, strict=True) if rank == best]


def worker_of(frames: Sequence[FrameType]) -> Worker | None:
    """The worker that they run in."""
    for frame in frames:
        if frame.f_code is _live.__code__:
            held = frame.f_locals
            worker = held.get("worker")
            if type(held) is dict:
                held.clear()  # up to Python 3.12 a copy, which would keep the last request alive
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
    """One call that holds the loop since ``since`` (monotonic seconds), as far as the looks at it tell; ``counted``
    seconds of that are certain.

    ``stack``, ``in_worker`` and ``whose`` are what ``show`` has found, as text.
    """

    __slots__ = ("_changing", "_line", "counted", "frames", "in_worker", "since", "stack", "told", "whose")

    def __init__(self, frames: list[FrameType], since: float) -> None:
        self.frames = frames
        self.since = since
        self.counted = 0.0
        self.stack = ""
        self.told = False
        self.in_worker = False
        self.whose = ""
        self._changing = False
        self._line = frames[-1].f_lineno

    def still(self, frames: list[FrameType]) -> bool:
        """Whether the blamed frames of another look are in the same call; then it keeps those that both have."""
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
        """File, line, function; the line is None if the looks have seen several."""
        code = self.frames[-1].f_code
        return code.co_filename, None if self._changing else self._line, code.co_qualname

    def show(self, frames: list[FrameType]) -> None:
        """Keep what tells of it; ``frames`` are all of a look's. The stack begins with what is blamed."""
        worker = worker_of(frames)
        self.in_worker = worker is not None
        if worker is not None and worker.subject is not None:
            self.whose = f", for {worker.subject!r}"
        shown = frames[next(n for n, frame in enumerate(frames) if frame is self.frames[0]) :]
        found = StackSummary.extract(((frame, frame.f_lineno) for frame in shown), lookup_lines=False)
        self.stack = "".join(found.format())
