"""``coserver doctor module:app``: what of an app the hooks cannot reach, with the place and the way out.

The app is imported as ``coserver serve`` does it: after the hooks are installed. What then is still the original's was
made by whatever is imported before any app, or waits in C.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

from coserver import hooks
from coserver.hooks.locals import older
from coserver.hooks.offloads import DRIVERS

from .target import TargetError, find_app, look_in


def escapes(target: str) -> Iterator[tuple[str, str, str]]:
    """What escapes, what that means, and the way out; after the import of the app. Raises TargetError."""
    hooks.install()
    look_in(None)
    app = find_app(target)
    yield from _patched()
    yield from _locals()
    yield from _drivers(frozenset(getattr(app, "offloaded", ()) or ()))


__all__ = ["TargetError", "escapes"]


def _locals() -> Iterator[tuple[str, str, str]]:
    for one in older():
        place = _place(one)
        meant = f"{place} was made before the hooks were installed: handlers of one thread share its values"
        yield "threading.local", meant, "make it later, or keep what is a request's own in a contextvars.ContextVar"


def _place(one: Any) -> str:
    """The name that it goes by in a module, or its class."""
    for holder in gc.get_referrers(one):
        if type(holder) is dict and sys.modules.get(str(holder.get("__name__"))) is not None:
            name = next((key for key, value in holder.items() if value is one), None)
            if name is not None:
                return f"{holder['__name__']}.{name}"
    return f"an object of {type(one).__module__}.{type(one).__qualname__}"


def _drivers(offloaded: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    for name in DRIVERS:
        if name in sys.modules and name not in offloaded:
            yield name, "it waits in C, and holds up all requests meanwhile", f'App(offloaded=["{name}"])'


def _patched() -> Iterator[tuple[str, str, str]]:
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and getattr(gevent, "saved", None):
        yield "gevent", "it has patched the standard library: its calls wait on a hub of its own", "do not patch"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and getattr(eventlet, "already_patched", None):
        yield "eventlet", "it has patched the standard library: its calls wait on a hub of its own", "do not patch"
