"""Tells whether an original blocking call would have had to wait inside a worker. It looks, by poll(2), not at a clock.

A shim must never hand a worker to an original that waits: that would stop the loop. The families keep their originals
in their modules, as ``_recv``, ``_sleep`` and so on; those are watched here for as long as the oracle is entered.
"""

from __future__ import annotations

import _socket
import select
import traceback
from _thread import TIMEOUT_MAX
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from coserver.hooks.locks import mutex, rlock, simple_queue
from coserver.hooks.shims import sleep, sockets
from coserver.hooks.workers import in_worker

_READ = ("_recv", "_recv_into", "_recvfrom", "_recvfrom_into", "_recvmsg", "_recvmsg_into")
_WRITE = ("_send", "_sendto", "_sendmsg")
_poll = select.poll
_acquire, _release = rlock._acquire, rlock._release


class Oracle:
    """``problems``: where a worker would have waited."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.looks = 0
        self._stack = ExitStack()

    def __enter__(self) -> Oracle:
        for name in _READ:
            self._watch(sockets, name, lambda sock, args: self._socket(sock, args, select.POLLIN | select.POLLPRI))
        for name in _WRITE:
            self._watch(sockets, name, lambda sock, args: self._socket(sock, args, select.POLLOUT))
        self._watch(sockets, "_accept", lambda sock, args: self._socket(sock, args, select.POLLIN))
        for name in ("_connect", "_connect_ex"):
            self._watch(sockets, name, lambda sock, args: _C_timeout(sock) != 0)
        for name in ("_sendall", "_sendfile"):
            self._watch(sockets, name, lambda sock, args: _C_timeout(sock) != 0)
        self._watch(mutex, "_acquire", lambda lock, args: _blocks(args) and lock.locked())
        self._watch(rlock, "_acquire", lambda lock, args: _blocks(args) and not _free(lock))
        self._watch(simple_queue, "_get", lambda queue, args: _blocks(args) and queue.empty())
        self._watch(sleep, "_sleep", lambda seconds, args: _is_time(seconds))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self) -> None:
        assert not self.problems, "\n".join(self.problems)

    def _watch(self, module: Any, name: str, waits: Callable[[Any, tuple[Any, ...]], bool]) -> None:
        original = getattr(module, name)

        def watched(*args: Any) -> Any:
            self.looks += 1
            if in_worker() and waits(args[0], args[1:]):
                stack = "".join(traceback.format_stack(limit=6))
                self.problems.append(f"{name} would have waited in a worker:\n{stack}")
            return original(*args)

        self._stack.enter_context(mock.patch.object(module, name, watched))

    def _socket(self, sock: Any, args: tuple[Any, ...], mask: int) -> bool:
        if _C_timeout(sock) == 0 or sock.fileno() < 0:
            return False
        # With a timeout the call waits by itself, whatever its flags say.
        if _C_timeout(sock) is None and any(isinstance(one, int) and one & _socket.MSG_DONTWAIT for one in args):
            return False
        poll = _poll()
        poll.register(sock.fileno(), mask)
        return not poll.poll(0)


def _blocks(args: tuple[Any, ...]) -> bool:
    return not args or bool(args[0])


def _is_time(seconds: Any) -> bool:
    return isinstance(seconds, int | float) and 0 < seconds <= TIMEOUT_MAX


def _free(lock: Any) -> bool:
    """Whether this thread may take an RLock at once."""
    free: bool = _acquire(lock, False)
    if free:
        _release(lock)
    return free


def _C_timeout(sock: Any) -> float | None:  # noqa: N802
    found: float | None = _socket.socket.gettimeout(sock)
    return found


@contextmanager
def watching() -> Iterator[Oracle]:
    """An oracle of its own, for a test of the oracle."""
    with Oracle() as oracle:
        yield oracle
