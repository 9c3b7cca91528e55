"""``wait_for``, by which every shim waits for a descriptor, and ``closing``, around every call that closes one.

Each loop has one ``Watch``, so that any number of workers may wait for the same descriptor. A loop that calls back, as
asyncio's do, never gets a user's descriptor: it watches one epoll set that stands for all of them, and each wait arms
its descriptor there once. (uvloop would make the descriptor non-blocking behind the user's back, and would take a
number that was closed and given out again for the old one.) trio's tasks wait for the descriptor themselves, or for an
epoll set of their own if another task waits for the descriptor already.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, get_ident
from time import monotonic
from typing import Any

import anyio
from anyio.lowlevel import RunVar

from ..transport.loop import FutureLatch, Latch, Loop, Reach
from .suspension import IO, suspend
from .workers import Worker, on_loop

READ, WRITE = select.POLLIN, select.POLLOUT

#: Seconds that uvloop's timers may come early.
_EARLY = 0.001
#: Seconds that a close waits for another thread's loop to let go of the descriptor.
_PATIENCE = 1.0
#: Seconds between two looks where there is no epoll.
_PERIOD = 0.005

_poll = select.poll
_epoll: Callable[[], Any] | None = getattr(select, "epoll", None)
_ONCE = getattr(select, "EPOLLONESHOT", 0)
#: The end of a stream, or an error, wakes readers and writers.
_ALWAYS = select.POLLHUP | select.POLLERR | select.POLLNVAL


def is_ready(fd: int, way: int) -> bool:
    """Whether a call need not wait; also true for a descriptor that is closed or broken."""
    poll = _poll()
    poll.register(fd, way)
    return bool(poll.poll(0))


class Waiter:
    """One worker's wait."""

    __slots__ = ("closed", "event", "handle", "ready", "way")

    def __init__(self, way: int) -> None:
        self.way = way
        self.ready = self.closed = False
        self.event: Latch | FutureLatch | None = None
        self.handle = -1  # the descriptor that trio waits for


class Watch:
    """One loop's waits. ``waiting`` is by descriptor; ``closing`` takes an entry away, from any thread."""

    #: Whether the loop itself knows the descriptors, and would take the next owner of a number for the old one.
    exposed = False

    def __init__(self) -> None:
        self.waiting: dict[int, list[Waiter]] = {}
        self._loop = Loop.current()
        self._reach = Reach()
        self._thread = get_ident()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.waiting)} descriptors>"

    def close(self) -> None:
        """Close the descriptors of the watch itself. It may be used again."""

    async def wait(self, fd: int, way: int, until: float | None) -> bool:
        """Wait for a descriptor; see ``wait_for``."""
        waiter = self._enter(fd, way)
        try:
            return await self._wait(fd, waiter, until)
        finally:
            self._leave(fd, waiter)

    def _enter(self, fd: int, way: int) -> Waiter:
        waiter = Waiter(way)
        waiters = self.waiting.get(fd)
        if waiters is None:
            self.waiting[fd] = [waiter]
            busy[self] = None
        else:
            waiters.append(waiter)
        return waiter

    def _leave(self, fd: int, waiter: Waiter) -> None:
        """Remove the waiter. Raises OSError (EBADF) if the descriptor was closed meanwhile."""
        waiters = self.waiting.get(fd)
        if waiters is not None:
            if waiter in waiters:
                waiters.remove(waiter)
            if not waiters:
                del self.waiting[fd]
        if not self.waiting:
            busy.pop(self, None)
        if waiter.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    async def _wait(self, fd: int, waiter: Waiter, until: float | None) -> bool:
        """Wait until the descriptor is ready, or may be; false if ``until`` came first."""
        raise NotImplementedError

    def wake(self, waiter: Waiter, *, wait: bool) -> None:
        """Wake a waiter, from any thread. With ``wait``, return only after the loop has let go of the descriptor."""
        waiter.ready = True
        if get_ident() == self._thread:
            on_loop(self._end, waiter)
            return
        done = Event()
        try:
            self._reach.post(self._end_and_tell, waiter, done)
        except RuntimeError:
            return  # its loop has ended
        if wait and self.exposed:
            done.wait(_PATIENCE)

    def _end_and_tell(self, waiter: Waiter, done: Event) -> None:
        try:
            self._end(waiter)
        finally:
            done.set()

    def _end(self, waiter: Waiter) -> None:
        """End this wait. Called on the loop's own thread."""
        raise NotImplementedError


class SetWatch(Watch):
    """The watch of a loop that calls back."""

    _set: Any = None

    def close(self) -> None:
        if self._set is not None:
            self._reach.leave(self._set.fileno())
            self._set.close()
            self._set = None

    async def _wait(self, fd: int, waiter: Waiter, until: float | None) -> bool:
        event = waiter.event = self._reach.latch()
        if not self._arm(fd):
            return True
        if until is None:
            if not waiter.ready:
                await event
            return True
        timer = self._reach.later(max(until - monotonic(), 0) + _EARLY, event.set)
        try:
            if not waiter.ready:
                await event
        finally:
            timer.cancel()
        return waiter.ready

    def _arm(self, fd: int) -> bool:
        """Arm the descriptor in the set. False if it cannot be waited for (a plain file, a closed descriptor): the call
        itself will raise."""
        mask = _ONCE
        for waiter in self.waiting.get(fd, ()):
            mask |= waiter.way
        if self._set is None:
            assert _epoll is not None
            self._set = _epoll()
            self._reach.attend(self._set.fileno(), self._set_ready)
        try:
            self._set.modify(fd, mask)
        except FileNotFoundError:
            try:
                self._set.register(fd, mask)
            except OSError:
                return False
        except OSError:
            return False
        return True

    def _set_ready(self) -> None:
        """Wake the first reader and the first writer of each ready descriptor, which the set has disarmed."""
        for fd, events in self._set.poll(0):
            waiters = self.waiting.get(fd)
            if waiters is None:
                continue
            ways = READ | WRITE if events & _ALWAYS else events
            for waiter in tuple(waiters):
                if waiter.way & ways:
                    ways &= ~waiter.way
                    waiters.remove(waiter)
                    waiter.ready = True
                    self._end(waiter)
            if waiters:
                self._arm(fd)

    def _end(self, waiter: Waiter) -> None:
        if waiter.event is not None:
            waiter.event.set()


class TaskWatch(Watch):
    """The watch of a loop whose tasks wait for descriptors themselves."""

    exposed = True

    async def wait(self, fd: int, way: int, until: float | None) -> bool:
        if until is not None or fd in self.waiting or way not in (READ, WRITE):
            return await super().wait(fd, way, until)
        # The usual case, in one function, as it is the hot one.
        waiter = self._enter(fd, way)
        waiter.handle = fd
        busy_with_others = False
        try:
            if not waiter.ready:
                await (self._loop.wait_writable if way == WRITE else self._loop.wait_readable)(fd)
        except (anyio.ClosedResourceError, OSError, ValueError):
            pass  # closed, or nothing that can be waited for: the call itself will raise
        except anyio.BusyResourceError:
            busy_with_others = True
        finally:
            self._leave(fd, waiter)
        return await super().wait(fd, way, until) if busy_with_others else True

    async def _wait(self, fd: int, waiter: Waiter, until: float | None) -> bool:
        if until is None:
            await self._wait_directly(fd, waiter)
            return True
        with anyio.move_on_after(until - monotonic()):
            await self._wait_directly(fd, waiter)
            return True
        return False

    async def _wait_directly(self, fd: int, waiter: Waiter) -> None:
        if len(self.waiting.get(fd, ())) == 1 and waiter.way in (READ, WRITE):
            wait = self._loop.wait_writable if waiter.way == WRITE else self._loop.wait_readable
            waiter.handle = fd
            try:
                if not waiter.ready:
                    await wait(fd)
                return
            except (anyio.ClosedResourceError, OSError, ValueError):
                return  # closed, or nothing that can be waited for: the call itself will raise
            except anyio.BusyResourceError:
                waiter.handle = -1
        await self._wait_by_set(fd, waiter)

    async def _wait_by_set(self, fd: int, waiter: Waiter) -> None:
        """Wait by an epoll set of its own, because another task waits for the descriptor already."""
        if _epoll is None:
            while not waiter.ready and not is_ready(fd, waiter.way):  # noqa: ASYNC110 - there is no event to wait for
                await anyio.sleep(_PERIOD)
            return
        with _epoll() as own_set:
            try:
                own_set.register(fd, waiter.way)
            except OSError:
                return
            waiter.handle = own_set.fileno()
            try:
                if not waiter.ready:
                    await self._loop.wait_readable(own_set)
            except anyio.ClosedResourceError:
                pass

    def _end(self, waiter: Waiter) -> None:
        if waiter.handle >= 0:
            self._loop.inside(anyio.notify_closing, waiter.handle)


#: The watches in which a worker waits. A close looks through them, and only if there are any.
busy: dict[Watch, None] = {}
_running: RunVar[Watch] = RunVar("coserver_descriptors")


def wait_for(worker: Worker, fd: int, way: int, call: str, on: Any, until: float | None = None) -> bool:
    """Suspend until ``fd`` may be ready in this ``way``, READ or WRITE (or both); false if ``until`` (monotonic
    seconds) came first.

    Afterwards look the descriptor up anew and try the call again, as another caller may have been faster. Raises
    OSError (EBADF) if the descriptor is closed meanwhile.
    """
    watch = worker.watch
    if watch is None:
        watch = worker.watch = on_loop(_current)
    return suspend(worker, IO, call, on, watch.wait, fd, way, until)  # type: ignore[no-any-return]


@contextmanager
def closing(fd: int) -> Iterator[None]:
    """Put this around a call that closes ``fd``, on any thread: it wakes the workers that wait for ``fd``."""
    _wake_all(fd, closed=True)
    try:
        yield
    finally:
        _wake_all(fd, closed=False)  # workers that began to wait in between


def _wake_all(fd: int, *, closed: bool) -> None:
    for watch in tuple(busy):
        for waiter in watch.waiting.pop(fd, ()):
            waiter.closed = closed
            watch.wake(waiter, wait=closed)


def close_descriptors() -> None:
    """At the end of a loop: close the descriptors of its watch, if it has one."""
    try:
        _running.get().close()
    except LookupError:
        pass


def _current() -> Watch:
    try:
        return _running.get()
    except LookupError:
        watch = SetWatch() if _epoll is not None and Reach().calls_back else TaskWatch()
        _running.set(watch)
        return watch
