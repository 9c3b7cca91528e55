"""``SHIMS``, the table of all families of shims, and the functions that install and uninstall them.

A shim asks first whether it runs in a worker, and else calls the original: every other thread, task and notebook cell
sees no difference. An install changes the whole process, and a second one changes nothing more.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from threading import RLock
from typing import Any

from .locks.waiters import PERIOD, choose_mutex
from .patch import Patch, Shim, rebind

#: The module of each family, below this package. It holds the family's ``ROWS``, and is loaded when it is installed.
SHIMS: dict[str, str] = {
    "sleep": "shims.sleep",
    "sockets": "shims.sockets",
    "tls": "shims.tls",
    "dns": "shims.dns",
    "select": "shims.select",
    "pipes": "shims.pipes",
    "buffers": "shims.buffers",
    "processes": "shims.processes",
    "filelocks": "shims.filelocks",
    "semaphores": "shims.semaphores",
    "locks": "locks.mutex",
    "drivers": "shims.drivers",
    "loops": "shims.loops",
    "detection": "shims.detection",
    "locals": "shims.locals",
    "idents": "shims.idents",
}

_patches: dict[str, list[Patch]] = {}
_chosen: tuple[str, ...] | None = None
_lock = RLock()


def rows(family: str) -> tuple[Shim, ...]:
    """The shims of one family. Raises ValueError for an unknown family."""
    if family not in SHIMS:
        raise ValueError(f"unknown family of hooks {family!r}; there are {', '.join(SHIMS)}")
    found: tuple[Shim, ...] = _module(family).ROWS
    return found


def _module(family: str) -> Any:
    return import_module(f".{SHIMS[family]}", __package__)


def install(families: Iterable[str] | None = None, *, mutex: str | None = None, period: float = PERIOD) -> None:
    """Hook the blocking calls of these families; of all families if None is given. A hooked family stays as it is.

    May be called from any thread, at any time; better early than late. ``mutex`` says how workers wait for locks from
    now on: "wake" (the default: a release wakes them) or "retry" (they try every ``period`` seconds). Raises ValueError
    for an unknown family, ``mutex`` or ``period``.
    """
    if mutex is not None:
        choose_mutex(mutex, period)
    wanted = {family: rows(family) for family in (SHIMS if families is None else families)}
    with _lock:
        fresh: list[Patch] = []
        for family, shims in wanted.items():
            if family not in _patches:
                fresh += _put(family, shims)
                _settle(family)
        _rebind_to_shims(fresh)


def install_shims(name: str, make: Callable[[], Iterable[Shim]]) -> None:
    """Put these shims in place, once, under a name that is no family's. ``uninstall`` undoes them too."""
    with _lock:
        if name not in _patches:
            _rebind_to_shims(_put(name, make()))


def _put(name: str, shims: Iterable[Shim]) -> list[Patch]:
    owned = [(shim, shim.owner()) for shim in shims]
    patches = _patches[name] = [Patch(shim, owner) for shim, owner in owned if owner is not None]
    return patches


def _rebind_to_shims(patches: list[Patch]) -> None:
    rebind({id(one.original): (one.original, one.shim.shim) for one in patches if one.in_module})


def install_late(family: str, module: str) -> None:
    """Put a family's late shims into ``module``, which has just been imported: nobody has bound its names yet."""
    with _lock:
        patches = _patches.get(family)
        if patches is None:
            return
        there = {(id(one.owner), one.shim.name) for one in patches}
        for shim in rows(family):
            if shim.late and shim.module == module:
                owner = shim.owner()
                if owner is not None and (id(owner), shim.name) not in there:
                    patches.append(Patch(shim, owner))


def uninstall() -> None:
    """Remove all hooks, also where one was bound by name. Calls that wait in workers still end normally."""
    with _lock:
        old = [one for patches in _patches.values() for one in patches]
        families = tuple(_patches)
        _patches.clear()
        for one in reversed(old):
            one.undo()
        for family in families:
            if family in SHIMS:
                _settle(family)
        rebind({id(one.shim.shim): (one.shim.shim, one.original) for one in old if one.in_module})


def _settle(family: str) -> None:
    """Call the family's ``settle``, if it has one: after its install, and after the uninstall."""
    settle = getattr(_module(family), "settle", None)
    if settle is not None:
        settle()


def installed() -> tuple[str, ...]:
    """The families whose calls are hooked now."""
    return tuple(name for name in _patches if name in SHIMS)


def has_shims(name: str) -> bool:
    """Whether the shims that ``install_shims`` got under this name are in place now."""
    return name in _patches


def originals() -> Iterator[tuple[str, Any]]:
    """The originals of the shims that are in place now, each with its name. Only functions of modules: other code binds
    these by name."""
    for patches in list(_patches.values()):
        for one in patches:
            if one.original is not None:
                yield f"{one.owner.__name__}.{one.shim.name}", one.original


def choose(families: Iterable[str] | None) -> None:
    """Set the families that ``install_for(True)`` installs from now on, as a configuration names them; all if None."""
    global _chosen
    _chosen = None if families is None else tuple(families)


def install_for(hooks: bool | Iterable[str]) -> None:
    """Install the families of an app's ``hooks=``: True is all, or those of ``choose``; False is none."""
    if hooks is True:
        wanted: Iterable[str] = SHIMS if _chosen is None else _chosen
    else:
        wanted = hooks or ()
    if any(family not in _patches for family in wanted):
        install(wanted)


def _end() -> None:
    """At the end of the process, tell every shim that it runs in no worker, and put the originals back.

    greenlet answers no more then, and exit functions that run later still use locks. So does what runs when modules are
    cleared already, the weak references of logging say: a shim's own module may be one of them. A shim that somebody
    bound by name stays there, since looking for it takes time.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{__package__}.") and name != f"{__package__}.workers" and hasattr(module, "getcurrent"):
            setattr(module, "getcurrent", _nobody)  # noqa: B010
    for patches in list(_patches.values()):
        for one in reversed(patches):
            one.undo()


def _nobody() -> None:
    return None


atexit.register(_end)  # after greenlet's own, so that it runs before that
