"""The kind of an application, found by looking at it: ASGI 3, ASGI 2 or WSGI."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from ..server.handler.errors import SetupError

Kind = Literal["asgi", "asgi2", "wsgi"]
ASGI: Kind = "asgi"
ASGI2: Kind = "asgi2"
WSGI: Kind = "wsgi"
#: The values of ``interface``.
INTERFACES = ("auto", "native", "asgi", "asgi2", "wsgi")

#: Classes of frameworks, by package and name.
KNOWN: dict[tuple[str, str], Kind] = {
    ("fastapi", "FastAPI"): ASGI,
    ("starlette", "Starlette"): ASGI,
    ("litestar", "Litestar"): ASGI,
    ("quart", "Quart"): ASGI,
    ("blacksheep", "Application"): ASGI,
    ("sanic", "Sanic"): ASGI,
    ("dash", "Dash"): WSGI,
    ("flask", "Flask"): WSGI,
    ("bottle", "Bottle"): WSGI,
    ("falcon", "App"): WSGI,
    ("pyramid", "Router"): WSGI,
    ("django", "WSGIHandler"): WSGI,
    ("django", "ASGIHandler"): ASGI,
}


def find_kind(application: Any, interface: str = "auto") -> Kind:
    """The kind of ``application``; ``interface`` overrides what is found. Raises SetupError for no application."""
    if interface not in INTERFACES:
        raise SetupError(f"interface must be one of {', '.join(INTERFACES)}; got {interface!r}")
    if not callable(application):
        raise SetupError(f"an application is a callable, ASGI or WSGI; got {type(application).__name__}")
    seen = _look(application)
    if interface in ("asgi", "asgi2", "wsgi"):
        chosen: Kind = interface  # type: ignore[assignment]
        if seen is not None and (seen == WSGI) != (chosen == WSGI) and _is_sure(application):
            what = f"{_shown(application)} is {_NAMES[seen]}"
            raise SetupError(f"interface={interface!r}, but {what}: {_why(application)}")
        return chosen
    if seen is None:
        raise SetupError(
            f"{_shown(application)} is neither ASGI (an async callable of scope, receive and send) nor WSGI (a "
            f"callable of environ and start_response); {_why(application)}. interface='asgi' or 'wsgi' overrides this"
        )
    return seen


_NAMES = {"asgi": "an ASGI application", "asgi2": "an ASGI 2 application", "wsgi": "a WSGI application"}


def of_known_class(application: Any) -> Kind | None:
    """The kind of an application whose class belongs to a well-known framework; else None."""
    for each in type(application).__mro__:
        known = KNOWN.get((each.__module__.partition(".")[0], each.__name__))
        if known is not None:
            # A subclass may be of the other kind: falcon.asgi.App is one of falcon.App.
            return ASGI if inspect.iscoroutinefunction(type(application).__call__) else known
    return None


def _look(application: Any) -> Kind | None:
    known = of_known_class(application)
    if known is not None:
        return known
    function = _called(application)
    if inspect.isclass(application):  # ASGI 2: made of the scope, then called with receive and send
        call = getattr(application, "__call__", None)  # noqa: B004 - the method itself is wanted
        if inspect.iscoroutinefunction(call) or _count(call, bound=True) == 2:
            return ASGI2
        return WSGI if _count(application) == 2 else None
    if inspect.iscoroutinefunction(function):
        return ASGI if _takes(application, 3) else None
    if _count(application) == 3:
        return ASGI  # a def that returns an awaitable
    if _takes(application, 2):
        return WSGI  # also a decorator's (*args)
    return ASGI2 if _count(application) == 1 else None


def _called(application: Any) -> Callable[..., Any]:
    """The function that a call of the application runs."""
    while isinstance(application, partial):
        application = application.func
    if inspect.isroutine(application):
        return application
    call: Callable[..., Any] = type(application).__call__
    return call


def _takes(application: Any, count: int) -> bool:
    """Whether the application can be called with ``count`` arguments."""
    try:
        inspect.signature(application).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _count(application: Any, *, bound: bool = False) -> int:
    """The number of positional parameters without a default, -1 if that cannot be known."""
    try:
        parameters = list(inspect.signature(application).parameters.values())
    except (TypeError, ValueError):
        return -1
    if bound and parameters:
        parameters = parameters[1:]
    usual = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in usual and one.default is one.empty for one in parameters)


def _is_sure(application: Any) -> bool:
    """Whether the look cannot be wrong: an async def is no WSGI application, and a plain one of two is no ASGI one."""
    return inspect.iscoroutinefunction(_called(application)) or not _takes(application, 3)


def _why(application: Any) -> str:
    try:
        signature = str(inspect.signature(application))
    except (TypeError, ValueError):
        return "its signature cannot be read"
    what = "an async def" if inspect.iscoroutinefunction(_called(application)) else "a plain call"
    return f"{what} of {signature}"


def _shown(application: Any) -> str:
    name = getattr(application, "__qualname__", None)
    return repr(name) if name else f"an object of {type(application).__module__}.{type(application).__qualname__}"
