"""WSGI applications over a socket, in workers: the environ, bodies both ways, applications that break the rules."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import anyio
import pytest

import coserver
from coserver import App

from ..server.clients import chunked, connect, get, post, talking, until

Environ = dict[str, Any]
Start = Callable[..., Any]
View = Callable[[Environ, Start], Iterable[bytes]]


def ok(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"ok"]


def site(**paths: View) -> App:
    def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return paths.get(environ["PATH_INFO"][1:].partition("/")[0], ok)(environ, start_response)

    return coserver.host(application, "site")


@asynccontextmanager
async def asking(codec: str, **paths: View) -> Any:
    async with talking(site(**paths), codec=codec) as (server, client):
        yield server, client


async def test_the_environ(codec: str) -> None:
    seen: list[Environ] = []

    def look(environ: Environ, start_response: Start) -> Iterable[bytes]:
        seen.append(environ)
        return ok(environ, start_response)

    async with asking(codec, look=look) as (server, client):
        fields = ("Cookie: a=1", "Cookie: b=2", "X-Two: 1", "X-Two: 2", "A_b: evil", "Proxy: http://evil",
                  "Content-Type: text/x")  # fmt: skip
        request = post("/look/a%20b%2Fc%C3%A4?x=%41&y", b"hello", *fields)
        assert (await client.ask(request)).text == "ok"
        mine = client.socket.getsockname()
    environ = seen[0]
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/look/a b/c\xc3\xa4"
    assert environ["QUERY_STRING"] == "x=%41&y"
    assert environ["RAW_URI"] == "/look/a%20b%2Fc%C3%A4?x=%41&y"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", str(server.port))
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (mine[0], str(mine[1]))
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/x", "5")
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_TWO"] == "1,2"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.input_terminated"] is environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is environ["wsgi.run_once"] is False
    assert "HTTP_A_B" not in environ
    assert "HTTP_PROXY" not in environ
    assert "HTTP_CONTENT_TYPE" not in environ
    assert all(type(value) is str for name, value in environ.items() if not name.startswith("wsgi."))


async def test_underscores_may_be_let_in() -> None:
    seen: list[Environ] = []

    def look(environ: Environ, start_response: Start) -> Iterable[bytes]:
        seen.append(environ)
        return ok(environ, start_response)

    async with talking(coserver.host(look, underscores=True)) as (_, client):
        assert (await client.ask(get("/", "A_b: 1"))).text == "ok"
    assert seen[0]["HTTP_A_B"] == "1"


async def test_script_name() -> None:
    seen: list[tuple[str, str]] = []

    def look(environ: Environ, start_response: Start) -> Iterable[bytes]:
        seen.append((environ["SCRIPT_NAME"], environ["PATH_INFO"]))
        return ok(environ, start_response)

    outer = App("outer")
    outer.mount("/api", coserver.host(look, root_path="/proxy"))
    async with talking(outer) as (_, client):
        for target in ("/api/x", "/api", "/a%70i/%2F"):
            assert (await client.ask(get(target))).text == "ok"
    assert seen == [("/proxy/api", "/x"), ("/proxy/api", ""), ("/proxy/api", "//")]


async def test_the_validator_is_content(codec: str) -> None:
    def echo(environ: Environ, start_response: Start) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(1000)
        lines = environ["wsgi.input"].readline(10), list(environ["wsgi.input"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body, repr(lines).encode()]

    def written(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"by write, ")
        return [b"then returned"]

    def stream(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        for number in range(5):
            yield b"%d" % number

    for view in (echo, written, stream):
        async with talking(coserver.host(validator(view)), codec=codec) as (_, client):
            for request in (get("/"), post("/?q", b"a\nb\nc"), chunked("/x", b"a\nb\n", b"c"), get("/", method="HEAD")):
                assert (await client.ask(request)).status == 200


async def test_reading_the_body(codec: str) -> None:
    def read(environ: Environ, start_response: Start) -> Iterable[bytes]:
        source = environ["wsgi.input"]
        how = environ["PATH_INFO"].rpartition("/")[2]
        if how == "all":
            found = source.read()
        elif how == "sizes":
            found = b"|".join([source.read(3), source.read(0), source.read(2), source.read(100), source.read(5)])
        elif how == "lines":
            found = b"|".join([source.readline(), source.readline(2), source.readline(), *source.readlines()])
        elif how == "iterated":
            found = b"|".join(source)
        else:
            found = b"unread"
        start_response("200 OK", [])
        return [found]

    big = b"line\n" * 100_000
    async with asking(codec, read=read) as (_, client):
        assert (await client.ask(post("/read/all", big))).body == big
        assert (await client.ask(chunked("/read/all", b"ab", b"c"))).body == b"abc"
        assert (await client.ask(get("/read/all"))).body == b""
        assert (await client.ask(post("/read/sizes", b"abcdefgh"))).body == b"abc||de|fgh|"
        assert (await client.ask(post("/read/lines", b"one\ntwo\nthree\nfour"))).body == b"one\n|tw|o\n|three\n|four"
        assert (await client.ask(post("/read/iterated", b"a\n\nb"))).body == b"a\n|\n|b"
        assert (await client.ask(post("/read/not", b"x" * 1000))).body == b"unread"
        await client.send(get("/read/all", "Content-Length: 2", "Expect: 100-continue", method="POST"))
        with anyio.fail_after(5):
            assert await client.stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.answer("POST")).body == b"hi"


async def test_answers(codec: str) -> None:
    def sized(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        yield b"ab"
        yield b"cd"

    def empty(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("204 No Content", [])
        return []

    def none(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])
        return []

    def twice(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("X-First", "1")])
        try:
            raise ValueError("changed my mind")
        except ValueError:
            import sys

            start_response("503 Busy", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], sys.exc_info())
        return [b"busy"]

    def latin(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("299 My Own", [("X-Name", "\xe9")])
        return (b"tuple",)

    async with asking(codec, sized=sized, empty=empty, none=none, twice=twice, latin=latin) as (_, client):
        answer = await client.ask(get("/sized"))
        assert (answer.headers["content-length"], answer.text) == ("4", "abcd")
        assert (await client.ask(get("/empty"))).status == 204
        answer = await client.ask(get("/none"))
        assert (answer.status, answer.headers["content-length"]) == (200, "0")
        answer = await client.ask(get("/twice"))
        assert (answer.status, answer.text) == (503, "busy")
        assert "x-first" not in answer.headers
        answer = await client.ask(get("/latin"))
        assert (answer.status, answer.headers["x-name"], answer.text) == (299, "\xe9", "tuple")
        answer = await client.ask(get("/", method="HEAD"))
        assert (answer.headers["content-length"], answer.body) == ("2", b"")


async def test_files(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    closed: list[str] = []

    class Closing(io.BytesIO):
        def close(self) -> None:
            closed.append("memory")
            super().close()

    def file(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])
        opened = path.open("rb")
        opened.seek(1000)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](opened, 8192)
        return wrapped

    def part(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](path.open("rb"))
        return wrapped

    def memory(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](Closing(b"x" * 100_000), 1000)
        return wrapped

    async with asking(codec, file=file, part=part, memory=memory) as (_, client):
        answer = await client.ask(get("/file"))
        assert answer.body == path.read_bytes()[1000:]
        assert answer.headers["content-length"] == str(256_000 - 1000)
        assert (await client.ask(get("/part"))).body == bytes(range(10))
        assert (await client.ask(get("/memory"))).body == b"x" * 100_000
        assert closed == ["memory"]
        assert (await client.ask(get("/file", method="HEAD"))).body == b""


async def test_close_is_always_called(codec: str) -> None:
    closed: list[str] = []

    class Body:
        def __init__(self, name: str) -> None:
            self.name = name

        def __iter__(self) -> Iterator[bytes]:
            yield b"part"
            if self.name == "raises":
                raise ValueError("in the middle")
            if self.name == "endless":
                while True:
                    yield b"x" * 10_000

        def close(self) -> None:
            closed.append(self.name)

    def view(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Body(environ["PATH_INFO"].rpartition("/")[2])

    async with asking(codec, view=view) as (server, client):
        assert (await client.ask(get("/view/whole"))).text == "part"
        async with connect(server.port) as other:
            await other.send(get("/view/raises"))
            assert not (await other.gone()).endswith(b"0\r\n\r\n")
        async with connect(server.port) as other:
            await other.send(get("/view/endless"))
            await other.stream.receive()
            await other.reset()
        await until(lambda: len(closed) == 3)
    assert sorted(closed) == ["endless", "raises", "whole"]


async def test_a_slow_close_keeps_nobody_waiting(codec: str) -> None:
    closed: list[str] = []

    class Body(list[bytes]):
        def close(self) -> None:
            time.sleep(0.4)
            closed.append("closed")

    def view(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return Body([b"ok"])

    async with asking(codec, view=view) as (_, client):
        with anyio.fail_after(0.35):
            assert (await client.ask(get("/view"))).text == "ok"
            assert (await client.ask(get("/view"))).text == "ok"
    assert closed == ["closed"] * 2


async def test_views_block_only_their_request(codec: str) -> None:
    def sleep(environ: Environ, start_response: Start) -> Iterable[bytes]:
        time.sleep(0.3)
        return ok(environ, start_response)

    async with talking(site(sleep=sleep), codec=codec) as (server, _):
        began = time.monotonic()

        async def one() -> None:
            async with connect(server.port) as client:
                assert (await client.ask(get("/sleep"))).text == "ok"

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(one)
        assert time.monotonic() - began < 5  # one after another: 9


async def test_thread_locals_are_of_the_request(codec: str) -> None:
    local = threading.local()
    mixed: list[str] = []

    def view(environ: Environ, start_response: Start) -> Iterable[bytes]:
        name = environ["PATH_INFO"]
        if hasattr(local, "name"):
            mixed.append(f"{name} sees {local.name}")
        local.name = name
        time.sleep(0.01)
        if local.name != name:
            mixed.append(f"{name} became {local.name}")
        start_response("200 OK", [])
        yield name.encode()
        time.sleep(0.005)
        if local.name != name:
            mixed.append(f"{name} became {local.name}")

    async with talking(site(view=view), codec=codec) as (server, _):

        async def some(first: int) -> None:
            async with connect(server.port) as client:
                for number in range(first, first + 10):
                    assert (await client.ask(get(f"/view/{number}"))).text == f"/view/{number}"

        async with anyio.create_task_group() as tasks:
            for first in range(0, 200, 10):
                tasks.start_soon(some, first)
    assert mixed == []


async def test_a_fin_alone_is_no_disconnect(codec: str) -> None:
    def slow(environ: Environ, start_response: Start) -> Iterable[bytes]:
        time.sleep(0.2)
        return ok(environ, start_response)

    async with asking(codec, slow=slow) as (_, client):
        await client.send(get("/slow"))
        await client.stream.send_eof()
        assert (await client.answer()).text == "ok"


async def test_a_client_that_leaves_cancels_nothing(codec: str) -> None:
    done: list[str] = []

    def slow(environ: Environ, start_response: Start) -> Iterable[bytes]:
        time.sleep(0.3)
        done.append("done")
        return ok(environ, start_response)

    async with asking(codec, slow=slow) as (server, _):
        async with connect(server.port) as leaver:
            await leaver.send(get("/slow"))
            await anyio.sleep(0.1)
            await leaver.reset()
        await until(lambda: done)
        await until(lambda: server.connections == 1)


EARLY: dict[str, View] = {}


def early(view: View) -> View:
    EARLY[view.__name__] = view
    return view


@early
def raises(environ: Environ, start_response: Start) -> Iterable[bytes]:
    raise ValueError("at once")


@early
def raises_between(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    raise ValueError("between")


@early
def never_starts(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return [b"body"]


@early
def returns_nothing(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return None  # type: ignore[return-value]


@early
def hop_by_hop(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Connection", "close")])
    return [b"body"]


@early
def bad_status(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("OK", [])
    return [b"body"]


@early
def bad_field(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("X", "1\r\nY: 2")])
    return [b"body"]


@early
def bytes_field(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [(b"X", b"1")])
    return [b"body"]


@early
def text_body(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    return ["text"]  # type: ignore[list-item]


@pytest.mark.parametrize("name", list(EARLY))
async def test_a_failure_before_the_first_byte(codec: str, name: str) -> None:
    """PEP 3333: the fields are not sent before the first piece, so the server can still answer with a 500."""
    async with asking(codec, bad=EARLY[name]) as (server, client):
        failures = server.failures
        assert (await client.ask(get("/bad"))).status == 500
        assert (await client.ask(get("/"))).text == "ok"
        assert failures.total == 1


LATE: dict[str, View] = {}


def late(view: View) -> View:
    LATE[view.__name__] = view
    return view


@late
def raises_late(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    yield b"part"
    raise ValueError("late")


@late
def too_few(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "10")])
    yield b"part"


@late
def too_many(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    yield b"part"
    yield b"more"


@late
def starts_late(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    yield b"part"
    try:
        raise ValueError("late")
    except ValueError:
        import sys

        start_response("500 Oh", [], sys.exc_info())


@pytest.mark.parametrize("name", list(LATE))
async def test_an_answer_that_breaks_off_is_a_reset(codec: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with asking(codec, bad=LATE[name]) as (server, client):
        failures = server.failures
        await client.send(get("/bad"))
        raw = await client.gone()
        assert not raw.endswith(b"0\r\n\r\n")
        async with connect(server.port) as other:
            assert (await other.ask(get("/"))).text == "ok"
        await until(lambda: failures.total == 1)
    assert [record for record in caplog.records if "broke off its response" in record.message]


async def test_a_body_that_breaks_the_protocol_is_the_clients_fault(
    codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    def echo(environ: Environ, start_response: Start) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]

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
