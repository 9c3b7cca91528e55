"""Family "sleep": ``time.sleep``."""

from __future__ import annotations

import time
from _thread import TIMEOUT_MAX
from collections.abc import Generator
from operator import index
from typing import Any

import anyio.lowlevel
from greenlet import getcurrent

from ..patch import Shim
from ..suspension import WAIT, Sleep, suspend
from ..workers import Worker

_sleep = time.sleep

#: Seconds; 292 years. For a longer sleep the original raises OverflowError.
_LONGEST = TIMEOUT_MAX


def sleep(seconds: Any, /) -> None:
    worker = getcurrent()
    if type(worker) is not Worker:
        return _sleep(seconds)
    if type(seconds) not in (float, int):
        seconds = float(seconds) if isinstance(seconds, float) else index(seconds)
    if 0 < seconds <= _LONGEST:
        suspend(worker, WAIT, "sleep", seconds, Sleep, time.monotonic() + seconds)
    elif seconds == 0:
        suspend(worker, WAIT, "sleep", 0, _Checkpoint())
    else:
        _sleep(seconds)  # raises
    return None


class _Checkpoint:
    """An awaitable that lets other tasks run once. It may be awaited several times."""

    def __await__(self) -> Generator[Any, Any, None]:
        return anyio.lowlevel.checkpoint().__await__()


ROWS = (Shim("time", "sleep", sleep),)
