"""systemd's two protocols: sockets that it passes (sd_listen_fds(3)), and notifications to it (sd_notify(3))."""

from __future__ import annotations

import os
import socket

from coserver.app import registry
from coserver.app.sockets import from_systemd


def take_sockets() -> None:
    """Let the next server listen on the sockets that systemd passed to this process. Raises SetupError."""
    registry.systemd_sockets[:] = from_systemd(os.environ)


def tell(state: str) -> None:
    """Notify the service manager, if there is one: READY=1, STOPPING=1. Failures are ignored."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError:
        pass
