"""``wait_for``, by which every shim waits for a descriptor, and ``closing``, for whatever closes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anyio.lowlevel import RunVar

from .suspension import IO, suspend
from .watches import READ, WRITE, Watch, busy, is_ready, make_watch
from .workers import Worker

__all__ = ["READ", "WRITE", "busy", "close_descriptors", "closing", "is_ready", "wait_for"]

_running: RunVar[Watch] = RunVar("coserver_descriptors")


def wait_for(worker: Worker, fd: int, way: int, call: str, on: Any, until: float | None = None) -> bool:
    """Suspend until ``fd`` may be ready in this ``way``, READ or WRITE (or both); false if ``until`` (monotonic
    seconds) came first. Then try the call again, with the descriptor looked up anew: somebody else may have been
    faster. Raises OSError (EBADF) if it is closed meanwhile.
    """
    watch = worker.watch
    if watch is None:
        watch = worker.watch = _current()
    return suspend(worker, IO, call, on, watch.wait, fd, way, until)  # type: ignore[no-any-return]


@contextmanager
def closing(fd: int) -> Iterator[None]:
    """Around what closes ``fd``, on any thread: wakes the workers that wait for it."""
    _wake_all(fd, closed=True)
    try:
        yield
    finally:
        _wake_all(fd, closed=False)  # who came in between


def _wake_all(fd: int, *, closed: bool) -> None:
    for watch in tuple(busy):
        for waiter in watch.waiting.pop(fd, ()):
            waiter.closed = closed
            watch.wake(waiter, wait=closed)


def close_descriptors() -> None:
    """Let go of the set of the running loop, if there is one: at its end."""
    try:
        _running.get().close()
    except LookupError:
        pass


def _current() -> Watch:
    try:
        return _running.get()
    except LookupError:
        watch = make_watch()
        _running.set(watch)
        return watch
