"""The control of one server: its sockets, and a thread with a loop of its own that answers on them.

The server's own loop is never asked to serve it: a server whose loop is stuck can still be looked at.
"""

from __future__ import annotations

import _socket
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from ..lifecycle.emitter import Emitter
from ..protocol.codecs import choose_codec
from ..server.http.http1 import HttpConnection
from ..server.limits import Limits
from ..server.router import Router
from ..server.service import MakeConnection, Service
from ..transport.listener import Listener, bind_tcp
from ..transport.loop import poster
from ..transport.unix_socket import SocketFile
from . import socket_path as place
from .api import Api
from .auth import check_token, guard
from .server_handle import ServerHandle

#: Those who ask are the server's own people, and few; whoever reads nothing for ten seconds is gone.
LIMITS = Limits(max_connections=100, body_size=1 << 20, write_timeout=10.0, grace=1.0)

log = logging.getLogger("coserver.control")


@dataclass(frozen=True, slots=True)
class Where:
    """Where to listen. ``path`` is a UNIX socket's, "auto" for the usual place, "" for none; TCP needs a token."""

    path: str = "auto"
    host: str = "127.0.0.1"
    port: int | None = None
    token: str | None = None


class Answering:
    """Sockets, and a thread with a loop of its own that answers on them; ``start`` returns when it does."""

    def __init__(self, name: str, sockets: list[socket.socket], router: Router, ends: Callable[[], None]) -> None:
        """``ends`` is called on the loop when the end begins."""
        self.name = name
        self._sockets = sockets
        self._file: SocketFile | None = None
        self._router = router
        self._ends = ends
        self._post = _nothing
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"coserver {name}", daemon=True)

    @property
    def port(self) -> int | None:
        """The TCP port, if it has one."""
        tcp = [one for one in self._sockets if one.family != socket.AF_UNIX]
        return tcp[0].getsockname()[1] if tcp else None

    def start(self) -> None:
        _open.add(self)
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End every stream, and with them every stepper; returns when the thread has ended. Twice is fine."""
        try:
            self._post()
        except RuntimeError:
            pass  # its loop has ended
        if self._thread.is_alive():
            self._thread.join()

    def _live(self) -> None:
        try:
            anyio.run(self._main)
        except Exception:
            log.exception("the %s has failed", self.name)
        finally:
            self.close()
            self._started.set()

    async def _main(self) -> None:
        service = Service(self._router, LIMITS, choose_codec("auto"), Emitter())
        post = poster()

        def stop() -> None:
            self._ends()
            service.stop()

        self._post = lambda: post(stop)
        listeners: list[tuple[Listener, MakeConnection]] = [
            (Listener(sock.dup(), service.loop), HttpConnection) for sock in self._sockets
        ]
        self._started.set()
        await service.run(listeners, lambda: None)

    def close(self) -> None:
        """Close the sockets, and remove the file of the UNIX socket."""
        _open.discard(self)
        if self._file is not None:
            self._file.remove()
        for sock in self._sockets:
            sock.close()


    def forget(self) -> None:
        """Close this process's descriptors alone, in a forked child."""
        self._file = None
        for sock in self._sockets:
            _socket.socket.close(sock)  # not the socket's own, which may be hooked


class Control(Answering):
    """The control of one server."""

    def __init__(self, server: ServerHandle, version: str, where: Where) -> None:
        """Binds its sockets. Raises OSError, ValueError."""
        if where.port is not None:
            check_token(where.token)
        self._server = server
        api = Api(server, version, guard(where.token))
        super().__init__(f"control {server.name}", [], api.router(), api.close)
        try:
            if where.path:
                bound, self._file = (
                    place.bind_default(server.name) if where.path == "auto" else place.bind(where.path)
                )
                self._sockets.append(bound)
            if where.port is not None:
                self._sockets += bind_tcp(where.host, where.port)
        except BaseException:
            self.close()
            raise
        self.path: str = bound.getsockname() if where.path else ""

    def __repr__(self) -> str:
        return f"<Control of {self._server.name!r} at {self.path or self.port}>"


def _nothing() -> None:
    """Not started yet, or never."""


#: What answers in this process.
_open: set[Answering] = set()


def _after_fork() -> None:
    """Close the sockets in a forked child; the parent's go on."""
    for one in tuple(_open):
        one.forget()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
