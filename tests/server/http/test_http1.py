"""The story of an HTTP connection: one request after another, what is answered, and whether the connection lives on."""

from __future__ import annotations

import contextvars
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, Limits, Request, Response, await_, run_blocking, testing

from ..clients import chunked, connect, get, post, talking, until


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    return app


# Keep-alive, by version and by what either side says.


async def test_many_requests_on_one_connection(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (server, client):
        for _ in range(20):
            answer = await client.ask(get())
            assert (answer.status, answer.body) == (200, b"ok")
            assert "connection" not in answer.headers
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert server.connections == 1


async def test_every_answer_is_dated(app: App) -> None:
    async with talking(app) as (_, client):
        assert (await client.ask(get())).headers["date"].endswith("GMT")
        assert (await client.ask(get("/none"))).headers["date"].endswith("GMT")


async def test_http10_closes(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert answer.headers["connection"] == "close"
        await client.closed()


async def test_http10_keep_alive(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        for _ in range(3):
            answer = await client.ask(get("/", "Connection: Keep-Alive", minor=0))
            assert answer.headers["connection"] == "keep-alive"
        assert (await client.ask(get(minor=0))).headers["connection"] == "close"
        await client.closed()


async def test_client_says_close(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get("/", "Connection: x, close"))
        assert answer.headers["connection"] == "close"
        await client.closed()


@pytest.mark.parametrize("body", ["whole", b""])
async def test_handler_says_close(app: App, body: Any) -> None:
    @app.get("/bye")
    async def bye() -> Response:
        return Response(body, headers={"Connection": "close"})

    async with talking(app) as (_, client):
        answer = await client.ask(get("/bye"))
        assert answer.headers["connection"] == "close"
        await client.closed()


async def test_handlers_other_words_about_the_connection_are_left_out(app: App) -> None:
    @app.get("/odd")
    async def odd() -> Response:
        return Response("x", headers={"Connection": "keep-alive"})

    async with talking(app) as (_, client):
        assert "connection" not in (await client.ask(get("/odd"))).headers
        assert (await client.ask(get())).status == 200


async def test_what_a_client_sends_after_a_close_does_not_reset_the_answer(app: App) -> None:
    """Unread bytes would turn the close into a reset, and with it the answer could be lost."""

    @app.get("/bye")
    async def bye() -> Response:
        await anyio.sleep(0.05)
        return Response("bye", headers={"Connection": "close"})

    async with talking(app) as (_, client):
        await client.send(get("/bye"))
        await anyio.sleep(0.01)
        await client.send(get())
        assert (await client.answer()).text == "bye"
        await client.closed()


# Pipelining.


async def test_pipelined_requests_are_answered_in_order(app: App, codec: str) -> None:
    @app.get("/slow/{n}")
    async def slow(n: int) -> str:
        await anyio.sleep(0.02 if n % 2 else 0)
        return str(n)

    @app.get("/def/{n}")
    def blocking(n: int) -> str:
        await_(anyio.sleep(0.01))
        return f"def {n}"

    requests: list[tuple[str, bytes, bytes]] = [
        ("GET", get("/slow/1"), b"1"),
        ("POST", post("/echo", b"a" * 10), b"a" * 10),
        ("HEAD", get("/slow/2", method="HEAD"), b""),
        ("GET", get("/def/3"), b"def 3"),
        ("POST", chunked("/echo", b"one", b"two"), b"onetwo"),
        ("GET", get("/none"), b"404 Not Found\n"),
        ("DELETE", get("/echo", method="DELETE"), b"405 Method Not Allowed\n"),
        ("POST", post("/none", b"unread"), b"404 Not Found\n"),
        ("GET", get("/slow/4"), b"4"),
    ]
    async with talking(app, codec=codec) as (_, client):
        await client.send(b"".join(request for _, request, _ in requests))
        for method, _, body in requests:
            assert (await client.answer(method)).body == body


async def test_two_hundred_in_one_packet(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        await client.send(get() * 200)
        for _ in range(200):
            assert (await client.answer()).body == b"ok"


async def test_pipelined_megabytes_to_a_client_that_reads_late(app: App) -> None:
    """The server does not read on while its answers are not read: neither side's memory grows."""

    @app.get("/big")
    async def big() -> bytes:
        return b"x" * 100_000

    async with talking(app) as (_, client):
        await client.send(get("/big") * 100)
        await anyio.sleep(0.05)
        for _ in range(100):
            assert len((await client.answer()).body) == 100_000


async def test_head_in_pieces(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        for request in (get(), post("/echo", b"ok")):
            for at in range(len(request)):
                await client.send(request[at : at + 1])
                await anyio.lowlevel.checkpoint()
            assert (await client.answer()).body == b"ok"


async def test_second_request_half_there(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        await client.send(get() + get()[:20])
        await client.answer()
        await anyio.sleep(0.03)
        await client.send(get()[20:])
        assert (await client.answer()).body == b"ok"


# Expect: 100-continue (RFC 9110 §10.1.1).

EXPECT = "Expect: 100-continue"


async def test_continue_is_said_once_the_body_is_wanted(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        request = post("/echo", b"hello", EXPECT)
        await client.send(request[:-5])
        assert await client.stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        answer = await client.answer("POST")
        assert (answer.body, answer.interim) == (b"hello", [])
        assert (await client.ask(get())).status == 200


async def test_continue_before_a_chunked_body(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        head, _, body = chunked("/echo", b"hello", fields=[EXPECT]).partition(b"\r\n\r\n")
        await client.send(head + b"\r\n\r\n")
        assert await client.stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(body)
        assert (await client.answer("POST")).body == b"hello"


async def test_no_continue_when_the_body_is_there_already(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(post("/echo", b"hello", EXPECT))
        assert (answer.status, answer.body, answer.interim) == (200, b"hello", [])


async def test_no_continue_for_an_empty_body(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(post("/echo", b"", EXPECT))
        assert (answer.status, answer.interim) == (200, [])


@pytest.mark.parametrize(("path", "status"), [("/none", 404), ("/", 405), ("/echo", 413)])
async def test_no_continue_for_what_is_refused(app: App, codec: str, path: str, status: int) -> None:
    async with talking(app, codec=codec, limits=Limits(body_size=100)) as (_, client):
        await client.send(get(path, EXPECT, "Content-Length: 101", method="POST"))
        answer = await client.answer("POST")
        assert (answer.status, answer.interim) == (status, [])
        # Nobody knows whether the body still comes: the connection cannot go on.
        assert answer.headers["connection"] == "close"
        await client.stream.send_eof()
        await client.closed()


async def test_no_continue_for_http10(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        request = post("/echo", b"hello", EXPECT).replace(b"HTTP/1.1", b"HTTP/1.0")
        await client.send(request[:-5])
        await anyio.sleep(0.02)
        await client.send(request[-5:])
        answer = await client.answer("POST")
        assert (answer.body, answer.interim) == (b"hello", [])


async def test_continue_waits_for_the_first_read_of_a_streaming_handler(app: App, codec: str) -> None:
    started, go_on = anyio.Event(), anyio.Event()

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> str:
        started.set()
        await go_on.wait()
        return str([piece async for piece in request.stream()])

    async with talking(app, codec=codec) as (_, client):
        request = post("/stream", b"hello", EXPECT)
        await client.send(request[:-5])
        await started.wait()
        with anyio.move_on_after(0.05) as early:
            await client.stream.receive()
        assert early.cancelled_caught
        go_on.set()
        assert await client.stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.answer("POST")).text == "[b'hello']"
        assert (await client.ask(get())).status == 200


async def test_no_continue_if_a_streaming_handler_never_reads(app: App, codec: str) -> None:
    @app.post("/stream", stream=True)
    async def stream(request: Request) -> str:
        return "not wanted"

    async with talking(app, codec=codec) as (_, client):
        await client.send(post("/stream", b"hello", EXPECT)[:-5])
        answer = await client.answer("POST")
        assert (answer.text, answer.interim, answer.headers["connection"]) == ("not wanted", [], "close")


async def test_no_continue_in_the_middle_of_a_response(app: App, codec: str) -> None:
    """A response that has begun is the final one: a 100 after it would stand inside its body."""

    @app.post("/both", stream=True)
    async def both(request: Request) -> Any:
        async def pieces() -> Any:
            yield "first,"
            async for piece in request.stream():
                yield piece

        return pieces()

    async with talking(app, codec=codec) as (_, client):
        await client.send(post("/both", b"hello", EXPECT)[:-5])
        await anyio.sleep(0.05)
        await client.send(b"hello")
        answer = await client.answer("POST")
        assert (answer.body, answer.interim) == (b"first,hello", [])


async def test_continue_for_a_response_that_reads_before_it_begins(app: App, codec: str) -> None:
    """The head waits for the first piece, and that for the body: the client must be told to send it."""

    @app.post("/echoes", stream=True)
    async def echoes(request: Request) -> Any:
        async for piece in request.stream():
            yield piece

    async with talking(app, codec=codec) as (_, client):
        await client.send(post("/echoes", b"hello", EXPECT)[:-5])
        with anyio.fail_after(5):
            assert await client.stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.answer("POST")).body == b"hello"


async def test_unknown_expectation_is_ignored(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        assert (await client.ask(post("/echo", b"x", "Expect: 200-maybe"))).body == b"x"


# Methods and targets.


async def test_head_has_the_length_and_no_body(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get(method="HEAD"))
        assert (answer.status, answer.headers["content-length"], answer.body) == (200, "2", b"")
        answer = await client.ask(get("/none", method="HEAD"))
        assert (answer.status, answer.body) == (404, b"")
        assert (await client.ask(get())).body == b"ok"


async def test_head_may_say_the_length_that_get_would_have(app: App) -> None:
    @app.head("/sized")
    async def sized() -> Response:
        return Response(b"", headers={"Content-Length": "1000"})

    async with talking(app) as (_, client):
        assert (await client.ask(get("/sized", method="HEAD"))).headers["content-length"] == "1000"
        assert (await client.ask(get())).body == b"ok"


async def test_options(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get(method="OPTIONS"))
        assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
        assert "content-length" not in answer.headers
        answer = await client.ask(get("/echo", method="OPTIONS"))
        assert answer.headers["allow"] == "OPTIONS, POST"
        answer = await client.ask(get("*", method="OPTIONS"))
        assert answer.status == 204
        assert {"GET", "POST", "OPTIONS"} <= set(answer.headers["allow"].split(", "))
        assert (await client.ask(get("/none", method="OPTIONS"))).status == 404


async def test_own_options_handler(app: App) -> None:
    @app.options("/")
    async def own() -> str:
        return "mine"

    async with talking(app) as (_, client):
        assert (await client.ask(get(method="OPTIONS"))).text == "mine"


async def test_absolute_form(app: App, codec: str) -> None:
    @app.get("/who")
    async def who(request: Request) -> str:
        return f"{request.host} {request.path} {request.query_string} {request.target}"

    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(get("http://other.example:81/who?a=b"))
        assert answer.text == "other.example:81 /who a=b http://other.example:81/who?a=b"
        assert (await client.ask(get("HTTP://other.example"))).text == "ok"


async def test_405_names_what_is_allowed(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        answer = await client.ask(post("/", b"unread body"))
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert (await client.ask(get())).body == b"ok"


async def test_unknown_method(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        assert (await client.ask(get(method="BREW"))).status == 501
        assert (await client.ask(get())).body == b"ok"


@pytest.mark.parametrize("method", ["BREW", "brew-2"])
async def test_custom_methods(app: App, codec: str, method: str) -> None:
    @app.route("/pot", methods=["BREW", "BREW-2"])
    async def brew(request: Request) -> str:
        return f"{request.method} {request.text()}"

    async with talking(app, codec=codec) as (_, client):
        upper = method.upper()
        assert (await client.ask(post("/pot", b"mild", method=upper))).text == f"{upper} mild"
        assert (
            await client.ask(chunked("/pot", b"mi", b"ld").replace(b"POST", upper.encode(), 1))
        ).text == f"{upper} mild"
        assert (await client.ask(get("/", method=upper))).status == 405
        assert (await client.ask(get("/pot"))).headers["allow"] == "BREW, BREW-2, OPTIONS"


async def test_an_upgrade_nobody_takes_is_an_ordinary_request(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (_, client):
        assert (await client.ask(get("/", "Connection: Upgrade", "Upgrade: foo/2"))).body == b"ok"
        assert (await client.ask(post("/echo", b"abc", "Connection: Upgrade", "Upgrade: foo/2"))).body == b"abc"
        assert (await client.ask(get())).body == b"ok"


async def test_a_refusal_says_why_and_closes(app: App, codec: str, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(app, codec=codec) as (_, client):
        await client.send(get() + b"GET / HTTP/1.1\r\n\r\n" + get())
        assert (await client.answer()).status == 200
        answer = await client.answer()
        assert answer.status == 400
        assert "one Host field" in answer.text
        assert answer.headers["connection"] == "close"
        await client.stream.send_eof()
        await client.closed()
    assert "refused with 400" in caplog.text


# Contextvars.

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


async def test_a_refusal_is_under_no_deadline_of_a_head(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """The client is given its time to read the answer; the head, which will never come, breaks no limit."""
    async with talking(app, limits=Limits(head_timeout=0.2, idle_timeout=0.2, linger_timeout=0.6)) as (server, client):
        await client.send(b"BAD\r\n\r\n")
        began = time.monotonic()
        assert (await client.gone()).startswith(b"HTTP/1.1 400 ")
        await until(lambda: not server.connections)
        assert time.monotonic() - began > 0.5
        assert list(server.breaches) == ["protocol"]
    assert [record for record in caplog.records if record.exc_info] == []


async def test_contextvars_of_one_request_are_not_seen_by_the_next(app: App, codec: str) -> None:
    @app.get("/async")
    async def set_async() -> str:
        before = VAR.get()
        VAR.set("async")
        return before

    @app.get("/def")
    def set_def() -> str:
        before = VAR.get()
        VAR.set("def")
        return before

    @app.get("/stream")
    def set_stream() -> Any:
        yield VAR.get()
        VAR.set("stream")
        yield "!"

    @app.get("/array")
    async def array() -> str:
        class Incomparable:
            def __eq__(self, other: object) -> bool:
                raise ValueError("ambiguous")

            __hash__ = None  # type: ignore[assignment]

        before = VAR.get()
        VAR.set(Incomparable())  # type: ignore[arg-type]
        return before

    async with talking(app, codec=codec) as (server, client):
        for path in ("/async", "/def", "/async", "/async", "/stream", "/def", "/array", "/async", "/array", "/def"):
            assert (await client.ask(get(path))).text.removesuffix("!") == "unset", path
        await client.send(get("/async") + get("/def") + get("/async"))
        for _ in range(3):
            assert (await client.answer()).text == "unset"
        assert server.connections == 1


async def test_contextvars_flow_through_workers(app: App) -> None:
    @app.get("/async")
    async def outer() -> list[str]:
        VAR.set("outer")

        def inner() -> str:
            seen = VAR.get()
            VAR.set("inner")

            async def innermost() -> str:
                seen = VAR.get()
                VAR.set("innermost")
                return seen

            return f"{seen} {await_(innermost())} {VAR.get()}"

        return [await run_blocking(inner), VAR.get()]

    @app.get("/def")
    def outer_def() -> list[str]:
        VAR.set("def")
        await_(anyio.lowlevel.checkpoint())
        return [VAR.get()]

    async with talking(app) as (_, client):
        assert (await client.ask(get("/async"))).body == b'["outer inner innermost","innermost"]'
        assert (await client.ask(get("/def"))).body == b'["def"]'
        assert VAR.get() == "unset"


# Side by side.


async def test_a_suspended_handler_holds_up_nobody(app: App) -> None:
    release = anyio.Event()

    @app.get("/wait")
    def wait() -> str:
        await_(release.wait())
        return "waited"

    async with talking(app) as (server, client):
        await client.send(get("/wait"))
        async with connect(server.port) as other:
            for _ in range(10):
                assert (await other.ask(get())).body == b"ok"
        release.set()
        assert (await client.answer()).text == "waited"


async def test_def_handlers_wait_side_by_side(app: App) -> None:
    @app.get("/wait")
    def wait() -> str:
        await_(anyio.sleep(0.1))
        return "waited"

    async with testing.serving(app) as server:
        started = time.monotonic()

        async def one() -> None:
            async with connect(server.port) as client:
                assert (await client.ask(get("/wait"))).text == "waited"

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(one)
        assert time.monotonic() - started < 100 * 0.1 / 5


async def test_live_table(app: App) -> None:
    release = anyio.Event()

    @app.get("/wait")
    async def wait() -> str:
        await release.wait()
        return "waited"

    async with talking(app) as (server, client):
        await until(lambda: server.connections == 1)
        (connection,) = server._services[0].connections.values()
        assert connection.phase == "accept"
        await client.send(get("/wait"))
        await until(lambda: connection.phase == "handler")
        assert "GET /wait unanswered" in repr(connection.current)
        assert f"HttpConnection {connection.id} 127.0.0.1:" in repr(connection)
        assert "1 connections" in repr(server._services[0])
        release.set()
        await client.answer()
        await until(lambda: connection.phase == "recycle")
        assert connection.served == 1
        assert connection.current is None


async def test_a_pipelined_flood_does_not_starve_others(codec: str) -> None:
    """Between two requests of one client, every other that waits has its turn."""
    order: list[str] = []
    app = App()

    @app.get("/{name}")
    async def index(name: str) -> str:
        order.append(name)
        return name

    async with testing.serving(app, codec=codec) as server, connect(server.port) as flood, connect(server.port) as late:
        await flood.send(get("/flood") * 500)
        await late.send(get("/other"))
        assert (await late.answer()).body == b"other"
        assert order.index("other") < 400
