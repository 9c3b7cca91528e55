"""Of the family "sockets" what makes connections: connect, connect_ex, accept."""

from __future__ import annotations

import _socket
import errno
import os
import socket
from time import monotonic
from typing import Any

from greenlet import getcurrent

from ..descriptors import READ, WRITE, is_ready, wait_for
from ..suspension import IO, Sleep, give_way, suspend
from ..workers import Worker
from .dns import is_address

_C = _socket.socket
_gettimeout, _settimeout, _fileno = _C.gettimeout, _C.settimeout, _C.fileno
_accept, _connect, _connect_ex = _C._accept, _C.connect, _C.connect_ex  # type: ignore[attr-defined]

#: Seconds between two tries to connect to a UNIX socket whose backlog is full: nothing tells when there is room.
_FULL_PERIOD = 0.005


def accept(self: socket.socket, /) -> tuple[int, Any]:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0:
        return _accept(self)  # type: ignore[no-any-return]
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "accept", self)
    timeout = _gettimeout(self)
    until = None if timeout is None else monotonic() + timeout
    while (fd := _fileno(self)) >= 0 and not is_ready(fd, READ):
        if not wait_for(worker, fd, READ, "accept", self, until):
            raise TimeoutError("timed out")
    return _accept(self)  # type: ignore[no-any-return]


def connect(self: socket.socket, address: Any, /) -> None:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0:
        return _connect(self, address)
    error = _begin_and_wait(worker, self, address, "connect")
    if error == errno.EAGAIN:
        raise TimeoutError("timed out")
    if error:
        raise OSError(error, os.strerror(error))
    return None


def connect_ex(self: socket.socket, address: Any, /) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0:
        return _connect_ex(self, address)
    return _begin_and_wait(worker, self, address, "connect_ex")


def _begin_and_wait(worker: Worker, sock: socket.socket, address: Any, call: str) -> int:
    """Connect; the error's number, EAGAIN when the time is over."""
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, call, sock)
    timeout = _gettimeout(sock)
    until = None if timeout is None else monotonic() + timeout
    address = numeric(sock, address)
    while True:
        # Nobody else uses a socket that is not connected yet: it may be non-blocking for as long as this takes.
        _settimeout(sock, 0.0)
        try:
            error = _connect_ex(sock, address)
        finally:
            _settimeout(sock, timeout)
        if error == errno.EAGAIN and sock.family == socket.AF_UNIX:
            if until is not None and monotonic() >= until:
                return error
            suspend(worker, IO, call, str(address), Sleep, monotonic() + _FULL_PERIOD)
            continue
        if error not in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            return error
        break
    fd = _fileno(sock)
    while not is_ready(fd, WRITE):
        if not wait_for(worker, fd, WRITE, call, _words(address), until):
            return errno.EAGAIN
        if _fileno(sock) != fd:
            return errno.EBADF
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _words(address: Any) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) and len(address) >= 2 else str(address)


def numeric(sock: socket.socket, address: Any) -> Any:
    """The address with its host's name looked up, which the system would do by itself, and wait."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple) or len(address) < 2:
        return address
    host = address[0]
    if host == "<broadcast>" or is_address(host):
        return address
    found = socket.getaddrinfo(host, None, sock.family, sock.type, sock.proto)
    return (found[0][4][0], *address[1:])
