"""ASGI applications over a socket: the scope, the messages both ways, and applications that break the rules."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest

import coserver
from coserver import App, Limits

from ..server.clients import chunked, connect, get, post, talking, until

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Any, Receive, Send], Awaitable[None]]


def plain(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def piece(body: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def ok(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain(200, (b"content-type", b"text/plain")))
    await send(piece(b"ok"))


async def body_of(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body + b"|gone"
        body += message["body"]
        if not message["more_body"]:
            return body


def site(**paths: Handler) -> App:
    """An application with a function for each path; the root is ``ok``."""

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        await paths.get(scope["path"][1:].partition("/")[0], ok)(scope, receive, send)

    return coserver.host(application, "site", lifespan="off")


@asynccontextmanager
async def asking(codec: str, **paths: Handler) -> Any:
    async with talking(site(**paths), codec=codec) as (server, client):
        yield server, client


async def test_the_scope(codec: str) -> None:
    seen: list[Any] = []

    async def look(scope: Any, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await ok(scope, receive, send)

    async with asking(codec, look=look) as (server, client):
        request = get("/look/a%20b%2Fc%C3%A4?x=%41&y", "X-One:  \xe9 ", "x-two: 1", "X-TWO: 2", "A_b: 3")
        assert (await client.ask(request.replace(b"\xc3\xa9", b"\xe9"))).text == "ok"
        mine = client.socket.getsockname()
    scope = seen[0]
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert scope["http_version"] == "1.1"
    assert (scope["method"], scope["scheme"]) == ("GET", "http")
    assert scope["path"] == "/look/a b/cä"
    assert scope["raw_path"] == b"/look/a%20b%2Fc%C3%A4"
    assert scope["query_string"] == b"x=%41&y"
    assert scope["root_path"] == ""
    assert scope["client"] == mine
    assert scope["server"] == ("127.0.0.1", server.port)
    assert scope["headers"] == [
        (b"host", b"t.example"), (b"x-one", b"\xe9"), (b"x-two", b"1"), (b"x-two", b"2"), (b"a_b", b"3"),
    ]  # fmt: skip
    assert {"http.response.trailers", "http.response.early_hint", "http.response.pathsend"} <= set(scope["extensions"])
    assert "state" not in scope


async def test_http_1_0_and_another_method(codec: str) -> None:
    async def tell(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain())
        await send(piece(f"{scope['method']} {scope['http_version']}".encode()))

    async with asking(codec, tell=tell) as (server, client):
        assert (await client.ask(get("/tell", method="PROPFIND"))).text == "PROPFIND 1.1"
        assert (await client.ask(get("/tell", method="OPTIONS"))).text == "OPTIONS 1.1"
        assert (await client.ask(get("/tell", minor=0))).text == "GET 1.0"
        await client.closed()
        async with connect(server.port) as other:
            answer = await other.ask(get("/tell", "Connection: keep-alive", minor=0))
            assert answer.headers["connection"] == "keep-alive"
            assert (await other.ask(get("/tell"))).text == "GET 1.1"


async def test_root_path_and_mounts(codec: str) -> None:
    seen: list[Any] = []

    async def look(scope: Any, receive: Receive, send: Send) -> None:
        seen.append((scope["root_path"], scope["path"], scope["raw_path"]))
        await ok(scope, receive, send)

    outer = App("outer")

    @outer.get("/api/own")
    async def own() -> str:
        return "own"

    outer.mount("/api", coserver.host(look, root_path="/proxy", lifespan="off"))
    async with talking(outer, codec=codec) as (_, client):
        for target in ("/api/x", "/api", "/api/", "/a%70i/%2F", "/api//x?q"):
            assert (await client.ask(get(target))).text == "ok"
        assert (await client.ask(get("/api/own"))).text == "own"
        assert (await client.ask(get("/api/own", method="HEAD"))).headers["content-length"] == "3"
        assert (await client.ask(get("/api/own", method="DELETE"))).text == "ok"
        assert (await client.ask(get("/apix"))).status == 404
    assert seen[:5] == [
        ("/proxy/api", "/proxy/api/x", b"/proxy/api/x"),
        ("/proxy/api", "/proxy/api", b"/proxy/api"),
        ("/proxy/api", "/proxy/api/", b"/proxy/api/"),
        ("/proxy/api", "/proxy/api//", b"/proxy/a%70i/%2F"),
        ("/proxy/api", "/proxy/api//x", b"/proxy/api//x"),
    ]


async def test_bodies_in(codec: str) -> None:
    sizes: list[int] = []

    async def echo(scope: Any, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            sizes.append(len(message["body"]))
            body += message["body"]
            if not message["more_body"]:
                break
        await send(plain())
        await send(piece(body))

    big = bytes(range(256)) * 2000
    async with asking(codec, echo=echo) as (_, client):
        assert (await client.ask(post("/echo", b""))).body == b""
        assert (await client.ask(post("/echo", b"hello"))).body == b"hello"
        assert (await client.ask(post("/echo", big))).body == big
        assert (await client.ask(chunked("/echo", b"a", b"bc", b"def"))).body == b"abcdef"
        assert (await client.ask(get("/echo"))).body == b""
    assert max(sizes) < len(big)  # in pieces


async def test_expect_is_answered_at_the_first_receive(codec: str) -> None:
    reading = anyio.Event()

    async def late(scope: Any, receive: Receive, send: Send) -> None:
        await reading.wait()
        await send(plain())
        await send(piece(await body_of(receive)))

    async with asking(codec, late=late) as (_, client):
        await client.send(get("/late", "Content-Length: 2", "Expect: 100-continue", method="POST"))
        with anyio.move_on_after(0.1) as waited:
            await client.stream.receive()
        assert waited.cancelled_caught
        reading.set()
        # the answer has begun before the body was read: no 100 may follow
        await client.send(b"hi")
        assert (await client.answer("POST")).body in (b"hi", b"|gone")

    async def early(scope: Any, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        await send(plain())
        await send(piece(body))

    async with asking(codec, early=early) as (_, client):
        await client.send(get("/early", "Content-Length: 2", "Expect: 100-continue", method="POST"))
        with anyio.fail_after(5):
            assert await client.stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.answer("POST")).body == b"hi"


async def test_whole_answers(codec: str) -> None:
    async def empty(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain(204, (b"content-length", b"0")))
        await send(piece())

    async def unchanged(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain(304, (b"etag", b'"1"'), (b"content-length", b"5")))
        await send(piece(b"never"))

    async def fields(scope: Any, receive: Receive, send: Send) -> None:
        given = [
            (b"X-Upper", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-raw", b" \xe9 "),
            (b"transfer-encoding", b"chunked"), (b"keep-alive", b"5"), (b"date", b"now"), (b"server", b"mine"),
            (b"content-length", b"2"),
        ]  # fmt: skip
        await send(plain(201, *given))
        await send(piece(b"hi"))

    async def closing(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain(200, (b"connection", b"close")))
        await send(piece(b"bye"))

    async def large(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain())
        await send(piece(b"x" * 300_000))

    paths = {"empty": empty, "unchanged": unchanged, "fields": fields, "closing": closing, "large": large}
    async with asking(codec, **paths) as (_, client):
        answer = await client.ask(get("/"))
        assert (answer.status, answer.text) == (200, "ok")
        assert answer.headers["content-length"] == "2"
        assert "date" in answer.headers
        assert "server" not in answer.headers
        answer = await client.ask(get("/", method="HEAD"))
        assert (answer.headers["content-length"], answer.body) == ("2", b"")
        answer = await client.ask(get("/empty"))
        assert (answer.status, answer.body) == (204, b"")
        assert "content-length" not in answer.headers
        assert (await client.ask(get("/unchanged"))).headers["etag"] == '"1"'
        await client.send(get("/fields"))
        raw = b""
        while b"\r\n\r\nhi" not in raw:
            raw += await client.stream.receive()
        assert raw.startswith(b"HTTP/1.1 201 Created\r\n")
        lines = raw.lower().split(b"\r\n")
        assert [line for line in lines if line.startswith(b"set-cookie")] == [b"set-cookie: a=1", b"set-cookie: b=2"]
        assert {b"x-upper: 1", b"x-raw: \xe9", b"date: now", b"server: mine", b"content-length: 2"} <= set(lines)
        assert not [line for line in lines if line.startswith((b"transfer-encoding", b"keep-alive"))]
        assert len((await client.ask(get("/large"))).body) == 300_000
        answer = await client.ask(get("/closing"))
        assert (answer.text, answer.headers["connection"]) == ("bye", "close")
        await client.closed()


async def test_streams(codec: str) -> None:
    async def stream(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain(200, (b"content-type", b"text/plain")))
        for number in range(40):
            await send(piece(b"%d," % number, more=True))
        await send(piece())

    async def sized(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain(200, (b"content-length", b"6")))
        await send(piece(b"abc", more=True))
        await send(piece(b"def"))

    async def headless(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain())
        await send(piece(more=True))  # the head goes out at once
        await anyio.sleep(0.05)
        await send(piece(b"later"))

    async with asking(codec, stream=stream, sized=sized, headless=headless) as (server, client):
        answer = await client.ask(get("/stream"))
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.text == "".join(f"{number}," for number in range(40))
        answer = await client.ask(get("/sized"))
        assert (answer.headers["content-length"], answer.text) == ("6", "abcdef")
        assert (await client.ask(get("/stream", method="HEAD"))).body == b""
        assert (await client.ask(get("/headless"))).text == "later"
        async with connect(server.port) as old:
            await old.send(get("/stream", minor=0))
            assert (await old.rest()).endswith(b"38,39,")


async def test_a_slow_reader_holds_the_application_back(codec: str) -> None:
    sent = 0

    async def flood(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(plain())
        for _ in range(400):
            await send(piece(b"x" * 65536, more=True))
            sent += 65536
        await send(piece())

    async with asking(codec, flood=flood) as (_, client):
        await client.send(get("/flood"))
        await anyio.sleep(0.3)
        before = sent
        await anyio.sleep(0.2)
        assert sent == before < 400 * 65536
        assert len((await client.answer()).body) == 400 * 65536


async def test_the_disconnect(codec: str) -> None:
    heard: list[str] = []

    async def wait(scope: Any, receive: Receive, send: Send) -> None:
        assert (await receive())["more_body"] is False
        heard.append((await receive())["type"])
        assert (await receive())["type"] == "http.disconnect"
        try:
            await send(plain())
            await send(piece(b"nobody reads it"))
        except OSError as error:
            heard.append(type(error).__name__)
            raise

    async def sleeper(scope: Any, receive: Receive, send: Send) -> None:
        await anyio.sleep(0.3)
        heard.append("slept")  # it is not cancelled
        await ok(scope, receive, send)

    async with asking(codec, wait=wait, sleeper=sleeper) as (server, client):
        for path in ("/wait", "/sleeper"):
            async with connect(server.port) as leaver:
                await leaver.send(get(path))
                await anyio.sleep(0.1)
        await until(lambda: "slept" in heard)
        await until(lambda: server.connections == 1)
        assert (await client.ask(get("/"))).text == "ok"
    assert heard == ["http.disconnect", "ClientGone", "slept"]


async def test_a_client_that_leaves_may_cancel(codec: str) -> None:
    ends: list[str] = []

    async def sleeper(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep(20)
        finally:
            ends.append("cancelled")

    app = coserver.host(sleeper, lifespan="off", on_disconnect="cancel")
    async with talking(app, codec=codec) as (_, client):
        await client.send(get("/"))
        await anyio.sleep(0.1)
        await client.stream.aclose()
        await until(lambda: ends)


async def test_a_receive_that_waits_hears_the_end_of_the_answer(codec: str) -> None:
    heard: list[str] = []

    async def both(scope: Any, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                await receive()
                heard.append((await receive())["type"])

            tasks.start_soon(listen)
            await anyio.sleep(0.02)
            await ok(scope, receive, send)

    async with asking(codec, both=both) as (_, client):
        assert (await client.ask(get("/both"))).text == "ok"
        await until(lambda: heard)
        assert (await client.ask(get("/both"))).text == "ok"
    assert heard == ["http.disconnect"] * 2


async def test_a_body_that_breaks_the_protocol_is_the_clients_fault(
    codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(scope: Any, receive: Receive, send: Send) -> None:
        await body_of(receive)
        await ok(scope, receive, send)

    async with asking(codec, echo=echo) as (server, _):
        async with connect(server.port) as client:
            head = get("/echo", "Transfer-Encoding: chunked", method="POST")
            assert (await client.ask(head + b"zz\r\n")).status == 400
        async with connect(server.port) as client:
            await client.send(get("/echo", "Content-Length: 9", method="POST") + b"abc")
            await anyio.sleep(0.05)
            await client.stream.aclose()
        await until(lambda: server.connections == 1)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_body_that_is_too_large(codec: str) -> None:
    async def echo(scope: Any, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        await send(plain())
        await send(piece(body))

    async with talking(site(echo=echo), codec=codec, limits=Limits(body_size=10)) as (server, client):
        assert (await client.ask(post("/echo", b"x" * 11))).status == 413
        async with connect(server.port) as other:
            assert (await other.ask(chunked("/echo", b"x" * 8, b"x" * 8))).status == 413


async def test_work_after_the_answer(codec: str) -> None:
    done: list[str] = []

    async def background(scope: Any, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)
        await anyio.sleep(0.6)
        done.append(scope["path"])

    async with asking(codec, background=background) as (server, client):
        with anyio.fail_after(0.5):
            assert (await client.ask(get("/background/1"))).text == "ok"
            assert (await client.ask(get("/background/2"))).text == "ok"
            assert (await client.ask(get("/"))).text == "ok"
        await client.stream.aclose()  # a client that leaves does not end it
        async with connect(server.port) as other:  # nor does a limit on the time of handlers
            assert (await other.ask(get("/background/3"))).text == "ok"
    assert sorted(done) == ["/background/1", "/background/2", "/background/3"]  # the drain has waited


async def test_a_drain_gives_work_after_the_answer_its_grace(codec: str) -> None:
    ends: list[str] = []

    async def background(scope: Any, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)
        try:
            await anyio.sleep(30)
        finally:
            ends.append("cancelled")

    async with talking(site(background=background), codec=codec, limits=Limits(grace=0.2)) as (_, client):
        assert (await client.ask(get("/background"))).text == "ok"
    assert ends == ["cancelled"]


async def test_too_much_work_after_answers_keeps_its_connection(codec: str) -> None:
    async def background(scope: Any, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)
        await anyio.sleep(0.3)

    async with talking(site(background=background), codec=codec, limits=Limits(after_tasks=1)) as (_, client):
        began = anyio.current_time()
        for _ in range(3):  # the first is set apart, the second keeps its connection busy
            assert (await client.ask(get("/background"))).text == "ok"
        assert anyio.current_time() - began >= 0.25


async def test_nothing_of_a_request_reaches_the_next(codec: str) -> None:
    mark: ContextVar[str] = ContextVar("mark", default="clean")
    seen: list[str] = []

    async def stain(scope: Any, receive: Receive, send: Send) -> None:
        seen.append(mark.get())
        mark.set("stained")
        if scope["path"] == "/stain/wait":
            await anyio.sleep(0.01)
        assert mark.get() == "stained"
        await ok(scope, receive, send)

    async with asking(codec, stain=stain) as (_, client):
        for path in ("/stain", "/stain/wait", "/stain/wait", "/stain"):
            assert (await client.ask(get(path))).text == "ok"
    assert seen == ["clean"] * 4


@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
async def test_a_pending_cancel_stays_with_its_request(codec: str) -> None:
    counts: list[int] = []

    async def cancelling(scope: Any, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        counts.append(task.cancelling())
        await ok(scope, receive, send)
        task.cancel()
        if scope["path"] == "/cancelling/caught":
            try:
                await anyio.sleep(1)
            except asyncio.CancelledError:
                pass

    async with asking(codec, cancelling=cancelling) as (_, client):
        for path in ("/cancelling", "/cancelling/caught", "/cancelling", "/"):
            assert (await client.ask(get(path))).text == "ok"
    assert counts == [0, 0, 0]


BREAKS: dict[str, Handler] = {}


def breaks(handler: Handler) -> Handler:
    BREAKS[handler.__name__] = handler
    return handler


@breaks
async def raises_between(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain())
    raise ValueError("between")


@breaks
async def raises_after_a_piece(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain())
    await send(piece(b"part", more=True))
    raise ValueError("after a piece")


@breaks
async def returns_after_a_piece(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain())
    await send(piece(b"part", more=True))


@breaks
async def returns_after_the_start(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain())


@breaks
async def too_few_bytes(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain(200, (b"content-length", b"10")))
    await send(piece(b"part"))


@breaks
async def too_few_streamed(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain(200, (b"content-length", b"10")))
    await send(piece(b"part", more=True))
    await send(piece())


@breaks
async def too_many_streamed(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain(200, (b"content-length", b"5")))
    await send(piece(b"part", more=True))
    await send(piece(b"more", more=True))


@breaks
async def starts_twice(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain())
    await send(plain())


@breaks
async def text_for_a_body(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain())
    await send({"type": "http.response.body", "body": "text"})


@pytest.mark.parametrize("name", list(BREAKS))
async def test_an_answer_that_breaks_off_is_a_reset(codec: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with asking(codec, bad=BREAKS[name]) as (server, client):
        failures = server.failures
        await client.send(get("/bad"))
        raw = await client.gone()
        assert not raw.endswith(b"0\r\n\r\n")
        assert b"500" not in raw
        async with connect(server.port) as other:
            assert (await other.ask(get("/"))).text == "ok"
        await until(lambda: failures.total == 1)
        assert "bad" in failures[0].where
    assert [record for record in caplog.records if "broke off its response" in record.message]


EARLY: dict[str, Handler] = {}


def early(handler: Handler) -> Handler:
    EARLY[handler.__name__] = handler
    return handler


@early
async def raises_at_once(scope: Any, receive: Receive, send: Send) -> None:
    raise ValueError("at once")


@early
async def exits(scope: Any, receive: Receive, send: Send) -> None:
    raise SystemExit(3)


@early
async def returns_without_an_answer(scope: Any, receive: Receive, send: Send) -> None:
    await receive()


@early
async def body_before_the_start(scope: Any, receive: Receive, send: Send) -> None:
    await send(piece(b"no"))


@early
async def unknown_message(scope: Any, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.nonsense"})


@early
async def wrong_status(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain(99))


@early
async def text_status(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain("200"))  # type: ignore[arg-type]


@early
async def smuggled_line(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain(200, (b"x", b"1\r\nset-cookie: a=b")))


@early
async def text_field(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain(200, ("x", "1")))  # type: ignore[arg-type]


@early
async def bad_length(scope: Any, receive: Receive, send: Send) -> None:
    await send(plain(200, (b"content-length", b"-1")))


@pytest.mark.parametrize("name", list(EARLY))
async def test_a_failure_before_the_start_is_a_500(codec: str, name: str) -> None:
    async with asking(codec, bad=EARLY[name]) as (server, client):
        failures = server.failures
        assert (await client.ask(get("/bad"))).status == 500
        assert (await client.ask(get("/"))).text == "ok"
        assert failures.total == 1


async def test_a_failure_after_the_last_piece(codec: str, caplog: pytest.LogCaptureFixture) -> None:
    async def whole(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain(500))
        await send(piece(b"own page"))
        raise ValueError("raised again")

    async def background(scope: Any, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)
        await anyio.sleep(0.05)
        raise ValueError("in the background")

    async def once_more(scope: Any, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)
        await send(piece(b"too late"))

    async with asking(codec, whole=whole, background=background, more=once_more) as (server, client):
        failures = server.failures
        answer = await client.ask(get("/whole"))
        assert (answer.status, answer.text) == (500, "own page")
        assert (await client.ask(get("/background"))).text == "ok"
        assert (await client.ask(get("/more"))).text == "ok"
        assert (await client.ask(get("/"))).text == "ok"
        await until(lambda: failures.total == 3)


async def test_the_extensions(codec: str, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(range(256)) * 1000)

    async def hint(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        await ok(scope, receive, send)

    async def path(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain(200, (b"content-length", str(file.stat().st_size).encode())))
        await send({"type": "http.response.pathsend", "path": str(file)})

    async def trailers(scope: Any, receive: Receive, send: Send) -> None:
        await send(plain(200, trailers=True))
        await send(piece(b"body"))
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"4")]})

    async with asking(codec, hint=hint, path=path, trailers=trailers) as (_, client):
        answer = await client.ask(get("/hint"))
        assert (answer.interim, answer.text) == ([103], "ok")
        assert (await client.ask(get("/path"))).body == file.read_bytes()
        assert (await client.ask(get("/path", method="HEAD"))).headers["content-length"] == "256000"
        answer = await client.ask(get("/trailers", "TE: trailers"))
        assert (answer.text, answer.trailers) == ("body", {"x-sum": "4"})


async def test_pipelined_requests(codec: str) -> None:
    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await anyio.sleep(0.05)
        await send(plain())
        await send(piece(scope["path"].encode()))

    async with asking(codec, slow=slow) as (_, client):
        await client.send(b"".join(get(f"/slow/{number}") for number in range(5)))
        assert [(await client.answer()).text for _ in range(5)] == [f"/slow/{number}" for number in range(5)]


async def test_asgi_2_is_adapted(codec: str) -> None:
    class Two:
        def __init__(self, scope: Any) -> None:
            self.scope = scope

        async def __call__(self, receive: Receive, send: Send) -> None:
            await ok(self.scope, receive, send)

    async with talking(coserver.host(Two), codec=codec) as (_, client):
        assert (await client.ask(get("/"))).text == "ok"


