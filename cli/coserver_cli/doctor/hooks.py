"""``coserver doctor module:app``: what of an app the hooks cannot reach, with the place and the way out.

The app is imported as ``coserver serve`` does it: after the hooks are installed. What then is still the original's was
made by whatever is imported before any app, or waits in C.
"""

from __future__ import annotations

import gc
import ssl
import sys
from collections.abc import Iterator
from typing import Any

from coserver import hooks
from coserver.hooks.install import originals
from coserver.hooks.offload_drivers import DRIVERS, is_offloaded
from coserver.hooks.shims.locals import older

from ..serve.target import TargetError, find_app, look_in


def escapes(target: str) -> Iterator[tuple[str, str, str]]:
    """What escapes, what that means, and the way out; after the import of the app. Raises TargetError."""
    hooks.install()
    look_in(None)
    find_app(target)
    yield from _patched()
    yield from _locals()
    yield from _bound()
    yield from _wrapped()
    yield from _drivers()


__all__ = ["TargetError", "escapes"]


def _locals() -> Iterator[tuple[str, str, str]]:
    for one in older():
        place = _place(one)
        meant = f"{place} was made before the hooks were installed: handlers of one thread share its values"
        yield "threading.local", meant, "make it later, or keep what is a request's own in a contextvars.ContextVar"


def _place(one: Any) -> str:
    """The name that it goes by in a module, or its class."""
    return _named(one) or f"an object of {type(one).__module__}.{type(one).__qualname__}"


def _named(one: Any) -> str | None:
    for holder in gc.get_referrers(one):
        if type(holder) is dict and sys.modules.get(str(holder.get("__name__"))) is not None:
            name = next((key for key, value in holder.items() if value is one), None)
            if name is not None:
                return f"{holder['__name__']}.{name}"
    return None


def _bound() -> Iterator[tuple[str, str, str]]:
    """Originals in tuples and lists: where the hooks do not look for them."""
    found = list(originals())
    ours = {id(found), *(id(one) for one in found)}
    for name, original in found:
        for holder in gc.get_referrers(original):
            if type(holder) in (tuple, list) and id(holder) not in ours and (place := _named(holder)):
                meant = f"{place} holds the {name} of before the hooks were installed: it holds up all requests"
                yield name, meant, "make it later, or let it hold a function that calls it"


def _wrapped() -> Iterator[tuple[str, str, str]]:
    """TLS sockets that are older than the hooks."""
    for one in gc.get_objects():
        if issubclass(type(one), ssl.SSLSocket) and one.fileno() >= 0:
            meant = f"{_place(one)} was wrapped before the app was imported: its timeout changes during calls"
            yield "TLS socket", meant, "connect later"


def _drivers() -> Iterator[tuple[str, str, str]]:
    for name in DRIVERS:
        if name in sys.modules and not is_offloaded(name):
            yield name, "it waits in C, and holds up all requests meanwhile", f'App(offloaded=["{name}"])'


def _patched() -> Iterator[tuple[str, str, str]]:
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and getattr(gevent, "saved", None):
        yield "gevent", "it has patched the standard library: its calls wait on a hub of its own", "do not patch"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and getattr(eventlet, "already_patched", None):
        yield "eventlet", "it has patched the standard library: its calls wait on a hub of its own", "do not patch"
