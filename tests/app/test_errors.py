"""Error handlers: by status, by class, of sub-apps, on every way an error can come about."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from coserver import App, HTTPException, Limits, Request, Response, SetupError
from tests.server.clients import chunked, connect, get, post, talking


class Sold(ValueError):
    pass


class Special(HTTPException):
    def __init__(self) -> None:
        super().__init__(418, "short and stout")


@pytest.fixture
def shop() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/raise/{what}")
    async def fail(what: str) -> str:
        raise {
            "value": ValueError("v"), "sold": Sold("s"), "key": KeyError("k"),
            "404": HTTPException(404, "no such thing"), "special": Special(),
        }[what]  # fmt: skip

    @app.post("/items")
    async def items(request: Request) -> bytes:
        return request.body

    return app


async def test_by_status_for_the_router_and_for_handlers(shop: App) -> None:
    @shop.error(404)
    async def missing(request: Request, error: HTTPException) -> dict[str, Any]:
        return {"path": request.path, "detail": error.detail}

    async with talking(shop) as (_, client):
        answer = await client.ask(get("/nowhere"))
        assert (answer.status, answer.text) == (404, '{"path":"/nowhere","detail":"Not Found"}')
        assert answer.headers["content-type"] == "application/json"
        answer = await client.ask(get("/raise/404"))
        assert (answer.status, answer.text) == (404, '{"path":"/raise/404","detail":"no such thing"}')
        assert (await client.ask(get("/"))).text == "ok"


async def test_405_keeps_its_allow(shop: App) -> None:
    @shop.error(405)
    def wrong(request: Request) -> str:
        return f"not {request.method}\n"

    async with talking(shop) as (_, client):
        answer = await client.ask(get("/items"))
        assert (answer.status, answer.text) == (405, "not GET\n")
        assert answer.headers["allow"] == "OPTIONS, POST"


async def test_by_class_the_nearest_wins(shop: App, caplog: pytest.LogCaptureFixture) -> None:
    @shop.error(ValueError)
    def value(error: ValueError) -> str:
        return f"value {error}"

    @shop.error(Sold)
    async def sold(error: Sold) -> tuple[str, int]:
        return f"sold {error}", 410

    async with talking(shop) as (_, client):
        answer = await client.ask(get("/raise/value"))
        assert (answer.status, answer.text) == (500, "value v")
        answer = await client.ask(get("/raise/sold"))
        assert (answer.status, answer.text) == (410, "sold s")
        assert "failed" not in caplog.text  # they were expected
        answer = await client.ask(get("/raise/key"))
        assert (answer.status, answer.text) == (500, "500 Internal Server Error\n")
        assert "KeyError" in caplog.text


@pytest.mark.parametrize("what", [500, Exception])
async def test_all_that_nobody_expected(shop: App, what: Any, caplog: pytest.LogCaptureFixture) -> None:
    @shop.error(what)
    async def oops(error: Exception) -> str:
        return f"oops: {error!r}"

    async with talking(shop) as (_, client):
        answer = await client.ask(get("/raise/key"))
        assert (answer.status, answer.text) == (500, "oops: KeyError('k')")
        assert "KeyError" in caplog.text  # answered, but still nobody's plan


async def test_a_class_of_ones_own_below_httpexception(shop: App) -> None:
    @shop.error(HTTPException)
    async def any_status(error: HTTPException) -> str:
        return f"<{error.status}>"

    async with talking(shop) as (_, client):
        for path, text in {"/raise/special": "<418>", "/none": "<404>", "/items": "<405>"}.items():
            assert (await client.ask(get(path))).text == text


@pytest.mark.parametrize("kind", [KeyError, LookupError])
async def test_what_clients_left_out_is_no_keyerror_of_the_apps(shop: App, kind: type[Exception]) -> None:
    shop.get("/query")(lambda request: request.query["q"])
    shop.get("/field")(lambda request: request.headers["x-q"])
    shop.error(kind)(lambda error: ("mine", 404))
    async with talking(shop) as (_, client):
        answer = await client.ask(get("/field"))
        assert (answer.status, answer.text) == (400, "400 Bad Request\nThe field 'x-q' is missing\n")
        answer = await client.ask(get("/query"))
        assert (answer.status, answer.text) == (
            400, "400 Bad Request\nThe query parameter 'q' is missing; there is none at all\n",
        )  # fmt: skip
        assert (await client.ask(get("/raise/key"))).text == "mine"
    shop.error(HTTPException)(lambda error: f"<{error.detail}>")
    async with talking(shop) as (_, client):
        assert (await client.ask(get("/field"))).text == "<The field 'x-q' is missing>"


async def test_an_error_handler_that_fails_or_says_nothing(shop: App, caplog: pytest.LogCaptureFixture) -> None:
    @shop.error(404)
    def broken() -> str:
        raise RuntimeError("in the error handler")

    @shop.error(405)
    async def nothing() -> None:
        return None

    @shop.error(KeyError)
    async def other(error: KeyError) -> str:
        raise HTTPException(409, "taken")

    async with talking(shop) as (_, client):
        answer = await client.ask(get("/nowhere"))
        assert (answer.status, answer.text) == (500, "500 Internal Server Error\n")
        assert "in the error handler" in caplog.text
        answer = await client.ask(get("/items"))
        assert (answer.status, answer.text) == (405, "405 Method Not Allowed\n")
        assert "allow" in answer.headers
        assert (await client.ask(get("/raise/key"))).text == "409 Conflict\ntaken\n"


async def test_streams(shop: App) -> None:
    """One that fails before its first piece is answered by the handler; an error handler may stream as well."""

    @shop.get("/stream")
    async def stream() -> Any:
        raise Sold("out")
        yield ""

    @shop.error(Sold)
    async def sold() -> Any:
        yield "sold "
        yield "out"

    @shop.error(404)
    def missing() -> Any:
        raise ValueError("before the first piece")
        yield ""

    @shop.get("/both")
    async def both() -> Any:
        raise HTTPException(404)
        yield ""

    async with talking(shop) as (_, client):
        answer = await client.ask(get("/both"))
        assert (answer.status, answer.text) == (500, "500 Internal Server Error\n")
        answer = await client.ask(get("/stream"))
        assert (answer.status, answer.text) == (500, "sold out")
        answer = await client.ask(get("/nowhere"))
        assert (answer.status, answer.text) == (500, "500 Internal Server Error\n")
        answer = await client.ask(get("/"))
        assert answer.text == "ok"


async def test_a_body_is_not_needed_for_an_error(shop: App) -> None:
    @shop.error(404)
    async def missing(request: Request) -> str:
        return "not here"

    @shop.error(413)
    async def large() -> str:
        return "too much"

    async with talking(shop, limits=Limits(body_size=10)) as (server, client):
        answer = await client.ask(post("/nowhere", b"x" * 5))
        assert (answer.status, answer.text) == (404, "not here")
        answer = await client.ask(post("/items", b"y" * 5))
        assert answer.text == "y" * 5
        async with connect(server.port) as other:
            answer = await other.ask(get("/nowhere", "Content-Length: 5", "Expect: 100-continue", method="POST"))
            assert (answer.status, answer.text, answer.interim) == (404, "not here", [])
        answer = await client.ask(post("/items", b"z" * 11))
        assert (answer.status, answer.text) == (413, "too much")


async def test_head_of_an_error(shop: App) -> None:
    @shop.error(404)
    async def missing() -> str:
        return "gone fishing"

    async with talking(shop) as (_, client):
        answer = await client.ask(get("/nowhere", method="HEAD"))
        assert (answer.status, answer.body, answer.headers["content-length"]) == (404, b"", "12")
        assert (await client.ask(get("/"))).text == "ok"


async def test_a_lambda_and_a_response(shop: App) -> None:
    async def later() -> str:
        return "later"

    shop.error(404)(lambda: later())  # noqa: PLW0108 - a def that hides an async def
    shop.error(405)(lambda error: Response("teapot", 418))
    async with talking(shop) as (_, client):
        answer = await client.ask(get("/nowhere"))
        assert (answer.status, answer.text) == (404, "later")
        answer = await client.ask(get("/items"))
        assert (answer.status, answer.text, answer.headers["allow"]) == (418, "teapot", "OPTIONS, POST")


@pytest.mark.parametrize("what", [200, 399, 600, "404", True, BaseException, None, ValueError("x")])
def test_what_is_no_error(what: Any) -> None:
    with pytest.raises(SetupError, match="status from 400 to 599"):
        App().error(what)


def test_an_error_handler_asks_for_what_there_is() -> None:
    with pytest.raises(SetupError, match="'eror'"):
        App().error(404)(lambda eror: "")


async def test_sub_apps_answer_first(shop: App) -> None:
    api, inner = App("api"), App("inner")

    @api.get("/fail")
    async def fail() -> None:
        raise Sold("s")

    inner.get("/fail")(fail)
    api.mount("/inner", inner)
    shop.mount("/api", api)
    api.error(404)(lambda request: f"api has no {request.path}")
    shop.error(404)(lambda: "shop has not")
    shop.error(Sold)(lambda: ("shop: sold", 410))
    inner.error(Sold)(lambda: ("inner: sold", 411))
    async with talking(shop) as (_, client):
        for path, status, text in [
            ("/api/fail", 410, "shop: sold"),
            ("/api/inner/fail", 411, "inner: sold"),
            ("/api/none", 404, "api has no /api/none"),
            ("/api/inner/none", 404, "api has no /api/inner/none"),
            ("/apis", 404, "shop has not"),
        ]:
            answer = await client.ask(get(path))
            assert (answer.status, answer.text) == (status, text)


async def test_logged_once(shop: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with talking(shop) as (_, client):
        await client.ask(get("/raise/key"))
    assert len(caplog.records) == 1


async def test_a_detail_that_utf_8_cannot_say(shop: App) -> None:
    """A file's name in an unknown encoding, say."""

    @shop.get("/name")
    async def name() -> None:
        raise HTTPException(404, "no file \udce9 or \N{SNOWMAN}")

    async with talking(shop) as (_, client):
        answer = await client.ask(get("/name"))
        assert (answer.status, answer.text) == (404, "404 Not Found\nno file \\udce9 or \N{SNOWMAN}\n")
        assert (await client.ask(get("/"))).text == "ok"


async def test_a_body_that_is_too_long_or_broken(shop: App) -> None:
    """What shows only while the body comes in is answered like what its head says."""

    @shop.error(413)
    async def large(request: Request) -> tuple[str, int]:
        return f"too much for {request.path}", 413

    @shop.error(400)
    async def bad(error: HTTPException) -> str:
        return f"bad: {error.detail}"

    too_long = chunked("/items", b"z" * 8, b"z" * 8)
    async with talking(shop, limits=Limits(body_size=10)) as (server, client):
        answer = await client.ask(too_long + get("/never/read"))
        assert (answer.status, answer.text) == (413, "too much for /items")
        assert answer.headers["connection"] == "close"
        await client.closed()
        async with connect(server.port) as other:
            answer = await other.ask(too_long.replace(b"8\r\n", b"x\r\n"))
            assert (answer.status, answer.text[:5], answer.headers["connection"]) == (400, "bad: ", "close")
            await other.closed()


async def test_an_error_handler_that_reads_a_broken_body(shop: App) -> None:
    @shop.error(413)
    async def large(request: Request) -> str:
        return "".join([str(piece) async for piece in request.stream()])

    async with talking(shop, limits=Limits(body_size=10)) as (_, client):
        answer = await client.ask(chunked("/items", b"z" * 8, b"z" * 8))
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        await client.closed()
