"""Apps below a prefix of another."""

from __future__ import annotations

import pytest

from coserver import App, Request, SetupError
from tests.server.clients import get, post, talking


def make(name: str) -> App:
    app = App(name)

    @app.get("/")
    async def index(request: Request) -> str:
        return f"{request.app.name} index"

    @app.get("/items/{id}")
    async def item(request: Request, id: int) -> str:
        return f"{request.app.name} {id} {request.path}"

    return app


async def test_routes_below_a_prefix() -> None:
    shop, api = make("shop"), make("api")
    shop.mount("/api", api)
    async with talking(shop) as (_, client):
        for path, text in {
            "/": "shop index",
            "/api": "api index",
            "/api/": "api index",
            "/items/3": "shop 3 /items/3",
            "/api/items/4": "api 4 /api/items/4",
        }.items():
            assert (await client.ask(get(path))).text == text
        assert (await client.ask(get("/api/items/x"))).status == 404
        answer = await client.ask(post("/api/items/4", b""))
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_an_apps_own_route_wins() -> None:
    shop, api = make("shop"), make("api")
    shop.get("/api/items/7")(lambda: "own")
    shop.mount("/api", api)
    async with talking(shop) as (_, client):
        assert (await client.ask(get("/api/items/7"))).text == "own"
        assert (await client.ask(get("/api/items/8"))).text == "api 8 /api/items/8"


async def test_added_while_it_runs() -> None:
    shop, api, inner = App("shop"), App("api"), App("inner")
    shop.mount("/api", api)
    async with talking(shop) as (_, client):
        assert (await client.ask(get("/api/late"))).status == 404
        api.get("/late")(lambda: "late")
        assert (await client.ask(get("/api/late"))).text == "late"
        api.mount("/inner", inner)
        inner.get("/x")(lambda: "inner x")
        assert (await client.ask(get("/api/inner/x"))).text == "inner x"
        with pytest.raises(SetupError, match="nobody"):
            inner.get("/y")(lambda nobody: "")
        assert (await client.ask(get("/api/inner/y"))).status == 404
        assert (await client.ask(get("/api/inner/x"))).text == "inner x"


async def test_mounted_again() -> None:
    """A cell that makes the sub-app anew and mounts it again leaves nothing of the old one."""
    shop, old, new = App("shop"), App("api"), App("api")
    old.get("/old")(lambda: "old")
    new.get("/new")(lambda: "new")
    shop.mount("/api", old)
    async with talking(shop) as (_, client):
        assert (await client.ask(get("/api/old"))).text == "old"
        shop.mount("/api", new)
        assert (await client.ask(get("/api/old"))).status == 404
        assert (await client.ask(get("/api/new"))).text == "new"


async def test_in_two_places_and_alone() -> None:
    shop, api = App("shop"), make("api")
    shop.mount("/v1", api)
    shop.mount("/v2", api)
    async with talking(shop) as (_, client):
        assert (await client.ask(get("/v1/items/1"))).text == "api 1 /v1/items/1"
        assert (await client.ask(get("/v2/items/1"))).text == "api 1 /v2/items/1"
    async with talking(api) as (_, client):
        assert (await client.ask(get("/items/1"))).text == "api 1 /items/1"


@pytest.mark.parametrize("prefix", ["", "/", "api", "/api/", "/{name}", "/a?b"])
def test_prefixes(prefix: str) -> None:
    with pytest.raises(SetupError):
        App().mount(prefix, App())


def test_what_cannot_be_mounted() -> None:
    one, two = App("one"), App("two")
    with pytest.raises(SetupError, match="takes an App"):
        one.mount("/x", "two")  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="cannot be mounted in it"):
        one.mount("/x", one)
    one.mount("/x", two)
    with pytest.raises(SetupError, match="cannot be mounted in it"):
        two.mount("/y", one)
    assert two.mounts == []
    lines = App("lines")
    lines.tcp(port=0)(lambda connection: None)
    with pytest.raises(SetupError, match="listeners of its own"):
        one.mount("/lines", lines)


@pytest.mark.parametrize("path", ["/api/none", "/a%70i/none", "/%61%70%69/none", "/api", "/ap%69"])
async def test_errors_are_answered_by_the_mounted_app_however_its_prefix_is_written(path: str) -> None:
    """The prefix is compared as routing compares it: decoded, segment by segment (RFC 3986 §6.2.2.2)."""
    shop, api = App("shop"), App("api")
    shop.mount("/api", api)
    api.get("/items")(lambda: "items")
    shop.error(404)(lambda: "not in the shop")

    @api.error(404)
    def not_in_the_api(request: Request) -> str:
        return f"not in the api {request.mount}"

    async with talking(shop) as (_, client):
        assert (await client.ask(get(path))).text == "not in the api /api"
        for other in ("/api%2Fnone", "/apis/none", "/API/none", "/x/api/none"):
            assert (await client.ask(get(other))).text == "not in the shop"
