"""Tells when a module has been imported, so that the hooks need not import it, and still come in time.

Loaded with the families "drivers", "loops" and "detection", which wait for modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any


class ImportHook(MetaPathFinder):
    """A finder for ``sys.meta_path`` that finds modules as Python does, and calls ``imported`` with each module of
    ``names`` after its code has run."""

    def __init__(self, names: Container[str], imported: Callable[[Any], None]) -> None:
        self._names = names
        self._imported = imported

    def switch(self, on: bool) -> bool:
        """Start or stop; true if that is a change."""
        if on is (self in sys.meta_path):
            return False
        if on:
            sys.meta_path.insert(0, self)
        else:
            sys.meta_path.remove(self)
        return True

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run: Callable[[Any], None] = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                for finder in list(sys.meta_path):  # Python asks only the first, for all that wait for this module
                    if isinstance(finder, ImportHook) and fullname in finder._names:
                        finder._imported(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
