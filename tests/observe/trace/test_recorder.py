"""The recorder keeps what exchanges were, whole or broken, and no more than it may."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest

from coserver import App, HTTPException, Limits, Request, Response, Server, testing
from coserver.app.inspect.traces import Traces
from coserver.observe.secrets import MASK, mask_fields, mask_target
from coserver.observe.trace.recorder import Bounds
from coserver.observe.trace.trace import Trace
from coserver.observe.trace.waterfall import rows_of

from ...server.clients import chunked, connect, get, post, talking, until

pytestmark = pytest.mark.usefixtures("company")


def shop() -> App:
    app = App(name="shop")

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/items/{id}")
    def item(id: int) -> dict[str, int]:
        return {"id": id}

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> AsyncIterator[bytes]:
        async for piece in request.stream():
            yield piece.upper()

    @app.get("/boom")
    async def boom() -> str:
        raise ValueError("no such thing")

    @app.get("/missing")
    async def missing() -> str:
        raise HTTPException(404, "no such item")

    @app.get("/forever")
    async def forever() -> None:
        await anyio.sleep_forever()

    @app.get("/big")
    async def big() -> bytes:
        return b"x" * 300_000

    @app.get("/secret")
    async def secret() -> Response:
        return Response("ok", headers={"Set-Cookie": "sid=12345; Path=/"})

    return app


def kinds(trace: Trace) -> list[tuple[str, str]]:
    return [(span.kind, span.outcome) for span in trace.spans]


async def last(server: Server) -> Trace:
    await until(lambda: len(server.traces))
    return server.traces[-1]


async def test_a_plain_request() -> None:
    async with talking(shop(), record=True) as (server, client):
        await client.ask(get("/items/7?page=2", "X-Tag: a"))
        (trace,) = server.traces
        assert (trace.method, trace.target, trace.route, trace.status) == ("GET", "/items/7?page=2", "/items/{id}", 200)
        assert trace.url == "http://t.example/items/7?page=2"
        assert trace.handler.endswith("item")
        assert trace.request.get("X-Tag") == "a"
        assert trace.response.get("Content-Type") == "application/json"
        assert (trace.response.body.content, trace.response.body.truncated) == (b'{"id":7}', False)
        assert kinds(trace) == [("request", "ok"), ("handler", "ok"), ("response", "ok")]
        assert (trace.phase, trace.error, trace.server, trace.listener) == ("recycle", "", "shop", "http")
        starts = [span.start for span in trace.spans]
        assert starts == sorted(starts)
        assert 0 <= starts[0] <= trace.spans[-1].end <= trace.seconds
        assert trace.src == f"127.0.0.1:{client.socket.getsockname()[1]}"
        assert trace.dst == f"127.0.0.1:{server.port}"
        assert server.traces("~c 2xx ~u items ~hq x-tag ~ts json ~bs 7 ~name shop ~at recycle ~took <1m") == [trace]
        assert server.traces("~e | ~q | ~marked") == []
        server.traces.mark(trace)
        assert server.traces("~marked")[0].id == trace.id
        assert server.traces.find(trace.id).id == trace.id
        with pytest.raises(KeyError, match="no trace of an exchange"):
            server.traces.find(-1)


async def test_bodies_of_every_kind(tmp_path: Path) -> None:
    app = shop()
    file = tmp_path / "file.bin"
    file.write_bytes(b"f" * 500_000)

    @app.get("/file")
    async def send() -> Response:
        return Response.file(file)

    async with talking(app, record=True, limits=Limits(body_buffer=1000)) as (server, client):
        await client.ask(post("/echo", b"hello"))
        await client.ask(chunked("/echo", b"hel", b"lo"))
        await client.ask(post("/echo", b"z" * 5000))  # to the disk
        await client.ask(chunked("/stream", b"abc", b"def"))
        await client.ask(get("/big"))
        await client.ask(get("/file"))
        await client.ask(get("/big", method="HEAD"), "HEAD")
        await until(lambda: len(server.traces) == 7)
        plain, pieces, spooled, streamed, big, sent_file, head = server.traces
        for trace in (plain, pieces):
            assert trace.request.body.content == trace.response.body.content == b"hello"
        assert spooled.request.body.content == b"z" * 5000
        assert (streamed.request.body.content, streamed.response.body.content) == (b"abcdef", b"ABCDEF")
        assert (streamed.request.body.truncated, streamed.response.body.truncated) == (False, False)
        assert (len(big.response.body.content), big.response.body.size) == (64 * 1024, 300_000)
        assert (len(sent_file.response.body.content), sent_file.response.body.size) == (64 * 1024, 500_000)
        assert sent_file.response.body.truncated
        assert (head.response.body.content, head.response.body.size) == (b"", 0)
        assert head.response.get("content-length") == "300000"


async def test_what_goes_wrong_is_kept_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(shop(), record=True) as server:
        async with connect(server.port) as client:
            await client.ask(get("/boom"))
            await client.ask(get("/missing"))
            await client.ask(get("/nowhere"))
        boom, missing, nowhere = server.traces
        assert (boom.status, boom.error, kinds(boom)[1]) == (500, "ValueError: no such thing", ("handler", "failed"))
        assert (missing.status, missing.error) == (404, "")
        assert (nowhere.status, nowhere.error, nowhere.handler) == (404, "", "")
        server.traces.clear()
        async with connect(server.port) as client:
            await client.send(get("/forever"))
            await until(lambda: server.snapshot().filter("~at handler"))
            await client.reset()
        trace = await last(server)
        assert (trace.status, trace.phase) == (0, "handler")
        assert trace.error.startswith("the client left")
        assert kinds(trace)[-1] == ("handler", "cancelled")
        server.traces.clear()
        async with connect(server.port) as client:
            await client.send(b"GET / HTTP/1.1\r\n\r\n")
            await client.rest()
        trace = await last(server)
        assert (trace.status, trace.method) == (400, "")
        assert "Host" in trace.error
        server.traces.clear()
        async with connect(server.port) as client:
            await client.send(get("/echo", "Content-Length: 10", method="POST") + b"abc")
            await until(lambda: server.snapshot().filter("~at body"))
        trace = await last(server)
        assert (trace.status, trace.phase, kinds(trace)) == (0, "body", [("request", "open")])


async def test_the_log_of_a_failure_has_a_span() -> None:
    """So no time between a failed handler and its answer is blank; an error handler's begins after it."""
    app = shop()

    @app.error(KeyError)
    def answer_key(error: KeyError) -> str:
        return "no such key"

    @app.get("/key")
    def key() -> str:
        raise KeyError("k")

    async with talking(app, record=True) as (server, client):
        for path in ("/boom", "/key", "/missing", "/"):
            await client.ask(get(path))
        boom, mine, missing, fine = server.traces
    assert [one[0] for one in kinds(boom)] == ["request", "handler", "step", "response"]
    assert [one[0] for one in kinds(mine)] == ["request", "handler", "step", "handler", "response"]
    for trace in (boom, mine):
        _, handler, log, after, *_ = trace.spans
        assert (log.name, log.start, log.end) == ("log", handler.end, after.start)
    assert "step" not in [one[0] for one in kinds(missing) + kinds(fine)]
    assert [row.label for row in rows_of(boom)] == ["request", f"handler {boom.handler}", "log", "response"]


async def test_secrets_are_masked_wherever_they_are_shown() -> None:
    async with talking(shop(), record=True) as (server, client):
        secrets = ("Authorization: Bearer abc", "Proxy-Authorization: Basic abc", "Cookie: sid=abc; t=abc",
                   "X-Api-Key: abc", "X-Auth-Token: abc")  # fmt: skip
        await client.ask(get("/secret?access_token=abc&page=1", *secrets))
        (trace,) = server.traces
        shown = repr(trace) + str(trace.as_dict()) + str([*trace.request_lines(), *trace.response_lines()])
        assert "abc" not in shown
        assert "12345" not in shown
        assert trace.request.get("authorization") == f"Bearer {MASK}"
        assert trace.request.get("cookie") == f"sid={MASK}; t={MASK}"
        assert trace.response.get("set-cookie") == f"sid={MASK}; Path=/"
        assert trace.target == "/secret?access_token=***&page=1"
        assert ("authorization", "Bearer abc") in trace.request.unmasked
        assert trace.raw_target.endswith("access_token=abc&page=1")


def test_masks() -> None:
    assert mask_fields((("set-cookie", "odd"), ("authorization", "token"))) == (
        ("set-cookie", MASK), ("authorization", MASK),
    )  # fmt: skip
    assert mask_target("/a?b=1") == "/a?b=1"
    assert mask_target("/token?secret") == "/token?secret"
    for given, shown in (
        ("/x?%74oken=abc&a=1", "/x?%74oken=***&a=1"),
        ("/x?a=1;token=abc", "/x?a=1;token=***"),
        ("/x?access-key=abc#y", "/x?access-key=***#y"),
        ("http://me:abc@shop.example/x", "http://***@shop.example/x"),
        ("https://back.example/#access_token=abc&state=1", "https://back.example/#access_token=***&state=1"),
        ("/login?next=%2Fy%3Ftoken%3Dabc", "/login?next=***"),
    ):
        assert mask_target(given) == shown
    for name in ("Location", "Referer", "Link"):
        assert mask_fields(((name, "https://a.example/?token=abc"),)) == ((name, "https://a.example/?token=***"),)


def test_masking_is_quick_whatever_stands_there() -> None:
    started = monotonic()
    for long in ("?" * 60_000, "a" * 60_000, "?a=b" * 15_000, "://" * 20_000, "&;" * 30_000):
        mask_target(f"@={long}")
    assert monotonic() - started < 2


async def test_it_keeps_within_its_bounds() -> None:
    async with talking(shop()) as (server, client):
        traces = Traces(server, Bounds(traces=3, size=64 * 1024, body_size=20_000)).start()
        for n in range(5):
            await client.ask(get(f"/items/{n}"))
        assert [trace.target for trace in traces] == ["/items/2", "/items/3", "/items/4"]
        assert traces.dropped == 2
        for _ in range(4):
            await client.ask(post("/echo", b"x" * 30_000))
        assert len(traces) == 1  # two such are more than 64 KiB
        (trace,) = traces
        assert len(trace.request.body.content) == len(trace.response.body.content) == 20_000
        assert trace.request.body.size == 30_000
        assert 40_000 < traces._recorder.size < 64 * 1024
        traces.clear()
        assert traces._recorder.size == 0
        traces.stop()
        assert not server.emitter.taps
        await client.ask(get("/"))
        assert len(traces) == 0


async def test_bodies_under_way_are_bounded_too() -> None:
    app = App()
    go_on = anyio.Event()

    @app.get("/")
    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 40_000
        await go_on.wait()

    async with testing.serving(app) as server, connect(server.port) as a, connect(server.port) as b:
        traces = Traces(server, Bounds(size=64 * 1024, body_size=40_000)).start()
        for client in (a, b):
            await client.send(get("/"))
        await until(lambda: sum(one.response_size for one in server.snapshot().exchanges) == 80_000)
        assert traces._recorder.size <= 64 * 1024
        go_on.set()
        await a.answer()
        await b.answer()
        await until(lambda: len(traces))
        traces.stop()


async def test_a_trace_keeps_nothing_alive() -> None:
    app = shop()
    seen: list[Any] = []

    @app.get("/seen")
    async def handler(request: Request) -> str:
        seen.append(weakref.ref(request))
        raise HTTPException(409, repr(request))

    async with talking(app, record=True) as (server, client):
        await client.ask(get("/seen"))
        assert len(server.traces) == 1
        gc.collect()
        assert seen[0]() is None


async def test_recording_may_begin_and_end_in_the_middle() -> None:
    async with testing.serving(shop()) as server:
        assert "nothing is recorded" in repr(server.traces)
        async with connect(server.port) as client:
            await client.send(get("/forever"))
            await until(lambda: server.snapshot().exchanges)
            server.traces.start()
            server.traces.start()
        trace = await last(server)
        assert (trace.target, trace.phase) == ("/forever", "handler")
        async with connect(server.port) as client:
            await client.send(get("/forever"))
            await until(lambda: server.snapshot().exchanges)
            server.traces.stop()
            assert server.traces._recorder._drafts == {}
        assert len(server.traces) == 1


async def test_followers_are_told_and_one_that_raises_is_removed(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def bad(trace: Trace) -> None:
        raise ZeroDivisionError

    async with talking(shop(), record=True) as (server, client):
        end = server.traces.follow(lambda trace: told.append(trace.target))
        server.traces.follow(bad)
        await client.ask(get("/items/1"))
        await client.ask(get("/items/2"))
        end()
        await client.ask(get("/items/3"))
        assert told == ["/items/1", "/items/2"]
    assert caplog.text.count("and was removed") == 1


async def test_a_tcp_message_and_its_answers() -> None:
    app = App()

    @app.tcp(framing="lines")
    async def chat(connection: Any) -> None:
        async for message in connection:
            await connection.send(message.upper())
            await connection.send("end")

    async with testing.serving(app, record=True) as server:
        async with connect(server.port_of("chat")) as client:
            await client.send(b"hello\n")
            received = b""
            while not received.endswith(b"end\n"):
                received += await client.stream.receive()
        trace = await last(server)
        assert (trace.protocol, trace.url, trace.method, trace.status) == ("tcp", "tcp://chat", "", 0)
        assert (trace.request.body.content, trace.response.body.content) == (b"hello", b"HELLOend")
        assert kinds(trace) == [("request", "ok"), ("handler", "ok"), ("response", "ok"), ("response", "ok")]
        assert server.traces("~tcp ~bs END") == [trace]


def test_the_last_answer_is_there_when_the_client_has_it(backend: str) -> None:
    with shop().start(backend=backend, record=True) as server, asking(server) as ask:
        for n in range(50):
            ask(get(f"/items/{n}"))
            assert server.traces[-1].target == f"/items/{n}"


def asking(server: Server) -> Any:
    import socket
    from contextlib import contextmanager

    @contextmanager
    def client() -> Any:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:

            def ask(request: bytes) -> None:
                sock.sendall(request)
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")

            yield ask

    return client()


@pytest.mark.parametrize("wrong", [{"traces": 0}, {"size": 1}, {"body_size": -1}, {"traces": 1.5}, {"size": True}])
def test_wrong_bounds_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Bounds(**wrong)


async def test_failed_and_marked_traces_stay_longer() -> None:
    async with talking(shop()) as (server, client):
        traces = Traces(server, Bounds(traces=8)).start()
        await client.ask(get("/boom"))
        await client.ask(get("/"))
        await until(lambda: len(traces) == 2)
        traces.mark(traces[1])
        for _ in range(20):
            await client.ask(get("/"))
        await until(lambda: traces.dropped == 14)
        found = list(traces)
        assert len(found) == 8
        assert found[0].status == 500
        assert found[1].marked
        for _ in range(5):
            await client.ask(get("/boom"))
        await until(lambda: traces.dropped == 19)
        assert len(traces) == 8  # no more than a quarter stays longer
