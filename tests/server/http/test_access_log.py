"""The access log: formats, what no client can smuggle into a line, and one record for each exchange that there was."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver import App, Limits, Request, Response, SetupError, testing
from coserver.server.http.access_log import FORMATS, WORDS, Entry, compile_format, escape

from ..clients import chunked, connect, get, post, talking, until

#: Apache's combined format, as log readers take it apart.
COMBINED = re.compile(
    r"(?P<host>\S+) (?P<ident>\S+) (?P<user>\S+) \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<line>(?:[^"\\]|\\.)*)" (?P<status>\d{3}|-) (?P<size>\d+|-) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'
)


def entry(**given: Any) -> Entry:
    usual: dict[str, Any] = {
        "at": 1_000_000_000.25,
        "seconds": 1.2345678,
        "peer": "10.0.0.1:4711",
        "client": "192.0.2.1",
        "request_id": "abc",
        "connection": 3,
        "exchange": 17,
        "status": 200,
        "size": 12,
        "method": "GET",
        "target": "/a%20b?x=1",
        "version": "HTTP/1.1",
        "path": "/a%20b",
        "query": "x=1",
        "fields": [(b"user-agent", b"curl/8"), (b"x-twice", b"1"), (b"x-twice", b"2")],
        "answer": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nlocation:/x\r\n\r\nETag: no field",
        "handler": "shop.item",
        "served": 4,
        "keep_alive": True,
    }
    return Entry(**usual | given)


@pytest.fixture(autouse=True)
def in_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("common", '192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] "GET /a%20b?x=1 HTTP/1.1" 200 12'),
        ("combined", '192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] "GET /a%20b?x=1 HTTP/1.1" 200 12 "-" "curl/8"'),
        ("%m %U%q %H", "GET /a%20b?x=1 HTTP/1.1"),
        ("%a %h %{c}a", "192.0.2.1 192.0.2.1 10.0.0.1"),
        ("%s %>s %<s %b %B", "200 200 200 12 12"),
        ("%D %T %{s}T %{ms}T %{us}T", "1234568 1 1 1234 1234567"),
        ("%{%Y-%m-%d}t", "2001-09-09"),
        ("%{x-TWICE}i %{Nothing}i", "1, 2 -"),
        ("%{content-type}o %{Location}o %{etag}o", "text/plain /x -"),
        ("%L %R %k %X", "abc shop.item 4 +"),
        ("100%% %%s", "100% %s"),
        ("no words at all", "no words at all"),
    ],
)
def test_formats(form: str, line: str) -> None:
    assert compile_format(form)(entry()) == line


def test_what_is_not_there_is_a_dash() -> None:
    bare = Entry(0.0, 0.0, "unix", "unix", "", 1, 1, 0, 0, keep_alive=True)
    line = compile_format('"%r" %m %U%q %H %s %b %B %{a}i %{a}o %R %X')(bare)
    assert line == '"-" - - - - - 0 - - - +'
    assert compile_format("%X")(entry(keep_alive=False)) == "-"
    assert compile_format("%X")(entry(ended="the client left")) == "X"


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("%h %z", r"unknown word '%z'; use %a %h .*%\{...\}i.* common and combined"),
        ("%", "unknown word '%'"),
        ("%h 100%", "unknown word '%'"),
        ("%{User-Agent}", "unknown word"),
        ("%{x}s", "unknown word"),
        ("%i", "unknown word"),
        ("%{}i", "takes a field's name"),
        ("%{caf\xe9}o", "takes a field's name"),
        ("%{days}T", "is s, ms or us"),
        ("%{x}a", "%{c}a for the peer"),
    ],
)
def test_a_wrong_format_is_told_at_start(form: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        compile_format(form)
    with pytest.raises(SetupError, match=message):
        App().start(access_log=True, access_format=form)


def test_every_word_works_of_every_entry() -> None:
    line = compile_format(" ".join(f"%{word}" for word in WORDS))
    assert len(line(entry()).split(" ")) >= len(WORDS)
    assert line(Entry(0.0, 0.0, "unix", "unix", "", 1, 1, 0, 0))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('a"b', 'a\\"b'),
        ("a\\b", "a\\\\b"),
        ("a\nb\r\tc\x0b\x08", "a\\nb\\r\\tc\\v\\b"),
        ("\x1b[31m\x00\x7f", "\\x1b[31m\\x00\\x7f"),
        ("caf\xe9", "caf\\xe9"),
        ("\u2028", "\\u2028"),
    ],
)
def test_escapes(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(
    target=st.text(st.characters(max_codepoint=0x7F)),
    agent=st.binary(),
    client=st.text(),
    path=st.text(),
    ended=st.sampled_from(["", "x"]),
)
def test_no_client_writes_a_line_of_its_own(target: str, agent: bytes, client: str, path: str, ended: str) -> None:
    strange = entry(target=target, fields=[(b"user-agent", agent)], client=client, path=path, ended=ended)
    for form in (*FORMATS, "%U %q %m %L %R %{user-agent}i %{c}a"):
        line = compile_format(form)(strange)
        assert line.isascii()
        assert line.isprintable()
    match = re.fullmatch(r'.* "((?:[^"\\]|\\.)*)" 200 12 "-" "((?:[^"\\]|\\.)*)"', compile_format("combined")(strange))
    assert match
    back = match[2].encode().decode("unicode_escape") if match[2] != "-" else ""
    assert back == (agent.decode("latin-1") if agent != b"-" else "")


# What a server logs.


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/blocking")
    def blocking() -> str:
        return "ok"

    @app.get("/fail")
    async def fail() -> None:
        raise KeyError

    @app.get("/large")
    async def large() -> bytes:
        return bytes(30_000_000)

    @app.get("/stream")
    async def stream() -> Any:
        async def pieces() -> Any:
            for _ in range(3):
                yield b"12345"
                await anyio.sleep(0.05)

        return pieces()

    @app.get("/endless")
    async def endless() -> Any:
        async def pieces() -> Any:
            while True:
                yield b"12345"
                await anyio.sleep(0.01)

        return pieces()

    @app.get("/never")
    async def never() -> None:
        await anyio.sleep_forever()

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    @app.get("/moved")
    async def moved() -> Response:
        return Response(b"", 302, {"Location": "/there"})

    @app.tcp(framing="lines")
    async def lines(connection: Any) -> None:
        async for line in connection:
            await connection.send(line)

    return app


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Each record of the access log; handy in that it grows."""
    caplog.set_level(logging.INFO, "coserver.access")
    found: list[logging.LogRecord] = []

    class Keep(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.name == "coserver.access":
                found.append(record)
            return True

    caplog.handler.addFilter(Keep())
    return found


ON: Any = {"access_log": True, "access_format": "combined"}


async def test_a_record_for_each_answer(app: App, log: list[logging.LogRecord], codec: str) -> None:
    async with talking(app, **ON, codec=codec) as (_, client):
        for number, (request, status, size) in enumerate(
            [
                (get("/", "User-Agent: me", "Referer: http://r"), 200, 2),
                (get("/blocking"), 200, 2),
                (get("/?a=1", method="HEAD"), 200, 0),
                (get("/nowhere"), 404, 14),
                (get("/", method="DELETE"), 405, None),
                (post("/echo", b"12345"), 200, 5),
                (chunked("/echo", b"12345", b"678"), 200, 8),
                (get("/moved"), 302, 0),
                (get("/fail"), 500, 26),
                (get("/stream"), 200, 15),
                (get("/large"), 200, 30_000_000),
            ],
            1,
        ):
            method = request.split()[0].decode()
            answer = await client.ask(request, method)
            await until(lambda number=number: len(log) == number)
            record: Any = log[-1]
            assert (record.status, record.method, record.ended) == (status, method, "")
            assert answer.status == status
            assert record.size == (len(answer.body) if size is None else size)
            assert record.target == request.split()[1].decode()
            assert COMBINED.fullmatch(record.getMessage())
            assert record.levelno == logging.INFO
    first: Any = log[0]
    match = COMBINED.fullmatch(first.getMessage())
    assert match
    assert match.groupdict() | {"time": ""} == {
        "host": "127.0.0.1",
        "ident": "-",
        "user": "-",
        "time": "",
        "line": "GET / HTTP/1.1",
        "status": "200",
        "size": "2",
        "referer": "http://r",
        "agent": "me",
    }
    assert first.client == "127.0.0.1"
    assert first.peer.startswith("127.0.0.1:")
    assert len({record.request_id for record in log}) == len(log)  # type: ignore[attr-defined]
    assert len({record.connection for record in log}) == 1  # type: ignore[attr-defined]
    assert "index" in first.handler
    stream: Any = log[9]
    assert 0.1 <= stream.seconds < 5


async def test_pipelined_requests(app: App, log: list[logging.LogRecord]) -> None:
    async with talking(app, **ON, limits=Limits()) as (_, client):
        await client.send(get("/") * 20 + get("/nowhere") * 5)
        for _ in range(25):
            await client.answer()
        await until(lambda: len(log) == 25)
    assert [record.status for record in log] == [200] * 20 + [404] * 5  # type: ignore[attr-defined]


async def test_a_refusal_has_no_request(app: App, log: list[logging.LogRecord], codec: str) -> None:
    async with talking(app, **ON, codec=codec) as (_, client):
        await client.send(b'GET / HTTP/1.1\r\nbad"\x1b field\r\n\r\n')
        await client.gone()
    (record,) = log
    assert re.fullmatch(r'127\.0\.0\.1 - - \[[^]]+\] "-" 400 \d+ "-" "-"', record.getMessage())
    assert (record.method, record.status, record.target) == ("", 400, "")  # type: ignore[attr-defined]


async def test_408_413_and_503(app: App, log: list[logging.LogRecord]) -> None:
    limits = Limits(head_timeout=0.1, body_timeout=0.1, handler_timeout=0.1, body_size=100)
    async with testing.serving(app, **ON, limits=limits) as server:
        for request in (
            b"GET / HT",  # no head in time
            post("/echo", b"1234", "X: y")[:-2],  # no body in time
            get("/never"),  # no answer in time
            get("/echo", "Content-Length: 1000", method="POST"),  # too large
        ):
            async with connect(server.port) as client:
                await client.send(request)
                await client.gone()
        await until(lambda: len(log) == 4)
    assert [record.getMessage().split('"')[1] for record in log] == [
        "-",
        "POST /echo HTTP/1.1",
        "GET /never HTTP/1.1",
        "POST /echo HTTP/1.1",
    ]
    assert [record.status for record in log] == [408, 408, 503, 413]  # type: ignore[attr-defined]
    assert [record.ended for record in log] == [""] * 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/endless", "/large", "/never"])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves(app: App, log: list[logging.LogRecord], path: str, reset: bool) -> None:
    async with testing.serving(app, **ON) as server:
        async with connect(server.port) as client:
            await client.send(get(path))
            if path == "/never":
                await until(lambda: server.exchanges)
            else:
                await client.stream.receive()
            if reset:
                await client.reset()
        await until(lambda: log)
    (record,) = log
    status = 499 if path == "/never" else 200
    assert record.status == status  # type: ignore[attr-defined]
    assert record.ended.startswith("the client left")  # type: ignore[attr-defined]
    size: int = record.size  # type: ignore[attr-defined]
    assert (size == 0) if path == "/never" else (0 < size < 30_000_000)
    assert re.search(r'" \d+ (\d+|-) "-" "-" \(broken off: the client left[^"]*\)$', record.getMessage())


async def test_what_the_end_of_the_grace_cuts_off(app: App, log: list[logging.LogRecord]) -> None:
    async with app.serving(**ON, limits=Limits(grace=0)) as server, connect(server.port) as client:
        await client.send(get("/never"))
        await until(lambda: server.exchanges)
        server.stop()
        await client.gone()
    (record,) = log
    assert (record.status, record.ended) == (0, "cancelled by the server")  # type: ignore[attr-defined]
    assert '"GET /never HTTP/1.1" - - ' in record.getMessage()


async def test_a_stream_that_breaks_off(app: App, log: list[logging.LogRecord]) -> None:
    @app.get("/broken")
    async def broken() -> Any:
        async def pieces() -> Any:
            yield b"12345"
            raise KeyError("oh")

        return pieces()

    @app.get("/never begun")
    async def never_begun() -> Any:
        async def pieces() -> Any:
            if pieces:
                raise KeyError("oh")
            yield b""

        return pieces()

    async with talking(app, **ON) as (_, client):
        assert (await client.ask(get("/never%20begun"))).status == 500
        await client.send(get("/broken"))
        await client.gone()
    assert [(record.status, record.size) for record in log] == [(500, 26), (200, 5)]  # type: ignore[attr-defined]
    assert "broke off its response: KeyError" in log[1].ended  # type: ignore[attr-defined]


async def test_response_fields(app: App, log: list[logging.LogRecord]) -> None:
    form = "%{content-length}o|%{Location}o|%{transfer-encoding}o"
    async with talking(app, access_log=True, access_format=form) as (_, client):
        for path in ("/", "/moved", "/stream"):
            await client.ask(get(path))
        await until(lambda: len(log) == 3)
    assert [record.getMessage() for record in log] == ["2|-|-", "0|/there|-", "-|-|chunked"]


async def test_tcp_is_not_logged(app: App, log: list[logging.LogRecord]) -> None:
    async with testing.serving(app, **ON) as server, connect(server.port_of("lines")) as client:
        await client.send(b"hello\n")
        assert await client.stream.receive() == b"hello\n"
    assert log == []


async def test_nothing_is_built_that_nobody_wants(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Neither without the option, nor while the logger is not enabled for it: turning it on later works at once."""
    caplog.set_level(logging.WARNING, "coserver.access")
    async with talking(app, **ON) as (_, client):
        await client.ask(get("/"))
        assert caplog.records == []
        caplog.set_level(logging.INFO, "coserver.access")
        await client.ask(get("/"))
        await until(lambda: caplog.records)
        assert len(caplog.records) == 1
    async with talking(app) as (_, client):
        await client.ask(get("/"))
    assert len(caplog.records) == 1


async def test_a_handler_of_the_users_that_raises(
    app: App, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("of the handler")

    caplog.set_level(logging.INFO, "coserver.access")
    logger, broken = logging.getLogger("coserver.access"), Broken()
    logger.addHandler(broken)
    try:
        async with talking(app, **ON) as (_, client):
            for path in ("/", "/stream", "/"):
                assert (await client.ask(get(path))).status == 200
    finally:
        logger.removeHandler(broken)
    assert capsys.readouterr().err.count("RuntimeError: of the handler") == 3


async def test_a_trusted_peers_client_is_named(app: App, log: list[logging.LogRecord]) -> None:
    async with talking(app, **ON, trusted_peers=["127.0.0.1"]) as (_, client):
        await client.ask(get("/", "X-Forwarded-For: 192.0.2.1", "X-Request-ID: mine"))
        await until(lambda: log)
    record: Any = log[0]
    assert record.getMessage().startswith("192.0.2.1 - - [")
    assert (record.client, record.request_id) == ("192.0.2.1", "mine")


async def test_a_slow_reader_is_logged_when_it_has_all(app: App, log: list[logging.LogRecord]) -> None:
    """After the last byte, not before."""
    async with talking(app, **ON) as (_, client):
        await client.send(get("/large"))
        await client.stream.receive(1000)
        await anyio.sleep(0.1)
        assert log == []
        got = 1000
        while got < 30_000_000:
            got += len(await client.stream.receive())
        await until(lambda: log)
