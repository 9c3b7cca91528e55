"""SIGINT, SIGTERM and SIGHUP of a server in the foreground: while it starts, while it runs, and in forked children."""

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

#: Those that are heeded now, in this process.
_heeded: list[int] = []


@contextmanager
def ends_the_start(ended_by: list[int]) -> Iterator[None]:
    """Until signals are heeded, SIGTERM does what Ctrl+C does: the app's lifespan, half begun, ends as it should."""
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


async def heed_signals(
    server: Server, ended_by: list[int], on_signal: OnSignal | None, *, task_status: TaskStatus[None]
) -> None:
    """The first signal drains, the second ends at once, the third kills the process. SIGHUP: read certificates."""
    heeded = [signal.SIGINT, signal.SIGTERM]
    if server.has_certificates and hasattr(signal, "SIGHUP"):
        heeded.append(signal.SIGHUP)
    at_terminal = _has_terminal()
    with anyio.open_signal_receiver(*heeded) as signals, _known(heeded):
        task_status.started()
        async for number in signals:
            # The same signal says that the terminal is gone, and nobody there to stop the server any more.
            if number not in (signal.SIGINT, signal.SIGTERM) and (_has_terminal() or not at_terminal):
                await anyio.to_thread.run_sync(_reload_certificates, server)
                continue
            ended_by.append(number)
            if len(ended_by) > 2:  # what no cancellation reaches keeps the process alive
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
    """Whether this process belongs to a terminal that is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextmanager
def _known(heeded: Iterable[int]) -> Iterator[None]:
    _heeded.extend(heeded)
    try:
        yield
    finally:
        _heeded.clear()


def _forget() -> None:
    """In a forked child: what it is sent is its own, and nothing that its parent's event loop is to hear of.

    It has inherited the parent's handlers, and the descriptor by which asyncio's loops learn of signals: a child that
    is terminated, as multiprocessing.Pool does it, would stop the server in its place.
    """
    if _heeded:
        signal.set_wakeup_fd(-1)
        for number in _heeded:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _heeded.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
