"""``queue.SimpleQueue``, whose ``get`` waits in C."""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from typing import Any

from greenlet import getcurrent

from ..patch import Shim
from ..workers import Worker
from .waiters import take, until_of, waiting, wake_next

_get, _put, _put_nowait = SimpleQueue.get, SimpleQueue.put, SimpleQueue.put_nowait


def get(self: Any, block: Any = True, timeout: Any = None) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or not block:
        return _get(self, block, timeout)
    try:
        if timeout is None:
            return _get(self, False)
        probe: Any = SimpleQueue()
        _put(probe, None)
        _get(probe, True, timeout)  # raises if the timeout is wrong
        return _get(self, False)
    except Empty:
        pass
    found: list[Any] = []

    def attempt() -> bool:
        try:
            found.append(_get(self, False))
        except Empty:
            return False
        return True

    if not take(worker, "get", self, attempt, None if timeout is None else until_of(timeout)):
        raise Empty
    return found[0]


def put(self: Any, item: Any, block: Any = True, timeout: Any = None) -> None:
    _put(self, item, block, timeout)
    if waiting:
        wake_next(id(self))


def put_nowait(self: Any, item: Any) -> None:
    _put_nowait(self, item)
    if waiting:
        wake_next(id(self))


ROWS = (
    Shim("_queue:SimpleQueue", "get", get),
    Shim("_queue:SimpleQueue", "put", put),
    Shim("_queue:SimpleQueue", "put_nowait", put_nowait),
)
