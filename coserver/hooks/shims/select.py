"""Family "select": ``select``, ``poll`` and ``epoll`` of the module select, and with them ``selectors``.

A shim looks first, without waiting. If it has to wait, it waits for one epoll set that holds all the descriptors.
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
    rlist, wlist, xlist = list(rlist), list(wlist), list(xlist)  # copies, as the caller's may change meanwhile
    with _epoll() as epoll_set:
        while not (any(found) or (until is not None and monotonic() >= until)):
            for fd, mask in _masks(rlist, wlist, xlist).items():
                _enter(epoll_set, fd, mask)
            _wait(worker, epoll_set, "select", until)
            found = _select(rlist, wlist, xlist, 0)
    return found


def _sequence(things: Any) -> Any:
    """A sequence, to read twice. A list stays itself, so that the original sees it change while it is read."""
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


def _enter(epoll_set: Any, fd: int, mask: int) -> None:
    try:
        epoll_set.register(fd, mask)
    except FileExistsError:
        epoll_set.modify(fd, mask)
    except PermissionError:
        pass  # a plain file, which the look before has found ready


def _wait(worker: Worker, epoll_set: Any, call: str, until: float | None) -> bool:
    fd = epoll_set.fileno()
    return wait_for(worker, fd, READ, call, Descriptors(fd), until)


def _until(timeout: float | None, unit: float) -> float | None:
    """The end of a timeout, in monotonic seconds; None without one. Raises as the originals do for a wrong one."""
    if timeout is None or timeout < 0:
        if timeout is not None and unit == 1:
            _select([], [], [], timeout)  # raises, as it must not be negative
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
    """The object that ``select.poll()`` returns. It keeps the descriptors, as the original does not tell them."""

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
        # Look before the set is opened: the set could get the number of a descriptor that was closed.
        found: list[tuple[int, int]] = self._poll.poll(0)
        if found:
            return found
        with _epoll() as epoll_set:
            while not (found or (until is not None and monotonic() >= until)):
                for fd, mask in self._masks.items():
                    _enter(epoll_set, fd, mask)
                _wait(worker, epoll_set, "poll", until)
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
