"""Waits for descriptors to be readable or writable, by one epoll set for each loop.

The loop itself never hears of a user's descriptor: uvloop would make it non-blocking behind his back, two readers would
be one too many, and a number that was closed and given to another would be taken for the old one. No task of its own
awaits the set: of the workers that wait one leads, and hands over to the next when it goes.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import anyio
from anyio.lowlevel import RunVar

from ..transport.loop import Loop, poster
from .suspension import IO, Wake, suspend
from .workers import Worker

READ, WRITE = select.POLLIN | select.POLLPRI, select.POLLOUT

#: Seconds between two looks where there is no epoll.
_PERIOD = 0.005

_poll = select.poll
_epoll: Callable[[], Any] | None = getattr(select, "epoll", None)
_ONCE = getattr(select, "EPOLLONESHOT", 0)
#: An end or an error concerns readers and writers alike.
_ALWAYS = select.POLLHUP | select.POLLERR | select.POLLNVAL


def wait_for(worker: Worker, fd: int, way: int, call: str, on: Any, until: float | None = None) -> bool:
    """Suspend until ``fd`` may be ready in this ``way``, READ or WRITE (or both); false if ``until`` (monotonic
    seconds) came first. Then try the call again, with the descriptor looked up anew: somebody else may have been
    faster. Raises OSError (EBADF) if it is closed meanwhile.
    """
    return suspend(worker, IO, call, on, _current().wait, fd, way, until)


def is_ready(fd: int, way: int) -> bool:
    """Whether a call would not have to wait; true as well for what is closed, or broken."""
    poll = _poll()
    poll.register(fd, way)
    return bool(poll.poll(0))


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
            watch.wake(waiter)


def close_descriptors() -> None:
    """Let go of the set of the running loop, if there is one: at its end."""
    try:
        _running.get().close()
    except LookupError:
        pass


class _Waiter:
    """One worker's wait; ``wake`` is None while it leads."""

    __slots__ = ("closed", "post", "ready", "wake", "way")
    post: Callable[..., None]

    def __init__(self, way: int) -> None:
        self.way = way
        self.ready = self.closed = False
        self.wake: Wake | None = None


class Watch:
    """One loop's waits. ``waiting`` is by descriptor; who closes one takes its entry away, from whatever thread."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[_Waiter]] = {}
        self._loop = Loop.current()
        self._set: Any = None
        self._leader: _Waiter | None = None
        self._followers: dict[_Waiter, None] = {}  # in order

    def __repr__(self) -> str:
        return f"<Watch of {len(self.waiting)} descriptors>"

    def close(self) -> None:
        if self._set is not None:
            self._set.close()
            self._set = None

    async def wait(self, fd: int, way: int, until: float | None) -> bool:
        """See ``wait_for``."""
        if until is None:
            return await self._wait(fd, way)
        with anyio.move_on_after(until - monotonic()):
            return await self._wait(fd, way)
        return False

    async def _wait(self, fd: int, way: int) -> bool:
        waiter = _Waiter(way)
        self.waiting.setdefault(fd, []).append(waiter)
        busy[self] = None
        try:
            if not self._arm(fd):
                return True
            while not waiter.ready:
                if self._leader is None:
                    await self._lead(waiter)
                else:
                    self._followers[waiter] = None
                    waiter.wake = Wake()
                    if not waiter.ready:  # looked at after wake is set, as ``wake`` looks at it after ready is
                        await waiter.wake
        finally:
            self._leave(fd, waiter)
        if waiter.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return True

    async def _lead(self, waiter: _Waiter) -> None:
        waiter.post = poster()
        waiter.wake = None
        self._leader = waiter
        try:
            if not waiter.ready:
                await self._loop.wait_readable(self._set)
        except anyio.ClosedResourceError:
            pass  # somebody closed what it waits for
        finally:
            self._leader = None
        for fd, events in self._set.poll(0):
            self._look(fd, events)

    def _look(self, fd: int, events: int) -> None:
        """Wake the first that this is for; the set has disarmed it."""
        waiters = self.waiting.get(fd)
        if waiters is None:
            return
        ways = READ | WRITE if events & _ALWAYS else events
        for waiter in tuple(waiters):
            if waiter.way & ways:
                ways &= ~waiter.way
                waiters.remove(waiter)
                self.wake(waiter)
        if waiters:
            self._arm(fd)

    def _arm(self, fd: int) -> bool:
        """False for what is no thing to wait for: a plain file, a closed descriptor. The call itself will say."""
        mask = _ONCE
        for waiter in self.waiting.get(fd, ()):
            mask |= waiter.way
        if self._set is None:
            assert _epoll is not None
            self._set = _epoll()
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

    def _leave(self, fd: int, waiter: _Waiter) -> None:
        self._followers.pop(waiter, None)
        waiters = self.waiting.get(fd)
        if waiters is not None:
            if waiter in waiters:
                waiters.remove(waiter)
            if not waiters:
                # Armed still: at worst it wakes whoever leads then, once, for nothing.
                del self.waiting[fd]
        if not self.waiting:
            busy.pop(self, None)
        if self._leader is None and self._followers:
            next_one = next(iter(self._followers))
            del self._followers[next_one]
            assert next_one.wake is not None
            next_one.wake.wake()

    def wake(self, waiter: _Waiter) -> None:
        """From any thread."""
        waiter.ready = True
        if waiter.wake is not None:
            waiter.wake.wake()
        elif waiter is self._leader:
            try:
                waiter.post(self._nudge, waiter)
            except RuntimeError:
                pass  # its loop has ended

    def _nudge(self, waiter: _Waiter) -> None:
        if waiter is self._leader:
            self._loop.inside(anyio.notify_closing, self._set)


class Peek(Watch):
    """Where there is no epoll: looks again and again."""

    async def _wait(self, fd: int, way: int) -> bool:
        waiter = _Waiter(way)
        self.waiting.setdefault(fd, []).append(waiter)
        busy[self] = None
        try:
            while not waiter.ready and not is_ready(fd, way):  # noqa: ASYNC110 - nothing else tells
                await anyio.sleep(_PERIOD)
        finally:
            self._leave(fd, waiter)
        return True

    def wake(self, waiter: _Waiter) -> None:
        waiter.ready = True


_running: RunVar[Watch] = RunVar("coserver_descriptors")
#: Those in which something waits: whoever closes a descriptor goes through them. While it is empty, nobody need ask.
busy: dict[Watch, None] = {}


def _current() -> Watch:
    try:
        return _running.get()
    except LookupError:
        watch = Watch() if _epoll is not None else Peek()
        _running.set(watch)
        return watch
