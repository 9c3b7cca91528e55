"""Family "sockets": every call of ``socket.socket`` that may wait, stream, datagram and UNIX alike.

Each call is tried first, without waiting, and only where it would have to wait the worker suspends. A socket in
non-blocking mode is left alone; so is the C type ``_socket.socket``, which the server's own sockets are of.
"""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from greenlet import getcurrent

from ..descriptors import READ, WRITE, busy, closing, is_ready, wait_for
from ..patch import Shim
from ..suspension import give_way
from ..workers import Worker
from .connecting import accept, connect, connect_ex, numeric

_ABSENT: Any = object()
_C = _socket.socket
_gettimeout, _fileno = _C.gettimeout, _C.fileno
_recv, _recv_into, _recvfrom, _recvfrom_into = _C.recv, _C.recv_into, _C.recvfrom, _C.recvfrom_into
_recvmsg, _recvmsg_into = _C.recvmsg, _C.recvmsg_into
_send, _sendall, _sendto, _sendmsg = _C.send, _C.sendall, _C.sendto, _C.sendmsg
_sendfile, _real_close = socket.socket.sendfile, socket.socket._real_close  # type: ignore[attr-defined]

# Plain numbers: an enumeration's "|" and "&" cost more than the call itself.
_NOW = int(socket.MSG_DONTWAIT)
#: With these a call never waits, or waits for more than the first byte.
_ERRORS = int(getattr(socket, "MSG_ERRQUEUE", 0))
_ALL = int(socket.MSG_WAITALL)
_SPECIAL = _NOW | _ERRORS | _ALL


def _in_turn(worker: Worker, sock: socket.socket, call: str, way: int, function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function(sock, *args)`` as soon as it need not wait. Raises TimeoutError."""
    timeout = _gettimeout(sock)
    until = None if timeout is None else monotonic() + timeout
    while True:
        fd = _fileno(sock)
        # With a timeout the call would wait by itself, whatever the flags say: so it is not made before it is ready.
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
    """The same for a socket without a timeout whose first try would have had to wait."""
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
        pass  # not in here: what comes after is no consequence of it
    return _after_waiting(worker, self, "recv", READ, _recv, bufsize, flags | _NOW)  # type: ignore[no-any-return]


def _recv_all(sock: socket.socket, size: int, flags: int) -> bytes:
    """MSG_WAITALL: all that was asked for, or what comes before the end."""
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
            # As the original: the time is for all of it.
            if (until is not None and monotonic() >= until) or not wait_for(worker, fd, WRITE, "sendall", self, until):
                raise TimeoutError("timed out")


def sendto(self: Any, data: Any, flags_or_address: Any = _ABSENT, address: Any = _ABSENT, /, *more: Any) -> int:
    worker = getcurrent()
    given: Any = tuple(one for one in (flags_or_address, address) if one is not _ABSENT)
    if type(worker) is not Worker or _gettimeout(self) == 0 or more or not given or given[-1] is None:
        return _sendto(self, data, *given, *more)  # which says what is wrong, if anything is
    flags, address = (0, *given)[-2:]
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "sendto", self)
    address = numeric(self, address)
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
        address = numeric(self, address)
    size: int = _in_turn(worker, self, "sendmsg", WRITE, _sendmsg, list(buffers), list(ancdata), flags | _NOW, address)
    return size


def sendfile(self: socket.socket, file: Any, offset: int = 0, count: int | None = None) -> int:
    worker = getcurrent()
    if type(worker) is not Worker or _gettimeout(self) == 0:
        return _sendfile(self, file, offset, count)
    # The system's own would wait by itself, for the whole of it.
    size: int = self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined]
    return size


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
