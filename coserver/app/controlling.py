"""A running server's control: there before the first client is accepted, gone after the last has left."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import anyio

from .sockets import CannotListen

if TYPE_CHECKING:
    from ..control.host import Control
    from .server import Server

log = logging.getLogger("coserver.control")


def make_control(server: Server) -> Control | None:
    """Its control, if the settings ask for one; it begins with ``controlling``.

    The usual place is no condition: a server that cannot have it serves, and says so. Raises CannotListen for a place
    that was named.
    """
    settings = server.settings
    path = "" if settings.control == "off" else settings.control
    if not path and settings.control_port is None:
        return None
    from ..control.host import Control, Where  # not loaded where nobody controls

    try:
        return Control(server, _version(), Where(path, "127.0.0.1", settings.control_port, settings.control_token))
    except OSError as error:
        why = error.strerror or str(error)
        if settings.control != "auto" or settings.control_port is not None:
            raise CannotListen(error.errno, f"no control socket: {why}") from error
        log.warning("%r cannot be controlled: %s", server.name, why)
        return None


@asynccontextmanager
async def controlling(server: Server) -> AsyncIterator[None]:
    """Its control answers during the block."""
    control = server.control
    if control is None:
        yield
        return
    # In a thread: a control begins and ends in a thread of its own, and this loop has clients to serve.
    await anyio.to_thread.run_sync(control.start)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(control.stop)


def _version() -> str:
    try:
        return version("coserver")
    except PackageNotFoundError:  # a source tree on the path
        return "unknown"
