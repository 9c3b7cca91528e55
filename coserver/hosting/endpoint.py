"""The endpoint of a hosted application: it takes every request below its prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..server.handler.endpoint import HOSTED, Endpoint, describe
from ..server.http.carrier import Sent
from ..server.limits import RouteLimits
from .asgi import run_asgi
from .kind import WSGI, Kind

#: Whether the client's FIN is its end, by the kind of application: a WSGI client may shut its side and wait.
_WSGI_LIMITS = RouteLimits({"on_half_close": "answer"})


class HostedEndpoint(Endpoint):
    """Runs an application for each request. ``state`` is the lifespan's, None if there is none.

    ``cancels``: the application is cancelled when its client leaves.
    """

    __slots__ = (
        "application", "cancels", "interface", "raw_root_path", "root_path", "scope_root_path", "state", "underscores",
    )  # fmt: skip

    def __init__(
        self, application: Any, interface: Kind, *, name: str, root_path: str, mount: str, cancels: bool,
        underscores: bool = False,
    ) -> None:
        """``root_path`` is the prefix that a proxy has taken away; ``mount`` is where the application is mounted.

        ``underscores``: fields with "_" in their names reach WSGI applications.
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
        self.state: dict[str, Any] | None = None
        self.call = self._run_wsgi if interface == WSGI else self._run_asgi

    async def _run_asgi(self, exchange: Any, params: Mapping[str, Any]) -> Sent:
        return await run_asgi(self.application, exchange, self)

    async def _run_wsgi(self, exchange: Any, params: Mapping[str, Any]) -> Sent:
        from .wsgi import run_wsgi  # most servers host no WSGI application

        return await run_wsgi(self.application, exchange, self)

    def name_of(self, scope: Mapping[str, Any]) -> str:
        """The endpoint that the framework has chosen, "shop.api.read_item"; the application's name until it has."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return self.name
        module = getattr(endpoint, "__module__", None) or type(endpoint).__module__
        return f"{module}.{describe(endpoint)}"

    def route_of(self, scope: Mapping[str, Any]) -> str:
        """The pattern of the framework's route, "/items/{id}"."""
        path = getattr(scope.get("route"), "path", None)
        return f"{scope.get('root_path', '')}{path}" if isinstance(path, str) else self.route


def application_name(application: Any) -> str:
    """A name for an application: that of its class or function, with its module."""
    if callable(getattr(application, "__name__", None)) or not hasattr(application, "__name__"):
        return type(application).__name__
    return describe(application)
