"""Family "select": ``select``, ``poll`` and ``epoll`` of the module select, and with them ``selectors``.

Looked at without waiting first; what has to wait does so for one epoll set that holds all that was asked for.
"""

from __future__ import annotations

import select as _select_module
from time import monotonic
from typing import Any

from greenlet import getcurrent

from ..describe import Descriptors
from ..descriptors import READ, wait_for
from ..patch import Shim
from ..suspension import give_way
from ..workers import Worker

_select, _poll = _select_module.select, _select_module.poll
_epoll: Any = getattr(_select_module, "epoll", None)
_epoll_poll: Any = getattr(_epoll, "poll", None)

_FOREVER = 1e9  # seconds
_INT_MAX = 2**31 - 1


def select(rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or _epoll is None or timeout == 0:
        return _select(rlist, wlist, xlist, timeout)
    rlist, wlist, xlist = _sequence(rlist), _sequence(wlist), _sequence(xlist)
    until = _until(timeout, 1)
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "select", _counted(rlist, wlist, xlist))
    found = _select(rlist, wlist, xlist, 0)
    if any(found):
        return found
    rlist, wlist, xlist = list(rlist), list(wlist), list(xlist)  # whatever becomes of them meanwhile
    with _epoll() as every:
        while not (any(found) or (until is not None and monotonic() >= until)):
            for fd, mask in _masks(rlist, wlist, xlist).items():
                _enter(every, fd, mask)
            _wait(worker, every, "select", until)
            found = _select(rlist, wlist, xlist, 0)
    return found


def _sequence(things: Any) -> Any:
    """What may be looked at twice. A list as it is: the original sees what a ``fileno()`` does to it."""
    return things if isinstance(things, list | tuple) else list(things)


def _masks(rlist: list[Any], wlist: list[Any], xlist: list[Any]) -> dict[int, int]:
    masks: dict[int, int] = {}
    for things, mask in (
        (rlist, _select_module.EPOLLIN),
        (wlist, _select_module.EPOLLOUT),
        (xlist, _select_module.EPOLLPRI),
    ):
        for thing in things:
            fd = thing if isinstance(thing, int) else thing.fileno()
            masks[fd] = masks.get(fd, 0) | mask
    return masks


def _enter(every: Any, fd: int, mask: int) -> None:
    try:
        every.register(fd, mask)
    except FileExistsError:
        every.modify(fd, mask)
    except PermissionError:
        pass  # a plain file is always ready, and has been found so


def _wait(worker: Worker, every: Any, call: str, until: float | None) -> bool:
    fd = every.fileno()
    return wait_for(worker, fd, READ, call, Descriptors(fd), until)


def _until(timeout: float | None, unit: float) -> float | None:
    """Monotonic seconds. Raises what the originals do for what is no time."""
    if timeout is None or timeout < 0:
        if timeout is not None and unit == 1:
            _select([], [], [], timeout)  # says that it must not be negative
        return None
    _bounded(timeout, unit)
    return monotonic() + min(timeout * unit, _FOREVER)


def _bounded(timeout: float, unit: float) -> None:
    """The originals count milliseconds in a C int."""
    if timeout * unit * 1000 > _INT_MAX:
        raise OverflowError("timeout is too large")


def _counted(*things: list[Any]) -> str:
    return f"{sum(map(len, things))} descriptors"


class Poll:
    """What ``select.poll()`` returns: it remembers what it was told, since the original does not tell."""

    __slots__ = ("_masks", "_poll")
    _masks: dict[int, int]
    _poll: Any

    def __new__(cls) -> Poll:
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__qualname__}' instances")

    def register(self, fd: Any, eventmask: int = READ | _select_module.POLLPRI | _select_module.POLLOUT, /) -> None:
        self._poll.register(fd, eventmask)
        self._masks[fd if isinstance(fd, int) else fd.fileno()] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        self._poll.modify(fd, eventmask)
        self._masks[fd if isinstance(fd, int) else fd.fileno()] = eventmask

    def unregister(self, fd: Any, /) -> None:
        self._poll.unregister(fd)
        self._masks.pop(fd if isinstance(fd, int) else fd.fileno(), None)

    def poll(self, timeout: float | None = None, /) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker or _epoll is None or timeout == 0:
            return self._poll.poll(timeout)
        until = _until(timeout, 0.001)
        worker.credit -= 1
        if worker.credit < 0:
            give_way(worker, "poll", f"{len(self._masks)} descriptors")
        # Looked at before the set is opened: its descriptor could have the number of one that was closed.
        found: list[tuple[int, int]] = self._poll.poll(0)
        if found:
            return found
        with _epoll() as every:
            while not (found or (until is not None and monotonic() >= until)):
                for fd, mask in self._masks.items():
                    _enter(every, fd, mask)
                _wait(worker, every, "poll", until)
                found = self._poll.poll(0)
        return found


def poll() -> Poll:
    polled = object.__new__(Poll)
    polled._poll = _poll()
    polled._masks = {}
    return polled


def epoll_poll(self: Any, timeout: float | None = None, maxevents: int = -1) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or timeout == 0:
        return _epoll_poll(self, timeout, maxevents)
    until = _until(timeout, 1) if timeout is None or timeout >= 0 else None
    worker.credit -= 1
    if worker.credit < 0:
        give_way(worker, "epoll", Descriptors(self.fileno()))
    while True:
        found = _epoll_poll(self, 0, maxevents)
        if found or (until is not None and monotonic() >= until):
            return found
        _wait(worker, self, "epoll", until)


ROWS: tuple[Shim, ...] = (
    Shim("select", "select", select),
    Shim("select", "poll", poll),
    Shim("select:epoll", "poll", epoll_poll),
)
