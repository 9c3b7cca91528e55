"""``coserver doctor module:app``: calls of an app that the hooks cannot reach, with the place and the way out.

The app is imported as ``coserver serve`` does it: after the hooks are installed. A call that still is the original was
bound by a module that is imported before any app, or it waits in C.
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
from coserver.hooks.shims.locals import older, per_thread

from ..serve.target import TargetError, find_app, look_in


def escapes(target: str) -> Iterator[tuple[str, str, str]]:
    """Import the app; for each call that escapes the hooks: its name, its effect, the way out. Raises TargetError."""
    hooks.install()
    look_in(None)
    find_app(target)
    yield from _patched()
    yield from _locals()
    yield from _bound()
    yield from _wrapped()
    yield from _drivers()


__all__ = ["TargetError", "escapes"]

#: Packages that the command itself has loaded before any app: what they hold is not the app's to change.
_OURS = frozenset(
    ("anyio", "click", "coserver_cli", "h11", "httptools", "idna", "markdown_it", "orjson", "pygments", "regex", "rich",
     "shellingham", "typer")
)  # fmt: skip


def _locals() -> Iterator[tuple[str, str, str]]:
    for one in older():
        holder = _named(one) or f"{type(one).__module__}."
        if per_thread(holder) or holder.partition(".")[0] in _OURS:
            continue
        place = _place(one)
        meant = f"{place} was created before the hooks were installed: handlers of one thread share its values"
        yield "threading.local", meant, "create it later, or keep the values of a request in a contextvars.ContextVar"


def _place(one: Any) -> str:
    """The name of an object in a module, or its class."""
    return _named(one) or f"an object of {type(one).__module__}.{type(one).__qualname__}"


def _named(one: Any) -> str | None:
    for holder in gc.get_referrers(one):
        if type(holder) is dict and sys.modules.get(str(holder.get("__name__"))) is not None:
            name = next((key for key, value in holder.items() if value is one), None)
            if name is not None:
                return f"{holder['__name__']}.{name}"
    return None


def _bound() -> Iterator[tuple[str, str, str]]:
    """Original functions in tuples and lists, which the hooks do not search."""
    found = list(originals())
    ours = {id(found), *(id(one) for one in found)}
    for name, original in found:
        for holder in gc.get_referrers(original):
            if type(holder) in (tuple, list) and id(holder) not in ours and (place := _named(holder)):
                meant = (
                    f"{place} has the original {name}, from before the hooks were installed: a call blocks all requests"
                )
                yield name, meant, f"create it later, or store a function that calls {name}"


def _wrapped() -> Iterator[tuple[str, str, str]]:
    """TLS sockets from before the hooks were installed."""
    for one in gc.get_objects():
        if issubclass(type(one), ssl.SSLSocket) and one.fileno() >= 0:
            meant = f"{_place(one)} was wrapped before the app was imported: its timeout changes during calls"
            yield "TLS socket", meant, "connect later"


def _drivers() -> Iterator[tuple[str, str, str]]:
    for name in DRIVERS:
        if name in sys.modules and not is_offloaded(name):
            yield name, "it waits in C, and blocks all requests meanwhile", f'App(offloaded=["{name}"])'


def _patched() -> Iterator[tuple[str, str, str]]:
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and getattr(gevent, "saved", None):
        yield "gevent", "it has patched the standard library: calls wait in gevent's own hub", "remove its patch"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and getattr(eventlet, "already_patched", None):
        yield "eventlet", "it has patched the standard library: calls wait in eventlet's own hub", "remove its patch"
