"""Family "processes": waits for a child process, by ``subprocess``, ``os.waitpid`` and similar calls. (Its pipes belong
to the family "pipes".)

Linux has a descriptor that becomes readable when a process ends. On other systems, and for "any child", the shim polls.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from greenlet import getcurrent

from ..descriptors import READ, wait_for
from ..offload import in_thread
from ..patch import Shim
from ..suspension import IO, Sleep, suspend
from ..workers import Worker

_popen_wait = subprocess.Popen._wait  # type: ignore[attr-defined]
_waitpid, _wait, _wait3, _wait4, _system = os.waitpid, os.wait, os.wait3, os.wait4, os.system
_waitid: Any = getattr(os, "waitid", None)
_pidfd_open: Any = getattr(os, "pidfd_open", None)

#: Seconds between two looks: at first, and at most.
_FIRST, _LAST = 0.001, 0.02


def popen_wait(self: Any, timeout: float | None) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or self.returncode is not None:
        return _popen_wait(self, timeout)
    until = None if timeout is None else monotonic() + timeout
    if not _ended(worker, self.pid, self, "wait", until):
        raise subprocess.TimeoutExpired(self.args, timeout)  # type: ignore[arg-type]
    return _popen_wait(self, None)


def _ended(worker: Worker, pid: int, on: Any, call: str, until: float | None) -> bool:
    """Suspend until this child has ended; false if ``until`` came first. ``on`` is shown meanwhile."""
    try:
        fd = _pidfd_open(pid)
    except (OSError, TypeError):  # this kernel or system has none; or the child has ended, and was waited for
        return bool(_poll(worker, call, on, until, lambda: _has_ended(pid)))
    try:
        return wait_for(worker, fd, READ, call, on, until)
    finally:
        os.close(fd)


def _has_ended(pid: int) -> bool:
    if _waitid is None:
        return True
    try:
        return _waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _poll(worker: Worker, call: str, on: Any, until: float | None, look: Callable[[], Any]) -> Any:
    """Call ``look()`` again and again until its result is true, and return that; false if ``until`` came first."""
    period = _FIRST
    while not (found := look()):
        now = monotonic()
        if until is not None and now >= until:
            return False
        end = now + period
        suspend(worker, IO, call, on, Sleep, end if until is None else min(end, until))
        period = min(period * 2, _LAST)
    return found


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    worker = getcurrent()
    if type(worker) is not Worker or options & os.WNOHANG:
        return _waitpid(pid, options)
    return _any_child(worker, "waitpid", pid, options, _waitpid)  # type: ignore[no-any-return]


def wait4(pid: int, options: int) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or options & os.WNOHANG:
        return _wait4(pid, options)
    return _any_child(worker, "wait4", pid, options, _wait4)


def wait3(options: int) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or options & os.WNOHANG:
        return _wait3(options)
    return _any_child(worker, "wait3", -1, options, _wait4)


def wait() -> tuple[int, int]:
    worker = getcurrent()
    if type(worker) is not Worker:
        return _wait()
    return _any_child(worker, "wait", -1, 0, _waitpid)  # type: ignore[no-any-return]


def _any_child(worker: Worker, call: str, pid: int, options: int, function: Callable[[int, int], Any]) -> Any:
    def look() -> Any:
        found = function(pid, options | os.WNOHANG)
        return found if found[0] else None

    if pid > 0 and not options and (found := look()) is None:
        _ended(worker, pid, f"process {pid}", call, None)
    elif pid > 0 and not options:
        return found
    return _poll(worker, call, f"process {pid}" if pid > 0 else "any child", None, look)


def waitid(idtype: int, id: int, options: int, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or options & os.WNOHANG:
        return _waitid(idtype, id, options)
    return _poll(worker, "waitid", f"process {id}", None, lambda: _waitid(idtype, id, options | os.WNOHANG))


def system(command: Any) -> int:
    worker = getcurrent()
    if type(worker) is not Worker:
        return _system(command)
    return in_thread(worker, "system", f"{command!r:.60}", partial(_system, command))


ROWS = (
    Shim("subprocess:Popen", "_wait", popen_wait),
    Shim("os", "waitpid", waitpid),
    Shim("os", "wait", wait),
    Shim("os", "wait3", wait3),
    Shim("os", "wait4", wait4),
    Shim("os", "waitid", waitid),
    Shim("os", "system", system),
)
