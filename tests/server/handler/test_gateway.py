"""The target that ``forward`` sends to the next hop: the client's own bytes, without a prefix."""

from __future__ import annotations

from typing import Any

import pytest

from coserver import App, Request, Upstream

from ...upstream.peers import Peer, faulty, serving
from ..clients import connect, get

#: The part of a target after "/api", and the target that the member gets.
RESTS = [
    ("/users/3?x=1", "/users/3?x=1"), ("/a%3Fb", "/a%3Fb"), ("/%2e%2e/x", "/%2e%2e/x"), ("/../x", "/../x"),
    ("/a%2Fb", "/a%2Fb"), ("/%2541", "/%2541"), ("/%ff", "/%ff"), ("/%23", "/%23"), ("/x?", "/x?"), ("//", "//"),
    ("//x//", "//x//"), ("/x;p=1", "/x;p=1"), ("/%C3%A4%c3%a4", "/%C3%A4%c3%a4"), ("/100%", "/100%"),
    ("/x?q=a|b%2", "/x?q=a|b%2"), ("/x?/api/y?", "/x?/api/y?"), ("", "/"), ("?", "/?"), ("?x=/api", "/?x=/api"),
    ("/", "/"), ("/api/api", "/api/api"), ("/%20+%2B", "/%20+%2B"),
]  # fmt: skip


async def echo(peer: Peer) -> None:
    """Answer each request with its raw target."""
    while request := await peer.request():
        target = request.split(b" ")[1]
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))


def front(url: str) -> App:
    app, inner, deepest = App(), App(), App()
    backs = app.upstream("backs", url)

    @app.route("/api", methods=["GET", "OPTIONS"])
    @app.route("/api/{path:path}", methods=["GET", "OPTIONS"], stream=True)
    async def stripped(request: Request, path: str = "") -> Any:
        return backs.forward(request, strip="/api")

    @app.get("/worker/{path:path}")
    def in_a_worker(request: Request, path: str) -> Any:
        return backs.forward(request, strip="/worker").result()

    @app.get("/ä ö/v1/{path:path}")
    async def not_ascii(request: Request, path: str = "") -> Any:
        return backs.forward(request, strip="/ä ö/v1")

    @app.get("/wrong/{path:path}")
    async def wrong(request: Request, path: str = "") -> Any:
        return backs.forward(request, strip="/wro")

    @app.get("/recipe/{path:path}")
    async def recipe(request: Request, path: str) -> Any:
        return backs.forward(request, target="/" + path)

    @app.get("/refused/{path:path}")
    async def refused(request: Request, path: str) -> Any:
        return backs.forward(request, strip="/refused", dot_segments="refuse")

    @app.get("/given")
    def given(request: Request) -> Any:
        return backs.forward(request, target=request.query["target"], dot_segments="refuse")

    @app.error(ValueError)
    async def told(error: ValueError) -> Any:
        return str(error), 500

    @inner.get("/")
    @inner.route("/in/{path:path}", methods=["GET"])
    async def mounted(request: Request, path: str = "") -> Any:
        return backs.forward(request)

    @inner.get("/kept/{path:path}")
    async def kept(request: Request, path: str = "") -> Any:
        return backs.forward(request, strip="")

    @inner.get("/more/{path:path}")
    async def more(request: Request, path: str = "") -> Any:
        return backs.forward(request, strip=request.mount + "/more")

    @inner.error(404)
    async def fallback(request: Request) -> Any:
        answer = await backs.forward(request)
        return await answer.read(), 200

    @deepest.get("/{path:path}")
    def deep(request: Request, path: str = "") -> Any:
        return backs.forward(request)

    inner.mount("/deep", deepest)
    app.mount("/m", inner)
    return app


async def test_the_rest_of_the_target_is_passed_on_byte_for_byte() -> None:
    async with faulty(echo) as back, serving(front(back.url)) as server, connect(server.port) as client:

        async def ask(target: str, method: str = "GET") -> tuple[int, str]:
            answer = await client.ask(get(target, method=method))
            return answer.status, answer.text

        for rest, sent in RESTS:
            assert await ask(f"/api{rest}") == (200, sent)
            if rest.startswith("/"):
                assert await ask(f"/worker{rest}") == (200, sent)
                assert await ask(f"/a%70%69{rest}") == (200, sent)
                assert await ask(f"/%C3%A4%20%c3%b6/v%31{rest}") == (200, sent)
                assert await ask(f"/m/in{rest}") == (200, f"/in{sent}")
                assert await ask(f"/m/kept{rest}") == (200, f"/m/kept{sent}")
                assert await ask(f"/m/more{rest}") == (200, sent)
                assert await ask(f"/m/deep{rest}") == (200, sent)
        assert await ask("/m") == (200, "/")
        assert await ask("/m/?x") == (200, "/?x")
        assert await ask("/m/none?x=%41") == (200, "/none?x=%41")  # by the mounted app's error handler
        assert await ask("http://t.example/api/a%2Fb?x") == (200, "/a%2Fb?x")
        assert await ask("HTTP://t.example/api?") == (200, "/?")
        status, text = await ask("/wrong/x?y")
        assert status == 500
        assert "'/wro'" in text
        assert "'/wrong/x?y'" in text


async def test_a_target_that_is_no_raw_target_is_refused() -> None:
    async with faulty(echo) as back, serving(front(back.url)) as server, connect(server.port) as client:
        for path, sent in (("a/b;c", "/a/b;c"), ("a%2Fb", "/a/b"), ("%2541", "/%41"), ("a|b", "/a|b")):
            assert (await client.ask(get(f"/recipe/{path}"))).text == sent
        for path in ("a%20b", "%C3%A4", "%ff", "%23", "100%25", "%7Cx", "%0a", "%00", "%22"):
            answer = await client.ask(get(f"/recipe/{path}"))
            assert answer.status == 500
            assert "strip='/prefix'" in answer.text
            assert "percent-encoded" in answer.text
        for target in ("x", "", "*", "http://other.example/"):
            answer = await client.ask(get(f"/given?target={target}"))
            assert (answer.status, "begins with '/'" in answer.text) == (500, True)
        assert (await client.ask(get("/given?target=/%252e%252E/x"))).status == 400


async def test_dot_segments_are_refused_if_asked() -> None:
    async with faulty(echo) as back, serving(front(back.url)) as server, connect(server.port) as client:
        for path in ("..", ".", "a/../b", "%2e%2E", ".%2e/x", "a%2f..%2fb", "..%5Cx", "..;a/x", "x/."):
            assert (await client.ask(get(f"/refused/{path}"))).status == 400
        assert (await client.ask(get("/refused/.../a..b/.x?../."))).text == "/.../a..b/.x?../."


async def test_the_other_forms_of_targets() -> None:
    app, sent = App(), []

    @app.route("/", methods=["GET", "OPTIONS"])
    async def root(request: Request) -> Any:
        sent.append(request.forward_target())
        return ""

    async with serving(app) as server, connect(server.port) as client:
        for method, target in (
            ("OPTIONS", "http://t.example"), ("OPTIONS", "http://t.example/"), ("GET", "http://t.example"),
            ("GET", "http://t.example?x"), ("GET", "https://t.example/?"),
        ):  # fmt: skip
            await client.ask(get(target, method=method))
    assert sent == ["*", "/", "/", "/?x", "/?"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"strip": "api"}, "starts with '/'"), ({"strip": "/api/"}, "does not end with '/'"),
        ({"strip": "/"}, "does not end with '/'"), ({"strip": "/a?b"}, "no query"),
        ({"strip": "/api", "target": "/"}, "not both"), ({"dot_segments": "maybe"}, "'pass' or 'refuse'"),
        ({"strip": 1}, "strip is a str"), ({"target": b"/"}, "target is a str"),
    ],
)  # fmt: skip
async def test_options_that_cannot_be_meant(options: Any, match: str) -> None:
    app, met = App(), []

    @app.get("/")
    async def root(request: Request) -> Any:
        async with Upstream("http://127.0.0.1:9") as backs:
            with pytest.raises((ValueError, TypeError), match=match) as raised:
                backs.forward(request, **options)
            met.append(raised)
        return ""

    async with serving(app) as server, connect(server.port) as client:
        assert (await client.ask(get("/"))).status == 200
    assert met
