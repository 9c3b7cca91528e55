"""The parent process of ``--reload``: watch files, and start a new serving child after each change.

It keeps the child's listening sockets and passes them to the next child. So the port stays open, and clients wait
between two children instead of being refused. While broken code lets no child start, a stand-in answers 503.
``child`` is the child's side; ``watch`` says which files count.
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
from coserver.app.sockets import BoundListener
from coserver.transport.unix_socket import SocketFile

from .. import console
from .child import AFTER_GRACE, GRACE, VARIABLE, as_sockets, file_from_json, file_to_json
from .standin import StandIn
from .watch import INSTALL, MISSING, WatchedFolders, can_watch

#: Bytes and descriptors of one message: far more than any app's listeners need; Linux passes at most 253.
_MESSAGE, _DESCRIPTORS = 1 << 20, 253

Event = tuple[str, Any]


class ChildProcess:
    """One child. Its messages and its end become events."""

    def __init__(self, command: list[str], kept: dict[str, list[BoundListener]], events: SimpleQueue[Event]) -> None:
        self.grace = GRACE
        self.failure = ""
        self.cannot_listen = False
        self._terminal = _terminal_state()
        self._channel, theirs = socket.socketpair()
        listeners: list[tuple[str, str, str, str, list[Any] | None, list[int]]] = [
            (app, one.name, one.host, one.path, file_to_json(one.file), [sock.fileno() for sock in one.sockets])
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
        """Ask the child to drain within ``grace`` seconds (None: its own grace). ``signals`` were received so far."""
        try:
            self._channel.sendall(json.dumps({"grace": grace, "signals": signals}).encode() + b"\n")
        except OSError:
            pass  # it has ended

    def end(self, within: float) -> None:
        """Wait ``within`` seconds for the child's end, then kill it."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            if self._terminal is not None:  # a debugger's prompt may have turned echo off
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
            pass  # reset: the child has ended
        self.process.wait()
        events.put(("ended", self))


def _terminal_state() -> list[Any] | None:
    try:
        return termios.tcgetattr(0)
    except (termios.error, OSError):
        return None  # stdin is not a terminal


def _as_kept(listeners: list[list[Any]], fds: list[int]) -> Iterator[tuple[str, BoundListener]]:
    """Each listener with its app's name."""
    left = iter(fds)
    for app, name, host, path, protocol, file, count in listeners:
        sockets = as_sockets([next(left) for _ in range(count)])
        found = file_from_json(file)
        yield app, BoundListener(name, host, path, sockets, kept=True, protocol=protocol, file=found)


class Reloader:
    """Starts children by ``command``. With ``shows_errors`` the stand-in shows the code's error to clients."""

    def __init__(self, command: list[str], folders: Iterable[Path], *, shows_errors: bool) -> None:
        self._command = command
        self._watched = WatchedFolders(folders)
        self._events: SimpleQueue[Event] = SimpleQueue()  # reentrant: signal handlers put into it
        self._kept = registry.inherited  # the stand-in takes them from there
        self._stand_in = StandIn(shows_errors=shows_errors)
        self._moved = False  # a child could not listen, so the kept sockets were closed

    def run(self) -> int:
        """Supervise until SIGINT or SIGTERM; the exit code."""
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
        """Supervise one child. None if the next child is due, else the exit code."""
        while True:
            kind, what = self._events.get()
            if kind == "signal":
                return self._leave(child, what)
            if kind == "blind":
                console.error(f"files cannot be watched: {what}", "watch fewer folders: --reload-dir FOLDER")
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
                    # The new code may listen elsewhere; the kept sockets may block its address.
                    self._moved = True
                    self._let_go()
                    return None
                console.waiting_for_change(child.process.returncode)
                self._stand_in.start([one for some in self._kept.values() for one in some], child.failure)

    def _renew(self, child: ChildProcess, files: dict[Path, str]) -> None:
        """End the child. Changes that arrive meanwhile are dropped: the next child reads them anyway."""
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

    def _keep(self, listeners: list[tuple[str, BoundListener]]) -> None:
        self._moved = False
        self._let_go(but={one.file for _, one in listeners})
        for app, one in listeners:
            self._kept.setdefault(app, []).append(one)

    def _let_go(self, but: Iterable[SocketFile | None] = ()) -> None:
        """Close the kept sockets. Remove the files of UNIX sockets, but for those in ``but``, which are in use."""
        for one in (one for some in self._kept.values() for one in some):
            if one.file is not None and one.file not in but:
                one.file.remove()
            one.close()
        self._kept.clear()

    def _leave(self, child: ChildProcess, number: int) -> int:
        """Ctrl+C or SIGTERM drains; the second one stops at once; the third one kills."""
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
        """Wait for the child's end; true if a signal came first."""
        until = time.monotonic() + within
        while child.running and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(Empty):
                if self._events.get(timeout=min(left, threading.TIMEOUT_MAX))[0] == "signal":
                    return True
        return False


def child_command() -> list[str]:
    """The command line of this process, with the interpreter's options."""
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)]
    if options and options[-1] in ("-m", "-c"):
        del options[-1]
    return [sys.executable, *options, "-m", "coserver_cli", *sys.argv[1:]]


@contextlib.contextmanager
def _signals(events: SimpleQueue[Event]) -> Iterator[None]:
    def on_signal(number: int, _: FrameType | None) -> None:
        events.put(("signal", number))

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(folders: Iterable[Path], told: Iterable[str] = (), *, shows_errors: bool) -> int:
    """Run this command in child processes, a new one after each change in ``folders``; the exit code.

    ``told`` are further arguments for the children.
    """
    if not can_watch():
        console.error(MISSING, INSTALL)
        return 1
    return Reloader([*child_command(), *told], folders, shows_errors=shows_errors).run()
