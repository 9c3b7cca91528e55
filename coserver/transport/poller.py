"""Notices that a client left while nobody reads from its connection; one epoll set, awaited by one task.

The set's own descriptor is what ``anyio.wait_readable`` waits for, so this is plain anyio on every backend. Where the
platform has no epoll, a fallback peeks at the watched sockets.
"""

from __future__ import annotations

import logging
import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

import anyio

log = logging.getLogger("coserver.transport")

#: Seconds between two peeks of the fallback; a quarter of the 100 ms in which a hang-up is to be noticed.
_PEEK_PERIOD = 0.025


def has_epoll() -> bool:
    return hasattr(select, "epoll")


class Poller(ABC):
    """Watches descriptors for a hang-up, each until it is told once or forgotten."""

    def __init__(self) -> None:
        self._calls: dict[int, Callable[[], None]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} watching {len(self._calls)}>"

    @abstractmethod
    def watch(self, fd: int, call: Callable[[], None], *, half_close: bool) -> None:
        """Call ``call()`` once when the peer of ``fd`` resets or closes; its FIN alone counts if ``half_close``."""

    @abstractmethod
    def forget(self, fd: int) -> None:
        """Stop watching; must come before the descriptor is closed. One that is not watched is no error."""

    @abstractmethod
    async def run(self) -> None:
        """Watch until cancelled."""

    def close(self) -> None:  # noqa: B027 - the fallback has nothing to let go of
        """Let go of what the operating system lent. It may be run again."""


def _tell(fd: int, call: Callable[[], None] | None) -> None:
    """``call`` is None for one that another's call has forgotten meanwhile."""
    if call is None:
        return
    try:
        call()
    except Exception:
        log.exception("hang-up of descriptor %d: %r raised", fd, call)


class EpollPoller(Poller):
    """Linux. EPOLLONESHOT: a level-triggered RDHUP would wake the task again and again until the handler has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll: select.epoll | None = None

    def watch(self, fd: int, call: Callable[[], None], *, half_close: bool) -> None:
        mask = select.EPOLLHUP | select.EPOLLERR | select.EPOLLONESHOT
        if half_close:
            mask |= select.EPOLLRDHUP
        self._calls[fd] = call
        self._set().register(fd, mask)

    def forget(self, fd: int) -> None:
        self._calls.pop(fd, None)
        if self._epoll is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # it was not watched

    async def run(self) -> None:
        epoll = self._set()
        while True:
            await anyio.wait_readable(epoll.fileno())
            for fd, _ in epoll.poll(0):
                # Disarmed by now; taken out as well, so that the descriptor may be watched again.
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
    """Anywhere: looks without taking. A FIN behind data that nobody has read yet is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self._half_close: dict[int, bool] = {}

    def watch(self, fd: int, call: Callable[[], None], *, half_close: bool) -> None:
        self._calls[fd] = call
        self._half_close[fd] = half_close

    def forget(self, fd: int) -> None:
        self._calls.pop(fd, None)
        self._half_close.pop(fd, None)

    async def run(self) -> None:
        while True:
            await anyio.sleep(_PEEK_PERIOD)
            for fd in [fd for fd in self._calls if self._has_left(fd)]:
                call = self._calls.get(fd)
                self.forget(fd)
                _tell(fd, call)

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
