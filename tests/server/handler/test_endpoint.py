"""Handlers made ready: parameters by name, kinds of callables, and what is said of a wrong one when the app starts."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from coserver import App, Request, SetupError
from coserver.server.handler.endpoint import AWAIT, DIRECT, WORKER, Endpoint, annotated_types, describe, kind_of

SUBJECT = object()
VALUES = {"a": 1, "b": 2}


def call(handler: Any, *params: str) -> Any:
    return Endpoint(handler, "request", params).call(SUBJECT, {name: VALUES[name] for name in params})


class Thing:
    def __call__(self, request: Any, a: Any = None) -> Any:
        return request, a

    async def method(self, request: Any) -> Any:
        return request


class AsyncCallable:
    async def __call__(self) -> None:
        """Does nothing."""


class AgenCallable:
    async def __call__(self) -> Any:
        yield "x"


def test_binding() -> None:
    assert call(lambda: "none") == "none"
    assert call(lambda request: request) is SUBJECT
    assert call(lambda request, a: (request, a), "a") == (SUBJECT, 1)
    assert call(lambda a, request: (request, a), "a") == (SUBJECT, 1)
    assert call(lambda b, a: (a, b), "a", "b") == (1, 2)
    assert call(lambda *, request: request) is SUBJECT
    assert call(lambda *, a, request: (a, request), "a") == (1, SUBJECT)
    assert call(lambda x=5, *, request: (x, request)) == (5, SUBJECT)
    assert call(lambda a, x=5: (a, x), "a") == (1, 5)
    assert call(lambda *args: args) == ()
    assert call(lambda **rest: rest, "a", "b") == VALUES
    assert call(lambda a, **rest: (a, rest), "a", "b") == (1, {"b": 2})
    assert call(lambda request, **rest: (request, rest), "a") == (SUBJECT, {"a": 1})
    assert call(lambda **rest: rest) == {}


def test_positional_only() -> None:
    def both(request: Any, a: Any, /) -> Any:
        return request, a

    def mixed(a: Any, /, request: Any, *, b: Any) -> Any:
        return a, request, b

    def swapped(a: Any, request: Any, /, b: Any = 0) -> Any:
        return a, request, b

    assert call(both, "a") == (SUBJECT, 1)
    assert call(mixed, "a", "b") == (1, SUBJECT, 2)
    assert call(swapped, "a", "b") == (1, SUBJECT, 2)


def test_positional_only_and_anything_else() -> None:
    def rest(request: Any, /, **others: Any) -> Any:
        return request, others

    assert call(rest, "a") == (SUBJECT, {"a": 1})


def test_callables() -> None:
    thing = Thing()
    assert call(thing) == (SUBJECT, None)
    assert call(thing, "a") == (SUBJECT, 1)
    assert call(functools.partial(lambda x, request: (x, request), "x")) == ("x", SUBJECT)
    assert call(functools.partial(thing, a=3)) == (SUBJECT, 3)


def test_kinds() -> None:
    async def coroutine() -> None: ...

    async def agen() -> Any:
        yield

    def gen() -> Any:
        yield

    assert kind_of(coroutine) is AWAIT
    assert kind_of(functools.partial(coroutine)) is AWAIT
    assert kind_of(functools.partial(functools.partial(coroutine))) is AWAIT
    assert kind_of(AsyncCallable()) is AWAIT
    assert kind_of(Thing().method) is AWAIT
    assert kind_of(agen) is DIRECT
    assert kind_of(AgenCallable()) is DIRECT
    assert kind_of(gen) is WORKER
    assert kind_of(Thing()) is WORKER
    assert kind_of(functools.partial(gen)) is WORKER


def test_names() -> None:
    assert describe(kind_of) == "kind_of"
    assert describe(functools.partial(kind_of)) == "kind_of"
    assert describe(Thing()) == "Thing"
    assert describe(Thing().method) == "Thing.method"
    endpoint = Endpoint(functools.partial(kind_of, 5), "request", ())
    assert repr(endpoint) == "<Endpoint kind_of in a worker>"


@pytest.mark.parametrize(
    ("handler", "params", "message"),
    [
        (lambda nobody: None, (), "asks for 'nobody', which nothing provides; it may take 'request'"),
        (lambda request, nobody: None, ("a",), "it may take 'a', 'request', or give 'nobody' a default"),
        (lambda *, nobody: None, (), "asks for 'nobody'"),
        (lambda request: None, ("a", "b"), "the route has 'a', 'b', but the handler takes no such parameter"),
        (lambda *args: None, ("a",), "the route has 'a'"),
    ],
)
def test_wrong_signatures(handler: Any, params: tuple[str, ...], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        Endpoint(handler, "request", params)


def test_a_callable_without_a_signature() -> None:
    class Odd:
        __signature__ = "not one"

        def __call__(self) -> None: ...

    with pytest.raises(SetupError, match="wrap it in a def"):
        Endpoint(Odd(), "request", ())


async def test_said_at_start() -> None:
    app = App()
    app.get("/{a}")(lambda a, nobody: None)
    with pytest.raises(SetupError, match="'nobody'"):
        async with app.serving():
            pass


def test_annotations() -> None:
    def plain(a: int, b: float, c: str, d: Request, e: list[int], f) -> None: ...  # type: ignore[no-untyped-def]

    assert annotated_types(plain) == {"a": "int", "b": "float", "c": "str"}

    def unresolved(a: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert annotated_types(unresolved) == {}

    def partly(request: Nowhere, a: int, b: [int]) -> None: ...  # type: ignore # noqa: F821

    assert annotated_types(partly) == {"a": "int"}

    class Typed:
        def __call__(self, a: int) -> None: ...

    assert annotated_types(Typed()) == {"a": "int"}

    @functools.wraps(plain)
    def wrapped(*args: Any, **rest: Any) -> None: ...

    assert annotated_types(wrapped)["a"] == "int"
    assert annotated_types(Typed().__call__) == {"a": "int"}
    assert annotated_types(functools.partial(plain, b=1.0)) == {"a": "int", "b": "float", "c": "str"}


@pytest.mark.parametrize("kind", ["method", "partial", "partial method"])
async def test_annotated_methods_and_partials_convert(kind: str) -> None:
    """The same parameter means the same, however its handler is wrapped."""
    from ..clients import get, talking

    class Shop:
        async def item(self, id: int) -> dict[str, Any]:
            return {"id": id}

    async def item(id: int, extra: str = "") -> dict[str, Any]:
        return {"id": id}

    app = App()
    handler: Any = {"method": Shop().item, "partial": functools.partial(item, extra="x")}.get(
        kind, functools.partial(Shop().item)
    )
    app.get("/{id}")(handler)
    async with talking(app) as (_, client):
        assert (await client.ask(get("/5"))).text == '{"id":5}'
