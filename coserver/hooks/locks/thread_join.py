"""``Thread.join``. Code in C releases the lock that tells of a thread's end, unseen by the shims: so it is polled."""

from __future__ import annotations

import _thread
import math
from collections.abc import Callable, Generator
from threading import Thread
from time import monotonic
from typing import Any

import anyio
from greenlet import getcurrent

from ..patch import Shim
from ..suspension import WAIT, suspend
from ..workers import Worker
from .waiters import until_of

#: Seconds between two looks: at first, and at most.
_FIRST, _LAST = 0.001, 0.05


class _Ended:
    """An awaitable that ends when ``over()`` is true, or at ``until``, monotonic seconds. It may be awaited again."""

    __slots__ = ("over", "until")

    def __init__(self, over: Callable[[], bool], until: float | None) -> None:
        self.over = over
        self.until = math.inf if until is None else until

    def __await__(self) -> Generator[Any, Any, None]:
        period = _FIRST
        while not self.over() and (left := self.until - monotonic()) > 0:
            yield from anyio.sleep(min(period, left)).__await__()
            period = min(period * 2, _LAST)


def _wait_until(worker: Worker, thread: Any, over: Callable[[], bool], until: float | None) -> None:
    """Suspend once, until the end of the thread or the time."""
    if not over() and (until is None or until > monotonic()):
        suspend(worker, WAIT, "join", thread, _Ended(over, until))


_wait_for_tstate_lock: Any = getattr(Thread, "_wait_for_tstate_lock", None)  # up to Python 3.12
_Handle: Any = getattr(_thread, "_ThreadHandle", None)  # from Python 3.13 on
_join: Any = getattr(_Handle, "join", None)


def wait_for_tstate_lock(self: Any, block: Any = True, timeout: Any = -1) -> None:
    worker = getcurrent()
    lock = self._tstate_lock
    if type(worker) is Worker and lock is not None and block is True and _is_time(timeout):
        _wait_until(worker, self, lambda: not lock.locked(), until_of(timeout))
        block, timeout = False, -1
    return _wait_for_tstate_lock(self, block, timeout)  # type: ignore[no-any-return]


def _is_time(timeout: Any) -> bool:
    """Whether this is a valid timeout; the original raises for others."""
    return isinstance(timeout, float | int) and (timeout == -1 or 0 <= timeout <= _thread.TIMEOUT_MAX)


def handle_join(self: Any, timeout: Any = None, /) -> None:
    worker = getcurrent()
    if type(worker) is not Worker or self.ident in (0, _thread.get_ident()):  # 0: not started
        return _join(self, timeout)  # type: ignore[no-any-return]
    if timeout is None or (isinstance(timeout, float | int) and -1e9 < timeout <= _thread.TIMEOUT_MAX):
        _wait_until(worker, self, self.is_done, None if timeout is None else until_of(timeout))
        timeout = None if self.is_done() else 0
    return _join(self, timeout)  # type: ignore[no-any-return]


ROWS = (
    Shim("threading:Thread", "_wait_for_tstate_lock", wait_for_tstate_lock),
    Shim("_thread:_ThreadHandle", "join", handle_join),
)
