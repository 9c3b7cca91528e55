"""Family "drivers": libraries that need only be told, each a row of LATE. psycopg 3's binary build waits in C, but can
wait in Python, which is hooked; Django's ORM refuses to work where an event loop runs, and in a worker it may.

Nothing is imported for their sake: what is there is told at once, what is imported later as soon as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from greenlet import getcurrent

from .patching import Shim
from .workers import Worker


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


class _Finder(MetaPathFinder):
    """Finds as Python does, and tells a module of LATE when it has been run."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in LATE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run: Callable[[Any], None] = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                if self in sys.meta_path:
                    _tell(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_finder = _Finder()


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


def settle() -> None:
    """After the install and the uninstall."""
    from .shims import installed

    here = "drivers" in installed()
    if here is (_finder in sys.meta_path):
        return
    if here:
        sys.meta_path.insert(0, _finder)
    else:
        sys.meta_path.remove(_finder)
    for module in filter(None, map(sys.modules.get, LATE)):
        (_tell if here else _take_back)(module)


ROWS: tuple[Shim, ...] = ()
