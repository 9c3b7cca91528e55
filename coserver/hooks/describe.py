"""Describes a suspended worker: the call, the thing it waits for, and its line in the user's code.

Called only if somebody observes; from any thread. A wait for an Event, a Queue or a Future is a wait for an inner lock,
which the user does not know: the frames tell the outer object.
"""

from __future__ import annotations

import _socket
import _thread
import os
import socket
import stat
import sys
import sysconfig
import threading
from types import FrameType
from typing import Any

from greenlet import getcurrent

from .workers import Worker, frame_of


class Descriptor:
    """A descriptor that a worker waits for, by its number."""

    __slots__ = ("fd",)

    def __init__(self, fd: Any) -> None:
        self.fd = fd


class Descriptors:
    """The descriptors of an epoll set, of which a worker waits for any."""

    __slots__ = ("epoll",)

    def __init__(self, epoll: int) -> None:
        self.epoll = epoll


def describe(worker: Worker, frame: FrameType | None) -> tuple[str, str]:
    """A suspended worker's call, and the thing it waits for, as text. ``frame`` is its innermost frame."""
    call, on = worker.call or "", worker.on
    if isinstance(on, _INNER):
        call, on = _around(frame, call, on)
    return call, show(on)


def show(on: Any) -> str:
    """The thing that a worker waits for, as text."""
    if isinstance(on, str):
        return on
    if isinstance(on, int | float):
        return f"{on:g} s"
    if isinstance(on, socket.socket):
        return _address(on) or f"descriptor {on.fileno()}"
    if isinstance(on, Descriptor):
        return _show_descriptor(on.fd)
    if isinstance(on, Descriptors):
        return _show_set(on.epoll)
    child: Any = getattr(sys.modules.get("subprocess"), "Popen", ())
    if isinstance(on, child):
        return f"process {on.pid}, {on.args!r:.80}"
    future: Any = getattr(sys.modules.get("concurrent.futures._base"), "Future", ())
    if isinstance(on, future):  # its own repr takes its lock, and a worker may be waiting for just that
        return f"<{type(on).__name__} at {id(on):#x} state={on._state.lower()}>"
    return _repr(on)


#: Ids of the greenlets that are asking for a repr. If the repr itself waits, it is not asked for again.
_asking: set[int] = set()


def _repr(on: Any) -> str:
    """The object's repr, cut to 100 characters; the plain one if the class's own fails."""
    me = id(getcurrent())
    if me in _asking:
        return object.__repr__(on)
    _asking.add(me)
    try:
        return f"{on!r:.100}"
    except Exception:
        return object.__repr__(on)
    finally:
        _asking.discard(me)


#: Inner objects: the user has called something around them. Threads have a handle from Python 3.13 on.
_INNER = (_thread.LockType, _thread.RLock, threading.Thread, getattr(_thread, "_ThreadHandle", threading.Thread))
#: Files whose waits are waits for locks. By path, so that no module is loaded for this.
_WAITERS = frozenset(
    os.path.join(os.path.dirname(threading.__file__), *path)
    for path in (("threading.py",), ("queue.py",), ("concurrent", "futures", "_base.py"))
)


def _around(frame: FrameType | None, call: str, on: Any) -> tuple[str, Any]:
    """The call that the user has made, and its object, if it is one of these files'."""
    while frame is not None and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_filename in _WAITERS:
        held = frame.f_locals
        if "self" in held:
            call, on = frame.f_code.co_qualname, held["self"]
        elif "fs" in held:
            call, on = frame.f_code.co_qualname, f"{len(held['fs'])} futures"
        frame = frame.f_back
    return call, on


def _address(sock: Any) -> str:
    for ask in (sock.getpeername, sock.getsockname):
        try:
            address = ask()
        except OSError:
            continue
        if isinstance(address, tuple) and len(address) > 1:
            return f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"
        if address:
            return os.fsdecode(address)
    return ""


def _show_descriptor(fd: Any) -> str:
    """``descriptor 7``, and its file's path or its socket's address."""
    try:
        fd = fd if isinstance(fd, int) else fd.fileno()
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        what = _address_of(fd) if is_socket else os.readlink(f"/proc/self/fd/{fd}").partition(":[")[0]
    except (OSError, ValueError, AttributeError):
        what = ""
    return f"descriptor {fd}, {what}" if what else f"descriptor {fd}"


def _address_of(fd: int) -> str:
    sock = _socket.socket(fileno=fd)
    try:
        return _address(sock)
    finally:
        sock.detach()


#: Descriptors of a set that are shown.
_SHOWN = 3


def _show_set(epoll: int) -> str:
    try:
        with open(f"/proc/self/fdinfo/{epoll}") as lines:
            fds = [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
    except (OSError, ValueError):
        return "some descriptors"
    more = f" and {len(fds) - _SHOWN} more" if len(fds) > _SHOWN else ""
    return "; ".join(_show_descriptor(fd) for fd in fds[:_SHOWN]) + more or "no descriptor"


OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def place_of(frame: FrameType | None) -> str:
    """The innermost line of the user's code: ``file:line in function``; "" for None.

    Lines of coserver do not count. Lines of the standard library and of installed packages count if there are no
    others.
    """
    nearest = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(OURS) and not file.startswith("<"):
            place = f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
            if not file.startswith(LIBRARIES):
                return place
            nearest = nearest or place
        frame = frame.f_back
    return nearest


def where(worker: Worker) -> str:
    """The innermost line of the user's code in a suspended worker; "" if it is not suspended. From any thread."""
    return place_of(frame_of(worker))
