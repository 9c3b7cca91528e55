"""Routes: which handler a path goes to, and what its parameters become."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from uuid import UUID

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coserver import App, HTTPException, SetupError
from coserver.server.handler.endpoint import Endpoint
from coserver.server.router import Router, split_route

from .clients import get, talking


def router(*routes: str, methods: list[str] | None = None) -> Router:
    """A router whose endpoints bear the names of their routes."""
    made = Router()
    for route in routes:
        names = tuple(text for text, kind in split_route(route) if kind is not None)

        def handler(**_: Any) -> None:
            """Takes anything."""

        handler.__qualname__ = route
        made.add(route, methods or ["GET"], Endpoint(handler, "request", names), {})
    return made


def find(made: Router, path: str, method: str = "GET") -> tuple[str, dict[str, Any]]:
    endpoint, params = made.find(method, path)
    return endpoint.name, params


def status(made: Router, path: str, method: str = "GET") -> tuple[int, str | None]:
    with pytest.raises(HTTPException) as caught:
        made.find(method, path)
    return caught.value.status, caught.value.headers.get("allow")


def test_literals() -> None:
    made = router("/", "/a", "/a/", "/a/b", "/with space", "/ünï")
    for path in ("/", "/a", "/a/", "/a/b"):
        assert find(made, path) == (path, {})
    assert find(made, "/%61") == ("/a", {})
    assert find(made, "/with%20space") == ("/with space", {})
    assert find(made, "/%C3%BCn%c3%af") == ("/ünï", {})
    for path in ("/b", "//", "/a//b", "/A", "/a/b/"):
        assert status(made, path) == (404, None)


def test_a_slash_at_the_end_is_another_path() -> None:
    made = router("/a", "/b/")
    assert status(made, "/a/") == (404, None)
    assert status(made, "/b") == (404, None)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "abc", "abc"), ("str", "a%2Fb", "a/b"), ("str", "a%20b%25", "a b%"), ("str", "%C3%A9", "é"),
        ("str", "%FF", "\ufffd"), ("str", "%zz", "%zz"), ("str", "..", ".."), ("str", "%00", "\0"),
        ("int", "5", 5), ("int", "-5", -5), ("int", "007", 7), ("int", "%35", 5), ("int", "9" * 30, int("9" * 30)),
        ("float", "1.5", 1.5), ("float", "-2", -2.0), ("float", "0.0", 0.0),
        ("uuid", "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        ("uuid", "ABCDEF01-1234-5678-1234-567812345678", UUID("abcdef01-1234-5678-1234-567812345678")),
        ("path", "a/b/c", "a/b/c"), ("path", "", ""), ("path", "a%2Fb/c", "a/b/c"), ("path", "/", "/"),
    ],
)  # fmt: skip
def test_what_fits(kind: str, text: str, value: Any) -> None:
    assert find(router(f"/x/{{p:{kind}}}"), f"/x/{text}") == (f"/x/{{p:{kind}}}", {"p": value})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("str", ""), ("str", "a/b"),
        ("int", ""), ("int", "a"), ("int", "1.5"), ("int", "+5"), ("int", "1_000"), ("int", "%20"), ("int", "--5"),
        ("int", "%D9%A1"), ("int", "9" * 5000),
        ("float", "nan"), ("float", "inf"), ("float", "1e5"), ("float", "1."), ("float", ".5"), ("float", "9" * 400),
        ("uuid", "12345678123456781234567812345678"), ("uuid", "x"), ("uuid", "{12345678-1234-5678-1234-567812345678}"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_another_path(kind: str, text: str) -> None:
    assert status(router(f"/x/{{p:{kind}}}"), f"/x/{text}") == (404, None)


def test_literals_before_parameters() -> None:
    made = router("/{name}", "/me", "/{name}/x", "/me/{id}", "/files/{rest:path}", "/files/top")
    assert find(made, "/me") == ("/me", {})
    assert find(made, "/you") == ("/{name}", {"name": "you"})
    assert find(made, "/me/x") == ("/me/{id}", {"id": "x"})
    assert find(made, "/you/x") == ("/{name}/x", {"name": "you"})
    assert find(made, "/files/top") == ("/files/top", {})
    assert find(made, "/files/top/x") == ("/files/{rest:path}", {"rest": "top/x"})
    assert find(made, "/files/x") == ("/files/{rest:path}", {"rest": "x"})
    assert find(made, "/%6de") == ("/me", {})


def test_a_blind_alley_is_left_again() -> None:
    made = router("/a/b/c", "/{x}/b/d", "/{x:int}/{y}", "/{x}/z")
    assert find(made, "/a/b/d") == ("/{x}/b/d", {"x": "a"})
    assert find(made, "/5/z") == ("/{x:int}/{y}", {"x": 5, "y": "z"}) or find(made, "/5/z")[0] == "/{x}/z"


def test_methods() -> None:
    made = router("/a", "/b/{x}", methods=["GET", "POST"])
    made.add("/c", ["PUT"], Endpoint(lambda: None, "request", ()), {})
    made.add("/h", ["HEAD", "GET"], Endpoint(lambda: None, "request", ()), {})
    made.add("/pot", ["BREW"], Endpoint(lambda: None, "request", ()), {})
    assert find(made, "/a", "HEAD")[0] == "/a"
    assert find(made, "/b/1", "HEAD") == ("/b/{x}", {"x": "1"})
    assert status(made, "/a", "DELETE") == (405, "GET, HEAD, OPTIONS, POST")
    assert status(made, "/c", "GET") == (405, "OPTIONS, PUT")
    assert status(made, "/c", "HEAD") == (405, "OPTIONS, PUT")
    assert status(made, "/a", "BREW") == (405, "GET, HEAD, OPTIONS, POST")
    assert status(made, "/a", "UNHEARD") == (501, None)
    assert status(made, "/none", "UNHEARD") == (404, None)
    assert made.find("OPTIONS", "/a")[0].name.endswith("options")
    assert made.find("OPTIONS", "*")[0].name.endswith("options")


def test_the_last_of_a_path_wins() -> None:
    made = router("/a", "/{x}")
    second = Endpoint(lambda: None, "request", ())
    made.add("/a", ["GET"], second, {})
    assert made.find("GET", "/a")[0] is second
    third = Endpoint(lambda y: None, "request", ("y",))
    made.add("/{y}", ["GET"], third, {})
    assert made.find("GET", "/b") == (third, {"y": "b"})


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("a", "must start with '/'"),
        ("", "must start with '/'"),
        ("/{a}/{a}", "two parameters are named 'a'"),
        ("/x{a}", "a parameter is a whole segment"),
        ("/{a", "a parameter is a whole segment"),
        ("/{}", "a parameter is a whole segment"),
        ("/{5}", "a parameter is a whole segment"),
        ("/a?b=c", "a route is a path alone"),
        ("/a#b", "a route is a path alone"),
        ("/items/<id>", r"write \{id\}; got '<id>'"),
        ("/items/<int:id>", r"write \{id:int\}; got '<int:id>'"),
        ("/items/<string:name>", r"write \{name\}; got"),
        ("/items/<any(a, b):kind>", r"write \{kind\}; got"),
        ("/<path:rest>", r"write \{rest:path\}; got"),
        ("/x-<id>", r"write \{id\}; got 'x-<id>'"),
        ("/items/:id", r"write \{id\}; got ':id'"),
        (r"/items/:id(\d+)", r"write \{id\}; got"),
        (("/a", "/b"), r"a route is a text that must start with '/'; got \('/a', '/b'\)"),
        (None, "a route is a text that must start with '/'; got None"),
    ],
)
def test_malformed_routes(route: Any, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        App().get(route)


def test_colons_and_angles_that_are_no_parameters() -> None:
    made = router("/items/batch:get", "/a:", "/:", "/a<b")
    for path in ("/items/batch:get", "/a:", "/:", "/a%3Cb"):
        assert made.find("GET", path)[1] == {}


@pytest.mark.parametrize("way", ["get", "post", "put", "patch", "delete", "head", "options", "route"])
def test_a_decorator_without_parentheses(way: str) -> None:
    def items() -> str:
        return ""

    with pytest.raises(SetupError, match=rf"write @app\.{way}\('/items'\)"):
        getattr(App(), way)(items)


@pytest.mark.parametrize(
    ("route", "message"), [("/{a:complex}", "unknown type 'complex'"), ("/{a:path}/b", "so it must come last")]
)
def test_routes_that_fail_at_start(route: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        router(route)


def test_a_method_is_no_list() -> None:
    with pytest.raises(SetupError, match=r"methods=\['GET'\]"):
        App().route("/", methods="GET")


async def test_every_decorator() -> None:
    app = App()
    for name in ("get", "post", "put", "patch", "delete", "options", "head"):
        getattr(app, name)("/x")(lambda request: request.method)
    async with talking(app) as (_, client):
        for name in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
            answer = await client.ask(get("/x", method=name))
            assert answer.status == 200
            assert answer.text == ("" if name == "HEAD" else name)


async def test_types_by_annotation_and_by_route() -> None:
    app = App()

    @app.get("/{a}/{b}/{c}/{d:int}")
    async def handler(a: int, b: float, c: UUID, d: str) -> list[str]:
        return [type(value).__name__ for value in (a, b, c, d)]

    async with talking(app) as (_, client):
        path = "/1/2.5/12345678-1234-5678-1234-567812345678/4"
        assert json.loads((await client.ask(get(path))).body) == ["int", "float", "UUID", "int"]
        assert (await client.ask(get("/x/2.5/12345678-1234-5678-1234-567812345678/4"))).status == 404


async def test_routes_may_be_added_while_the_app_runs() -> None:
    app = App()
    app.get("/")(lambda: "first")
    async with talking(app) as (_, client):
        app.get("/later/{n:int}")(lambda n: str(n))  # noqa: PLW0108
        app.get("/")(lambda: "second")
        assert (await client.ask(get())).text == "second"
        assert (await client.ask(get("/later/5"))).text == "5"
        with pytest.raises(SetupError, match="nothing provides"):
            app.get("/wrong")(lambda nobody: None)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(text=st.text(max_size=40), raw=st.binary(max_size=20))
def test_no_parameter_makes_a_500(text: str, raw: bytes) -> None:
    made = router("/s/{p}", "/i/{p:int}", "/f/{p:float}", "/u/{p:uuid}", "/p/{p:path}", "/{a}/{b:int}/{c:path}")
    for kind in "sifup5":
        for given_ in (quote(text), quote(text, safe="/"), quote(raw), text.encode("ascii", "ignore").decode()):
            try:
                made.find("GET", f"/{kind}/{given_}")
            except HTTPException as error:
                assert error.status == 404  # noqa: PT017


async def test_no_parameter_makes_a_500_on_the_wire(codec: str) -> None:
    app = App()
    app.get("/s/{p}")(lambda p: p)
    app.get("/i/{p:int}")(lambda p: {"p": p})
    app.get("/f/{p:float}")(lambda p: {"p": p})
    app.get("/p/{p:path}")(lambda p: {"p": p})
    async with talking(app, codec=codec) as (_, client):
        for kind in "sifp":
            for text in (
                "9" * 30,
                "9" * 3000,
                "-" + "9" * 310,
                "%00",
                "%FF%FE",
                "%ED%A0%80",
                "..",
                "%2F",
                "a;b=c",
                "'\"",
                "0.1",
            ):
                answer = await client.ask(get(f"/{kind}/{text}"))
                assert answer.status in (200, 404), (kind, text, answer)
                await anyio.lowlevel.checkpoint()
