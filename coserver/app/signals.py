"""SIGINT, SIGTERM and SIGHUP of a server in the foreground: at its start, during its run, in forked children."""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic

import anyio
from anyio.abc import TaskStatus

from ..server.handler.errors import SetupError
from .server import Server
from .standstill import LoopWatch

log = logging.getLogger("coserver.app")

OnSignal = Callable[[Server, int], None]

#: Seconds between two looks at a loop that has had a signal, and the time after which it counts as standing still.
_LOOK = 1.0
#: Seconds for the last turns of a loop, after the grace and the time for cleaning up.
_LAST_TURNS = 2.0
#: Seconds for the last log line and for removing files: a handler may hold the locks that these need.
_LAST_WORDS = 2.0

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

    ``server.stop`` cannot end a handler that no cancellation reaches: that is why the third kills. A loop that stands
    still hears no signal: then ``Enforcer`` acts.
    """
    handled = [signal.SIGINT, signal.SIGTERM]
    if server.has_certificates and hasattr(signal, "SIGHUP"):
        handled.append(signal.SIGHUP)
    at_terminal = _has_terminal()
    with anyio.open_signal_receiver(*handled) as signals, _registered(handled), Enforcer(server):
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


class Enforcer:
    """Hears SIGINT and SIGTERM in a thread, and ends the process if the loop stands still and so cannot.

    After the first signal the loop has its grace. A second signal ends a loop that stands at once. The thread reads the
    numbers that Python's own handler writes in C, whatever the main thread does, and passes them on to the loop.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        limits = server.settings.limits
        self._patience = limits.grace + limits.cleanup_timeout + _LAST_TURNS
        self._numbers: list[int] = []
        self._ends_at = math.inf
        self._told = False

    def __enter__(self) -> Enforcer:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._loops = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._live, name="coserver signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        other = signal.set_wakeup_fd(self._loops, warn_on_full_buffer=False)
        if other != self._writes:  # another library has taken it since
            signal.set_wakeup_fd(other, warn_on_full_buffer=False)
        os.close(self._writes)  # the thread reads the end

    def _live(self) -> None:
        poll = select.poll()
        poll.register(self._reads, select.POLLIN)
        try:
            while True:
                if poll.poll(_LOOK * 1000 if self._numbers else None):
                    data = os.read(self._reads, 64)
                    if not data:
                        return
                    self._hear(data)
                if self._numbers:
                    self._look()
        finally:
            os.close(self._reads)

    def _hear(self, data: bytes) -> None:
        if self._loops >= 0:
            try:
                os.write(self._loops, data)
            except OSError:
                pass  # it is full, and will wake the loop anyway; or the loop has ended
        for number in data:
            if number in (signal.SIGINT, signal.SIGTERM):
                self._numbers.append(number)
                patience = self._patience if len(self._numbers) == 1 else _LOOK
                self._ends_at = min(self._ends_at, monotonic() + patience)

    def _look(self) -> None:
        watch = self._server.loop_watch
        if watch is None:
            return
        try:
            watch.ask()
        except RuntimeError:
            return  # the loop has ended
        if watch.stood < _LOOK * 0.9:
            return
        if not self._told and len(self._numbers) == 1:
            self._told = True
            log.warning("the event loop stands still%s, and hears no signal: another ends the process at once, else "
                        "it ends in %.0f s", _where(watch), max(self._ends_at - monotonic(), 0.0))  # fmt: skip
        if monotonic() >= self._ends_at:
            end_by_force(self._server, self._numbers[0])


def _where(watch: LoopWatch) -> str:
    found = watch.standstill(0.0)
    return "" if found is None else f", at {found.place}"


def end_by_force(server: Server, number: int) -> None:
    """End the process as a signal would, after a last line in the log. Does not return."""

    def last_words() -> None:
        watch = server.loop_watch
        where = _where(watch) if watch is not None else ""
        log.error("the process is ended by force: its event loop stands still%s", where)
        logging.shutdown()

    for work in (last_words, server.remove_files):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(_LAST_WORDS)
    os._exit(128 + number)


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
