"""One loop's waits for descriptors, so that any number of workers may wait for the same one.

Where the loop calls back (asyncio's do) it never hears of a user's descriptor: an epoll set stands for all of them, in
which each is armed once for each wait. uvloop would make it non-blocking behind the user's back, and a number that was
closed and given to another would be taken for the old one. trio waits for the descriptor itself, or for a set of its
own where somebody else waits for it already.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from threading import Event, get_ident
from time import monotonic
from typing import Any

import anyio

from ..transport.loop import FutureLatch, Latch, Loop, Reach

READ, WRITE = select.POLLIN, select.POLLOUT

#: Seconds that uvloop's timers may come early.
_EARLY = 0.001
#: Seconds that whoever closes a descriptor waits for another thread's loop to let go of it.
_PATIENCE = 1.0
#: Seconds between two looks where there is no epoll.
_PERIOD = 0.005

_poll = select.poll
_epoll: Callable[[], Any] | None = getattr(select, "epoll", None)
_ONCE = getattr(select, "EPOLLONESHOT", 0)
#: An end or an error concerns readers and writers alike.
_ALWAYS = select.POLLHUP | select.POLLERR | select.POLLNVAL


def is_ready(fd: int, way: int) -> bool:
    """Whether a call would not have to wait; true as well for what is closed, or broken."""
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
        self.handle = -1  # what trio waits for


class Watch:
    """One loop's waits. ``waiting`` is by descriptor; who closes one takes its entry away, from whatever thread."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[Waiter]] = {}
        self._loop = Loop.current()
        self._reach = Reach()
        self._thread = get_ident()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.waiting)} descriptors>"

    def close(self) -> None:
        """Let go of what the operating system lent. It may be used again."""

    async def wait(self, fd: int, way: int, until: float | None) -> bool:
        """See ``wait_for``."""
        waiter = self._come(fd, way)
        try:
            return await self._wait(fd, waiter, until)
        finally:
            self._leave(fd, waiter)

    def _come(self, fd: int, way: int) -> Waiter:
        waiter = Waiter(way)
        waiters = self.waiting.get(fd)
        if waiters is None:
            self.waiting[fd] = [waiter]
            busy[self] = None
        else:
            waiters.append(waiter)
        return waiter

    def _leave(self, fd: int, waiter: Waiter) -> None:
        """Raises OSError if the descriptor was closed under it."""
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
        """Until the waiter is ready, or may be."""
        raise NotImplementedError

    #: Whether the loop itself knows the descriptors, and would take a number's next owner for the old one.
    exposed = False

    def wake(self, waiter: Waiter, *, wait: bool) -> None:
        """From any thread; ``wait`` until the loop has let go of the descriptor, if it has it."""
        waiter.ready = True
        if get_ident() == self._thread:
            self._end(waiter)
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
        """End this wait; on the loop's own thread."""
        raise NotImplementedError


class SetWatch(Watch):
    """For a loop that calls back."""

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
        """False for what is no thing to wait for: a plain file, a closed descriptor. The call itself will say."""
        mask = _ONCE
        for waiter in self.waiting.get(fd, ()):
            mask |= waiter.way
        if self._set is None:
            assert _epoll is not None
            self._set = _epoll()
            self._reach.attend(self._set.fileno(), self._look)
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

    def _look(self) -> None:
        """Wake the first that each event is for; the set has disarmed it."""
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
    """For a loop whose tasks wait for themselves."""

    exposed = True

    async def wait(self, fd: int, way: int, until: float | None) -> bool:
        if until is not None or fd in self.waiting or way not in (READ, WRITE):
            return await super().wait(fd, way, until)
        # The usual case, without the layers of the others.
        waiter = self._come(fd, way)
        waiter.handle = fd
        busy_with_others = False
        try:
            if not waiter.ready:
                await (self._loop.wait_writable if way == WRITE else self._loop.wait_readable)(fd)
        except (anyio.ClosedResourceError, OSError, ValueError):
            pass  # closed, or no thing to wait for: the call itself will say
        except anyio.BusyResourceError:
            busy_with_others = True
        finally:
            self._leave(fd, waiter)
        return await super().wait(fd, way, until) if busy_with_others else True

    async def _wait(self, fd: int, waiter: Waiter, until: float | None) -> bool:
        if until is None:
            await self._wait_itself(fd, waiter)
            return True
        with anyio.move_on_after(until - monotonic()):
            await self._wait_itself(fd, waiter)
            return True
        return False

    async def _wait_itself(self, fd: int, waiter: Waiter) -> None:
        if len(self.waiting.get(fd, ())) == 1 and waiter.way in (READ, WRITE):
            wait = self._loop.wait_writable if waiter.way == WRITE else self._loop.wait_readable
            waiter.handle = fd
            try:
                if not waiter.ready:
                    await wait(fd)
                return
            except (anyio.ClosedResourceError, OSError, ValueError):
                return  # closed, or no thing to wait for: the call itself will say
            except anyio.BusyResourceError:
                waiter.handle = -1
        await self._wait_by_set(fd, waiter)

    async def _wait_by_set(self, fd: int, waiter: Waiter) -> None:
        """Somebody else waits for it already."""
        if _epoll is None:
            while not waiter.ready and not is_ready(fd, waiter.way):  # noqa: ASYNC110 - nothing else tells
                await anyio.sleep(_PERIOD)
            return
        with _epoll() as its_own:
            try:
                its_own.register(fd, waiter.way)
            except OSError:
                return
            waiter.handle = its_own.fileno()
            try:
                if not waiter.ready:
                    await self._loop.wait_readable(its_own)
            except anyio.ClosedResourceError:
                pass

    def _end(self, waiter: Waiter) -> None:
        if waiter.handle >= 0:
            self._loop.inside(anyio.notify_closing, waiter.handle)


#: Those in which something waits: whoever closes a descriptor goes through them. While it is empty, nobody need ask.
busy: dict[Watch, None] = {}


def make_watch() -> Watch:
    """One for the running loop."""
    return SetWatch() if _epoll is not None and Reach().calls_back else TaskWatch()
