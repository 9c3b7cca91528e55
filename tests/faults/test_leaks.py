"""What clients are told of errors: never a path, a traceback, an exception's text, a name or a version."""

from __future__ import annotations

import platform
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import coserver
from coserver import App, Limits, Request, Response, testing
from tests.server.clients import connect, get, post, until

SECRET = "s3cret-of-the-handler"
FORBIDDEN = re.compile(
    rf"traceback|coserver|python|anyio|trio|uvloop|h11|httptools|\.py\b|exception|{SECRET}|"
    rf"{re.escape(str(Path(coserver.__file__).parent))}|/usr|/home|/tmp|{re.escape(platform.python_version())}",
    re.IGNORECASE,
)


def make(folder: Path) -> App:
    app = App(limits=Limits(handler_timeout=0.3, body_timeout=0.2, body_size=1000, linger_timeout=0.1))
    app.static("/files", folder)

    def fail() -> Any:
        raise RuntimeError(f"{SECRET} in {__file__}")

    @app.get("/raise")
    async def raises() -> Any:
        fail()

    @app.get("/raise/def")
    def raises_def() -> Any:
        fail()

    @app.get("/stream")
    async def stream() -> Any:
        yield b"a part"
        fail()

    @app.get("/stream/at-once")
    def stream_at_once() -> Any:
        fail()
        yield b""

    @app.get("/wrong")
    async def wrong() -> Any:
        return object()

    @app.get("/fields")
    async def fields() -> Any:
        return Response("x", headers={"x-a": f"{SECRET}\r\nx-b: c"})

    @app.get("/json")
    async def json() -> Any:
        return {"a": fail}

    @app.get("/slow")
    async def slow() -> None:
        await anyio.sleep(60)

    @app.get("/key")
    def key() -> Any:
        return {}[SECRET]  # type: ignore[var-annotated]

    @app.post("/")
    def take(request: Request) -> Any:
        return request.json()

    @app.post("/form")
    def form(request: Request) -> Any:
        return len(request.form())

    @app.get("/number/{number}")
    async def number(number: int, request: Request) -> Any:
        return str(request.query.get("page", 1, type=int))

    @app.error(KeyError)
    async def answer(request: Request, error: KeyError) -> Any:
        fail()

    return app


ASKED: dict[str, tuple[bytes, int]] = {
    "a handler raises": (get("/raise"), 500),
    "a def raises": (get("/raise/def"), 500),
    "an error handler raises": (get("/key"), 500),
    "a stream fails at once": (get("/stream/at-once"), 500),
    "no response": (get("/wrong"), 500),
    "fields that cannot be sent": (get("/fields"), 500),
    "what JSON cannot say": (get("/json"), 500),
    "a slow handler": (get("/slow"), 503),
    "nothing there": (get("/none"), 404),
    "no such method": (get("/raise", method="DELETE"), 405),
    "an unknown method": (get("/raise", method="BREW"), 501),
    "no such file": (get("/files/none"), 404),
    "outside the folder": (get("/files/..%2f..%2fetc%2fpasswd"), 404),
    "a folder": (get("/files/"), 404),
    "a NUL in a file's name": (get("/files/a%00b"), 404),
    "a name too long": (get("/files/" + "a" * 1000), 404),
    "garbage": (b"garbage\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", 400),
    "another version": (b"GET / HTTP/3.0\r\n\r\n", 505),
    "a body that stalls": (post("/", b"x" * 10)[:-1], 408),
    "a body too long": (post("/", b"x" * 1001), 413),
    "a body that is no JSON": (post("/", b"{"), 400),
    "no form": (post("/form", b"{}", "Content-Type: multipart/form-data; boundary=x"), 400),
    "another kind of form": (post("/form", b"{}", "Content-Type: text/plain"), 415),
    "a query that is no number": (get("/number/5?page=x"), 400),
    "a long target": (get("/" + "a" * 10_000), 414),
    "a long head": (get("/", "X: " + "a" * 40_000), 431),
    "no coding": (get("/", "Transfer-Encoding: gzip, chunked", method="POST"), 501),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


async def test_nothing_leaks(folder: Path, codec: str) -> None:
    async with testing.serving(make(folder), codec=codec) as server:
        for what, (request, status) in ASKED.items():
            async with connect(server.port) as client:
                await client.send(request)
                answer = await client.answer("GET")
                said = f"{answer.headers} {answer.text}"
                assert answer.status == status, (what, said)
                assert not FORBIDDEN.search(said), (what, said)
                assert "server" not in answer.headers
                assert len(answer.text) < 300
        async with connect(server.port) as client:
            await client.send(get("/stream"))
            raw = await client.gone()
            assert raw.endswith(b"6\r\na part\r\n")  # and not its last chunk
            assert not FORBIDDEN.search(raw.decode())


async def test_a_full_disk(codec: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Any:
        raise OSError(28, f"No space left on device: {SECRET}")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    async with testing.serving(make(folder), codec=codec, limits=Limits(body_buffer=10)) as server:
        async with connect(server.port) as client:
            await client.send(post("/", b"x" * 100_000))
            answer = await client.answer()
            assert answer.status == 507
            assert not FORBIDDEN.search(f"{answer.headers} {answer.text}")
        await until(lambda: not server.connections)


async def test_with_debug_a_500_shows_where(folder: Path) -> None:
    """And only a 500: what a client did wrong is answered as ever."""
    async with testing.serving(make(folder), debug=True) as server, connect(server.port) as client:
        answer = await client.ask(get("/raise", "Accept: text/html"))
        assert answer.status == 500
        assert answer.headers["content-type"].startswith("text/html")
        assert "RuntimeError" in answer.text
        assert SECRET in answer.text
        answer = await client.ask(get("/raise", "Accept: text/plain"))
        assert "Traceback" in answer.text
        for what in ("nothing there", "no such method"):
            request, status = ASKED[what]
            answer = await client.ask(request)
            assert answer.status == status
            assert not FORBIDDEN.search(answer.text)
