"""The poller: one epoll set, awaited by one task, for descriptors without a task of their own.

It notices that a client left while no task reads from its connection. It also calls the connections to upstreams, each
registered once for life, whenever there is something to read.

``anyio.wait_readable`` waits for the descriptor of the set, so this is plain anyio on every backend. A loop with
callbacks spares that wait (15 µs with one subrequest at a time). The poller may therefore call outside of any task: the
functions that it calls must not make cancel scopes, nor watch descriptors through anyio. Where the platform has no
epoll, a fallback peeks at the watched descriptors, and has a task for each descriptor that is read.
"""

from __future__ import annotations

import logging
import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

log = logging.getLogger("coserver.transport")

Attend = Callable[[int, Callable[[], None]], Callable[[], object]]

#: Seconds between two peeks of the fallback: a quarter of the 100 ms in which a hang-up is to be noticed.
_PEEK_PERIOD = 0.025


def has_epoll() -> bool:
    return hasattr(select, "epoll")


class Poller(ABC):
    """Watches descriptors for a hang-up, each until it is reported once or forgotten; reads others until forgotten."""

    def __init__(self) -> None:
        self._calls: dict[int, Callable[[], None]] = {}
        self._readers: dict[int, Callable[[], None]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} watching {len(self._calls)}, reading {len(self._readers)}>"

    @abstractmethod
    def watch(self, fd: int, call: Callable[[], None], *, half_close: bool) -> None:
        """Call ``call()`` once when the peer of ``fd`` resets or closes. With ``half_close`` its FIN alone counts."""

    @abstractmethod
    def read(self, fd: int, call: Callable[[], None]) -> None:
        """Call ``call()`` whenever ``fd`` has data, an end or an error, until it is forgotten.

        It is called again as long as something is left, and may be called although there is nothing.
        """

    @abstractmethod
    def pause(self, fd: int) -> None:
        """Stop calling the reader of ``fd``."""

    @abstractmethod
    def resume(self, fd: int) -> None:
        """Undo ``pause``."""

    @abstractmethod
    def forget(self, fd: int) -> None:
        """Stop watching and reading, before the descriptor is closed. Does nothing for one that is not watched."""

    @abstractmethod
    async def run(self, attend: Attend | None = None) -> None:
        """Watch until cancelled. ``attend(fd, call)`` makes the loop call whenever ``fd`` is readable, until it is
        undone.
        """

    def close(self) -> None:  # noqa: B027 - the fallback has nothing to let go of
        """Release the descriptor of the set. ``run`` may follow again."""


def _tell(fd: int, call: Callable[[], None] | None) -> None:
    """Call ``call``, unless it is None: a call before it has forgotten its descriptor."""
    if call is None:
        return
    try:
        call()
    except Exception:
        log.exception("descriptor %d: %r raised", fd, call)


class EpollPoller(Poller):
    """The poller of Linux. Hang-ups use EPOLLONESHOT: a level-triggered RDHUP would wake the task again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll: select.epoll | None = None

    def watch(self, fd: int, call: Callable[[], None], *, half_close: bool) -> None:
        mask = select.EPOLLHUP | select.EPOLLERR | select.EPOLLONESHOT
        if half_close:
            mask |= select.EPOLLRDHUP
        self._calls[fd] = call
        self._set().register(fd, mask)

    def read(self, fd: int, call: Callable[[], None]) -> None:
        self._readers[fd] = call
        self._set().register(fd, select.EPOLLIN)

    def pause(self, fd: int) -> None:
        # Errors and hang-ups are reported all the same, and level-triggered, for ever: the descriptor must be taken
        # out.
        self._set().unregister(fd)

    def resume(self, fd: int) -> None:
        self._set().register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        self._calls.pop(fd, None)
        self._readers.pop(fd, None)
        if self._epoll is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # it was not watched

    async def run(self, attend: Attend | None = None) -> None:
        epoll = self._set()
        if attend is None:
            while True:
                await anyio.wait_readable(epoll.fileno())
                self._look()
        leave = attend(epoll.fileno(), self._look)
        try:
            await anyio.sleep_forever()
        finally:
            leave()

    def _look(self) -> None:
        """Call the functions of all descriptors that are ready."""
        readers = self._readers
        for fd, _ in self._set().poll(0):
            reader = readers.get(fd)
            if reader is not None:
                try:
                    reader()
                except Exception:
                    log.exception("descriptor %d: %r raised", fd, reader)
                continue
            # Already disarmed; taken out as well, so that the descriptor may be watched again.
            call = self._calls.get(fd)
            self.forget(fd)
            _tell(fd, call)

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def _set(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
        return self._epoll


class PeekPoller(Poller):
    """The poller of other systems: peeks without taking. It does not see a FIN behind data that is still unread."""

    def __init__(self) -> None:
        super().__init__()
        self._half_close: dict[int, bool] = {}
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._paused: set[int] = set()
        self._tasks: TaskGroup | None = None

    def watch(self, fd: int, call: Callable[[], None], *, half_close: bool) -> None:
        self._calls[fd] = call
        self._half_close[fd] = half_close

    def read(self, fd: int, call: Callable[[], None]) -> None:
        self._readers[fd] = call
        self._follow(fd)

    def pause(self, fd: int) -> None:
        self._paused.add(fd)
        self._stop_following(fd)

    def resume(self, fd: int) -> None:
        self._paused.discard(fd)
        self._follow(fd)

    def forget(self, fd: int) -> None:
        self._calls.pop(fd, None)
        self._half_close.pop(fd, None)
        self._paused.discard(fd)
        if self._readers.pop(fd, None) is not None:
            self._stop_following(fd)

    async def run(self, attend: Attend | None = None) -> None:
        try:
            async with anyio.create_task_group() as self._tasks:
                for fd in self._readers.keys() - self._paused:
                    self._follow(fd)
                while True:
                    await anyio.sleep(_PEEK_PERIOD)
                    for fd in [fd for fd in self._calls if self._has_left(fd)]:
                        call = self._calls.get(fd)
                        self.forget(fd)
                        _tell(fd, call)
        finally:
            self._tasks = None
            self._scopes.clear()

    def _follow(self, fd: int) -> None:
        """Start the task of a descriptor; if no run is under way, the next one does."""
        if self._tasks is not None:
            scope = self._scopes[fd] = anyio.CancelScope()
            self._tasks.start_soon(self._read_on, fd, scope)

    def _stop_following(self, fd: int) -> None:
        scope = self._scopes.pop(fd, None)
        if scope is not None:
            scope.cancel()
            anyio.notify_closing(fd)  # the task may be waiting: the next owner of the descriptor must not find it there

    async def _read_on(self, fd: int, scope: anyio.CancelScope) -> None:
        with scope:
            while not scope.cancel_called:
                try:
                    await anyio.wait_readable(fd)
                except anyio.ClosedResourceError:
                    return
                if not scope.cancel_called:
                    _tell(fd, self._readers.get(fd))

    def _has_left(self, fd: int) -> bool:
        sock = socket.socket(fileno=fd)
        try:
            if sock.recv(1, socket.MSG_PEEK):
                return False
            # A reset that comes after the FIN shows only as the socket's error.
            return self._half_close[fd] or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            sock.detach()
