"""The order check and the leak check: every lifecycle event in its order, and nothing left open.

async with testing.serving(app) as server:   # like app.serving, and both checks at the end
    ...
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Unpack

import anyio
import anyio.lowlevel

from ..app.app import App
from ..app.config.settings import Options
from ..app.server import Server
from ..lifecycle.order import OrderCheck
from ..transport.loop import Loop

#: Threads that the async libraries keep for a while to use them again: no leak.
_POOLED = ("AnyIO worker thread", "Trio thread", "asyncio_")
#: The task in which anyio's pytest plugin waits, a new one for each fixture and test: not of the block.
_RUNNERS = "TestRunner._call_in_runner_task"
#: The place where trio keeps its system tasks.
_ROOT = "<init>"
#: Seconds for things to be closed: a thread needs a moment to end.
_SETTLE = 2.0


class LeakError(AssertionError):
    """Something was left open; the message says what."""


@contextmanager
def order_check(app: App) -> Iterator[OrderCheck]:
    """Check every event of ``app`` against the order table during the block; raises OutOfOrder at its end.

    Start and stop the app inside the block: a connection that is still open at the end lacks its last event.
    """
    check = OrderCheck()
    with app.emitter.observing(check):
        yield check
    check.check()


@contextmanager
def leak_check() -> Iterator[None]:
    """Check that the block leaves no thread and no file descriptor behind. Raises LeakError.

    Descriptors are checked on Linux only.
    """
    fds, threads = _descriptors(), _threads()
    pairs = _pairs(fds)
    yield
    until = time.monotonic() + _SETTLE
    while leaked := _leaked(fds, pairs, threads):
        if time.monotonic() > until:
            raise LeakError("left behind: " + ", ".join(leaked))
        time.sleep(0.01)


@asynccontextmanager
async def serving(app: App, **options: Unpack[Options]) -> AsyncIterator[Server]:
    """``app.serving(**options)`` under both checks, which include the loop's tasks. Raises LeakError, OutOfOrder."""
    async with unleaking():
        with order_check(app):
            async with app.serving(**options) as server:
                await until_polling()
                yield server


@asynccontextmanager
async def unleaking() -> AsyncIterator[None]:
    """The leak check, including the loop's tasks."""
    before = _tasks()
    with leak_check():
        yield
    left = _tasks() - before
    if left:
        raise LeakError("tasks left behind: " + ", ".join(left.elements()))


async def until_polling() -> None:
    """Wait until this loop's poller has its descriptor, which must not appear in the block of another leak check."""
    poller = Loop.current().poller
    while getattr(poller, "_epoll", poller) is None:
        await anyio.lowlevel.checkpoint()


def _leaked(fds: dict[int, str], pairs: set[str], threads: set[str]) -> list[str]:
    now = _descriptors()
    # libuv opens /dev/null once and keeps it, to survive a lack of descriptors.
    new = {fd: what for fd, what in now.items() if fds.get(fd) != what and what != "/dev/null"}
    # uvloop makes a new pair of sockets for signals whenever the loop runs again, as anyio's plugin makes it do for
    # each fixture. So as many pairs as are gone may be new.
    gone = len(pairs - set(now.values()))
    new_pairs = _pairs(new)
    if len(new_pairs) <= gone:
        new = {fd: what for fd, what in new.items() if what not in new_pairs}
    left = [f"descriptor {fd} ({what})" for fd, what in new.items()]
    return left + [f"thread {name}" for name in _threads() - threads]


def _pairs(fds: dict[int, str]) -> set[str]:
    """The ends of socket pairs: UNIX sockets without a name on either side."""
    found: set[str] = set()
    for fd, what in fds.items():
        if not what.startswith("socket:"):
            continue
        try:
            with socket.socket(fileno=os.dup(fd)) as end:
                if end.family == socket.AF_UNIX and not end.getsockname() and not end.getpeername():
                    found.add(what)
        except OSError:
            pass  # closed by now, or listening, or no longer connected
    return found


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    try:
        names = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return found
    for name in names:
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the descriptor of the listing itself, closed by now
    return found


def _threads() -> set[str]:
    return {f"{t.name} ({t.ident})" for t in threading.enumerate() if not t.name.startswith(_POOLED)}


def _tasks() -> Counter[str]:
    """The tasks of no task group. A task of a group ends with it, and may be another server's in the same loop."""
    running = {task.id: task for task in anyio.get_running_tasks()}
    found: Counter[str] = Counter()
    for task in running.values():
        parent = running.get(task.parent_id or 0)
        loose = parent is None or parent.name == _ROOT
        if loose and _RUNNERS not in getattr(task.coro, "__qualname__", ""):
            found[task.name or "unnamed"] += 1
    return found
