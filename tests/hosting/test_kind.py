"""The kind of an application, found by looking."""

from __future__ import annotations

from functools import partial
from typing import Any
from wsgiref.validate import validator

import pytest

import coserver
from coserver import SetupError
from coserver.hosting.kind import find_kind


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


async def bound(extra: Any, scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


def returns_awaitable(scope: Any, receive: Any, send: Any) -> Any:
    return asgi(scope, receive, send)


def asgi2(scope: Any) -> Any:
    return None


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def method(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


class Asgi2Class:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Any:
        return iter(())


class Nothing:
    def __call__(self, a: Any, b: Any, c: Any, d: Any) -> None: ...


class NothingMade:
    def __init__(self, a: Any, b: Any, c: Any) -> None: ...


@pytest.mark.parametrize(("application", "kind"), [
    (asgi, "asgi"), (partial(bound, 1), "asgi"), (AsgiObject(), "asgi"), (AsgiObject().method, "asgi"),
    (returns_awaitable, "asgi"), (wsgi, "wsgi"), (WsgiObject(), "wsgi"), (validator(wsgi), "wsgi"),
    (WsgiClass, "wsgi"), (asgi2, "asgi2"), (Asgi2Class, "asgi2"),
])  # fmt: skip
def test_found(application: Any, kind: str) -> None:
    assert find_kind(application) == kind
    assert find_kind(application, kind) == kind


@pytest.mark.parametrize("application", [Nothing(), NothingMade, bound])
def test_not_found(application: Any) -> None:
    with pytest.raises(SetupError, match=r"is neither ASGI .* nor WSGI .* overrides this"):
        find_kind(application)
    assert find_kind(application, "wsgi" if application is not bound else "asgi")


def test_wrong_ones_are_named() -> None:
    with pytest.raises(SetupError, match="is a WSGI application: a plain call of"):
        find_kind(wsgi, "asgi")
    with pytest.raises(SetupError, match="is an ASGI application: an async def of"):
        find_kind(asgi, "wsgi")
    with pytest.raises(SetupError, match="interface must be one of"):
        find_kind(asgi, "rsgi")
    with pytest.raises(SetupError, match="is a callable, ASGI or WSGI; got int"):
        find_kind(7)
    with pytest.raises(SetupError, match=r"a signature|neither ASGI"):
        find_kind(type)


def test_the_options_are_checked() -> None:
    app = coserver.App("own")
    assert coserver.host(app) is app
    with pytest.raises(SetupError, match="'native' is for a"):
        coserver.host(asgi, interface="native")
    with pytest.raises(SetupError, match="lifespan must be one of"):
        coserver.host(asgi, lifespan="maybe")  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="root_path starts with"):
        coserver.host(asgi, root_path="api/")
    assert repr(coserver.host(asgi).hosted) == "<Hosted asgi, asgi>"
    assert coserver.host(AsgiObject()).name == "AsgiObject"
