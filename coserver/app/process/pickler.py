"""Pickles an app for a process of its own, by cloudpickle, which takes functions of a notebook too.

An error names the object that cannot be pickled. Observers, gates and upstream connections are left out: the other
process makes its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from inspect import unwrap
from typing import TYPE_CHECKING, Any

from ...server.handler.endpoint import describe
from ...server.handler.errors import SetupError

if TYPE_CHECKING:
    from ..app import App

#: The names of one function that are tried, to find the one that cannot be pickled. A handler has a few.
_TRIED = 200


def pack(app: App, options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The state that the other process needs before it reads the app, and a pickle of the app with its options.

    Raises SetupError, which names the object that cannot be pickled.
    """
    if not find_spec("cloudpickle"):
        raise SetupError("isolated=True sends the app by cloudpickle; pip install 'coserver[notebook]'")
    import cloudpickle

    before = {"path": list(sys.path), "hooks": app.hooks, "argv": list(sys.argv[:1])}
    try:
        return before, cloudpickle.dumps((app, options))
    except Exception as error:
        raise SetupError(_message(app, options, error, cloudpickle.dumps)) from error


def _message(app: App, options: dict[str, Any], error: Exception, dumps: Callable[[Any], bytes]) -> str:
    """The error message: the rule, the value, the way out."""
    where, name, value = _culprit(app, options, dumps) or (f"app {app.name!r}", "", None)
    problem = f"uses {name!r}, {value!r:.100}, which cannot go there" if name else "cannot go there"
    return (
        f"isolated=True sends the app to a process of its own, and {where} {problem} ({type(error).__name__}: "
        f"{error!s:.200}): make it there, in a lifespan (@app.lifespan) or at its first use"
    )


def _culprit(app: App, options: dict[str, Any], dumps: Callable[[Any], bytes]) -> tuple[str, str, Any] | None:
    """The object that cannot be pickled: its user, its name, and the object."""
    can_pickle = _CanPickle(dumps)
    for name, value in vars(app.state).items():
        if not can_pickle(value):
            return "app.state", name, value
    for where, function in _functions(app):
        if not can_pickle(function):
            for name, value in _names(unwrap(function)):
                if not can_pickle(value):
                    return where, name, value
            return where, "", None
    for name, value in options.items():
        if not can_pickle(value):
            return "app.start", name, value
    return None


class _CanPickle:
    def __init__(self, dumps: Callable[[Any], bytes]) -> None:
        self._dumps = dumps

    def __call__(self, value: Any) -> bool:
        try:
            self._dumps(value)
        except Exception:
            return False
        return True


def _functions(app: App) -> Iterator[tuple[str, Any]]:
    for part in app.parts():
        for route in part.routes:
            yield f"{describe(route.handler)} of {' '.join(route.methods)} {route.path}", route.handler
        for tcp in part.tcp_routes:
            yield f"{describe(tcp.handler)} of tcp {tcp.name}", tcp.handler
        for lifespan in part.lifespans:
            yield f"lifespan {describe(unwrap(lifespan))}", lifespan
        for endpoint in part.errors:
            yield f"error handler {endpoint.name}", endpoint.handler


def _names(function: Any) -> Iterator[tuple[str, Any]]:
    """The objects that a function refers to: in its closure, its defaults and its globals."""
    code = getattr(function, "__code__", None)
    if code is None:
        return
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars, cells, strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    for value in getattr(function, "__defaults__", None) or ():
        yield "a default", value
    for name in code.co_names[:_TRIED]:
        if name in function.__globals__:
            yield name, function.__globals__[name]
