"""Queues of workers that wait for locks. Each release wakes the first waiter, from any thread.

A destructor may release a lock in the midst of this code, so nothing here takes a lock: it uses single steps of dicts
and deques alone. Code in C may release a lock unseen by the shims, so each waiter also tries again now and then (the
backstop).
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

#: How a worker learns that a lock is free: the release wakes it, or it tries again every ``period`` seconds.
STRATEGIES = ("wake", "retry")
#: Seconds between two tries of "retry": too short for a person to notice, long enough for a thousand waiters.
PERIOD = 0.005
#: Seconds until a waiter tries by itself: at first, and at most.
BACKSTOP, BACKSTOP_MAX = 0.05, 0.5

#: Seconds between two tries for a lock that other processes share, whose release wakes nobody: at first, at most.
_TRY_FIRST, _TRY_LAST = 0.001, 0.02

#: The queues, by the lock's id. Each release looks here, so it is empty while nobody waits.
waiting: dict[int, deque[LockWaiter]] = {}

_period: float | None = None  # of "retry"; None for "wake"


def choose_mutex(mutex: str, period: float = PERIOD) -> None:
    """Set how workers wait for locks from now on: "wake", or "retry" every ``period`` seconds. Raises ValueError."""
    global _period
    check_mutex(mutex, period)
    _period = float(period) if mutex == "retry" else None


def check_mutex(mutex: str, period: float) -> None:
    """Raise ValueError for a wrong ``mutex`` or ``period``."""
    if mutex not in STRATEGIES:
        raise ValueError(f"mutex must be one of {', '.join(map(repr, STRATEGIES))}; got {mutex!r}")
    if isinstance(period, bool) or not isinstance(period, int | float) or not 0 < period <= 1:
        raise ValueError(f"mutex_period must be above 0 and at most 1 second; got {period!r}")


class LockWaiter(Wake):
    """A worker's place in a queue. ``gone``: the worker has left it."""

    __slots__ = ("gone",)

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.gone = False


def poll_and_take(worker: Worker, call: str, on: Any, attempt: Callable[[], bool], until: float | None = None) -> bool:
    """As ``take``, for a lock whose release wakes nobody: try again and again."""
    period = _TRY_FIRST
    while not attempt():
        now = monotonic()
        if until is not None and now >= until:
            return False
        suspend(worker, WAIT, call, on, Sleep, now + period if until is None else min(now + period, until))
        period = min(period * 2, _TRY_LAST)
    return True


def take(
    worker: Worker,
    call: str,
    lock: Any,
    attempt: Callable[[], bool],
    until: float | None,
    kind: int = WAIT,
    key: int | None = None,
) -> bool:
    """Suspend until ``attempt()`` takes ``lock``; false if ``until`` (monotonic seconds) came first.

    ``kind`` says what a cancellation does (see ``suspend``), ``key`` names the queue: by default the lock's id.
    """
    backstop, again = BACKSTOP, False
    key = id(lock) if key is None else key
    while (now := monotonic()) < (until if until is not None else now + 1):
        limit = now + (backstop if _period is None else _period)
        if until is not None and until < limit:
            limit = until
        if _period is not None:
            suspend(worker, kind, call, lock, Sleep, limit)
            taken = attempt()
        else:
            taken = _wait_in_queue(worker, kind, call, lock, attempt, key, LockWaiter(limit), again)
        if taken:
            return True
        backstop, again = min(backstop * 2, BACKSTOP_MAX), True
    return False


def _wait_in_queue(
    worker: Worker,
    kind: int,
    call: str,
    lock: Any,
    attempt: Callable[[], bool],
    key: int,
    waiter: LockWaiter,
    again: bool,
) -> bool:
    """Suspend until the waiter is woken, or its time is over; whether the lock is taken then."""
    taken = used = over = False
    _enter(key, waiter, again)
    try:
        taken = attempt()  # it may have been released before the waiter stood in the queue
        if not taken:
            suspend(worker, kind, call, lock, waiter)
            used = waiter.woken
            taken = attempt()
        over = True
    finally:
        _leave(key, waiter)
        # Pass a wake on if the lock was taken without it, or if the worker leaves without the lock. Do not if another
        # caller was faster: its release wakes again, and two waiters that wake each other until then would never rest.
        if waiter.woken and not (used if taken else over):
            wake_next(key)
    return taken


def _enter(key: int, waiter: LockWaiter, again: bool) -> None:
    """Put the waiter at the end of the queue; at its head if the worker has stood there before."""
    while True:
        queue = waiting.get(key)
        if queue is None:
            queue = waiting.setdefault(key, deque())
        if again:
            queue.appendleft(waiter)
        else:
            queue.append(waiter)
        if waiting.get(key) is queue:
            return
        # Another thread has just removed the queue because it was empty. A place in two queues does no harm.


def _leave(key: int, waiter: LockWaiter) -> None:
    waiter.gone = True
    queue = waiting.get(key)
    if queue is None:
        return
    try:
        queue.remove(waiter)
    except ValueError:
        pass  # it was woken
    if queue:
        return
    queue = waiting.pop(key, None)
    if queue:  # a worker of another thread has just entered it
        other = waiting.setdefault(key, queue)
        if other is not queue:
            other.extend(queue)
        wake_next(key)


def until_of(timeout: Any) -> float | None:
    """The end of a timeout, in monotonic seconds; None for -1, which means no timeout."""
    seconds = timeout if isinstance(timeout, float) else index(timeout)
    return None if seconds < 0 else monotonic() + seconds


def wake_next(key: int) -> None:
    """Wake the first waiter of a lock that was released. From any thread; without effect if nobody waits."""
    queue = waiting.get(key)
    while queue:
        try:
            waiter = queue.popleft()
        except IndexError:
            return
        if not waiter.gone and not waiter.woken and waiter.wake():
            return


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=waiting.clear)  # the waiters are in the parent process
