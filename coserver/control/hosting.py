"""The control of one server: its sockets, and a thread with a loop of its own that answers on them.

The server's own loop is never asked to serve it: a server whose loop is stuck can still be looked at.
"""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import dataclass

import anyio

from ..lifecycle.emitter import Emitter
from ..protocol.codecs import choose_codec
from ..server.connection import HttpConnection
from ..server.limits import Limits
from ..server.service import Service, Story
from ..transport.listener import Listener, bind_tcp
from ..transport.loop import poster
from . import place
from .api import Api, Controlled
from .guard import check_token, guard

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


class Control:
    """``start`` returns when it listens; ``stop`` when its thread has ended."""

    def __init__(self, server: Controlled, version: str, where: Where) -> None:
        """Binds its sockets. Raises OSError, ValueError."""
        if where.port is not None:
            check_token(where.token)
        self._server = server
        self._where = where
        self._sockets: list[socket.socket] = []
        self._post = _nothing
        self._started = threading.Event()
        self._api = Api(server, version, guard(where.token))
        try:
            if where.path:
                bound = place.bind_default(server.name) if where.path == "auto" else place.bind(where.path)
                self._sockets.append(bound)
            if where.port is not None:
                self._sockets += bind_tcp(where.host, where.port)
        except BaseException:
            self._close()
            raise
        self.path: str = bound.getsockname() if where.path else ""
        self._thread = threading.Thread(target=self._live, name=f"coserver control {server.name}", daemon=True)

    def __repr__(self) -> str:
        return f"<Control of {self._server.name!r} at {self.path or self.port}>"

    @property
    def port(self) -> int | None:
        """The TCP port, if it has one."""
        tcp = [one for one in self._sockets if one.family != socket.AF_UNIX]
        return tcp[0].getsockname()[1] if tcp else None

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End every stream, and with them every stepper. Twice is fine."""
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
            log.exception("the control of %r has failed", self._server.name)
        finally:
            self._close()
            self._started.set()

    async def _main(self) -> None:
        service = Service(self._api.router(), LIMITS, choose_codec("auto"), Emitter())
        post = poster()

        def stop() -> None:
            self._api.close()
            service.stop()

        self._post = lambda: post(stop)
        listeners: list[tuple[Listener, Story]] = [
            (Listener(sock.dup(), service.loop), HttpConnection) for sock in self._sockets
        ]
        self._started.set()
        await service.run(listeners, lambda: None)

    def _close(self) -> None:
        for sock in self._sockets:
            if sock.family == socket.AF_UNIX:
                place.remove(sock)
            else:
                sock.close()


def _nothing() -> None:
    """Not started yet, or never."""
