"""Family "sockets": every call of ``socket.socket`` that may wait, for stream, datagram and UNIX sockets.

A shim tries the call first, without waiting. The worker suspends only if the call would have to wait. A socket in
non-blocking mode is left alone, and so is the C type ``_socket.socket``, the type of the server's own sockets.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from greenlet import getcurrent

from ..descriptors import READ, WRITE, busy, closing, is_ready, wait_for
from ..patch import Shim
from ..suspension import IO, Sleep, give_way, suspend
from ..workers import Worker
from .dns import is_address

_ABSENT: Any = object()
_C = _socket.socket
_gettimeout, _settimeout, _fileno = _C.gettimeout, _C.settimeout, _C.fileno
_accept, _connect, _connect_ex = _C._accept, _C.connect, _C.connect_ex  # type: ignore[attr-defined]
_recv, _recv_into, _recvfrom, _recvfrom_into = _C.recv, _C.recv_into, _C.recvfrom, _C.recvfrom_into
_recvmsg, _recvmsg_into = _C.recvmsg, _C.recvmsg_into
_send, _sendall, _sendto, _sendmsg = _C.send, _C.sendall, _C.sendto, _C.sendmsg
_sendfile, _real_close = socket.socket.sendfile, socket.socket._real_close  # type: ignore[attr-defined]

# Plain numbers: an enumeration's "|" and "&" cost more than the call itself.
_NOW = int(socket.MSG_DONTWAIT)
#: With these flags a call never waits, or waits for more than the first byte.
_ERRORS = int(getattr(socket, "MSG_ERRQUEUE", 0))
_ALL = int(socket.MSG_WAITALL)
_SPECIAL = _NOW | _ERRORS | _ALL

#: Seconds between two tries to connect to a UNIX socket whose backlog is full: no event tells when there is room.
_FULL_PERIOD = 0.005


def _in_turn(worker: Worker, sock: socket.socket, call: str, way: int, function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function(sock, *args)`` as soon as it need not wait. Raises TimeoutError."""
    timeout = _gettimeout(sock)
    until = None if timeout is None else monotonic() + timeout
    while True:
        fd = _fileno(sock)
        # With a timeout the call would wait by itself, whatever its flags: so call it only when it is ready.
        if fd < 0 or timeout is None or is_ready(fd, way):
            try:
                return function(sock, *args)
            except BlockingIOError:
                if timeout is not None:
                    raise
        if not wait_for(worker, fd, way, call, sock, until):
            raise TimeoutError("timed out")


def _after_waiting(
    worker: Worker, sock: socket.socket, call: str, way: int, function: Callable[..., Any], *args: Any
) -> Any:
    """The same for a socket without a timeout, after a first try that would have had to wait."""
    while True:
        wait_for(worker, _fileno(sock), way, call, sock)
        try:
            return function(sock, *args)
        except BlockingIOError:
            pass


def recv(self: socket.socket, bufsize: int, flags: int = 0, /) -> bytes:
    worker = getcurrent()
    if type(worker) is not Worker or (timeout := _gettimeout(self)) == 0 or flags & _SPECIAL & ~_ALL:
        return _recv(self, bufsize, flags)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "recv", self)
    if flags & _ALL:
        return _recv_all(self, bufsize, flags & ~_ALL)
    if timeout is not None:
        return _in_turn(worker, self, "recv", READ, _recv, bufsize, flags)  # type: ignore[no-any-return]
    try:
        return _recv(self, bufsize, flags | _NOW)
    except BlockingIOError:
        pass  # wait outside of this block, so that later exceptions are not chained to this one
    return _after_waiting(worker, self, "recv", READ, _recv, bufsize, flags | _NOW)  # type: ignore[no-any-return]


def _recv_all(sock: socket.socket, size: int, flags: int) -> bytes:
    """MSG_WAITALL: ``size`` bytes, or fewer at the end of the stream."""
    if flags & socket.MSG_PEEK or sock.type != socket.SOCK_STREAM:
        return sock.recv(size, flags)
    whole = bytearray()
    while len(whole) < size and (piece := sock.recv(size - len(whole), flags)):
        whole += piece
    return bytes(whole)


def recv_into(self: socket.socket, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or (timeout := _gettimeout(self)) == 0 or flags & _SPECIAL & ~_ALL:
        return _recv_into(self, buffer, nbytes, flags)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "recv_into", self)
    if flags & _ALL:
        return _recv_all_into(self, buffer, nbytes, flags & ~_ALL)
    if timeout is None:
        try:
            return _recv_into(self, buffer, nbytes, flags | _NOW)
        except BlockingIOError:
            pass
        wait, flags = _after_waiting, flags | _NOW
    else:
        wait = _in_turn
    size: int = wait(worker, self, "recv_into", READ, _recv_into, buffer, nbytes, flags)
    return size


def _recv_all_into(sock: socket.socket, buffer: Any, nbytes: int, flags: int) -> int:
    with memoryview(buffer).cast("B") as whole:
        wanted = nbytes or len(whole)
        if flags & socket.MSG_PEEK or sock.type != socket.SOCK_STREAM or wanted > len(whole):
            return sock.recv_into(buffer, nbytes, flags)
        size = 0
        while size < wanted and (more := sock.recv_into(whole[size:], wanted - size, flags)):
            size += more
        return size


def recvfrom(self: socket.socket, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0 or flags & _SPECIAL:
        return _recvfrom(self, bufsize, flags)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "recvfrom", self)
    received: tuple[bytes, Any] = _in_turn(worker, self, "recvfrom", READ, _recvfrom, bufsize, flags | _NOW)
    return received


def recvfrom_into(self: socket.socket, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0 or flags & _SPECIAL:
        return _recvfrom_into(self, buffer, nbytes, flags)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "recvfrom_into", self)
    received: tuple[int, Any] = _in_turn(
        worker, self, "recvfrom_into", READ, _recvfrom_into, buffer, nbytes, flags | _NOW
    )
    return received


def recvmsg(self: socket.socket, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0 or flags & _SPECIAL:
        return _recvmsg(self, bufsize, ancbufsize, flags)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "recvmsg", self)
    return _in_turn(worker, self, "recvmsg", READ, _recvmsg, bufsize, ancbufsize, flags | _NOW)


def recvmsg_into(self: socket.socket, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0 or flags & _SPECIAL:
        return _recvmsg_into(self, buffers, ancbufsize, flags)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "recvmsg_into", self)
    return _in_turn(worker, self, "recvmsg_into", READ, _recvmsg_into, list(buffers), ancbufsize, flags | _NOW)


def send(self: socket.socket, data: Any, flags: int = 0, /) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0 or flags & _NOW:
        return _send(self, data, flags)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "send", self)
    size: int = _in_turn(worker, self, "send", WRITE, _send, data, flags | _NOW)
    return size


def sendall(self: socket.socket, data: Any, flags: int = 0, /) -> None:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0 or flags & _NOW:
        return _sendall(self, data, flags)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "sendall", self)
    timeout, sent = _gettimeout(self), 0
    if timeout is None and type(data) is bytes:
        try:
            sent = _send(self, data, flags | _NOW)
        except BlockingIOError:
            pass
        if sent == len(data):
            return None
    until = None if timeout is None else monotonic() + timeout
    with memoryview(data) as view, view.cast("B") as rest:
        size = len(rest)
        while True:
            fd = _fileno(self)
            if fd < 0 or timeout is None or is_ready(fd, WRITE):
                try:
                    sent += _send(self, rest[sent:], flags | _NOW)
                except BlockingIOError:
                    pass
                if sent >= size:
                    return None
            # As in the original, the timeout is for the whole of ``data``.
            if (until is not None and monotonic() >= until) or not wait_for(worker, fd, WRITE, "sendall", self, until):
                raise TimeoutError("timed out")


def sendto(self: Any, data: Any, flags_or_address: Any = _ABSENT, address: Any = _ABSENT, /, *more: Any) -> int:
    worker = getcurrent()
    given: Any = tuple(one for one in (flags_or_address, address) if one is not _ABSENT)
    if type(worker) is not Worker or _gettimeout(self) == 0 or more or not given or given[-1] is None:
        return _sendto(self, data, *given, *more)  # the original raises, if the arguments are wrong
    flags, address = (0, *given)[-2:]
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "sendto", self)
    address = _numeric(self, address)
    size: int = _in_turn(worker, self, "sendto", WRITE, _sendto, data, flags | _NOW, address)
    return size


def sendmsg(self: socket.socket, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0 or flags & _NOW:
        return _sendmsg(self, buffers, ancdata, flags, address)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "sendmsg", self)
    if address is not None:
        address = _numeric(self, address)
    size: int = _in_turn(worker, self, "sendmsg", WRITE, _sendmsg, list(buffers), list(ancdata), flags | _NOW, address)
    return size


def sendfile(self: socket.socket, file: Any, offset: int = 0, count: int | None = None) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0:
        return _sendfile(self, file, offset, count)
    # The system's own sendfile would wait by itself, for the whole file.
    size: int = self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined]
    return size


# Connections.

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
    """Connect; return the error number, EAGAIN after the timeout, 0 on success."""
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, call, sock)
    timeout = _gettimeout(sock)
    until = None if timeout is None else monotonic() + timeout
    address = _numeric(sock, address)
    while True:
        # A socket that is not connected has no other user yet: it may be non-blocking during this call.
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
        if not wait_for(worker, fd, WRITE, call, _as_text(address), until):
            return errno.EAGAIN
        if _fileno(sock) != fd:
            return errno.EBADF
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _as_text(address: Any) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) and len(address) >= 2 else str(address)


def _numeric(sock: socket.socket, address: Any) -> Any:
    """The address with its host name looked up: the system would do that in the call, and wait."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple) or len(address) < 2:
        return address
    host = address[0]
    if host == "<broadcast>" or is_address(host):
        return address
    found = socket.getaddrinfo(host, None, sock.family, sock.type, sock.proto)
    return (found[0][4][0], *address[1:])


def real_close(self: socket.socket, _ss: Any = _C) -> Any:
    if not busy:
        return _real_close(self, _ss)
    with closing(_fileno(self)):
        return _real_close(self, _ss)


ROWS = tuple(
    Shim("socket:socket", name, shim)
    for name, shim in {
        "recv": recv,
        "recv_into": recv_into,
        "recvfrom": recvfrom,
        "recvfrom_into": recvfrom_into,
        "recvmsg": recvmsg,
        "recvmsg_into": recvmsg_into,
        "send": send,
        "sendall": sendall,
        "sendto": sendto,
        "sendmsg": sendmsg,
        "sendfile": sendfile,
        "_accept": accept,
        "connect": connect,
        "connect_ex": connect_ex,
        "_real_close": real_close,
    }.items()
)
