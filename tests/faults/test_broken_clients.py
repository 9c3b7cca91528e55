"""Broken clients, byte by byte: garbage, requests that stop anywhere, that trickle in, that are reset in every phase.

Whatever they do, nobody is told a lie, nothing is left of them, and the next client is served.
"""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Request, Server, testing
from coserver.transport.stream import SocketStream
from tests.server.clients import PATIENCE, Client, answers, chunked, connect, get, post, until


class Counting:
    """An app that counts the requests it was given whole."""

    def __init__(self) -> None:
        self.whole = 0
        self.begun = 0
        self.app = app = App(limits=Limits(linger_timeout=0.3, grace=0.5))

        @app.get("/")
        async def index() -> str:
            self.whole += 1
            return "ok"

        @app.post("/")
        def take(request: Request) -> str:
            self.whole += 1
            return f"{len(request.body)}"

        @app.post("/stream", stream=True)
        async def stream(request: Request) -> str:
            self.begun += 1
            size = sum([len(piece) async for piece in request.stream()])
            self.whole += 1
            return f"{size}"

        @app.get("/sleep")
        async def sleep() -> str:
            self.begun += 1
            await anyio.sleep(60)
            return "never"

        @app.get("/large")
        async def large() -> bytes:
            return b"x" * 20_000_000

        @app.get("/pieces")
        def pieces() -> Any:
            while True:
                yield b"x" * 10_000


@pytest.fixture
def counting() -> Counting:
    return Counting()


@asynccontextmanager
async def unharmed(
    counting: Counting, codec: str, caplog: pytest.LogCaptureFixture, **options: Any
) -> AsyncIterator[Server]:
    """A server that must have no connection left, no error logged, and a client served, at the end of the block."""
    async with testing.serving(counting.app, codec=codec, **options) as server:
        yield server
        await until(lambda: not server.connections)
        async with connect(server.port) as client:
            assert (await client.ask(get())).text == "ok"
    assert not [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


REQUESTS = {
    "get": get("/", "X-A: b"),
    "length": post("/", b"hello world"),
    "chunked": chunked("/", b"hello ", b"world", trailers=b"X-T: u\r\n"),
    "stream": chunked("/stream", b"hello ", b"world"),
}

# Garbage.

GARBAGE = {
    "nothing": b"\r\n\r\n\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(range(180)),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: t\n\n",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "a blank first": b" GET / HTTP/1.1\r\nHost: t\r\n\r\n",
    "two lengths": get("/", "Content-Length: 1", "Content-Length: 2", method="POST") + b"x",
    "length and chunked": get("/", "Content-Length: 5", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n",
    "a negative length": get("/", "Content-Length: -1", method="POST"),
    "no chunk": get("/", "Transfer-Encoding: chunked", method="POST") + b"hello",
    "a chunk too long": get("/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello!\r\n0\r\n\r\n",
    "a huge chunk": get("/", "Transfer-Encoding: chunked", method="POST") + b"f" * 16 + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage(name: str, counting: Counting, codec: str, caplog: pytest.LogCaptureFixture) -> None:
    """Refused at once with a 4xx or 5xx and a close, without waiting for a deadline."""
    async with unharmed(counting, codec, caplog) as server:
        for before in (b"", get()):
            async with connect(server.port) as client:
                await client.send(before + GARBAGE[name])
                with anyio.fail_after(3):
                    *served, refused = [await client.answer() for _ in range(1 + bool(before))]
                assert [answer.status for answer in served] == [200] * bool(before)
                assert 400 <= refused.status <= 505
                assert refused.headers["connection"] == "close"
                await client.stream.send_eof()
                await client.closed()
        assert counting.whole == 1
        assert sum(server.breaches.values()) == 2


@pytest.mark.parametrize("seed", range(3))
async def test_random_bytes(seed: int, counting: Counting, codec: str, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    async with unharmed(counting, codec, caplog) as server:
        for _ in range(40):
            raw = bytearray(dice.choice([*REQUESTS.values(), get() * 3, dice.randbytes(200)]))
            for _ in range(dice.randint(1, 4)):
                raw[dice.randrange(len(raw))] = dice.randrange(256)
            async with connect(server.port) as client:
                await client.send(bytes(raw))
                await client.stream.send_eof()
                said = await client.gone()
                assert said.count(b"HTTP/1.1 5") == said.count(b"HTTP/1.1 50")  # 501, 505, never a 500
                assert b"HTTP/1.1 500" not in said


# Requests that stop.


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("end", ["FIN", "RST"])
async def test_a_request_that_stops_at_any_byte(
    name: str, end: str, counting: Counting, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not served, and not answered as if it had been whole."""
    raw = REQUESTS[name]
    async with unharmed(counting, codec, caplog) as server:
        for size in range(1, len(raw)):
            async with connect(server.port) as client:
                await client.send(raw[:size])
                if end == "RST":
                    await client.reset()
                else:
                    await client.stream.send_eof()
                    said = await client.gone()
                    assert b" 200 " not in said
        assert counting.whole == 0


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_comes_byte_by_byte(
    name: str, counting: Counting, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw = REQUESTS[name]
    async with unharmed(counting, codec, caplog) as server, connect(server.port) as client:
        for _ in range(2):
            for byte in raw:
                await client.send(bytes([byte]))
                await anyio.lowlevel.checkpoint()
            assert (await client.answer()).text in ("ok", "11")
        await client.stream.aclose()
    assert counting.whole == 3


@pytest.mark.parametrize("size", [1, 2, 3, 7, 61])
async def test_pipelined_requests_in_pieces(
    size: int, counting: Counting, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw = b"".join(REQUESTS.values())
    async with unharmed(counting, codec, caplog) as server, connect(server.port) as client:
        for at in range(0, len(raw), size):
            await client.send(raw[at : at + size])
            await anyio.lowlevel.checkpoint()
        assert [(await client.answer()).text for _ in REQUESTS] == ["ok", "11", "11", "11"]
        await client.stream.aclose()


# Resets.


async def _nothing(client: Client) -> None:
    pass


async def _half_a_head(client: Client) -> None:
    await client.send(get()[:20])


async def _half_a_body(client: Client) -> None:
    await client.send(post("/", b"x" * 1000)[:-10])


async def _half_a_streamed_body(client: Client) -> None:
    await client.send(post("/stream", b"x" * 1000)[:-10])


async def _a_handler(client: Client) -> None:
    await client.send(get("/sleep"))


async def _a_handler_with_more_behind(client: Client) -> None:
    await client.send(get("/sleep") + get() * 10)


async def _a_response(client: Client) -> None:
    await client.send(get("/large"))
    await client.stream.receive(1000)


async def _a_streamed_response(client: Client) -> None:
    await client.send(get("/pieces"))
    await client.stream.receive(1000)


async def _idle(client: Client) -> None:
    assert (await client.ask(get())).status == 200


async def _refused(client: Client) -> None:
    await client.send(b"garbage\r\n\r\n" + b"x" * 100_000)
    await client.answer()


PHASES: dict[str, Callable[[Client], Any]] = {
    "accept": _nothing,
    "head": _half_a_head,
    "body": _half_a_body,
    "streamed body": _half_a_streamed_body,
    "handler": _a_handler,
    "handler, more behind": _a_handler_with_more_behind,
    "response": _a_response,
    "streamed response": _a_streamed_response,
    "idle": _idle,
    "refused": _refused,
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("pause", [0, 0.06])
async def test_a_reset_in_every_phase(
    phase: str, pause: float, counting: Counting, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One quiet line at debug level, at the moment that it comes, or when the sweeper has looked."""
    with caplog.at_level(logging.DEBUG, logger="coserver"):
        async with unharmed(counting, codec, caplog) as server:
            async with connect(server.port) as client:
                await PHASES[phase](client)
                await anyio.sleep(pause)
                await client.reset()
            await until(lambda: not server.connections, 2)
        told = [each for each in caplog.records if " closed: " in each.getMessage()]
    assert len(told) == 2
    louder = [each for each in caplog.records if each.levelno > logging.DEBUG]
    assert len(louder) == (phase == "refused")


@pytest.mark.parametrize("phase", ["head", "body", "handler", "response", "streamed response", "idle", "refused"])
async def test_a_reset_in_every_phase_of_a_drain(
    phase: str, counting: Counting, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with testing.serving(counting.app, codec=codec) as server, connect(server.port) as client:
        await PHASES[phase](client)
        server.stop(2)
        await anyio.sleep(0.01)
        await client.reset()
        await until(lambda: not server.running, 1.5)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_half_an_answer_is_never_taken_for_a_whole_one(counting: Counting, codec: str) -> None:
    """What is cut shows it: a length that is not reached, a last chunk that is missing."""
    async with testing.serving(counting.app, codec=codec, limits=Limits(grace=0.1)) as server:
        async with connect(server.port) as large, connect(server.port) as pieces:
            await large.send(get("/large"))
            await pieces.send(get("/pieces"))
            raws = [await client.stream.receive(1000) for client in (large, pieces)]
            server.stop(0)
            raws = [raw + await client.gone() for raw, client in zip(raws, (large, pieces), strict=True)]
        for raw in raws:
            with pytest.raises((AssertionError, Exception)):
                answers(raw)
        assert b"content-length: 20000000" in raws[0]
        assert not raws[1].endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("path", ["/", "/stream"])
async def test_a_system_out_of_buffers(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """The client is still there, and must not take what it has of a head for the whole."""
    original = SocketStream.send_now

    def fail(stream: SocketStream, data: bytes | memoryview) -> int:
        if stream.sent:
            raise anyio.BrokenResourceError("No buffer space available")
        return original(stream, data[:20])

    app = App()
    app.get("/")(lambda: "ok")
    app.get("/stream")(lambda: iter(["ok"]))
    async with testing.serving(app) as server:
        monkeypatch.setattr(SocketStream, "send_now", fail)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(get(path))
            client.settimeout(PATIENCE)
            await anyio.wait_readable(client)
            assert await anyio.to_thread.run_sync(client.recv, 100) == b"HTTP/1.1 200 OK\r\ncon"
            with pytest.raises(ConnectionResetError):
                await anyio.to_thread.run_sync(client.recv, 100)
        monkeypatch.undo()
