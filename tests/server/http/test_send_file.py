"""Files as responses: types and names, conditions, ranges, and every way in which sending one can end."""

from __future__ import annotations

import email
import gc
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from coserver import App, HTTPException, Limits, Request, Response, testing
from coserver.lifecycle import events as ev
from coserver.protocol.dates import format_date
from coserver.server.handler.bodies import FileBody, OpenFile, disposition, type_of
from coserver.transport.stream import SocketStream

from ..clients import PATIENCE, Answer, Client, answers, connect, get, talking, until
from ..pipes import Pipe, piped

SMALL = b"0123456789" * 100
#: More than a socket's buffers on both sides take, so that sending it waits for its client.
LARGE = bytes(range(256)) * 25_000
LONG_AGO = 1_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (("small.txt", SMALL), ("large.bin", LARGE), ("empty.txt", b"")):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (LONG_AGO, LONG_AGO))
    return tmp_path


@pytest.fixture
def app(folder: Path) -> App:
    """``GET /f/{name}`` serves the folder's files."""
    app = App()

    @app.get("/f/{name}")
    async def file(name: str) -> Response:
        return Response.file(folder / name)

    return app


@asynccontextmanager
async def asking(app: App, **options: Any) -> AsyncIterator[Client]:
    async with talking(app, **options) as (_, client):
        yield client


def facts(answer: Answer) -> tuple[int, str | None, bytes]:
    return answer.status, answer.headers.get("content-range"), answer.body


# What it is.


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.HTML", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.json", "application/json"),
        ("a.pdf", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.txt.xz", "application/x-xz"),
        ("a.bz2", "application/x-bzip2"),
        ("a.unheard-of", "application/octet-stream"),
        ("README", "application/octet-stream"),
        (".profile", "application/octet-stream"),
    ],
)
def test_types(name: str, content_type: str) -> None:
    assert type_of(f"/some/where/{name}") == content_type
    assert type_of(f"/some/where/{name}") == content_type  # of the table now


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ("two words.pdf", 'attachment; filename="two words.pdf"'),
        ("é.pdf", "attachment; filename=\"_.pdf\"; filename*=UTF-8''%C3%A9.pdf"),
        ('a"b\\c.pdf', "attachment; filename=\"a_b_c.pdf\"; filename*=UTF-8''a%22b_c.pdf"),
        ("100%25.pdf", "attachment; filename=\"100_25.pdf\"; filename*=UTF-8''100%2525.pdf"),
        ("what?.pdf", "attachment; filename=\"what_.pdf\"; filename*=UTF-8''what%3F.pdf"),
        ("../etc/passwd", 'attachment; filename=".._etc_passwd"'),
        ("a\r\nSet-Cookie: x", 'attachment; filename="a__Set-Cookie: x"'),
        ("half\ud800.pdf", 'attachment; filename="half_.pdf"'),
    ],
)
def test_dispositions(name: str, field: str) -> None:
    assert disposition(name) == field


async def test_a_small_file(app: App, folder: Path) -> None:
    async with asking(app) as client:
        for _ in range(2):
            answer = await client.ask(get("/f/small.txt"))
            assert facts(answer) == (200, None, SMALL)
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.headers["content-length"] == "1000"
            assert answer.headers["accept-ranges"] == "bytes"
            assert answer.headers["last-modified"] == format_date(LONG_AGO)
            inode = (folder / "small.txt").stat().st_ino
            assert answer.headers["etag"] == f'"{LONG_AGO * 10**9:x}-3e8-{inode:x}"'
            assert "content-disposition" not in answer.headers


async def test_a_large_file_and_what_comes_after_it(app: App) -> None:
    async with asking(app) as client:
        answer = await client.ask(get("/f/large.bin"))
        assert facts(answer) == (200, None, LARGE)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert facts(await client.ask(get("/f/small.txt"))) == (200, None, SMALL)


async def test_an_empty_file(app: App) -> None:
    async with asking(app) as client:
        for fields in ((), ("Range: bytes=0-",), ("Range: bytes=-5",)):
            answer = await client.ask(get("/f/empty.txt", *fields))
            assert (facts(answer), answer.headers["content-length"]) == ((200, None, b""), "0")


@pytest.mark.parametrize("name", ["small.txt", "large.bin", "empty.txt"])
@pytest.mark.parametrize("fields", [(), ("Connection: close",), ("Range: bytes=1-2",)])
async def test_head_says_what_get_does(app: App, name: str, fields: tuple[str, ...]) -> None:
    async with testing.serving(app) as server:
        answers = []
        for method in ("HEAD", "GET"):
            async with connect(server.port) as client:
                # HEAD has no ranges: it is compared with what GET says without one.
                those = [field for field in fields if method == "HEAD" or not field.startswith("Range")]
                answers.append(await client.ask(get(f"/f/{name}", *those, method=method)))
        head, whole = answers
        assert head.body == b""
        head.headers.pop("date")
        whole.headers.pop("date")
        assert (head.status, head.headers) == (whole.status, whole.headers)


@pytest.mark.parametrize("name", ["small.txt", "large.bin"])
async def test_http_1_0(app: App, folder: Path, name: str) -> None:
    async with asking(app) as client:
        answer = await client.ask(get(f"/f/{name}", minor=0))
        assert answer.body == (folder / name).read_bytes()
        assert answer.headers["content-length"] == str(len(answer.body))
        await client.closed()


async def test_pipelined(app: App) -> None:
    async with asking(app) as client:
        await client.send(get("/f/large.bin") + get("/f/small.txt") + get("/f/large.bin", "Range: bytes=1-3"))
        assert (await client.answer()).body == LARGE
        assert (await client.answer()).body == SMALL
        assert facts(await client.answer()) == (206, f"bytes 1-3/{len(LARGE)}", b"\1\2\3")


async def test_fields_of_ones_own(folder: Path) -> None:
    app = App()

    @app.get("/")
    async def index() -> Response:
        fields = {
            "ETag": 'W/"mine"',
            "Last-Modified": format_date(7),
            "Cache-Control": "no-cache",
            "Content-Type": "x/y",
        }
        return Response.file(folder / "small.txt", download="é.txt", headers=fields)

    @app.get("/other")
    async def other() -> tuple[Response, int, dict[str, str]]:
        return Response.file(str(folder / "small.txt"), content_type="a/b", download=True), 203, {"x-more": "1"}

    @app.get("/no-ranges")
    async def no_ranges() -> Response:
        return Response.file(os.fsencode(folder / "small.txt"), headers={"accept-ranges": "none"})  # type: ignore[arg-type]

    async with asking(app) as client:
        answer = await client.ask(get("/"))
        assert answer.headers["etag"] == 'W/"mine"'
        assert answer.headers["last-modified"] == format_date(7)
        assert answer.headers["content-type"] == "x/y"
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        answer = await client.ask(get("/", 'If-None-Match: "mine"'))
        assert answer.status == 304
        assert (answer.headers["etag"], answer.headers["cache-control"]) == ('W/"mine"', "no-cache")
        assert (await client.ask(get("/", f"If-Modified-Since: {format_date(7)}"))).status == 304
        answer = await client.ask(get("/other", "Range: bytes=0-1"))
        assert (answer.status, answer.headers["x-more"], answer.headers["content-type"]) == (203, "1", "a/b")
        assert answer.headers["content-disposition"] == 'attachment; filename="small.txt"'
        assert "etag" not in answer.headers
        answer = await client.ask(get("/no-ranges", "Range: bytes=0-1"))
        assert (answer.status, answer.headers["accept-ranges"], answer.body) == (200, "none", SMALL)


def test_what_is_wrong_is_raised_where_it_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Response.file(folder / "nowhere")
    with pytest.raises(IsADirectoryError):
        Response.file(folder)
    with pytest.raises(NotADirectoryError):
        Response.file(folder / "small.txt" / "x")
    with pytest.raises(ValueError, match="null"):
        Response.file("a\0b")
    with pytest.raises(TypeError):
        Response.file(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the server sets Content-Length"):
        Response.file(folder / "small.txt", headers={"Content-Length": "1"})
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        Response.file(folder / "pipe")  # and nobody waits for a writer
    with pytest.raises(OSError, match="Not a regular file"):
        Response.file("/dev/null")
    if os.geteuid():
        (folder / "small.txt").chmod(0)
        with pytest.raises(PermissionError):
            Response.file(folder / "small.txt")


async def test_errors_are_the_handlers_to_catch(folder: Path) -> None:
    app = App()

    @app.get("/{name}")
    def index(name: str) -> Response:
        try:
            return Response.file(folder / name)
        except FileNotFoundError:
            raise HTTPException(404, "no such file") from None

    @app.error(404)
    async def not_found() -> Response:
        return Response.file(folder / "small.txt", status=404)

    async with asking(app) as client:
        answer = await client.ask(get("/nowhere", "Range: bytes=0-1", "If-None-Match: *"))
        assert facts(answer) == (404, None, SMALL)
        assert facts(await client.ask(get("/small.txt"))) == (200, None, SMALL)


# Conditions and ranges.


async def test_a_file_from_the_future(folder: Path) -> None:
    """RFC 9110 §8.8.2.1: Last-Modified is never later than Date."""
    app = App()
    app.static("/static", folder)
    future = int(time.time()) + 90_000
    for name in ("small.txt", "large.bin"):
        os.utime(folder / name, (future, future))

    @app.get("/own/{name}")
    async def own(name: str, request: Request) -> Response:
        return Response.file(folder / name, headers=dict(request.query.pairs()), status=200)

    @app.get("/odd/{name}")
    async def odd(name: str) -> Response:
        return Response.file(folder / name, headers={"Last-Modified": format_date(future)}, status=203)

    async with asking(app) as client:
        for name in ("small.txt", "large.bin"):
            for path, fields in (
                (f"/static/{name}", ()),
                (f"/own/{name}", ()),
                (f"/own/{name}", ("Range: bytes=0-1",)),
                (f"/own/{name}", ("If-None-Match: x",)),
                (f"/own/{name}?Last-Modified={format_date(future).replace(' ', '+')}", ()),
                (f"/odd/{name}", ()),
            ):
                answer = await client.ask(get(path, *fields))
                assert answer.status in (200, 203, 206)
                assert answer.headers["last-modified"] == answer.headers["date"]
            asked = get(f"/own/{name}", f"If-Modified-Since: {format_date(future)}")
            assert (await client.ask(asked)).status == 304
            answer = await client.ask(get(f"/own/{name}?date={format_date(8).replace(' ', '+')}"))
            assert (answer.headers["date"], answer.headers["last-modified"]) == (format_date(8), format_date(8))


async def test_the_date_changes_with_the_second(app: App) -> None:
    """Made once a second, it must not lag behind the clock: Last-Modified of a file written just now would be later."""
    async with talking(app) as (server, client):
        await client.ask(get("/f/empty.txt"))
        service = server._services[0]
        until_next = 1 - time.time() % 1
        assert service.date_until - time.monotonic() <= until_next + 0.05


async def test_revalidation(app: App, folder: Path) -> None:
    async with asking(app) as client:
        for name in ("small.txt", "large.bin"):
            first = await client.ask(get(f"/f/{name}"))
            etag, date = first.headers["etag"], first.headers["last-modified"]
            for field in (f"If-None-Match: {etag}", f"If-None-Match: W/{etag}", f"If-Modified-Since: {date}"):
                for method in ("GET", "HEAD"):
                    answer = await client.ask(get(f"/f/{name}", field, "Range: bytes=0-1", method=method))
                    assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
                    assert "date" in answer.headers
                    assert not {"content-type", "content-length", "content-range"} & set(answer.headers)
            (folder / name).write_bytes(b"new")
            answer = await client.ask(get(f"/f/{name}", f"If-None-Match: {etag}", f"If-Modified-Since: {date}"))
            assert (answer.status, answer.body) == (200, b"new")


async def test_preconditions_that_fail(app: App) -> None:
    async with asking(app) as client:
        for field in ('If-Match: "other"', f"If-Unmodified-Since: {format_date(LONG_AGO - 1)}"):
            for path in ("/f/small.txt", "/f/large.bin"):
                answer = await client.ask(get(path, field))
                assert (answer.status, answer.text) == (412, "412 Precondition Failed\n")


async def test_conditions_are_not_for_post(folder: Path) -> None:
    app = App()

    @app.post("/")
    async def index() -> Response:
        return Response.file(folder / "small.txt")

    async with asking(app) as client:
        request = get("/", "If-None-Match: *", "Range: bytes=0-1", "Content-Length: 0", method="POST")
        assert facts(await client.ask(request)) == (200, None, SMALL)


@pytest.mark.parametrize("name", ["small.txt", "large.bin"])
@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=0-", 0, None),
        ("bytes=3-4,5-6", 3, 7),
    ],
)
async def test_one_range(app: App, folder: Path, name: str, value: str, start: int, stop: int | None) -> None:
    content = (folder / name).read_bytes()
    size = len(content)
    async with asking(app) as client:
        answer = await client.ask(get(f"/f/{name}", f"Range: {value}"))
        first, last, _ = slice(start, stop).indices(size)
        assert facts(answer) == (206, f"bytes {first}-{last - 1}/{size}", content[start:stop])
        assert answer.headers["etag"]
        assert answer.headers["content-type"] == type_of(name)


@pytest.mark.parametrize("name", ["small.txt", "large.bin"])
async def test_several_ranges(app: App, folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    size = len(content)
    async with asking(app) as client:
        answer = await client.ask(get(f"/f/{name}", f"Range: bytes=0-9,400-,{size * 2}-,200-209"))
        assert answer.status == 206
        assert "content-range" not in answer.headers
        assert answer.headers["content-length"] == str(len(answer.body))
        content_type = answer.headers["content-type"]
        assert content_type.startswith("multipart/byteranges; boundary=")
        message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + answer.body)
        parts: Any = message.get_payload()
        assert [part["content-range"] for part in parts] == [
            f"bytes 0-9/{size}",
            f"bytes 400-{size - 1}/{size}",
            f"bytes 200-209/{size}",
        ]
        assert [part["content-type"] for part in parts] == [type_of(name)] * 3
        assert content[400:] in answer.body
        other = await client.ask(get(f"/f/{name}", "Range: bytes=0-9,400-"))
        assert other.headers["content-type"] != content_type


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=-0"])
async def test_a_range_that_cannot_be_had(app: App, value: str) -> None:
    async with asking(app) as client:
        answer = await client.ask(get("/f/small.txt", f"Range: {value}"))
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */1000")
        assert facts(await client.ask(get("/f/small.txt"))) == (200, None, SMALL)


@pytest.mark.parametrize(
    "fields",
    [
        ("Range: bytes=x",),
        ("Range: lines=1-2",),
        ("Range: bytes=0-1", "Range: bytes=2-3"),
        ("Range: bytes=" + ",".join("0-" for _ in range(100)),),
        ("Range: bytes=0-1", 'If-Range: "other"'),
        ("Range: bytes=5000-", 'If-Range: "other"'),
        ("Range: bytes=0-1", f"If-Range: {format_date(LONG_AGO - 1)}"),
    ],
)
async def test_a_range_that_is_ignored(app: App, fields: tuple[str, ...]) -> None:
    async with asking(app) as client:
        assert facts(await client.ask(get("/f/small.txt", *fields))) == (200, None, SMALL)


async def test_if_range(app: App, folder: Path) -> None:
    async with asking(app) as client:
        etag = (await client.ask(get("/f/small.txt"))).headers["etag"]
        for validator in (etag, format_date(LONG_AGO)):
            answer = await client.ask(get("/f/small.txt", "Range: bytes=0-1", f"If-Range: {validator}"))
            assert facts(answer) == (206, "bytes 0-1/1000", b"01")
        assert (await client.ask(get("/f/small.txt", "Range: bytes=0-1", f"If-Range: W/{etag}"))).status == 200
        (folder / "small.txt").touch()  # just now: the date might be that of two versions
        date = format_date(int((folder / "small.txt").stat().st_mtime))
        assert (await client.ask(get("/f/small.txt", "Range: bytes=0-1", f"If-Range: {date}"))).status == 200


async def test_the_answers_to_412_and_416_are_the_apps_to_word(app: App) -> None:
    @app.error(416)
    async def unsatisfiable(error: HTTPException) -> dict[str, str]:
        return {"error": error.detail}

    async with asking(app) as client:
        answer = await client.ask(get("/f/small.txt", "Range: bytes=1000-"))
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */1000")
        assert answer.text == '{"error":"The file has 1000 bytes"}'


# How it is sent.


async def test_a_response_that_is_shared(folder: Path) -> None:
    """The first use has the file that was opened when it was named; each later one opens it anew."""
    app = App()
    shared = Response.file(folder / "small.txt")
    large = Response.file(folder / "large.bin")

    @app.get("/")
    async def index() -> Response:
        return shared

    @app.get("/large")
    async def get_large() -> Response:
        return large

    async with testing.serving(app) as server, connect(server.port) as one, connect(server.port) as two:
        for _ in range(3):
            await one.send(get("/large"))
            await two.send(get("/large"))
            assert (await one.answer()).body == (await two.answer()).body == LARGE
            assert facts(await one.ask(get("/"))) == (200, None, SMALL)
            assert facts(await one.ask(get("/", "Range: bytes=0-1"))) == (206, "bytes 0-1/1000", b"01")
        os.unlink(folder / "small.txt")
        assert (await one.ask(get("/"))).status == 500
        assert (await one.ask(get("/large"))).body == LARGE
    assert (shared.status, shared.fields, large.status) == (200, (), 200)


async def test_a_response_that_is_never_sent(folder: Path) -> None:
    app = App()

    @app.get("/raised")
    async def raised() -> Response:
        Response.file(folder / "large.bin")
        raise HTTPException(418)

    @app.get("/bad-field")
    async def bad_field() -> Response:
        return Response.file(folder / "large.bin", headers={"x-bad": "a\nb"})

    @app.get("/bad-type")
    async def bad_type() -> Response:
        return Response.file(folder / "small.txt", content_type="a\nb")

    @app.get("/bad-status")
    async def bad_status() -> Response:
        return Response.file(folder / "small.txt", status=204)

    async with asking(app) as client:
        assert (await client.ask(get("/raised"))).status == 418
        assert (await client.ask(get("/bad-field"))).status == 500
        assert (await client.ask(get("/bad-type"))).status == 500
        assert (await client.ask(get("/bad-status"))).status == 204


@pytest.fixture(params=["sendfile", "no sendfile", "none on this file system"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no sendfile":
        monkeypatch.setattr("coserver.server.http.http1.CAN_SENDFILE", False)
    elif request.param == "none on this file system":

        async def refuse(*_: Any) -> int:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(SocketStream, "sendfile", refuse)
    return str(request.param)


async def test_every_way_gives_the_same(app: App, way: str) -> None:
    async with asking(app) as client:
        assert facts(await client.ask(get("/f/large.bin"))) == (200, None, LARGE)
        answer = await client.ask(get("/f/large.bin", "Range: bytes=100000-5000000"))
        assert facts(answer) == (206, f"bytes 100000-5000000/{len(LARGE)}", LARGE[100_000:5_000_001])
        answer = await client.ask(get("/f/large.bin", "Range: bytes=0-99999,200000-3000000"))
        assert LARGE[:100_000] in answer.body
        assert LARGE[200_000:3_000_001] in answer.body


async def started(client: Client) -> bytes:
    """Ask for the large file and read its head, and no more than a little of the rest."""
    small_window(client)
    await client.send(get("/f/large.bin"))
    return await client.stream.receive(1000)


def small_window(client: Client) -> None:
    client.stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)


async def test_a_file_that_is_cut_meanwhile(app: App, folder: Path, way: str, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[ev.Event] = []
    with app.emitter.observing(seen.append):
        async with asking(app) as client:
            await started(client)
            os.truncate(folder / "large.bin", 100)
            rest = await client.gone()
            assert len(rest) < len(LARGE)
    assert "was cut to" in caplog.text
    assert [type(event) for event in seen[-3:]] == [ev.ResponseStarted, ev.ResponseFailed, ev.ConnectionClosed]


async def test_a_small_file_that_is_cut_meanwhile(app: App, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been sent yet: the client is told."""
    init = OpenFile.__init__

    def cut(self: OpenFile, path: str) -> None:
        init(self, path)
        os.truncate(path, 10)

    monkeypatch.setattr(OpenFile, "__init__", cut)
    async with asking(app) as client:
        assert (await client.ask(get("/f/small.txt", "Range: bytes=5-500"))).status == 500
        # Asked for whole, it is opened again when it turns out to be shorter, and all that is left is sent.
        assert facts(await client.ask(get("/f/small.txt"))) == (200, None, SMALL[:10])


async def test_a_file_that_grows_meanwhile(app: App, folder: Path, way: str) -> None:
    async with asking(app) as client:
        begin = await started(client)
        os.truncate(folder / "large.bin", len(LARGE) + 100)
        await client.send(get("/f/small.txt"))
        client._parser.feed(begin)
        assert (await client.answer()).body == LARGE
        assert (await client.answer()).body == SMALL


@pytest.mark.parametrize("leave", ["reset", "close"])
async def test_a_client_that_leaves_in_the_middle(app: App, way: str, leave: str) -> None:
    """The leak check sees that the file is closed."""
    seen: list[ev.Event] = []
    with app.emitter.observing(seen.append):
        async with testing.serving(app) as server:
            for _ in range(3):
                async with connect(server.port) as client:
                    await started(client)
                    await (client.reset() if leave == "reset" else client.stream.aclose())
            await until(lambda: sum(type(event) is ev.ConnectionClosed for event in seen) == 3)
    ends = [type(event) for event in seen if event.exchange and type(event).__name__.startswith("Response")]
    assert ends[::2] == [ev.ResponseStarted] * 3
    assert set(ends[1::2]) <= {ev.ResponseFailed, ev.ResponseCancelled}


async def test_a_client_that_does_not_read(app: App, way: str) -> None:
    closed: list[Any] = []
    app.emitter.add_observer(lambda event: closed.append(event) if type(event) is ev.ConnectionClosed else None)
    async with testing.serving(app, limits=Limits(write_timeout=0.3)) as server, connect(server.port) as client:
        await started(client)
        await until(lambda: closed)
        assert "write_timeout" in closed[0].reason
        assert len(await client.gone()) < len(LARGE)


async def test_a_slow_client_that_reads_on_is_served(app: App, way: str) -> None:
    """Longer in all than the deadline, but never without progress."""
    async with testing.serving(app, limits=Limits(write_timeout=0.5)) as server, connect(server.port) as client:
        small_window(client)
        await client.send(get("/f/large.bin"))
        got, begun = b"", time.monotonic()
        with anyio.fail_after(4 * PATIENCE):
            while time.monotonic() - begun < 1.5:
                got += await client.stream.receive(20_000)
                await anyio.sleep(0.02)
            while len(got) < len(LARGE):
                got += await client.stream.receive()
        assert got.partition(b"\r\n\r\n")[2] == LARGE


async def test_the_server_stops_in_the_middle(app: App, way: str) -> None:
    async with testing.serving(app) as server, connect(server.port) as client:
        await started(client)
        server.stop(grace=0.1)
        assert len(await client.gone()) < len(LARGE)


async def test_a_drain_lets_it_end(app: App, way: str) -> None:
    async with testing.serving(app) as server, connect(server.port) as client:
        begin = await started(client)
        server.stop(grace=PATIENCE)
        client._parser.feed(begin)
        assert (await client.answer()).body == LARGE


async def test_one_large_file_does_not_hold_others_up(app: App) -> None:
    """Clients that take everything at once, beside one that asks for little."""
    async with testing.serving(app) as server, anyio.create_task_group() as tasks:

        async def greedy() -> None:
            async with connect(server.port) as client:
                while True:
                    await client.ask(get("/f/large.bin"))

        for _ in range(2):
            tasks.start_soon(greedy)
        async with connect(server.port) as client:
            for _ in range(10):
                assert facts(await client.ask(get("/f/small.txt"))) == (200, None, SMALL)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["small.txt", "large.bin"])
async def test_events_and_sizes(app: App, folder: Path, name: str) -> None:
    finished: list[Any] = []

    def observe(event: ev.Event) -> None:
        if isinstance(event, ev.ResponseStarted | ev.ResponseFinished):
            finished.append(event)

    with app.emitter.observing(observe):
        async with asking(app) as client:
            await client.ask(get(f"/f/{name}"))
            await client.ask(get(f"/f/{name}", method="HEAD"))
            await client.ask(get(f"/f/{name}", "Range: bytes=0-9"))
            await client.ask(get(f"/f/{name}", "If-None-Match: *"))
    assert [event.status for event in finished[::2]] == [200, 200, 206, 304]
    assert [event.size for event in finished[1::2]] == [(folder / name).stat().st_size, 0, 10, 0]


def test_a_file_that_nobody_sends_closes_itself(folder: Path) -> None:
    body = FileBody(str(folder / "small.txt"))
    file = body.open()
    fd = file.fd
    assert stat.S_ISREG(os.fstat(fd).st_mode)
    assert "small.txt" in repr(body)
    assert "small.txt" in repr(file)
    body.give_back(file)
    assert body.open() is file
    body.give_back(file)
    body.give_back(OpenFile(str(folder / "small.txt")))  # one is enough
    body.close()
    body.close()
    assert file.fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    del body, file
    gc.collect()


def test_what_a_response_says_of_itself(folder: Path) -> None:
    assert repr(Response.file(folder / "small.txt")) == (
        f"<Response 200 text/plain; charset=utf-8, the file {folder / 'small.txt'}>"
    )


async def test_held_at_the_response(app: App, folder: Path) -> None:
    """A gate, and a client that leaves while it holds: the file is closed all the same."""
    held = anyio.Event()

    def gate(event: ev.Event) -> Any:
        if type(event) is not ev.ResponseStarted:
            return None

        async def hold() -> None:
            held.set()
            await anyio.sleep_forever()

        return hold()

    opened: list[Any] = []
    init = OpenFile.__init__

    def note(self: OpenFile, path: str) -> None:
        init(self, path)
        opened.append(self)

    OpenFile.__init__ = note  # type: ignore[method-assign]
    try:
        app.emitter.add_gate(gate)
        async with asking(app) as client:
            await client.send(get("/f/large.bin"))
            await held.wait()
            await client.reset()
            await until(lambda: opened and opened[0].fd == -1)
    finally:
        OpenFile.__init__ = init  # type: ignore[method-assign]


async def test_the_handlers_thread_of_a_def(folder: Path) -> None:
    app = App()

    @app.get("/{name}")
    def file(request: Request, name: str) -> Response:
        return Response.file(folder / name)

    async with asking(app) as client:
        assert (await client.ask(get("/large.bin"))).body == LARGE
        assert (await client.ask(get("/small.txt"))).body == SMALL


# A stream that is no socket: TLS is one, and so is what lives in memory.


@pytest.mark.parametrize("room", [1, 1000])
async def test_over_any_byte_stream(app: App, room: int) -> None:
    pipe = Pipe(room)
    async with piped(app, pipe):
        pipe.say(get("/f/large.bin") + get("/f/small.txt") + get("/f/large.bin", "Range: bytes=9-500000"))
        pipe.say(get("/f/small.txt", "Connection: close"))
        got = answers(await pipe.all())
        assert [answer.body for answer in got] == [LARGE, SMALL, LARGE[9:500_001], SMALL]


async def test_over_any_byte_stream_the_client_does_not_read(app: App) -> None:
    closed: list[Any] = []
    app.emitter.add_observer(lambda event: closed.append(event) if type(event) is ev.ConnectionClosed else None)
    pipe = Pipe(1)
    async with piped(app, pipe, limits=Limits(write_timeout=0.2)):
        pipe.say(get("/f/large.bin"))
        await until(lambda: closed)
        assert "write_timeout" in closed[0].reason


async def test_in_the_memory_of_the_test_client(app: App) -> None:
    async with testing.client(app) as client:
        answer = await client.get("/f/large.bin")
        assert (answer.status, answer.body) == (200, LARGE)
        answer = await client.get("/f/small.txt", headers={"Range": "bytes=0-1"})
        assert (answer.status, answer.body) == (206, b"01")


@pytest.mark.parametrize(
    "wrong",
    [{"content_type": "text/\N{SNOWMAN}"}, {"headers": {"ETag": 5}}, {"headers": {"Last-Modified": 5}}],
)
async def test_fields_that_cannot_be_sent(folder: Path, wrong: dict[str, Any]) -> None:
    """Whatever a request asks, it gets a 500, and the connection goes on."""
    app = App()
    app.get("/wrong")(lambda: Response.file(folder / "large.bin", **wrong))
    app.get("/")(lambda: "ok")
    async with asking(app) as client:
        for fields in ([], ["Range: bytes=0-1,5000-5001"], ['If-None-Match: "x"'], ["If-Modified-Since: x"]):
            assert (await client.ask(get("/wrong", *fields))).status == 500
            assert (await client.ask(get("/"))).text == "ok"
