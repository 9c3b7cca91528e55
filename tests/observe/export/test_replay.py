"""Requests sent again, and written as a line of curl."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from coserver import App, Limits, Request, Tls
from coserver.app.inspect.traces import Traces
from coserver.hooks.workers import run_blocking
from coserver.observe.export.har_reader import read_har
from coserver.observe.export.replay import ReplayError, as_curl
from coserver.observe.trace.recorder import Bounds
from coserver.observe.trace.trace import Body, Message
from coserver.views.samples import all_samples, page

from ...certificates import write
from ...server.clients import chunked, get, post, talking, until
from ..trace.test_recorder import shop

CURL = shutil.which("curl")


def test_a_line_for_curl_masks_secrets() -> None:
    line = as_curl(all_samples()[1])
    assert line.startswith("curl --globoff --path-as-is 'http://shop.example/orders?token=***' --header ")
    assert "geheim" not in line
    assert "8f2b11" not in line
    assert "geheim" in as_curl(all_samples()[1], secrets=True)


@pytest.mark.skipif(CURL is None, reason="curl is not installed: apt-get install curl")
def test_curl_says_the_same_again(backend: str) -> None:
    app = App(name="shop")
    seen: list[tuple[Any, ...]] = []

    @app.route("/x/{rest:path}", methods=["GET", "HEAD", "POST", "DELETE"])
    async def anything(request: Request, rest: str) -> str:
        fields = {name: value for name, value in request.headers.items() if name not in ("connection", "host")}
        seen.append((request.method, request.target, fields, request.body))
        return "ok"

    requests = [
        get("/x/a?b=[1]&c={2}&d=$HOME", "User-Agent: me", "X-Empty:", 'X-Quote: it\'s "x" $(id)'),
        get("/x/../x/b", method="HEAD"),
        get("/x/c", method="DELETE"),
        post("/x/d", b"@file 'quoted' \"x\" \\n\n$HOME", "Content-Type: text/plain"),
        post("/x/e", bytes(range(256))),
        chunked("/x/f", b"a", b"b"),
        get("/x/g", "X-Name: J\u00fcrgen", "X-Spelled: \u4f60"),
        get("/x/h").replace(b"\r\n\r\n", b"\r\nX-Byte: \xe9\x9b31m'\\\r\n\r\n"),
        post("/x/i", b"\x1b[31m\r\n\tred"),
        post("/x/j", b"!! $(id) `id` \\n %s \n"),
        b"GET http://t.example/x/k?a=1 HTTP/1.1\r\nHost: t.example\r\n\r\n",
        b"GET /x/l HTTP/1.0\r\n\r\n",
    ]
    with app.start(backend=backend, record=True) as server:
        import socket

        for request in requests:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(request)
                client.recv(1000)
        first, recorded = list(seen), list(server.traces)
        seen.clear()
        for trace in recorded:
            line = server.traces.curl(trace, secrets=True).replace("t.example", f"127.0.0.1:{server.port}")
            done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=10, check=False)
            assert done.returncode == 0, (line, done.stderr)
    for before, after in zip(first, seen, strict=True):
        for fields in (before[2], after[2]):
            for name in ("content-length", "transfer-encoding"):
                fields.pop(name, None)
        assert before == (after[0], after[1].replace(f"127.0.0.1:{server.port}", "t.example"), *after[2:])


def test_a_line_for_curl_obeys_nothing_and_hides_nothing() -> None:
    """What a terminal would obey stands in it as numbers, no file is read by it, and what lacks is told."""

    def line(*fields: tuple[str, str], body: Body = Body(), **more: Any) -> str:  # noqa: B008 - a value
        return as_curl(replace(page(), request=Message(unmasked=fields, body=body), **more))

    assert "$'x: \\x9b31m\\x27'" in line(("x", "\x9b31m'"))
    assert line(("x", "J\u00c3\u00bcrgen")).count("'x: J\u00fcrgen'") == 1
    assert "base64 --decode" in line(body=Body(content=b"\x1b[31m", size=5))
    assert "base64 --decode" in line(body=Body(content=b"a" * 110_000, size=110_000))
    assert ":authority" not in line((":authority", "shop.example"), ("x", "y"))
    assert line(("content-length", "9")).endswith("# its body was not read to its end: 0 bytes of it are known")
    assert "--unix-socket /run/shop.sock" in line(dst="/run/shop.sock")
    assert "--request-target '*' http://shop.example/ " in line(raw_target="*", host="shop.example")
    for wrong in (("@/etc/passwd", "x"), ("x", "a\r\nb: c"), ("a b", "c")):
        with pytest.raises(ReplayError, match="cannot be sent: a field's name is a token"):
            line(wrong)
    with pytest.raises(ReplayError, match="was not sent to an HTTP server"):
        line(raw_target="data:text/plain,x")
    assert "geheim" not in line(host="me:geheim@shop.example")


async def test_an_answer_that_never_ends_ends_its_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(name="shop")

    @app.get("/ticks")
    async def ticks() -> Any:
        async def each() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 100_000
                await anyio.sleep(0.01)

        return each()

    async with talking(app, record=True) as (server, client):
        await client.send(get("/ticks"))
        await until(lambda: server.snapshot().filter("~at response"))
        await client.stream.aclose()
        await until(lambda: len(server.traces))
        (trace,) = server.traces
        with pytest.raises(TimeoutError, match=r"took too long; \d+ bytes have come"):
            await server.traces.areplay(trace, timeout=0.2)
        monkeypatch.setattr("coserver.observe.export.replay.ANSWER_MAX", 1 << 20)
        with pytest.raises(ReplayError, match="more than 1 MiB"):
            await server.traces.areplay(trace)
        await until(lambda: not server.snapshot().exchanges)


async def test_what_came_from_elsewhere_is_sent_or_refused() -> None:
    """A browser's HAR may have fields and targets that no server would have taken."""
    async with talking(shop(), record=True) as (server, client):
        await client.ask(get("/items/7"))
        (trace,) = server.traces
        good = replace(trace, request=Message(unmasked=((":method", "GET"), ("host", "x"), ("x-name", "\u4f60"))))
        assert (await server.traces.areplay(good)).content == b'{"id":7}'
        for wrong in (replace(trace, raw_target="/\u4f60"), replace(trace, method="GE\u4f60"),
                      replace(trace, request=Message(unmasked=(("x", "a\r\nb"),)))):  # fmt: skip
            with pytest.raises(ReplayError, match="cannot be sent"):
                await server.traces.areplay(wrong)


async def test_a_replay_sends_the_same_with_its_secrets(tmp_path: Path) -> None:
    app = App(name="shop")
    seen: list[Any] = []

    @app.post("/orders")
    async def orders(request: Request) -> str:
        seen.append((request.target, request.headers["authorization"], request.body, request.headers["host"]))
        return f"order {len(seen)}"

    async with talking(app, record=True) as (server, client):
        await client.ask(post("/orders?token=geheim", b"\x00\xff", "Authorization: Bearer abc"))
        (trace,) = server.traces
        again = await server.traces.areplay(trace)
        assert (again.status, again.content) == (200, b"order 2")
        assert ("content-type", "text/plain; charset=utf-8") in again.fields
        assert seen[0] == seen[1]
        assert "order 2" in (await run_blocking(server.traces.replay, trace)).content.decode().replace("3", "2")
        with pytest.raises(RuntimeError, match="areplay"):
            server.traces.replay(trace)
        assert [one.status for one in server.traces] == [200, 200, 200]


async def test_one_under_way_is_sent_again_though_nothing_is_recorded() -> None:
    app = App(name="shop")
    seen: list[Any] = []
    go_on = anyio.Event()

    @app.post("/orders")
    async def orders(request: Request) -> str:
        seen.append((request.target, request.headers["authorization"], request.body))
        if len(seen) == 1:
            await go_on.wait()
        return f"order {len(seen)}"

    async with talking(app) as (server, client):
        await client.send(post("/orders?token=geheim", b"one", "Authorization: Bearer abc"))
        await until(lambda: seen)
        (exchange,) = server.snapshot().exchanges
        trace = server.traces.find(exchange.id)
        assert (trace.phase, trace.status, trace.request.body.content) == ("handler", 0, b"one")
        assert [span.outcome for span in trace.spans] == ["ok", "open"]
        again = await server.traces.areplay(trace)
        assert (again.status, again.content) == (200, b"order 2")
        assert seen[0] == seen[1]
        line = server.traces.curl(trace)
        assert line.startswith("curl ")
        assert "--data-binary one" in line
        assert "geheim" not in line
        assert "abc" not in line
        assert "Bearer abc" in server.traces.curl(trace, secrets=True)
        go_on.set()
        assert (await client.answer("POST")).text == "order 2"
        with pytest.raises(KeyError, match="no trace of an exchange"):
            await anyio.to_thread.run_sync(server.traces.find, exchange.id)


async def test_one_whose_body_has_not_come_is_not_sent_again() -> None:
    async with talking(shop()) as (server, client):
        await client.send(post("/echo", b"x" * 20)[:-5])
        await until(lambda: server.snapshot().filter("~at body"))
        trace = server.traces.find(server.snapshot().exchanges[0].id)
        with pytest.raises(ReplayError, match="not read to its end: 15 bytes of it are known"):
            await server.traces.areplay(trace)
        await client.send(b"x" * 5)
        await client.answer("POST")


def test_replays_from_another_thread_and_to_a_unix_socket(backend: str, tmp_path: Path) -> None:
    import socket

    path = str(tmp_path / "s")
    with shop().start(backend=backend, record=True, uds=path) as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(chunked("/echo", b"a", b"b"))
            client.recv(1000)
        (trace,) = server.traces
        assert server.traces.replay(trace).content == b"ab"
    with pytest.raises((OSError, HTTPException)):
        server.traces.replay(trace)


async def test_a_body_that_nobody_read_is_missed_and_none_is_not() -> None:
    """A 404 is answered before the body is read; whether there was one, its framing says."""
    async with talking(shop(), record=True) as (server, client):
        await client.ask(get("/nowhere"))
        await client.ask(post("/nowhere", b""))
        for trace in list(server.traces):
            assert (await server.traces.areplay(trace)).status == 404
            assert "  # " not in server.traces.curl(trace)
    for half in (post("/nowhere", b"x" * 20)[:-5], chunked("/nowhere", b"x" * 20)[:-5]):
        async with talking(shop(), record=True) as (server, client):
            await client.send(half)
            assert (await client.answer("POST")).status == 404
            await until(lambda server=server: len(server.traces))
            with pytest.raises(ReplayError, match="not read to its end"):
                await server.traces.areplay(server.traces[-1])


async def test_a_body_that_was_changed_while_held_is_what_is_kept() -> None:
    async with talking(shop(), record=True, limits=Limits(body_buffer=15)) as (server, client):
        for came, other in (
            (b"as it came", b"a longer one"), (b"as it came", b"short"), (b"as it came", b"as it left"),
            (b"on a disk, as it came", b"short"), (b"as it came", b""),
        ):  # fmt: skip
            with server.step("/echo", at="handler") as step:
                await client.send(post("/echo", came))
                (await step.wait_async(5)).edit(body=other)
                step.resume()
                assert (await client.answer("POST")).body == other
            trace = list(server.traces)[-1]
            assert (trace.request.body.content, trace.request.body.size) == (other, len(other))
            assert (await server.traces.areplay(trace)).status == 200
            assert list(server.traces)[-1].response.body.content == other
            assert "  # " not in server.traces.curl(trace)


async def test_what_cannot_be_sent_again_is_told() -> None:
    app = shop()
    async with talking(app) as (server, client):
        traces = Traces(server, Bounds(body_size=10)).start()
        await client.ask(post("/echo", b"x" * 20))
        (trace,) = traces
        with pytest.raises(ReplayError, match=r"10 of the body's 20 bytes were kept: record with Bounds\(body_size"):
            await traces.areplay(trace)
        assert traces.curl(trace).endswith("# the body is cut: 10 of 20 bytes")
        traces.stop()


def test_over_tls_the_url_says_so_and_a_replay_speaks_it(backend: str, tmp_path: Path) -> None:
    import ssl
    from http.client import HTTPSConnection

    certificate, key = write(tmp_path)
    with shop().start(backend=backend, record=True, tls=Tls(certfile=certificate, keyfile=key)) as server:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = HTTPSConnection("127.0.0.1", server.port, context=context)
        client.request("GET", "/items/7")
        assert client.getresponse().read() == b'{"id":7}'
        connection = server.snapshot().connections[0]
        assert connection.tls is not None
        client.close()
        (trace,) = server.traces
        assert trace.url == f"https://127.0.0.1:{server.port}/items/7"
        assert server.traces.replay(trace).content == b'{"id":7}'
        (again, _) = read_har(server.traces.har())
        assert (again.url, again.secure, again.target) == (trace.url, True, "/items/7")
        assert len(server.traces("https ~c 200")) == 2
