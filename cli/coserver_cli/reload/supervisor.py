"""``--reload``: a process that serves nothing, watches files, and starts a child that serves anew after each change.

It keeps the child's listening sockets and hands them to the next one, so the port stays and clients wait between two
children instead of being refused. While no child can be had since the code is broken, a stand-in answers 503.
The child's side is ``child``; which files count is ``watching``'s to say.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from coserver.app import registry
from coserver.app.sockets import Bound

from .. import console
from .child import AFTER_GRACE, GRACE, VARIABLE, as_sockets
from .standin import StandIn
from .watch import INSTALL, MISSING, WatchedFolders, can_watch

#: What a message and its sockets may take: far more than any app's listeners; Linux passes 253 descriptors at most.
_MESSAGE, _DESCRIPTORS = 1 << 20, 253

Event = tuple[str, Any]


class ChildProcess:
    """One child. What it says, and its end, come as events."""

    def __init__(self, command: list[str], kept: dict[str, list[Bound]], events: SimpleQueue[Event]) -> None:
        self.grace = GRACE
        self.failure = ""
        self.cannot_listen = False
        self._terminal = _terminal_state()
        self._channel, theirs = socket.socketpair()
        listeners: list[tuple[str, str, str, str, list[int]]] = [
            (app, one.name, one.host, one.path, [sock.fileno() for sock in one.sockets])
            for app, some in kept.items()
            for one in some
        ]
        fds = [theirs.fileno(), *(fd for *_, fds in listeners for fd in fds)]
        inherit = json.dumps({"channel": theirs.fileno(), "listeners": listeners})
        with theirs:
            self.process = subprocess.Popen(command, pass_fds=fds, env={**os.environ, VARIABLE: inherit})
        self._thread = threading.Thread(target=self._listen, args=(events,), name="coserver child", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self, grace: float | None, signals: int = 0) -> None:
        """Ask it to drain within ``grace`` seconds, None being its own, and to say so if ``signals`` asked for it."""
        try:
            self._channel.sendall(json.dumps({"grace": grace, "signals": signals}).encode() + b"\n")
        except OSError:
            pass  # it has ended

    def end(self, within: float) -> None:
        """Wait for its end, or make one."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            if self._terminal is not None:  # a debugger's prompt may have left it without echo
                termios.tcsetattr(0, termios.TCSANOW, self._terminal)
        self._thread.join()
        self._channel.close()

    def _listen(self, events: SimpleQueue[Event]) -> None:
        try:
            while said := socket.recv_fds(self._channel, _MESSAGE, _DESCRIPTORS):
                text, fds, _, _ = said
                if not text:
                    break
                for line in text.splitlines():
                    message = json.loads(line)
                    if "failed" in message:
                        self.failure, self.cannot_listen = message["failed"], message["listening"]
                    else:
                        self.grace = message["grace"]
                        events.put(("listens", (self, list(_as_kept(message["listeners"], fds)))))
        except (OSError, ValueError):
            pass  # reset: it has ended
        self.process.wait()
        events.put(("ended", self))


def _terminal_state() -> list[Any] | None:
    try:
        return termios.tcgetattr(0)
    except (termios.error, OSError):
        return None  # stdin is no terminal


def _as_kept(listeners: list[list[Any]], fds: list[int]) -> Iterator[tuple[str, Bound]]:
    """Each listener with its app's name."""
    left = iter(fds)
    for app, name, host, path, protocol, count in listeners:
        sockets = as_sockets([next(left) for _ in range(count)])
        yield app, Bound(name, host, path, sockets, kept=True, protocol=protocol)


class Reloader:
    """``command`` starts a child; ``shows_errors``: the stand-in tells clients what is wrong with the code."""

    def __init__(self, command: list[str], folders: Iterable[Path], *, shows_errors: bool) -> None:
        self._command = command
        self._watched = WatchedFolders(folders)
        self._events: SimpleQueue[Event] = SimpleQueue()  # its put may interrupt itself: signal handlers use it
        self._kept = registry.inherited  # where the stand-in finds them
        self._stand_in = StandIn(shows_errors=shows_errors)
        self._moved = False  # a child could not listen, so what was kept has been let go

    def run(self) -> int:
        """Until SIGINT or SIGTERM; the exit code."""
        console.watching(self._watched.folders)
        end_watch = self._watched.watch(
            lambda files: self._events.put(("changed", files)), lambda why: self._events.put(("blind", why))
        )
        child: ChildProcess | None = None
        with _signals(self._events):
            try:
                while True:
                    child = ChildProcess(self._command, self._kept, self._events)
                    code = self._until_change(child)
                    if code is not None:
                        return code
            finally:
                end_watch()
                self._stand_in.stop()
                if child is not None and child.running:
                    child.end(0)
                self._let_go()

    def _until_change(self, child: ChildProcess) -> int | None:
        """Watch over one child until another is due (None), or the end; then the exit code."""
        while True:
            kind, what = self._events.get()
            if kind == "signal":
                return self._leave(child, what)
            if kind == "blind":
                console.error(f"files cannot be watched: {what}", "watch fewer: --reload-dir FOLDER")
                child.stop(0)
                child.end(AFTER_GRACE)
                return 1
            if kind == "changed":
                self._renew(child, what)
                return None
            if kind == "listens" and what[0] is child:
                self._keep(what[1])
            elif kind == "ended" and what is child:
                child.end(0)
                if child.cannot_listen:
                    if self._moved or not self._kept:
                        return 1
                    # It listens elsewhere now, and our own sockets may be what is in its way.
                    self._moved = True
                    self._let_go()
                    return None
                console.waiting_for_change(child.process.returncode)
                self._stand_in.start([one for some in self._kept.values() for one in some], child.failure)

    def _renew(self, child: ChildProcess, files: dict[Path, str]) -> None:
        """Make way for the next child; what changes meanwhile is its already."""
        console.reloading(files)
        self._stand_in.stop()
        child.stop(GRACE)
        child.end(GRACE + AFTER_GRACE)
        later = []
        while True:
            try:
                event = self._events.get_nowait()
            except Empty:
                break
            if event[0] in ("signal", "blind"):
                later.append(event)
        for event in later:
            self._events.put(event)

    def _keep(self, listeners: list[tuple[str, Bound]]) -> None:
        self._moved = False
        self._let_go(but={one.path for _, one in listeners})
        for app, one in listeners:
            self._kept.setdefault(app, []).append(one)

    def _let_go(self, but: Iterable[str] = ()) -> None:
        """Close what is kept; the UNIX sockets' files go, except those that are listened on still."""
        for one in (one for some in self._kept.values() for one in some):
            one.close()
            if one.path and one.path not in but:
                Path(one.path).unlink(missing_ok=True)
        self._kept.clear()

    def _leave(self, child: ChildProcess, number: int) -> int:
        """Ctrl+C or SIGTERM: drain; again: at once; and once more: without asking."""
        self._stand_in.stop()
        if not child.running:
            console.stopped()
        for signals, grace in ((1, None), (2, 0.0)):
            child.stop(grace, signals)
            if not self._another_signal(child, (child.grace if grace is None else grace) + AFTER_GRACE):
                break
        child.end(0)
        return 128 + number if number == signal.SIGINT else 0

    def _another_signal(self, child: ChildProcess, within: float) -> bool:
        """Wait for the child's end; whether a signal came first."""
        until = time.monotonic() + within
        while child.running and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(Empty):
                if self._events.get(timeout=min(left, threading.TIMEOUT_MAX))[0] == "signal":
                    return True
        return False


def child_command() -> list[str]:
    """This very command again, with the interpreter's own options."""
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)]
    if options and options[-1] in ("-m", "-c"):
        del options[-1]
    return [sys.executable, *options, "-m", "coserver_cli", *sys.argv[1:]]


@contextlib.contextmanager
def _signals(events: SimpleQueue[Event]) -> Iterator[None]:
    def heed(number: int, _: FrameType | None) -> None:
        events.put(("signal", number))

    before = {number: signal.signal(number, heed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(folders: Iterable[Path], told: Iterable[str] = (), *, shows_errors: bool) -> int:
    """Serve what this command serves in child processes, anew after each change in ``folders``. The exit code.

    ``told``: what the children are told beside this command's own arguments.
    """
    if not can_watch():
        console.error(MISSING, INSTALL)
        return 1
    return Reloader([*child_command(), *told], folders, shows_errors=shows_errors).run()
