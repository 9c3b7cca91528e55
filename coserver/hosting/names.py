"""The handler and the route of a request, as the framework knows them. They are looked up if somebody asks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..server.handler.endpoint import describe

#: The name of a handler, "shop.api.read_item", and the pattern of its route, "/items/{id}"; "" for what is not known.
Names = tuple[str, str]


def find_names(scope: Mapping[str, Any], application: Any) -> Names:
    """The names by an ASGI scope or a WSGI environ, which the framework has filled meanwhile."""
    for look in _LOOKS:
        try:
            found = look(scope, application)
        except Exception:  # another version of the framework
            continue
        if found is not None:
            return found
    return "", ""


def _named(function: Any) -> str:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{describe(function)}"


def _starlette(scope: Mapping[str, Any], application: Any) -> Names | None:
    """Starlette and FastAPI: ``scope["endpoint"]``, and with FastAPI ``scope["route"]``."""
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    path = getattr(scope.get("route"), "path", "")
    return _named(endpoint), f"{scope.get('root_path', '')}{path}" if path else ""


def _litestar(scope: Mapping[str, Any], application: Any) -> Names | None:
    handler = scope.get("route_handler")
    if handler is None:
        return None
    path = scope.get("path_template") or next(iter(sorted(getattr(handler, "paths", ()))), "")
    return _named(getattr(handler, "fn", handler)), path


def _werkzeug(environ: Mapping[str, Any], application: Any) -> Names | None:
    """Flask: werkzeug's request in the environ has the rule."""
    request = environ.get("werkzeug.request")
    rule = getattr(request, "url_rule", None)
    if rule is None:
        return None
    flask = sys.modules.get("flask")
    if flask is not None and isinstance(application, flask.Flask):
        return _named(application.view_functions[rule.endpoint]), f"{environ.get('SCRIPT_NAME', '')}{rule.rule}"
    return str(rule.endpoint), f"{environ.get('SCRIPT_NAME', '')}{rule.rule}"


def _bottle(environ: Mapping[str, Any], application: Any) -> Names | None:
    route = environ.get("bottle.route")
    return None if route is None else (_named(route.callback), f"{environ.get('SCRIPT_NAME', '')}{route.rule}")


def _django(scope: Mapping[str, Any], application: Any) -> Names | None:
    """Django keeps its match in its own request, so the path is looked up once more."""
    handlers = sys.modules.get("django.core.handlers.base")
    if handlers is None or not isinstance(application, handlers.BaseHandler):
        return None
    from importlib import import_module

    path = scope["PATH_INFO"].encode("latin-1").decode() if "PATH_INFO" in scope else scope["path"]
    match = import_module("django.urls").resolve(path)
    return _named(match.func), f"{scope.get('SCRIPT_NAME', '')}/{match.route.lstrip('/')}"


_LOOKS: tuple[Callable[[Mapping[str, Any], Any], Names | None], ...] = (
    _starlette, _litestar, _werkzeug, _bottle, _django,
)  # fmt: skip
