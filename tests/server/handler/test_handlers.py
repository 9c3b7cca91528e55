"""What a handler may return, what goes wrong in it, and what its client is told then."""

from __future__ import annotations

import logging
from collections import OrderedDict, namedtuple
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, HTTPException, Response, await_

from ..clients import Client, get, talking

Pair = namedtuple("Pair", "body status")


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    return app


# What goes wrong in a handler.


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def fails(app: App, client: Client, caplog: pytest.LogCaptureFixture, path: str = "/fail") -> str:
    """The answer is a 500 without a word of the error, the log has it, and the connection lives on."""
    caplog.clear()
    answer = await client.ask(get(path))
    assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    assert len(errors(caplog)) == 1
    log = caplog.text
    assert (await client.ask(get())).body == b"ok"
    return log


class Odd(BaseException):
    """Neither an Exception nor anything that asyncio or trio knows."""


@pytest.mark.parametrize(
    "error",
    [ValueError("secret"), SystemExit(3), StopIteration(), Odd("secret"), ExceptionGroup("x", [OSError()])],
    ids=lambda error: type(error).__name__,
)
async def test_handler_error(app: App, codec: str, caplog: pytest.LogCaptureFixture, error: Any) -> None:
    @app.get("/fail")
    async def fail() -> None:
        raise error

    @app.get("/fail/def")
    def fail_def() -> None:
        raise error

    @app.get("/fail/suspended")
    def fail_suspended() -> None:
        await_(anyio.lowlevel.checkpoint())
        raise error

    async with talking(app, codec=codec) as (_, client):
        for path in ("/fail", "/fail/def", "/fail/suspended"):
            log = await fails(app, client, caplog, path)
            assert "Traceback" in log
            assert type(error).__name__ in log


async def test_base_exceptions_in_a_group_hurt_nobody_else(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a handler's own task group may come out as a group that is no Exception."""

    @app.get("/fail")
    async def fail() -> None:
        async def child() -> None:
            raise Odd

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            await anyio.sleep(1)

    async with talking(app) as (_, client):
        log = await fails(app, client, caplog)
        assert "Odd" in log


async def test_a_cancellation_exception_that_nobody_asked_for(
    app: App, caplog: pytest.LogCaptureFixture, anyio_backend_name: str
) -> None:
    """A handler that awaited a future which somebody cancelled has failed like any other."""
    if anyio_backend_name == "trio":
        import trio

        async def raise_it() -> None:
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await trio.lowlevel.checkpoint()
                except trio.Cancelled as error:
                    caught = error
            raise caught

    else:
        import asyncio

        async def raise_it() -> None:
            raise asyncio.CancelledError

    app.get("/fail")(raise_it)

    @app.get("/fail/def")
    def fail_def() -> None:
        await_(raise_it())

    async with talking(app) as (_, client):
        await fails(app, client, caplog)
        await fails(app, client, caplog, "/fail/def")


async def test_a_handlers_own_timeout_is_no_cancellation(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/fail")
    async def fail() -> None:
        with anyio.fail_after(0.01):
            await anyio.sleep(10)

    async with talking(app) as (_, client):
        assert "TimeoutError" in await fails(app, client, caplog)


async def test_http_exception(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout", {"X-Tea": "green"})

    @app.get("/plain")
    def plain() -> None:
        raise HTTPException(403)

    async with talking(app) as (_, client):
        answer = await client.ask(get("/teapot"))
        assert (answer.status, answer.headers["x-tea"]) == (418, "green")
        assert answer.text == "418 I'm a Teapot\nshort and stout\n"
        assert (await client.ask(get("/plain"))).text == "403 Forbidden\n"
        assert (await client.ask(get())).body == b"ok"
    assert not errors(caplog)


class Bytes(bytes):
    """What numpy's bytes_ is too."""


@pytest.mark.parametrize(
    "value",
    [object(), range(3), ("x",), ("x", "200"), ("x", True), ("x", 200, {}, 1), (1, 2), (1, 100), {"x": object()},
     ("x", 200, 5), ("x", 200, [("a",)]), lambda: "x", Path("x"), timedelta(1)],
    ids=lambda value: repr(value).partition(" at 0x")[0],  # no address: every process must name it alike
)  # fmt: skip
async def test_wrong_return_values(app: App, caplog: pytest.LogCaptureFixture, value: Any) -> None:
    @app.get("/fail")
    async def fail() -> Any:
        return value

    async with talking(app) as (_, client):
        await fails(app, client, caplog)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Response("x", headers={"x": "a\r\nset-cookie: b=c"}),
        lambda: Response("x", headers={"x": "a\nb"}),
        lambda: Response("x", headers={"x\r\ny": "a"}),
        lambda: Response("x", headers={"x y": "a"}),
        lambda: Response("x", headers={"": "a"}),
        lambda: Response("x", headers={"x": "\u20ac"}),
        lambda: Response("x", headers={"x": "a\0b"}),
        lambda: Response("x", headers={"x": 5}),  # type: ignore[dict-item]
        lambda: Response("x", headers={5: "x"}),  # type: ignore[dict-item]
        lambda: Response("x", headers={b"x": b"y"}),  # type: ignore[dict-item]
        lambda: Response("x", content_type="text/html\r\nx: y"),
        lambda: Response("x", content_type=["text/html"]),  # type: ignore[arg-type]
        lambda: Response("x", headers={"Transfer-Encoding": "chunked"}),
        lambda: Response("x", headers={"Upgrade": "h2c"}),
        lambda: Response("x", headers={"Content-Length": "2"}),
        lambda: Response("x", headers={"Content-Length": "+1"}),
        lambda: Response("x", headers={"Content-Length": "\u0661"}),
        lambda: Response("x", headers={"Content-Length": 1}),  # type: ignore[dict-item]
        lambda: Response("x", headers=[("Content-Length", "1"), ("Content-Length", "7")]),
        lambda: Response("x", 99),
        lambda: Response("x", 100),
        lambda: Response("x", 600),
        lambda: Response("x", "200"),  # type: ignore[arg-type]
        lambda: Response("x", None),  # type: ignore[arg-type]
        lambda: ("x", 101),
    ],
)
async def test_what_may_not_be_sent_is_a_500(app: App, codec: str, caplog: pytest.LogCaptureFixture, make: Any) -> None:
    app.get("/fail")(lambda: make())  # noqa: PLW0108

    async with talking(app, codec=codec) as (_, client):
        await fails(app, client, caplog)


async def test_a_refused_stream_is_closed(app: App, caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    def pieces() -> Any:
        try:
            yield "x"
        finally:
            closed.append("def")

    async def apieces() -> Any:
        try:
            yield "x"
        finally:
            closed.append("async")

    @app.get("/fail/{kind}")
    async def fail(kind: str) -> Response:
        body = pieces() if kind == "def" else apieces()
        if kind == "def":
            next(body)
        else:
            await anext(body)
        return Response(body, headers={"bad name": "x"})

    async with talking(app) as (_, client):
        await fails(app, client, caplog, "/fail/def")
        await fails(app, client, caplog, "/fail/async")
    assert closed == ["def", "async"]


async def test_a_bad_header_of_an_http_exception(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/fail")
    async def fail() -> None:
        raise HTTPException(404, headers={"x": "a\r\nb: c"})

    async with talking(app) as (_, client):
        await fails(app, client, caplog)


# What handlers may return.


@pytest.mark.parametrize(
    ("value", "status", "body", "content_type"),
    [
        ("text €", 200, "text €".encode(), "text/plain; charset=utf-8"),
        ("", 200, b"", "text/plain; charset=utf-8"),
        (b"bytes", 200, b"bytes", "application/octet-stream"),
        (b"", 200, b"", "application/octet-stream"),
        (bytearray(b"ba"), 200, b"ba", "application/octet-stream"),
        (memoryview(b"mv"), 200, b"mv", "application/octet-stream"),
        (Bytes(b"subclass"), 200, b"subclass", "application/octet-stream"),
        ({"a": [1, None]}, 200, b'{"a":[1,null]}', "application/json"),
        (OrderedDict(b=1), 200, b'{"b":1}', "application/json"),
        ([1, "ü"], 200, '[1,"ü"]'.encode(), "application/json"),
        ({"big": 1 << 80}, 200, b'{"big":1208925819614629174706176}', "application/json"),
        ({1: "number key"}, 200, b'{"1":"number key"}', "application/json"),
        (None, 204, b"", None),
        (("made", 201), 201, b"made", "text/plain; charset=utf-8"),
        (({"a": 1}, 202), 202, b'{"a":1}', "application/json"),
        ((None, 200), 200, b"", None),
        ((b"x", 200, {"Content-Type": "image/png"}), 200, b"x", "image/png"),
        (("x", 203, [("X-A", "1"), ("content-type", "text/html")]), 203, b"x", "text/html"),
        (Pair("named", 206), 206, b"named", "text/plain; charset=utf-8"),
        (Response("r", 207), 207, b"r", "text/plain; charset=utf-8"),
        (Response(b"r", content_type=""), 200, b"r", None),
        (Response(Bytes(b"subclass")), 200, b"subclass", "application/octet-stream"),
        (Response.json({"a": 1}, 201), 201, b'{"a":1}', "application/json"),
        ((Response("r", 207, {"X-B": "2"}), 299), 299, b"r", "text/plain; charset=utf-8"),
        (("dropped", 204), 204, b"", "text/plain; charset=utf-8"),
        (("dropped", 304), 304, b"", "text/plain; charset=utf-8"),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0][:30],
)
async def test_return_kinds(
    app: App, codec: str, value: Any, status: int, body: bytes, content_type: str | None
) -> None:
    @app.get("/async")
    async def kind() -> Any:
        return value

    @app.get("/def")
    def kind_def() -> Any:
        return value

    async with talking(app, codec=codec) as (_, client):
        for path in ("/async", "/def"):
            answer = await client.ask(get(path))
            assert (answer.status, answer.body, answer.headers.get("content-type")) == (status, body, content_type)
        assert (await client.ask(get())).body == b"ok"


async def test_fields_of_the_handler(app: App) -> None:
    @app.get("/fields")
    async def fields() -> Response:
        return Response(
            "x",
            headers=[
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
                ("Date", "today"),
                ("X-Latin", "é"),
                ("X-Empty", ""),
            ],
        )

    async with talking(app) as (_, client):
        await client.send(get("/fields", "Connection: close"))
        raw = await client.rest()
        assert raw.count(b"Set-Cookie: ") == 2
        assert raw.lower().count(b"date: ") == 1
        assert b"X-Latin: \xe9\r\nX-Empty: \r\n" in raw


async def test_a_shared_response_is_not_changed(app: App) -> None:
    shared = Response("x", 200, {"X-A": "1"})

    @app.get("/shared")
    async def with_status() -> Any:
        return shared, 201, {"X-B": "2"}

    async with talking(app) as (_, client):
        for _ in range(2):
            answer = await client.ask(get("/shared"))
            assert (answer.status, answer.headers["x-a"], answer.headers["x-b"]) == (201, "1", "2")
    assert (shared.status, shared.fields) == (200, [("X-A", "1")])


async def test_a_def_that_hides_an_async_def(app: App) -> None:
    async def hidden() -> str:
        await anyio.lowlevel.checkpoint()
        return "found"

    app.get("/hidden")(lambda: hidden())  # noqa: PLW0108
    async with talking(app) as (_, client):
        assert (await client.ask(get("/hidden"))).text == "found"


@pytest.mark.parametrize("seconds", [0.0, 0.1])
@pytest.mark.parametrize("size", [64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 5_000_000])
async def test_large_responses_to_slow_readers(app: App, size: int, seconds: float) -> None:
    @app.get("/large")
    async def large() -> bytes:
        return b"x" * size

    async with talking(app) as (_, client):
        await client.send(get("/large") + get())
        await anyio.sleep(seconds)
        assert len((await client.answer()).body) == size
        assert (await client.answer()).body == b"ok"
