"""Code of the standard library that goes by the thread's number, run with another idea of who calls: of the worker."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from greenlet import getcurrent

from .workers import Worker


def worker_here() -> Worker | None:
    """The worker that the caller runs in, be it in a greenlet made there; after a fork, in the child, what it was."""
    current: Any = getcurrent()
    while current is not None:
        if isinstance(current, Worker):
            return current
        current = current.parent
    return None


def asking(function: Any, **globals_: Any) -> Any:
    """The same function, with these in place of globals of its module."""
    ours = {**function.__globals__, **globals_}
    return FunctionType(function.__code__, ours, function.__name__, function.__defaults__, function.__closure__)
