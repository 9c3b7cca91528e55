"""Family "drivers": libraries that need only be told; each is a row of LATE.

psycopg 3's binary build waits in C, but can also wait in Python, which is hooked. Django's ORM refuses to work where an
event loop runs; in a worker it may. Neither is imported for this: a module that is there is changed at once, another
one when it is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent

from ..import_hook import ImportHook
from ..install import installed
from ..patch import Shim
from ..workers import Worker


def _psycopg_wait(waiting: Any) -> Callable[..., Any] | None:
    """A replacement of psycopg's ``wait``; None if it waits in Python already, by default or by the user's choice."""
    original = waiting.wait
    if original is not getattr(waiting, "wait_c", None):
        return None
    in_python = getattr(waiting, "wait_poll", waiting.wait_selector)

    def wait(gen: Any, fileno: int, *args: Any, **kwargs: Any) -> Any:
        chosen: Any = in_python if type(getcurrent()) is Worker else original
        return chosen(gen, fileno, *args, **kwargs)

    return wait


def _django_running_loop(django: Any) -> Callable[..., Any]:
    """A replacement of the function that Django calls before each call of the ORM. A worker may block, as a thread."""
    original = django.get_running_loop

    def get_running_loop() -> Any:
        if type(getcurrent()) is Worker:
            raise RuntimeError("no running event loop")
        return original()

    return get_running_loop


#: By module: the name to replace, and the function that makes the replacement, or None, from the module.
LATE: dict[str, tuple[str, Callable[[Any], Callable[..., Any] | None]]] = {
    "psycopg.waiting": ("wait", _psycopg_wait),
    "django.utils.asyncio": ("get_running_loop", _django_running_loop),
}


def _replace(module: Any) -> None:
    name, make = LATE[module.__name__]
    made = make(module)
    if made is not None:
        made.original = getattr(module, name)  # type: ignore[attr-defined]
        setattr(module, name, made)


def _put_back(module: Any) -> None:
    name, _ = LATE[module.__name__]
    there = getattr(module, name)
    setattr(module, name, getattr(there, "original", there))


_import_hook = ImportHook(LATE, _replace)


def settle() -> None:
    """After the install and after the uninstall."""
    on = "drivers" in installed()
    if not _import_hook.switch(on):
        return
    for module in filter(None, map(sys.modules.get, LATE)):
        (_replace if on else _put_back)(module)


ROWS: tuple[Shim, ...] = ()
