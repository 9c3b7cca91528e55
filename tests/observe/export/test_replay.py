"""Requests sent again, and written as a line of curl."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
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


def mirror() -> tuple[App, list[tuple[Any, ...]]]:
    """An app that notes what it is asked."""
    app = App(name="shop")
    seen: list[tuple[Any, ...]] = []

    @app.route("/{rest:path}", methods=["GET", "POST", "PUT"])
    async def anything(request: Request, rest: str) -> str:
        fields = {name: value for name, value in request.headers.items() if name in ("authorization", "x-tag", "host")}
        seen.append((request.method, request.target, fields, request.body))
        return f"{len(seen)}"

    return app, seen


async def test_a_replay_is_changed_as_a_held_request_is() -> None:
    app, seen = mirror()
    async with talking(app, record=True) as (server, client):
        await client.ask(post("/orders?token=geheim", b'{"a": 1}', "Authorization: Bearer abc", "X-Tag: old"))
        (trace,) = server.traces
        host = seen[0][2]["host"]
        kept = {"authorization": "Bearer abc", "x-tag": "old", "host": host}
        replay = server.traces.areplay
        for changes, expected in (
            ({}, ("POST", "/orders?token=geheim", kept, b'{"a": 1}')),
            ({"target": "/other?x=%20"}, ("POST", "/other?x=%20", kept, b'{"a": 1}')),
            ({"method": "PUT"}, ("PUT", "/orders?token=geheim", kept, b'{"a": 1}')),
            ({"headers": {"X-Tag": "new"}}, ("POST", "/orders?token=geheim", {**kept, "x-tag": "new"}, b'{"a": 1}')),
            ({"headers": {"x-tag": None, "Authorization": None}},
             ("POST", "/orders?token=geheim", {"host": host}, b'{"a": 1}')),
            ({"headers": [("Host", "other.example")]},
             ("POST", "/orders?token=geheim", {"host": "other.example"}, b'{"a": 1}')),
            ({"body": {"b": 2}}, ("POST", "/orders?token=geheim", kept, b'{"b":2}')),
            ({"body": "text"}, ("POST", "/orders?token=geheim", kept, b"text")),
            ({"body": b"\x00\xff"}, ("POST", "/orders?token=geheim", kept, b"\x00\xff")),
            ({"body": ""}, ("POST", "/orders?token=geheim", kept, b"")),
            ({"method": "GET", "body": "", "target": "/", "timeout": 5.0}, ("GET", "/", kept, b"")),
        ):  # fmt: skip
            again = await replay(trace, **changes)  # type: ignore[arg-type]
            assert again.status == 200
            assert seen[-1] == expected, changes
            assert server.traces[-1].replay_of == trace.id
        assert trace.replay_of == 0
        assert (await run_blocking(partial(server.traces.replay, trace, target="/blocking"))).status == 200
        assert seen[-1][1] == "/blocking"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "/a b"}, "percent-encoded, '/a%20b'; got '/a b'"),
        ({"target": "/a\r\nX: y"}, "percent-encoded"),
        ({"target": "a"}, "a target is a path"),
        ({"target": 5}, "method and target are text; got 'GET' and 5"),
        ({"method": None}, "method and target are text; got None"),
        ({"method": "GE T"}, "a method is a token"),
        ({"method": "CONNECT"}, "a method is a token"),
        ({"headers": {"x": "\u4f60"}}, "headers are a mapping"),
        ({"headers": {"x": "a\r\nb: c"}}, "cannot be sent"),
        ({"headers": 5}, "headers are a mapping"),
        ({"body": 1j}, "a body is str, bytes, or a value for JSON"),
        ({"status": 200}, "status cannot be changed; it may be method, target, headers, body"),
    ],
    ids=str,
)
async def test_changes_that_break_a_rule_are_refused(changes: dict[str, Any], said: str) -> None:
    app, seen = mirror()
    async with talking(app, record=True) as (server, client):
        await client.ask(get("/a"))
        with pytest.raises(ReplayError, match=re.escape(said)):
            await server.traces.areplay(server.traces[-1], **changes)
        assert len(seen) == len(server.traces) == 1


async def test_a_changed_body_needs_no_old_one() -> None:
    """One that was cut, or not read, is replaced."""
    app, seen = mirror()
    async with talking(app) as (server, client):
        traces = Traces(server, Bounds(body_size=10)).start()
        await client.ask(chunked("/echo", b"x" * 20))
        (trace,) = traces
        with pytest.raises(ReplayError, match="were kept"):
            await traces.areplay(trace, target="/b")
        assert (await traces.areplay(trace, body="short")).status == 200
        assert seen[-1][3] == b"short"
        assert [one.replay_of for one in traces] == [0, trace.id]
        traces.stop()


async def test_a_replay_is_linked_for_followers_and_in_exports_and_no_other_is() -> None:
    app, _ = mirror()
    async with talking(app, record=True) as (server, client):
        await client.ask(get("/a"))
        trace = server.traces[-1]
        followed: list[int] = []
        server.traces.follow(lambda one: followed.append(one.replay_of))
        await server.traces.areplay(trace)
        await client.ask(get("/a"))
        await server.traces.areplay(server.traces[1])  # a replay of a replay
        first, second = trace.id, server.traces[1].id
        expected = [0, first, 0, second]
        assert [one.replay_of for one in server.traces] == expected
        assert [one.as_dict()["replay_of"] for one in server.traces] == expected
        assert [one.replay_of for one in read_har(server.traces.har())] == expected
        assert server.traces.find(second).replay_of == first
        assert followed == expected[1:]


def test_over_a_unix_socket_a_replay_is_linked_too(backend: str, tmp_path: Path) -> None:
    import socket

    path = str(tmp_path / "s")
    app, _ = mirror()
    with app.start(backend=backend, record=True, uds=path) as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(get("/a"))
            client.recv(1000)
        (trace,) = server.traces
        assert server.traces.replay(trace, target="/b").status == 200
        assert [(one.target, one.replay_of) for one in server.traces] == [("/a", 0), ("/b", trace.id)]


async def test_an_index_beyond_the_traces_says_why() -> None:
    app, _ = mirror()
    async with talking(app) as (server, client):
        with pytest.raises(IndexError, match=r"no trace -1: there is none yet; nothing is recorded: server"):
            server.traces[-1]
        with pytest.raises(IndexError, match=r"no failure 0: there are 0"):
            server.failures[0]
        server.traces.start()
        with pytest.raises(IndexError, match=r"no trace -1: there is none yet$"):
            server.traces[-1]
        await client.ask(get("/a"))
        with pytest.raises(IndexError, match=r"no trace 1: there are 1$"):
            server.traces[1]
        with pytest.raises(IndexError, match=r"no trace 0: there are 0 here"):
            server.traces("~c 404")[0]
        assert server.traces[:5][0] is not None
        assert server.traces("~c 200")[-1].target == "/a"
