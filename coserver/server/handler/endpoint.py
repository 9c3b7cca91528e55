"""A handler, ready to be called: its parameters by name, and its kind (``def``, ``async def``, async generator).

A mistake in a handler's signature is an error when the app starts, never at the first request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .errors import SetupError

if TYPE_CHECKING:
    from ..limits import RouteLimits
    from .error_handlers import ErrorHandlers

#: A path parameter's type by its annotation. The route may name the type instead: ``{name:type}``.
ANNOTATIONS: dict[Any, str] = {str: "str", int: "int", float: "float", UUID: "uuid"}

AWAIT, WORKER, DIRECT = "on the loop", "in a worker", "as an async generator"
#: An ASGI or WSGI application, which takes the exchange and sends its answer itself (see ``coserver.hosting``).
HOSTED = "hosted"


class Endpoint:
    """One handler of one route or listener.

    ``call(subject, params)`` starts it; the subject may be None unless ``takes_subject``. ``kind`` is AWAIT (an
    ``async def``), WORKER (a ``def``), DIRECT (an async generator function, whose call runs nothing yet), or HOSTED.
    """

    __slots__ = (
        "app", "bare", "call", "errors", "handler", "kind", "limits", "mount", "name", "route", "stream",
        "takes_subject",
    )  # fmt: skip

    def __init__(
        self, handler: Callable[..., Any], offered: str, params: tuple[str, ...], *, stream: bool = False
    ) -> None:
        """``offered`` is the parameter that every handler may take: "request" or "connection". Raises SetupError."""
        self.handler = handler
        self.name = describe(handler)
        self.stream = stream
        self.limits: RouteLimits | None = None  # its route's limits, which replace the listener's
        self.route = ""  # the path of its route, with the names of the parameters
        self.mount = ""  # the prefix below which its app is mounted
        self.app: Any = None  # the app that it belongs to
        self.errors: tuple[ErrorHandlers, ...] = ()  # of its app, then of the apps that mount it
        self.kind = kind_of(handler)
        self.call = _bind(handler, self.name, offered, params)
        parameters = inspect.signature(handler).parameters
        self.takes_subject = offered in parameters
        #: The handler itself if it takes nothing: a call through ``call`` would cost a frame more.
        self.bare: Callable[[], Any] | None = None if parameters else handler

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.kind}>"


def kind_of(handler: Callable[..., Any]) -> str:
    """AWAIT, WORKER or DIRECT. For a partial, or an object with ``__call__``, that of the function it calls."""
    while isinstance(handler, partial):
        handler = handler.func
    for each in (handler, getattr(handler, "__call__", None)):  # noqa: B004 - the method itself is wanted
        if inspect.iscoroutinefunction(each):
            return AWAIT
        if inspect.isasyncgenfunction(each):
            return DIRECT
    return WORKER


def describe(handler: Callable[..., Any]) -> str:
    """A handler's name for tables and messages."""
    while isinstance(handler, partial):
        handler = handler.func
    return getattr(handler, "__qualname__", None) or type(handler).__qualname__


def annotated_types(handler: Callable[..., Any]) -> dict[str, str]:
    """The types of path parameters by a handler's annotations. Unknown annotations are left out."""
    while isinstance(handler, partial):
        handler = handler.func
    function = inspect.unwrap(handler if inspect.isroutine(handler) else type(handler).__call__)
    namespace = getattr(function, "__globals__", {})
    found: dict[str, str] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        try:
            # One by one: the others keep their types if one annotation is imported for type checkers only.
            found[name] = ANNOTATIONS[eval(hint, namespace) if isinstance(hint, str) else hint]
        except Exception:  # unknown, unresolved or unhashable: the type in the route counts then
            continue
    return found


def _bind(
    handler: Callable[..., Any], name: str, offered: str, params: tuple[str, ...]
) -> Callable[[Any, Mapping[str, Any]], Any]:
    """Make a function (subject, params) that calls the handler. It does only the work that this signature needs."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError) as error:
        raise SetupError(f"{name} has no signature that can be inspected: wrap it in a def") from error
    wanted, positional, takes_any = _wanted(signature, name, {offered, *params})
    if not takes_any and (missing := set(params) - set(wanted)):
        raise SetupError(f"{name}: the route has {_list(missing)}, but the handler takes no such parameter; add it")
    if positional:

        def named(values: Mapping[str, Any]) -> Iterable[str]:
            return {**dict.fromkeys(wanted), **values} if takes_any else wanted

        return lambda subject, values: handler(
            *(subject if each == offered else values[each] for each in positional),
            **{each: subject if each == offered else values[each] for each in named(values) if each not in positional},
        )
    if takes_any or set(wanted) - {offered}:
        if offered in wanted:
            return lambda subject, values: handler(**{offered: subject}, **values)
        return lambda subject, values: handler(**values)
    if wanted:
        first = next(iter(signature.parameters.values()))
        if first.kind is first.POSITIONAL_OR_KEYWORD and first.name == offered:
            return lambda subject, values: handler(subject)
        return lambda subject, values: handler(**{offered: subject})
    return lambda subject, values: handler()


def _wanted(signature: inspect.Signature, name: str, known: set[str]) -> tuple[list[str], list[str], bool]:
    """The parameters to fill, the positional-only ones of these, and whether the handler takes ``**anything``."""
    wanted: list[str] = []
    positional: list[str] = []
    takes_any = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif parameter.name in known:
            wanted.append(parameter.name)
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(parameter.name)
        elif parameter.default is parameter.empty:
            raise SetupError(
                f"{name} asks for {parameter.name!r}, which nothing provides; it may take {_list(known)}, "
                f"or give {parameter.name!r} a default"
            )
    return wanted, positional, takes_any


def _list(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
