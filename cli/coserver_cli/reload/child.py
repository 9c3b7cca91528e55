"""The child process of ``--reload``: it serves until its parent stops it and starts the next one.

The parent keeps the listening sockets, and passes them through the environment. Parent and child share a socket pair:
the child reports when it listens, or why it cannot; the parent says when to stop. If the pair closes, the parent is
gone, and the child ends too, so that no orphan keeps the port.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
import time
from typing import Any

from coserver import Server
from coserver.app import registry
from coserver.app.sockets import BoundListener
from coserver.transport.unix_socket import SocketFile

from .. import console

#: Set by the parent: the descriptors of the socket pair and of each listener.
VARIABLE = "COSERVER_INHERIT"
#: Seconds for running requests at a reload, and when the parent is gone. Short: the user waits for the reload.
GRACE = 1.0
#: Further seconds after a grace, for a lifespan's shutdown and exit handlers.
AFTER_GRACE = 3.0


class Child:
    """This process as a child. A thread reads the parent's messages."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._server: Server | None = None
        self._said = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="coserver reload", daemon=True).start()

    def ready(self, server: Server) -> bool:
        """The server listens: send its sockets to the parent. True if all of them came from the parent."""
        self._server = server
        bound = registry.keep(server)
        listeners = [
            [server.name, b.name, b.host, b.path, b.address.scheme, file_to_json(b.file), len(b.sockets)] for b in bound
        ]
        self._say(
            {"listeners": listeners, "grace": server.settings.limits.grace},
            [sock.fileno() for one in bound for sock in one.sockets],
        )
        before = _release_inherited()
        return all(_place(one) in before for one in bound)

    def failed(self, message: str, *, listening: bool = False) -> None:
        """Report why nothing is served. With ``listening`` the address could not be bound."""
        _release_inherited()
        self._say({"failed": message, "listening": listening}, [])

    def stopping(self, server: Server, signals: int) -> None:
        """Print that the server drains, or stops at once. Once: Ctrl+C comes from the terminal and from the parent."""
        with self._lock:
            if signals > self._said:
                self._said = signals
                console.stopping(server, signals)

    def _say(self, message: object, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._channel, [json.dumps(message).encode() + b"\n"], descriptors)
        except OSError:
            pass  # the parent is gone; the thread notices

    def _listen(self) -> None:
        """Obey the parent's messages until it is gone."""
        try:
            with self._channel.makefile("r") as said:
                for line in said:
                    message = json.loads(line)
                    if message["signals"] and self._server is not None:
                        self.stopping(self._server, message["signals"])
                    self._stop(message["grace"])
        except OSError:
            pass  # a reset: the parent was killed before it had read this side's messages
        finally:
            self._stop(GRACE)
            time.sleep(GRACE + AFTER_GRACE)
            os._exit(1)

    def _stop(self, grace: float | None) -> None:
        if self._server is not None:
            self._server.begin_stop(grace)
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # the user's module may still be importing


def join_parent() -> Child | None:
    """This process as a child, or None if no parent has started it as one.

    Called before the app is imported: processes that the app starts must inherit neither the variable nor the sockets.
    """
    said = os.environ.pop(VARIABLE, "")
    try:
        given = json.loads(said)
        descriptors = [given["channel"], *(fd for *_, fds in given["listeners"] for fd in fds)]
        if not all(stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in descriptors):
            return None
    except (ValueError, TypeError, KeyError, OSError):
        return None  # not set, or a leftover in the environment
    for app, name, host, path, file, fds in given["listeners"]:
        one = BoundListener(name, host, path, as_sockets(fds), kept=True, file=file_from_json(file))
        registry.inherited.setdefault(app, []).append(one)
    channel = socket.socket(fileno=given["channel"])
    for fd in descriptors:
        os.set_inheritable(fd, False)
    return Child(channel)


def _release_inherited() -> list[tuple[str, int, str]]:
    """Close the sockets from the parent; the server has duplicates of those it uses. The addresses of all."""
    inherited = [one for some in registry.inherited.values() for one in some]
    registry.inherited.clear()
    for one in inherited:
        one.close()
    return [_place(one) for one in inherited]


def _place(one: BoundListener) -> tuple[str, int, str]:
    return one.host, one.address.port, one.path


def file_to_json(file: SocketFile | None) -> list[Any] | None:
    """The file of a UNIX socket, for a message to the other process."""
    return None if file is None else [file.path, file.device, file.inode]


def file_from_json(given: list[Any] | None) -> SocketFile | None:
    """The file that the other process named."""
    return None if given is None else SocketFile(*given)


def as_sockets(descriptors: list[int]) -> list[socket.socket]:
    """Listening sockets, made from descriptors of another process."""
    sockets = [socket.socket(fileno=fd) for fd in descriptors]
    for sock in sockets:
        # They are non-blocking, but a new socket object does not know: its dup() would make them block, in both
        # processes.
        sock.setblocking(False)
    return sockets
