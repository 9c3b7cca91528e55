"""The lines of workers that wait for locks, and who wakes them: each release wakes the first, from any thread.

A release may come from a destructor, in the midst of what stands here, so nothing here takes a lock: single steps of
dicts and deques alone. What is released unseen, by code in C, is found by trying again now and then (the backstop).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from operator import index
from time import monotonic
from typing import Any

from ..suspension import WAIT, Sleep, Wake, suspend
from ..workers import Worker

#: How a worker learns that a lock is free: woken by the release, or by trying again every ``period`` seconds.
STRATEGIES = ("wake", "retry")
#: Seconds between two tries of ``retry``: what a person does not notice, and a thousand waiters can afford.
PERIOD = 0.005
#: Seconds until a waiter tries by itself: the first time, and what it grows to.
BACKSTOP, BACKSTOP_MAX = 0.05, 0.5

#: Seconds between two tries for what nobody tells of, a lock shared with other processes: the first, the longest.
_TRY_FIRST, _TRY_LAST = 0.001, 0.02

#: By the lock's id: who waits for it. Looked at by each release, so it is empty while nobody waits.
waiting: dict[int, deque[Turn]] = {}

_period: float | None = None  # None: woken


def choose_mutex(mutex: str, period: float = PERIOD) -> None:
    """How workers wait for locks from now on: "wake" or "retry"; ``period`` is retry's, seconds. Raises ValueError."""
    global _period
    check_mutex(mutex, period)
    _period = float(period) if mutex == "retry" else None


def check_mutex(mutex: str, period: float) -> None:
    """Raise ValueError for a wrong one."""
    if mutex not in STRATEGIES:
        raise ValueError(f"mutex must be one of {', '.join(map(repr, STRATEGIES))}; got {mutex!r}")
    if isinstance(period, bool) or not isinstance(period, int | float) or not 0 < period <= 1:
        raise ValueError(f"mutex_period must be above 0 and at most 1 second; got {period!r}")


class Turn(Wake):
    """A place in a line. ``gone``: its worker has left, or is not to be woken by it any more."""

    __slots__ = ("gone",)

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.gone = False


def take_untold(worker: Worker, call: str, on: Any, attempt: Callable[[], bool], until: float | None = None) -> bool:
    """As ``take``, for what nothing tells of when it is free: it is tried again and again."""
    period = _TRY_FIRST
    while not attempt():
        now = monotonic()
        if until is not None and now >= until:
            return False
        suspend(worker, WAIT, call, on, Sleep, now + period if until is None else min(now + period, until))
        period = min(period * 2, _TRY_LAST)
    return True


def take(worker: Worker, call: str, lock: Any, attempt: Callable[[], bool], until: float | None) -> bool:
    """Suspend until ``attempt()`` is true; false if ``until`` (monotonic seconds) came first."""
    backstop, again = BACKSTOP, False
    while (now := monotonic()) < (until if until is not None else now + 1):
        limit = now + (backstop if _period is None else _period)
        if until is not None and until < limit:
            limit = until
        if _period is not None:
            suspend(worker, WAIT, call, lock, Sleep, limit)
            taken = attempt()
        else:
            taken = _wait_in_line(worker, call, lock, attempt, Turn(limit), again)
        if taken:
            return True
        backstop, again = min(backstop * 2, BACKSTOP_MAX), True
    return False


def _wait_in_line(worker: Worker, call: str, lock: Any, attempt: Callable[[], bool], turn: Turn, again: bool) -> bool:
    key = id(lock)
    taken = used = over = False
    _join(key, turn, again)
    try:
        taken = attempt()  # it may have been released before it stood in line
        if not taken:
            suspend(worker, WAIT, call, lock, _same, turn)
            used = turn.woken
            taken = attempt()
        over = True
    finally:
        _leave(key, turn)
        # A wake that was not for what it took, or that it leaves without, is the next one's. Not if somebody was
        # faster: his release will wake again, and two in line that wake each other until then would never rest.
        if turn.woken and not (used if taken else over):
            wake_next(key)
    return taken


def _same(turn: Turn) -> Turn:
    return turn


def _join(key: int, turn: Turn, again: bool) -> None:
    """At the end of the line; at its head if it has stood there."""
    while True:
        line = waiting.get(key)
        if line is None:
            line = waiting.setdefault(key, deque())
        if again:
            line.appendleft(turn)
        else:
            line.append(turn)
        if waiting.get(key) is line:
            return
        # Another thread has just taken the line away because it was empty. Standing in two does no harm.


def _leave(key: int, turn: Turn) -> None:
    turn.gone = True
    line = waiting.get(key)
    if line is None:
        return
    try:
        line.remove(turn)
    except ValueError:
        pass  # it was woken
    if line:
        return
    line = waiting.pop(key, None)
    if line:  # somebody has joined it on another thread, just now
        other = waiting.setdefault(key, line)
        if other is not line:
            other.extend(line)
        wake_next(key)


def until_of(timeout: Any) -> float | None:
    """Monotonic seconds; None for -1, which is no timeout at all."""
    seconds = timeout if isinstance(timeout, float) else index(timeout)
    return None if seconds < 0 else monotonic() + seconds


def wake_next(key: int) -> None:
    """Something was released: wake the first that waits for it. From any thread; without effect if nobody does."""
    line = waiting.get(key)
    while line:
        try:
            turn = line.popleft()
        except IndexError:
            return
        if not turn.gone and not turn.woken and turn.wake():
            return


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=waiting.clear)  # who waits, waits in the parent
