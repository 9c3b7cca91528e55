"""Limits of a route: in the place of its listener's for its exchanges, and for no others."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Request, testing
from coserver.app.listeners import plan_listeners
from coserver.server.handler.errors import SetupError
from coserver.server.limits import ROUTE_LIMITS, RouteLimits, limits_of

from ..clients import connect, get, post, talking


@pytest.fixture
def app() -> App:
    app = App(limits=Limits(body_size=1000))

    @app.post("/small")
    def small(request: Request) -> str:
        return str(len(request.body))

    @app.post("/big", limits={"body_size": 5000, "body_buffer": 100})
    def big(request: Request) -> str:
        return str(len(request.body))

    @app.get("/quick", limits={"handler_timeout": 0.1})
    async def quick() -> None:
        await anyio.sleep(60)

    @app.get("/slow")
    async def slow() -> str:
        await anyio.sleep(0.3)
        return "slow"

    return app


async def test_each_route_has_its_own(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (server, client):
        assert (await client.ask(post("/big", b"x" * 5000))).text == "5000"
        assert (await client.ask(get("/slow"))).text == "slow"
        assert (await client.ask(post("/small", b"x" * 1000))).text == "1000"
        assert (await client.ask(post("/small", b"x" * 1001))).status == 413
    async with talking(app, codec=codec) as (server, client):
        assert (await client.ask(post("/big", b"x" * 5001))).status == 413
        assert server.breaches == {"body_size": 1}


async def test_a_handlers_time(app: App) -> None:
    async with talking(app, limits=Limits(handler_timeout=5)) as (server, client):
        assert (await client.ask(get("/slow"))).text == "slow"
        assert (await client.ask(get("/quick"))).status == 503
        assert server.breaches == {"handler_timeout": 1}


async def test_a_bodys_time() -> None:
    app = App()

    @app.post("/feed", stream=True, limits={"body_timeout": 0.15, "body_rate": 0})
    async def feed(request: Request) -> str:
        return str(sum([len(piece) async for piece in request.stream()]))

    async with testing.serving(app) as server:
        async with connect(server.port) as client:
            await client.send(get("/feed", "Content-Length: 100", method="POST") + b"x")
            assert (await client.answer()).status == 408
        assert server.breaches == {"body_timeout": 1}


async def test_a_readers_time() -> None:
    app = App()

    @app.get("/", limits={"write_timeout": 0.2})
    async def large() -> bytes:
        return b"x" * 30_000_000

    async with talking(app) as (server, client):
        await client.send(get())
        raw = await _when_it_is_cut(server, client)
        assert len(raw) < 30_000_000


async def _when_it_is_cut(server: Any, client: Any) -> bytes:
    with anyio.fail_after(8):
        while not server.breaches:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    assert server.breaches == {"write_timeout": 1}
    return bytes(await client.gone())


async def test_it_starts_from_the_listener() -> None:
    """Two listeners, one app: what the route leaves alone is each listener's own."""
    app = App()

    @app.post("/", limits={"handler_timeout": 9})
    def take(request: Request) -> str:
        return str(len(request.body))

    app.listen(name="small", limits=Limits(body_size=10))
    app.listen(name="large", limits=Limits(body_size=20))
    async with testing.serving(app) as server:
        for name, fits in (("small", 10), ("large", 20)):
            async with connect(server.port_of(name)) as client:
                assert (await client.ask(post("/", b"x" * fits))).text == str(fits)
                assert (await client.ask(post("/", b"x" * (fits + 1)))).status == 413


async def test_of_a_mounted_app() -> None:
    api, app = App(), App()

    @api.post("/", limits={"body_size": 3})
    def take(request: Request) -> str:
        return str(len(request.body))

    app.mount("/api", api)
    async with talking(app) as (_, client):
        assert (await client.ask(post("/api", b"abc"))).text == "3"
        assert (await client.ask(post("/api", b"abcd"))).status == 413


def test_mistakes_are_told_where_they_are_made() -> None:
    app = App()
    with pytest.raises(SetupError, match=r"route '/a': body_size must be at least 0; got -1"):
        app.post("/a", limits={"body_size": -1})
    with pytest.raises(SetupError, match=r"route '/a': body_size must be a number of bytes; got '5MB'"):
        app.put("/a", limits={"body_size": "5MB"})
    with pytest.raises(SetupError, match=r"route '/a': 'head_size' concerns a whole connection, not one exchange; "):
        app.get("/a", limits={"head_size": 1000})
    with pytest.raises(SetupError, match=r"route '/a': 'body' is no limit; a route may set body_size, body_buffer"):
        app.patch("/a", limits={"body": 1000})
    with pytest.raises(SetupError, match=r"limits is a dict of fields of Limits"):
        app.delete("/a", limits=Limits(body_size=1000))  # type: ignore[arg-type]
    for decorator in (app.head, app.options):
        with pytest.raises(SetupError, match="route '/a'"):
            decorator("/a", limits={"x": 1})
    assert not app.routes


def test_none_is_the_listeners() -> None:
    app = App()
    app.get("/", limits={})(lambda: "ok")
    (one,) = plan_listeners(app, app.settings({}))
    assert one.router.find("GET", "/")[0].limits is None


def test_what_a_route_may_have() -> None:
    assert {"body_size", "body_timeout", "handler_timeout", "write_timeout", "form_fields"} < set(ROUTE_LIMITS)
    assert not {"head_size", "max_connections", "idle_timeout", "grace", "frame_size"} & set(ROUTE_LIMITS)
    assert repr(RouteLimits({"body_size": 5})) == "RouteLimits({'body_size': 5})"


def test_it_is_made_once() -> None:
    route, listener = RouteLimits({"body_size": 5}), Limits(body_buffer=7)
    made = limits_of(route, listener)
    assert (made.body_size, made.body_buffer) == (5, 7)
    assert limits_of(route, Limits(body_buffer=7)) is made
    gc.collect()


async def test_requests_per_connection(app: App, codec: str) -> None:
    app.get("/")(lambda: "ok")
    async with testing.serving(app, codec=codec, limits=Limits(requests_per_connection=3)) as server:
        for _ in range(2):
            async with connect(server.port) as client:
                said = [(await client.ask(get())).headers.get("connection") for _ in range(3)]
                assert said == [None, None, "close"]
                await client.stream.send_eof()
                await client.closed()
        async with connect(server.port) as client:  # what was sent after the last one is not answered
            await client.send(get() * 5)
            raw = await client.gone()
            assert raw.count(b"200 OK") == 3
    async with talking(app, codec=codec, limits=Limits(requests_per_connection=1)) as (_, client):
        assert (await client.ask(get())).headers["connection"] == "close"
