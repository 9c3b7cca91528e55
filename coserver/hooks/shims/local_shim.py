"""Family "locals": ``threading.local``, for what is made from now on; also of classes that were derived from it before.

What was made before the install cannot be changed any more: it bleeds from handler to handler, and ``older`` finds it.
"""

from __future__ import annotations

import _thread
import gc
import os
from collections.abc import Iterator
from typing import Any

from greenlet import getcurrent

from ..patch import Shim
from ..workers import Forked
from .locals import Kept, Local, made_since, per_thread
from .locals import _get as get
from .locals import _local as original

#: Classes derived from the original before the install, and what they were derived from.
_derived: dict[type, tuple[type, ...]] = {}


def derived() -> Iterator[type]:
    """The classes that are derived from the original itself, and may be derived from this one instead."""
    for cls in original.__subclasses__():
        if cls is not Local and not per_thread(cls.__module__):
            yield cls


def settle() -> None:
    """Derive the classes that exist from the one that counts now: what is made of them from now on is per call."""
    if _thread._local is Local:
        for cls in list(derived()):
            _derive(cls, tuple(Local if base is original else base for base in cls.__bases__))
    else:
        while _derived:
            cls, bases = _derived.popitem()
            cls.__bases__ = bases


def _derive(cls: type, bases: tuple[type, ...]) -> None:
    before = cls.__bases__
    try:
        cls.__bases__ = bases
    except TypeError:  # its layout or the order of its bases forbids it
        return
    _derived[cls] = before


def older() -> list[Any]:
    """The locals that were made before the install, and bleed from handler to handler."""
    found = [one for one in gc.get_objects() if issubclass(type(one), original)]
    return [one for one in found if id(one) not in made_since and not issubclass(type(one), Kept)
            and not per_thread(type(one).__module__)]  # fmt: skip


def _after_fork() -> None:
    """In a child process that a worker forked nothing is hooked: what the call held is the thread's there."""
    worker = getcurrent()
    if isinstance(worker, Forked):
        for one in list((worker.locals or {}).values()):
            local = one()
            if local is not None:
                get(local, "__dict__").update(one.held() or ())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


ROWS = (Shim("_thread", "_local", Local), Shim("threading", "local", Local))
