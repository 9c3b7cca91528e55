"""Tells when a module has been imported: nothing is imported for the hooks' sake, nor comes too late for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any


class Arrivals(MetaPathFinder):
    """Finds as Python does, and calls ``tell`` with each module of ``names`` that has been run."""

    def __init__(self, names: Container[str], tell: Callable[[Any], None]) -> None:
        self._names = names
        self._tell = tell

    def watch(self, on: bool) -> bool:
        """Begin with it, or end it; whether that is a change."""
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
                if self in sys.meta_path:
                    self._tell(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
