"""What an app answers: its HTTP routes, as decorators declare them. How it is run, it says itself (``app``)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from os import PathLike
from typing import Any, TypeVar

from ..server.handler.endpoint import describe
from ..server.handler.errors import SetupError
from ..server.router import Router, split_route
from .routes import Route, check_prefix, route_limits

Handler = TypeVar("Handler", bound=Callable[..., Any])

log = logging.getLogger("coserver.app")


class Routing:
    """The base of App: its routes, and what is served by them, folders and figures among it."""

    name: str

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.measured = False  # its servers count from their start on
        self._router: Router | None = None  # made at the first start

    def _change(self, entries: list[Any]) -> AbstractContextManager[None]:
        raise NotImplementedError

    def route(
        self,
        path: str,
        *,
        methods: Iterable[str] = ("GET",),
        stream: bool = False,
        limits: Mapping[str, Any] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorator: serve ``path`` by this handler. ``{name}`` or ``{name:type}`` is a parameter; types are str, int,
        float, uuid and, as the last segment, path. With ``stream`` the handler starts before the body is there.
        ``limits`` are fields of Limits that it has in the place of its listener's, ``{"body_size": 5_000_000}``.

        Raises SetupError for a malformed route, and at start (if the app runs, at once) for an unknown parameter.
        """
        if isinstance(methods, str):
            raise SetupError(f"methods is a list: methods=[{methods!r}]")
        split_route(path)
        own = route_limits(path, limits)
        names = tuple(method.upper() for method in methods)

        def register(handler: Handler) -> Handler:
            before = [one for one in self.routes if one.path == path and set(one.methods) & set(names)]
            with self._change(self.routes):
                whole = [one for one in before if set(one.methods) <= set(names)]
                self.routes[:] = [one for one in self.routes if one not in whole]
                self.routes.append(Route(path, names, handler, stream, own))
            if before:
                old, new = describe(before[-1].handler), describe(handler)
                log.info("app %s: %s replaces %s on %s %s", self.name, new, old, names, path)
                if self._router is not None and "IPython" in sys.modules:
                    from ..notebook.cell import tell

                    tell(f"{' '.join(names)} {path}: {new} answers from the next request on, in the place of {old}")
            return handler

        return register

    def get(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """``route`` for GET; HEAD is answered by it as well."""
        return self.route(path, methods=["GET"], stream=stream, limits=limits)

    def post(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for POST."""
        return self.route(path, methods=["POST"], stream=stream, limits=limits)

    def put(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for PUT."""
        return self.route(path, methods=["PUT"], stream=stream, limits=limits)

    def patch(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for PATCH."""
        return self.route(path, methods=["PATCH"], stream=stream, limits=limits)

    def delete(
        self, path: str, *, stream: bool = False, limits: Mapping[str, Any] | None = None
    ) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for DELETE."""
        return self.route(path, methods=["DELETE"], stream=stream, limits=limits)

    def head(self, path: str, *, limits: Mapping[str, Any] | None = None) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for HEAD."""
        return self.route(path, methods=["HEAD"], limits=limits)

    def options(self, path: str, *, limits: Mapping[str, Any] | None = None) -> Callable[[Handler], Handler]:
        """Decorator: ``route`` for OPTIONS."""
        return self.route(path, methods=["OPTIONS"], limits=limits)

    def static(
        self, prefix: str, folder: str | PathLike[str], *, index: str | None = "index.html", hidden: bool = False
    ) -> None:
        """Serve the files in ``folder`` below ``prefix``, "/files" or "/"; a directory is answered with its ``index``.

        Nothing outside the folder is served, wherever symbolic links lead, and nothing whose name begins with a dot
        unless ``hidden``. Raises SetupError.
        """
        from .static import StaticFolder

        served = StaticFolder(folder, index, hidden)
        base = "" if prefix == "/" else check_prefix(prefix)
        self.get(base or "/")(served.serve_root)
        self.get(f"{base}/{{path:path}}")(served.serve)

    def metrics(self, path: str = "/metrics") -> None:
        """Serve what the server has counted at ``path``, in OpenMetrics text, and count from its start on.

        Raises SetupError without prometheus-client (``coserver[metrics]``).
        """
        if not find_spec("prometheus_client"):
            raise SetupError("metrics need prometheus-client; pip install 'coserver[metrics]'")
        from .metrics import answer_metrics

        self.measured = True
        self.get(path)(answer_metrics)
