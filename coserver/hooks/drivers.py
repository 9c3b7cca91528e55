"""Family "drivers": clients in C that let Python wait for them, if one only tells them. psycopg 3 is one.

Its binary build waits in C (``wait_c``); in a worker it is given one of its own functions that wait in Python, which
are hooked. Nothing is imported for its sake: what is there is shown at once, what is imported later as soon as it is.
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

#: The module of psycopg that chooses how to wait, at its import, and keeps it as ``wait``.
PSYCOPG = "psycopg.waiting"


class _Finder(MetaPathFinder):
    """Finds as Python does, and shows the module how to wait when it has been run."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != PSYCOPG:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run: Callable[[Any], None] = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                if self in sys.meta_path:
                    _show(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_finder = _Finder()


def _show(waiting: Any) -> None:
    """Have psycopg wait in Python in workers, and as it did everywhere else."""
    original = waiting.wait
    if original is not getattr(waiting, "wait_c", None):
        return  # it waits in Python anyway, or as its user has said
    in_python = getattr(waiting, "wait_poll", waiting.wait_selector)

    def wait(gen: Any, fileno: int, *args: Any, **kwargs: Any) -> Any:
        chosen: Any = in_python if type(getcurrent()) is Worker else original
        return chosen(gen, fileno, *args, **kwargs)

    wait.original = original  # type: ignore[attr-defined]
    waiting.wait = wait


def _take_back(waiting: Any) -> None:
    waiting.wait = getattr(waiting.wait, "original", waiting.wait)


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
    waiting = sys.modules.get(PSYCOPG)
    if waiting is not None:
        (_show if here else _take_back)(waiting)


ROWS: tuple[Shim, ...] = ()
