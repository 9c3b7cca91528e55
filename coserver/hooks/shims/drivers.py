"""Family "drivers": libraries that need only be told, each a row of LATE. psycopg 3's binary build waits in C, but can
wait in Python, which is hooked; Django's ORM refuses to work where an event loop runs, and in a worker it may.

Nothing is imported for their sake: what is there is told at once, what is imported later as soon as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent

from ..import_hook import Arrivals
from ..patch import Shim
from ..workers import Worker


def _wait(waiting: Any) -> Callable[..., Any] | None:
    """psycopg's ``wait``; None if it waits in Python anyway, or as its user has said."""
    original = waiting.wait
    if original is not getattr(waiting, "wait_c", None):
        return None
    in_python = getattr(waiting, "wait_poll", waiting.wait_selector)

    def wait(gen: Any, fileno: int, *args: Any, **kwargs: Any) -> Any:
        chosen: Any = in_python if type(getcurrent()) is Worker else original
        return chosen(gen, fileno, *args, **kwargs)

    return wait


def _get_running_loop(django: Any) -> Callable[..., Any]:
    """What Django asks before each call of the ORM: a worker may block, as a thread may."""
    original = django.get_running_loop

    def get_running_loop() -> Any:
        if type(getcurrent()) is Worker:
            raise RuntimeError("no running event loop")
        return original()

    return get_running_loop


#: By module: which of its names is replaced, and what makes the replacement of the module, or None.
LATE: dict[str, tuple[str, Callable[[Any], Callable[..., Any] | None]]] = {
    "psycopg.waiting": ("wait", _wait),
    "django.utils.asyncio": ("get_running_loop", _get_running_loop),
}


def _tell(module: Any) -> None:
    name, make = LATE[module.__name__]
    made = make(module)
    if made is not None:
        made.original = getattr(module, name)  # type: ignore[attr-defined]
        setattr(module, name, made)


def _take_back(module: Any) -> None:
    name, _ = LATE[module.__name__]
    there = getattr(module, name)
    setattr(module, name, getattr(there, "original", there))


_arrivals = Arrivals(LATE, _tell)


def settle() -> None:
    """After the install and the uninstall."""
    from ..install import installed

    here = "drivers" in installed()
    if not _arrivals.watch(here):
        return
    for module in filter(None, map(sys.modules.get, LATE)):
        (_tell if here else _take_back)(module)


ROWS: tuple[Shim, ...] = ()
