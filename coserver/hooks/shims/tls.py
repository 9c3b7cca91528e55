"""Family "tls": ``ssl.SSLSocket``. OpenSSL reads and writes its records, and waits if the socket is in blocking mode.

The user's timeout is never changed, as another thread might see it. Instead OpenSSL gets a twin of the socket, on the
same descriptor and in non-blocking mode, so that it always tells what it would wait for. Then the caller waits: by a
suspension in a worker, by poll(2) elsewhere. A socket wrapped before the install has no twin: in a worker its
timeout is changed for the length of one call.
"""

from __future__ import annotations

import _socket
import os
import select
import socket
import ssl
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from greenlet import getcurrent

from ..descriptors import READ, WRITE, wait_for
from ..offload import in_thread
from ..patch import Shim
from ..suspension import give_way
from ..workers import Worker

_wrap_socket = ssl.SSLContext._wrap_socket  # type: ignore[attr-defined]
_read, _write, _send = ssl.SSLSocket.read, ssl.SSLSocket.write, ssl.SSLSocket.send
_default_paths, _locations = ssl.SSLContext.set_default_verify_paths, ssl.SSLContext.load_verify_locations
_do_handshake, _unwrap = ssl.SSLSocket.do_handshake, ssl.SSLSocket.unwrap
_gettimeout, _settimeout, _fileno = _socket.socket.gettimeout, _socket.socket.settimeout, _socket.socket.fileno
_poll = select.poll

#: The attribute of a TLS socket that holds its twin.
_TWIN = "_coserver_twin"


class _Twin(_socket.socket):
    """A socket on the same descriptor, which it never closes."""

    __slots__ = ("__weakref__",)

    def __del__(self) -> None:
        self.detach()


def wrap_socket(
    self: ssl.SSLContext,
    sock: Any,
    server_side: bool,
    server_hostname: Any = None,
    *,
    owner: Any = None,
    session: Any = None,
) -> Any:
    if not isinstance(sock, ssl.SSLSocket):
        return _wrap_socket(self, sock, server_side, server_hostname, owner=owner, session=session)
    # The flag is for the object alone: the descriptor's own mode does not change.
    kind = int(sock.type) | socket.SOCK_NONBLOCK
    twin = _Twin(int(sock.family), kind, sock.proto, _fileno(sock))
    sslobj = _wrap_socket(self, twin, server_side, server_hostname, owner=owner, session=session)
    vars(sock)[_TWIN] = twin
    return sslobj


def _until_done(sock: ssl.SSLSocket, call: str, timeout: float | None, function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function(sock, *args)`` again and again until OpenSSL need not wait. Raises TimeoutError."""
    current = getcurrent()
    worker = current if type(current) is Worker else None
    if worker is not None and timeout != 0:
        worker.credit -= 1
        if worker.credit < 0:
            give_way(worker, call, sock)
    until = None if timeout is None else monotonic() + timeout
    while True:
        fd = _fileno(sock)
        try:
            if worker is None or timeout == 0:
                return function(sock, *args)
            return _without_waiting(sock, timeout, function, *args)
        except ssl.SSLWantReadError:
            way = READ
            if timeout == 0:
                raise
        except ssl.SSLWantWriteError:
            way = WRITE
            if timeout == 0:
                raise
        if not (wait_for(worker, fd, way, call, sock, until) if worker is not None else _wait(fd, way, until)):
            raise TimeoutError(f"The {call} operation timed out")


def _without_waiting(sock: ssl.SSLSocket, timeout: float | None, function: Callable[..., Any], *args: Any) -> Any:
    """Call once, in a worker, with the descriptor in non-blocking mode. Another thread that calls at the same time is
    told that it would have to wait, and waits."""
    if _TWIN not in vars(sock):
        _settimeout(sock, 0.0)
        try:
            return function(sock, *args)
        finally:
            if _fileno(sock) >= 0:
                _settimeout(sock, timeout)
    if timeout is not None:  # the descriptor is in non-blocking mode anyway
        return function(sock, *args)
    fd = _fileno(sock)
    os.set_blocking(fd, False)
    try:
        return function(sock, *args)
    finally:
        if _fileno(sock) == fd:
            os.set_blocking(fd, True)


def _wait(fd: int, way: int, until: float | None) -> bool:
    poll = _poll()
    poll.register(fd, way)
    return bool(poll.poll(None if until is None else max((until - monotonic()) * 1000, 0)))


def read(self: ssl.SSLSocket, len: int = 1024, buffer: Any = None) -> Any:
    if _plain(self):
        return _read(self, len, buffer)
    return _until_done(self, "read", _gettimeout(self), _read, len, buffer)


def write(self: ssl.SSLSocket, data: Any) -> int:
    if _plain(self):
        return _write(self, data)
    sent: int = _until_done(self, "write", _gettimeout(self), _write, data)
    return sent


def send(self: ssl.SSLSocket, data: Any, flags: int = 0) -> int:
    if _plain(self):
        return _send(self, data, flags)
    sent: int = _until_done(self, "write", _gettimeout(self), _send, data, flags)
    return sent


def do_handshake(self: ssl.SSLSocket, block: bool = False) -> None:
    if _plain(self):
        return _do_handshake(self, block)
    timeout = _gettimeout(self)
    if timeout == 0 and block:
        timeout = None
    return _until_done(self, "handshake", timeout, _handshake)  # type: ignore[no-any-return]


def _handshake(sock: ssl.SSLSocket) -> None:
    sock._check_connected()  # type: ignore[attr-defined]
    sock._sslobj.do_handshake()  # type: ignore[attr-defined]


def unwrap(self: ssl.SSLSocket) -> Any:
    if _plain(self):
        return _unwrap(self)
    left = _until_done(self, "unwrap", _gettimeout(self), _unwrap)
    return self if isinstance(left, _Twin) else left


def _plain(sock: ssl.SSLSocket) -> bool:
    """Whether to call the original: nothing is encrypted, or there is no twin and the caller is no worker."""
    if sock._sslobj is None:  # type: ignore[attr-defined]
        return True
    return _TWIN not in vars(sock) and type(getcurrent()) is not Worker


# The 150 certificate authorities of a system take 20 ms to read, and many clients read them for each connection. So a
# thread reads them: OpenSSL lets other threads go on meanwhile.


def set_default_verify_paths(self: ssl.SSLContext) -> None:
    worker = getcurrent()
    if type(worker) is not Worker:
        return _default_paths(self)
    return in_thread(worker, "read certificates", "the system's authorities", partial(_default_paths, self))


def load_verify_locations(self: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
    worker = getcurrent()
    if type(worker) is not Worker:
        return _locations(self, cafile, capath, cadata)
    on = str(cafile or capath or "given authorities")
    return in_thread(worker, "read certificates", on, partial(_locations, self, cafile, capath, cadata))


ROWS = (
    Shim("ssl:SSLContext", "_wrap_socket", wrap_socket),
    Shim("ssl:SSLContext", "set_default_verify_paths", set_default_verify_paths),
    Shim("ssl:SSLContext", "load_verify_locations", load_verify_locations),
    Shim("ssl:SSLSocket", "read", read),
    Shim("ssl:SSLSocket", "write", write),
    Shim("ssl:SSLSocket", "send", send),
    Shim("ssl:SSLSocket", "do_handshake", do_handshake),
    Shim("ssl:SSLSocket", "unwrap", unwrap),
)
