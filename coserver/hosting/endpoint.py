"""The endpoint of a hosted application: it takes every request below its prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..server.handler.endpoint import HOSTED, Endpoint, describe
from ..server.http.carrier import Sent
from ..server.limits import RouteLimits
from .asgi import run_asgi
from .kind import WSGI, Kind
from .names import Names, find_names

#: Whether the client's FIN is its end, by the kind of application: a WSGI client may shut its side and wait.
_WSGI_LIMITS = RouteLimits({"on_half_close": "answer"})


class HostedEndpoint(Endpoint):
    """Runs an application for each request. ``state`` is the lifespan's, None if there is none.

    ``cancels``: the application is cancelled when its client leaves.
    """

    __slots__ = (
        "application", "cancels", "interface", "raw_root_path", "root_path", "scope_root_path", "state", "underscores",
        "workers",
    )  # fmt: skip

    def __init__(
        self, application: Any, interface: Kind, *, name: str, root_path: str, mount: str, cancels: bool,
        underscores: bool = False, workers: bool = True,
    ) -> None:
        """``root_path`` is the prefix that a proxy has taken away; ``mount`` is where the application is mounted.

        ``underscores``: fields with "_" in their names reach WSGI applications. ``workers``: functions that an ASGI
        framework would send to threads run in workers.
        """
        self.handler = self.application = application
        self.interface = interface
        self.name = name
        self.kind = HOSTED
        self.stream = False
        self.route = f"{mount}/…" if mount else ""
        self.mount = mount
        self.errors = ()
        self.app = None
        self.takes_subject = False
        self.bare = None
        self.limits = _WSGI_LIMITS if interface == WSGI else None
        self.root_path = root_path
        self.raw_root_path = root_path
        self.scope_root_path = root_path + mount
        self.cancels = cancels
        self.underscores = underscores
        self.workers = workers
        self.state: dict[str, Any] | None = None
        self.call = self._run_wsgi if interface == WSGI else self._run_asgi

    async def _run_asgi(self, exchange: Any, params: Mapping[str, Any]) -> Sent:
        return await run_asgi(self.application, exchange, self)

    async def _run_wsgi(self, exchange: Any, params: Mapping[str, Any]) -> Sent:
        from .wsgi import run_wsgi  # most servers host no WSGI application

        return await run_wsgi(self.application, exchange, self)

    def names_of(self, scope: Mapping[str, Any]) -> Names:
        """The handler that the framework has chosen, and its route's pattern: "shop.api.read_item", "/items/{id}".

        Until it has, those of the application and of its mount.
        """
        name, route = find_names(scope, self.handler)
        return name or self.name, route or self.route


def application_name(application: Any) -> str:
    """A name for an application: that of its class or function, with its module."""
    if callable(getattr(application, "__name__", None)) or not hasattr(application, "__name__"):
        return type(application).__name__
    return describe(application)
