"""The page about a request without a route: the nearest route is named, and all are listed, under debug alone."""

from __future__ import annotations

from typing import Any

import pytest

from coserver import App, HTTPException, Request, testing

from .render import check_markup

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def shop() -> App:
    app, users = App("shop"), App("users")
    app.get("/")(lambda: "home")
    app.get("/int")(lambda: "int")
    app.get("/folder/")(lambda: "folder")

    @app.get("/items/{id}")
    @app.delete("/items/{id}")
    def item(id: int) -> str:
        if id == 404:
            raise HTTPException(404, "no such item")
        return str(id)

    @app.get("/prices/{price:float}/{unit}")
    def price(price: float, unit: str) -> str:
        return ""

    @users.get("/users/{user:uuid}")
    def user(user: Any) -> str:
        return ""

    app.mount("/api", users)
    return app


NEAREST = [
    ("/int/", "/int is a route, but the path has a '/' at its end."),
    ("/folder", "/folder/ is a route, but the path has no '/' at its end."),
    ("/items/7/", "/items/{id:int} is a route, but the path has a '/' at its end."),
    ("/items/seven", "/items/{id:int} is a route, but 'seven' is no int."),
    ("/items/%C3%A9", "/items/{id:int} is a route, but 'é' is no int."),
    ("/items/", "/items/{id:int} is a route, but 'id' is empty."),
    ("/prices/cheap/EUR", "/prices/{price:float}/{unit} is a route, but 'cheap' is no float."),
    ("/api/users/5", "/api/users/{user:uuid} is a route, but '5' is no uuid."),
    ("/Items/5", "/items/{id:int} is a route, but capital letters differ."),
    ("/iteems/5", "The nearest is /items/{id:int}."),
    ("/users/5", "The nearest is /api/users/{user:uuid}."),
    ("/x/y/z/0/1/2/3/4/5", ""),
]


async def test_the_nearest_route() -> None:
    async with testing.client(shop(), debug=True) as client:
        for path, sentence in NEAREST:
            answer = await client.get(path)
            assert answer.status == 404
            assert answer.headers["cache-control"] == "no-store"
            lines = answer.text.splitlines()
            assert lines[0] == "404 Not Found, with the routes, because debug is on"
            assert lines[2].startswith("No route answers GET /")
            assert lines[3] == sentence, path
            assert any(line.split()[:2] == ["DELETE", "/items/{id:int}"] for line in lines)
            assert any("/api/users/{user:uuid}" in line for line in lines)


async def test_only_what_the_router_did_not_find() -> None:
    """A handler's own 404, a 405, an app's error handler, and a server without debug answer as ever."""
    app = shop()
    async with testing.client(app, debug=True) as client:
        assert (await client.get("/items/404")).text == "404 Not Found\nno such item\n"
        answer = await client.post("/int")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert (await client.get("/int")).text == "int"
        head = await client.head("/nowhere")
        assert (head.status, head.body) == (404, b"")
        assert (await client.post("/nowhere", body=b"x" * 100_000)).status == 404
    async with testing.client(app) as client:
        assert (await client.get("/nowhere")).text == "404 Not Found\n"

    @app.error(404)
    def missing(request: Request) -> str:
        return "ours"

    async with testing.client(app, debug=True) as client:
        assert (await client.get("/nowhere")).text == "ours"


async def test_as_html() -> None:
    async with testing.client(shop(), debug=True) as client:
        page = await client.get("/items/<b>x?token=geheim123", headers=HTML)
        assert (page.status, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "&#x27;&lt;b&gt;x&#x27; is no int." in page.text
        assert "<b>" not in page.text
        assert "geheim123" not in page.text
        check_markup(page.text)


async def test_routes_that_come_later_are_listed() -> None:
    app = App("grown")
    async with testing.client(app, debug=True) as client:
        assert "The app has no routes: add one with @app.get('/')" in (await client.get("/")).text
        app.get("/later")(lambda: "")
        assert "The nearest is /later." in (await client.get("/late")).text
        for number in range(300):
            app.get(f"/many/{number}")(lambda: "")
        text = (await client.get("/nowhere/at/all/x")).text
        assert "... and 101 more" in text


async def test_a_long_path_takes_no_long_time() -> None:
    app = shop()
    for number in range(300):
        app.get(f"/many/{number}/{{x}}")(lambda x: "")
    async with testing.client(app, debug=True) as client:
        for path in ("/" + "a" * 7000, "/" + "/".join("ab" * 1500)):
            answer = await client.get(path, timeout=20)
            assert answer.status == 404
            assert len(answer.body) < 40_000


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_over_a_socket(backend: str) -> None:
    from http.client import HTTPConnection

    with shop().start(backend=backend, debug=True) as server:
        client = HTTPConnection("127.0.0.1", server.port, timeout=20)
        client.request("GET", "/int/")
        answer = client.getresponse()
        assert answer.status == 404
        assert b"the path has a '/' at its end" in answer.read()
        client.close()
