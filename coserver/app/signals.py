"""SIGINT, SIGTERM and SIGHUP of a server in the foreground: at its start, during its run, in forked children."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskStatus

from ..server.handler.errors import SetupError
from .server import Server

log = logging.getLogger("coserver.app")

OnSignal = Callable[[Server, int], None]

#: The signals that this process handles now.
_handled: list[int] = []


@contextmanager
def ends_the_start(ended_by: list[int]) -> Iterator[None]:
    """Treat SIGTERM like Ctrl+C during the start, so that a half-entered lifespan is left in order."""
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        ended_by.append(number)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def handle_signals(
    server: Server, ended_by: list[int], on_signal: OnSignal | None, *, task_status: TaskStatus[None]
) -> None:
    """Handle signals: the first drains, the second cancels, the third kills the process. SIGHUP reloads certificates.

    ``server.stop`` cannot end a handler that no cancellation reaches: that is why the third kills.
    """
    handled = [signal.SIGINT, signal.SIGTERM]
    if server.has_certificates and hasattr(signal, "SIGHUP"):
        handled.append(signal.SIGHUP)
    at_terminal = _has_terminal()
    with anyio.open_signal_receiver(*handled) as signals, _registered(handled):
        task_status.started()
        async for number in signals:
            # SIGHUP also means that the terminal is gone: then it ends the server, since nobody is there to stop it.
            if number not in (signal.SIGINT, signal.SIGTERM) and (_has_terminal() or not at_terminal):
                await anyio.to_thread.run_sync(_reload_certificates, server)
                continue
            ended_by.append(number)
            if len(ended_by) > 2:  # a handler that no cancellation reaches keeps the process alive
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            if on_signal is not None:
                on_signal(server, len(ended_by))
            server.stop(None if len(ended_by) == 1 else 0)


def _reload_certificates(server: Server) -> None:
    try:
        server.reload_certificates()
    except SetupError as error:
        log.error("%s", error)


def _has_terminal() -> bool:
    """Whether this process has a terminal that still exists."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextmanager
def _registered(numbers: Iterable[int]) -> Iterator[None]:
    _handled.extend(numbers)
    try:
        yield
    finally:
        _handled.clear()


def _forget() -> None:
    """Restore the default handlers in a forked child.

    The child has inherited the parent's handlers, and the descriptor by which asyncio's loops learn of signals. Without
    this, a child that is terminated, as multiprocessing.Pool does it, would stop the parent's server instead.
    """
    if _handled:
        signal.set_wakeup_fd(-1)
        for number in _handled:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _handled.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
