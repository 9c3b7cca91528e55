"""What a suspended worker waits for, in words, and where that stands in the user's code. Asked for only where somebody
observes; from any thread.

Who waits for an Event, a Queue or a Future waits for a lock inside of it, which nobody knows: the frames tell which.
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
    """What waits for one of these numbers waits on this."""

    __slots__ = ("fd",)

    def __init__(self, fd: Any) -> None:
        self.fd = fd


class Descriptors:
    """... for one of those in an epoll set."""

    __slots__ = ("epoll",)

    def __init__(self, epoll: int) -> None:
        self.epoll = epoll


def told(worker: Worker, frame: FrameType | None) -> tuple[str, str]:
    """In which call it is suspended, and on what; ``frame`` is its innermost one."""
    call, on = worker.call or "", worker.on
    if isinstance(on, _INNER):
        call, on = _around(frame, call, on)
    return call, show(on)


def show(on: Any) -> str:
    """What a worker is suspended on, in words."""
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
    if isinstance(on, future):  # its own repr takes its lock, which may be just what is waited for
        return f"<{type(on).__name__} at {id(on):#x} state={on._state.lower()}>"
    return _repr(on)


#: Who asks for a repr just now, by the ids of their greenlets: what that waits for is not shown in full.
_asking: set[int] = set()


def _repr(on: Any) -> str:
    """Of whatever class, and whatever it does there."""
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


#: What stands for something else that was called; a thread's handle is there from Python 3.13 on.
_INNER = (_thread.LockType, _thread.RLock, threading.Thread, getattr(_thread, "_ThreadHandle", threading.Thread))
#: Not loaded for this.
_WAITERS = frozenset(
    os.path.join(os.path.dirname(threading.__file__), *path)
    for path in (("threading.py",), ("queue.py",), ("concurrent", "futures", "_base.py"))
)


def _around(frame: FrameType | None, call: str, on: Any) -> tuple[str, Any]:
    """What the user has called, if that is of one of the modules whose waits are waits for locks."""
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
    """``descriptor 7`` and what that is: a file's path, a socket's address."""
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


#: Descriptors of a set that are named.
_NAMED = 3


def _show_set(epoll: int) -> str:
    try:
        with open(f"/proc/self/fdinfo/{epoll}") as lines:
            fds = [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
    except (OSError, ValueError):
        return "some descriptors"
    more = f" and {len(fds) - _NAMED} more" if len(fds) > _NAMED else ""
    return "; ".join(_show_descriptor(fd) for fd in fds[:_NAMED]) + more or "no descriptor"


OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def place_of(frame: FrameType | None) -> str:
    """Where the user's code stands: ``file:line in function``, past coserver's own lines, the standard library's and
    the installed packages', unless there are no others; "" for None."""
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
    """Where a suspended worker stands in the user's code; "" if it is not suspended. From any thread."""
    return place_of(frame_of(worker))
