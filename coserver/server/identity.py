"""Who asked, as far as the connection itself tells, and an id for what was asked. What proxies say is ``trust``'s."""

from __future__ import annotations

import os

_process = (0, "")  # pid, and what its request ids begin with


def host_of(peer: str) -> str:
    """The address of a peer ("127.0.0.1:4711", "[::1]:4711", "unix") without its port."""
    host = peer.rpartition(":")[0] if peer[-1:].isdigit() else ""
    return host.strip("[]").removeprefix("::ffff:") if host else peer


def make_request_id(number: int) -> str:
    """An id for the exchange ``number``; no other process, on any machine, makes the same."""
    global _process
    pid = os.getpid()
    if _process[0] != pid:  # the first, or the first after a fork
        _process = (pid, os.urandom(6).hex())
    return f"{_process[1]}-{number:x}"
