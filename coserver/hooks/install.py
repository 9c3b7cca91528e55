"""The table of all shims, by family, and what puts them in their places and back.

A shim asks first whether it runs in a worker, and else calls the original: every other thread, task and notebook cell
sees no difference. One change of the process, whoever asks for it, and however often.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from threading import RLock
from types import ModuleType
from typing import Any

from .locks.waiters import PERIOD, choose_mutex
from .patch import Put, Shim
from .rebinding import rebind

#: Each family's module here, which holds its ``ROWS``. Loaded when it is installed.
SHIMS: dict[str, str] = {
    "sleep": "shims.sleep",
    "sockets": "shims.sockets",
    "tls": "shims.tls",
    "dns": "shims.dns",
    "select": "shims.select",
    "pipes": "shims.pipes",
    "processes": "shims.processes",
    "filelocks": "shims.filelocks",
    "semaphores": "shims.semaphores",
    "locks": "locks.mutex",
    "drivers": "shims.drivers",
    "loops": "shims.loops",
    "locals": "shims.local_shim",
}

_put: dict[str, list[Put]] = {}
_chosen: tuple[str, ...] | None = None
_lock = RLock()


def rows(family: str) -> tuple[Shim, ...]:
    """The shims of one family. Raises ValueError for one that there is not."""
    if family not in SHIMS:
        raise ValueError(f"unknown family of hooks {family!r}; there are {', '.join(SHIMS)}")
    found: tuple[Shim, ...] = _module(family).ROWS
    return found


def _module(family: str) -> Any:
    return import_module(f".{SHIMS[family]}", __package__)


def install(families: Iterable[str] | None = None, *, mutex: str | None = None, period: float = PERIOD) -> None:
    """Hook the blocking calls of these families, of all if None is given. What is hooked already stays so.

    From any thread, at any time; better early than late. ``mutex`` says how workers wait for locks from now on: "wake"
    (the release wakes them; so it is if nobody asks otherwise) or "retry" (they try every ``period`` seconds). Raises
    ValueError for an unknown family, ``mutex`` or ``period``.
    """
    if mutex is not None:
        choose_mutex(mutex, period)
    wanted = {family: rows(family) for family in (SHIMS if families is None else families)}
    with _lock:
        fresh: list[Put] = []
        for family, shims in wanted.items():
            if family not in _put:
                owned = [(shim, shim.owner()) for shim in shims]
                _put[family] = [Put(shim, owner) for shim, owner in owned if owner is not None]
                fresh += _put[family]
                _settle(family)
        rebind({id(put.original): (put.original, put.shim.shim) for put in fresh if _rebound(put)})


def put(name: str, make: Callable[[], Iterable[Shim]]) -> None:
    """Put these shims in their places, under a name that is no family's; once. ``uninstall`` takes them back too."""
    with _lock:
        if name in _put:
            return
        owned = [(shim, shim.owner()) for shim in make()]
        puts = _put[name] = [Put(shim, owner) for shim, owner in owned if owner is not None]
        rebind({id(put.original): (put.original, put.shim.shim) for put in puts if _rebound(put)})


def arrive(family: str, module: str) -> None:
    """Put a family's late shims into their module, which has just been imported: nobody has bound its names yet."""
    with _lock:
        puts = _put.get(family)
        if puts is None:
            return
        there = {(id(one.owner), one.shim.name) for one in puts}
        for shim in rows(family):
            if shim.late and shim.module == module:
                owner = shim.owner()
                if owner is not None and (id(owner), shim.name) not in there:
                    puts.append(Put(shim, owner))


def uninstall() -> None:
    """Put everything back, wherever it was bound meanwhile. Calls under way in workers still end well."""
    with _lock:
        old = [put for puts in _put.values() for put in puts]
        families = tuple(_put)
        _put.clear()
        for put in reversed(old):
            put.take_back()
        for family in families:
            if family in SHIMS:
                _settle(family)
        rebind({id(put.shim.shim): (put.shim.shim, put.original) for put in old if _rebound(put)})


def _settle(family: str) -> None:
    settle = getattr(_module(family), "settle", None)
    if settle is not None:
        settle()


def installed() -> tuple[str, ...]:
    """The families whose calls are hooked now."""
    return tuple(name for name in _put if name in SHIMS)


def is_put(name: str) -> bool:
    """Whether what ``put`` was given under this name is in place now."""
    return name in _put


def originals() -> Iterator[tuple[str, Any]]:
    """The functions that shims stand in for now, each with its name; those of modules, which people bind by name."""
    for puts in list(_put.values()):
        for one in puts:
            if _rebound(one) and one.original is not None:
                yield f"{one.owner.__name__}.{one.shim.name}", one.original


def choose(families: Iterable[str] | None) -> None:
    """What ``install_for(True)`` installs from now on: what a configuration says, or all if None."""
    global _chosen
    _chosen = None if families is None else tuple(families)


def install_for(hooks: bool | Iterable[str]) -> None:
    """Install what an app's ``hooks=`` asks for: True is all families, or those that were chosen; False is none."""
    if hooks is True:
        wanted: Iterable[str] = SHIMS if _chosen is None else _chosen
    else:
        wanted = hooks or ()
    if any(family not in _put for family in wanted):
        install(wanted)


def _rebound(put: Put) -> bool:
    return isinstance(put.owner, ModuleType)


def _end() -> None:
    """At the end of the process greenlet answers no more, and what exits after it still uses locks. From here on nobody
    is in a worker, as far as shims know."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{__package__}.") and name != f"{__package__}.workers" and hasattr(module, "getcurrent"):
            setattr(module, "getcurrent", _nobody)  # noqa: B010


def _nobody() -> None:
    return None


atexit.register(_end)  # after greenlet's own, so that it runs before that
