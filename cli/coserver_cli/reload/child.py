"""The serving side of a reload: the process that ``reload`` starts anew after each change.

Its parent keeps the listening sockets, hands them over through the environment, and is at the other end of a socket
pair: this side says when it listens or why it cannot, that side when to stop. If it closes, the parent is gone, however
it went, and this process ends too: no orphan keeps the port.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
import time

from coserver import Server
from coserver.app import registry
from coserver.app.sockets import Bound

from .. import console

#: Set by the parent: the socket pair's descriptor, and each listener with its own.
VARIABLE = "COSERVER_INHERIT"
#: Seconds for running requests at a reload, and when the parent is gone: an editor's user waits for this.
GRACE = 1.0
#: Seconds on top of a grace, for what must end by itself: a lifespan's shutdown, the exit handlers.
AFTER_GRACE = 3.0


class Child:
    """This process as its parent's child. Its thread listens to the parent."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._server: Server | None = None
        self._said = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="coserver reload", daemon=True).start()

    def ready(self, server: Server) -> bool:
        """The server listens: give the parent its sockets to keep. Whether all of them came from the parent before."""
        self._server = server
        bound = registry.keep(server)
        listeners = [[server.name, b.name, b.host, b.path, b.address.scheme, len(b.sockets)] for b in bound]
        self._say(
            {"listeners": listeners, "grace": server.settings.limits.grace},
            [sock.fileno() for one in bound for sock in one.sockets],
        )
        before = _release_inherited()
        return all(_place(one) in before for one in bound)

    def failed(self, message: str, *, listening: bool = False) -> None:
        """Why nothing is served; ``listening``: it cannot listen there, which no change of the code mends."""
        _release_inherited()
        self._say({"failed": message, "listening": listening}, [])

    def stopping(self, server: Server, signals: int) -> None:
        """Say that it drains, or ends at once; once, though Ctrl+C comes twice, from the terminal and by the parent."""
        with self._lock:
            if signals > self._said:
                self._said = signals
                console.stopping(server, signals)

    def _say(self, message: object, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._channel, [json.dumps(message).encode() + b"\n"], descriptors)
        except OSError:
            pass  # the parent is gone: the thread finds out

    def _listen(self) -> None:
        """Heed the parent until it is gone."""
        try:
            with self._channel.makefile("r") as said:
                for line in said:
                    message = json.loads(line)
                    if message["signals"] and self._server is not None:
                        self.stopping(self._server, message["signals"])
                    self._stop(message["grace"])
        except OSError:
            pass  # a reset: it was killed before it had read what this side said
        finally:
            self._stop(GRACE)
            time.sleep(GRACE + AFTER_GRACE)
            os._exit(1)

    def _stop(self, grace: float | None) -> None:
        if self._server is not None:
            self._server.begin_stop(grace)
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # it may be anywhere in the user's module


def join_parent() -> Child | None:
    """This process as a child, if a parent has started it as one. Before the app is imported: it may start processes,
    which must inherit neither the variable nor the sockets."""
    said = os.environ.pop(VARIABLE, "")
    try:
        given = json.loads(said)
        descriptors = [given["channel"], *(fd for *_, fds in given["listeners"] for fd in fds)]
        if not all(stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in descriptors):
            return None
    except (ValueError, TypeError, KeyError, OSError):
        return None  # not set, or left over in somebody's environment
    for app, name, host, path, fds in given["listeners"]:
        registry.inherited.setdefault(app, []).append(Bound(name, host, path, as_sockets(fds), kept=True))
    channel = socket.socket(fileno=given["channel"])
    for fd in descriptors:
        os.set_inheritable(fd, False)
    return Child(channel)


def _release_inherited() -> list[tuple[str, int, str]]:
    """Close what came from the parent: the server has duplicates of what it wanted. The places it was for."""
    inherited = [one for some in registry.inherited.values() for one in some]
    registry.inherited.clear()
    for one in inherited:
        one.close()
    return [_place(one) for one in inherited]


def _place(one: Bound) -> tuple[str, int, str]:
    return one.host, one.address.port, one.path


def as_sockets(descriptors: list[int]) -> list[socket.socket]:
    """Listening sockets, made of descriptors that came from another process."""
    sockets = [socket.socket(fileno=fd) for fd in descriptors]
    for sock in sockets:
        # They do not block, but a new object does not know: its dup() would make them, in both processes.
        sock.setblocking(False)
    return sockets
