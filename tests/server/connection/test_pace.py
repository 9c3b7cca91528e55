"""Patience: neither silence nor a trickle holds a connection, in either direction."""

from __future__ import annotations

import socket
from time import monotonic
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from coserver import App, Limits, Request, testing
from coserver.server.connection.pace import Pace, patience
from coserver.transport.deadlines import Sweeper

from ..clients import Client, connect, get, talking, until

# The arithmetic, without a clock.


def last(*, every: float, size: int, rate: float = 240, timeout: float = 30, most: float = 10_000) -> float:
    """How many seconds a client lasts that sends ``size`` bytes every so many seconds."""
    left, lasted = timeout, 0.0
    while left > every and lasted < most:
        left = patience(left, every, size, timeout, rate)
        lasted += every
    return lasted + left


def test_a_byte_a_second_does_not_hold_a_connection() -> None:
    assert 30 <= last(every=1, size=1) < 31


def test_who_keeps_the_rate_lasts() -> None:
    assert last(every=1, size=240) >= 10_000
    assert last(every=20, size=20 * 240) >= 10_000
    assert last(every=1, size=200) < 200


def test_a_burst_buys_no_trickle() -> None:
    left = patience(30, 1, 100_000_000, 30, 240)
    assert left == 30
    assert patience(left, 31, 1, 30, 240) < 0


def test_without_a_rate_only_silence_counts() -> None:
    assert last(every=29, size=1, rate=0) >= 10_000
    assert last(every=31, size=1, rate=0) == 30


class Reader:
    """A connection whose client takes what a test says; the clock is the test's as well."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.sweeper = Sweeper()
        self.service = SimpleNamespace(loop=SimpleNamespace(sweeper=self.sweeper))
        self.read = 0
        self.reasons: list[str] = []

    def taken(self) -> int:
        return self.read

    def cut(self, limit: str, reason: str) -> None:
        self.reasons.append(limit)

    def last(self, pace: Pace, *, every: float, size: int, most: float = 1000) -> float:
        began = now = monotonic()
        while not self.reasons and now - began < most:
            now += every
            self.read += size
            self.sweeper.sweep(now)
        return now - began


def pace_of(reader: Reader) -> Pace:
    pace = Pace(reader, reader)  # type: ignore[arg-type]
    pace.begin()
    return pace


def test_a_reader_that_stalls() -> None:
    reader = Reader()
    assert reader.last(pace_of(reader), every=0.1, size=0) == pytest.approx(30, abs=0.3)
    assert reader.reasons == ["write_timeout"]


def test_a_reader_that_trickles() -> None:
    reader = Reader()
    assert reader.last(pace_of(reader), every=0.1, size=1) == pytest.approx(31, abs=1)
    assert reader.reasons == ["write_rate"]


def test_a_reader_that_keeps_the_rate() -> None:
    reader = Reader()
    reader.last(pace_of(reader), every=0.1, size=30)
    assert not reader.reasons
    reader = Reader(write_rate=0)
    reader.last(pace_of(reader), every=0.1, size=1)
    assert not reader.reasons


@pytest.mark.parametrize("rate", [0, 240])
def test_patience_counts_from_the_last_byte_and_not_from_the_look(rate: int) -> None:
    """The buffers of the client's kernel take a burst at once, then nobody reads."""
    for timeout in (5.0, 30.0):
        reader = Reader(write_timeout=timeout, write_rate=rate)
        pace = pace_of(reader)
        reader.read += 2_000_000
        assert reader.last(pace, every=0.1, size=0) == pytest.approx(timeout, abs=timeout / 50 + 0.3)
        assert reader.reasons == ["write_timeout"]


def test_many_short_writes_restore_nothing() -> None:
    """Each piece of a stream that the client delays uses up the same patience."""
    reader = Reader(write_timeout=0.0)
    pace = pace_of(reader)
    for _ in range(3):
        pace.end()
        pace.begin()
    assert pace._left <= 0
    assert reader.sweeper.subjects == {pace}
    reader.sweeper.sweep(monotonic() + 0.1)
    assert reader.reasons == ["write_timeout"]
    pace.end()
    assert not reader.sweeper.subjects


# On a server.


@pytest.fixture
def app() -> App:
    app = App()

    @app.post("/")
    def take(request: Request) -> str:
        return str(len(request.body))

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> str:
        return str(sum([len(piece) async for piece in request.stream()]))

    @app.get("/large")
    async def large() -> bytes:
        return b"x" * 40_000_000

    @app.get("/pieces")
    async def pieces() -> Any:
        for _ in range(400):
            yield b"x" * 100_000

    @app.tcp(framing="lines", name="lines")
    async def lines(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    return app


async def trickle(client: Client, seconds: float = 8) -> None:
    """A byte now and then, until the server has had enough."""
    with anyio.move_on_after(seconds):
        while True:
            await client.send(b"x")
            await anyio.sleep(0.02)


SLOW = Limits(body_timeout=0.4, body_rate=1000, linger_timeout=0.2)


@pytest.mark.parametrize("path", ["/", "/stream"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_that_trickles(app: App, codec: str, path: str, framing: str) -> None:
    async with talking(app, codec=codec, limits=SLOW) as (server, client):
        if framing == "length":
            await client.send(get(path, "Content-Length: 100000", method="POST"))
        else:
            await client.send(get(path, "Transfer-Encoding: chunked", method="POST") + b"186a0\r\n")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_trickle_until_cut, client)
            answer = await client.answer()
            tasks.cancel_scope.cancel()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert server.breaches == {"body_rate": 1}


async def _trickle_until_cut(client: Client) -> None:
    try:
        await trickle(client)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass


async def test_a_fast_body_in_between_is_no_trickle(app: App) -> None:
    async with talking(app, limits=Limits(body_timeout=0.8, body_rate=1000)) as (server, client):
        await client.send(get("/", "Content-Length: 10000", method="POST"))
        for _ in range(10):
            await anyio.sleep(0.1)
            await client.send(b"x" * 1000)
        assert (await client.answer()).text == "10000"
        assert not server.breaches


async def test_a_message_that_trickles(app: App) -> None:
    async with testing.serving(app, limits=SLOW) as server, connect(server.port_of("lines")) as client:
        await client.send(b"hello\n")
        assert await client.stream.receive() == b"hello\n"
        await _trickle_until_cut(client)
        await until(lambda: not server.connections)
        assert server.breaches == {"body_rate": 1}


async def sip(client: Client, times: int = 1000) -> int:
    """Read 64 KB every 50 ms, 1.3 MB/s; how much came until it was over."""
    size = 0
    try:
        for _ in range(times):
            size += len(await client.stream.receive(65536))
            await anyio.sleep(0.05)
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass
    return size


async def test_a_client_that_reads_nothing_is_cut_when_its_time_is_over(app: App) -> None:
    """The buffers on the way take megabytes at first: the timeout counts from then, not from a look after it."""
    async with talking(app, limits=Limits(write_timeout=0.6)) as (server, client):
        begun = monotonic()
        await client.send(get("/large"))
        await until(lambda: server.breaches == {"write_timeout": 1})
        assert 0.6 <= monotonic() - begun < 1.1


@pytest.mark.parametrize("path", ["/large", "/pieces"])
async def test_a_reader_that_sips_is_cut(app: App, path: str) -> None:
    """And in a reset: what it has is no whole answer, and the system need not keep the rest for it."""
    async with talking(app, limits=Limits(write_timeout=0.4, write_rate=50_000_000)) as (server, client):
        # A large buffer makes room by the megabyte, and the server sees nothing move for longer than the timeout.
        raw = client.stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        await client.send(get(path))
        await client.stream.receive(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sip, client)
            await until(lambda: server.breaches == {"write_rate": 1}, 8)
            tasks.cancel_scope.cancel()
        await until(lambda: not server.connections)
        with pytest.raises(anyio.BrokenResourceError):
            await read_to_the_end(client)


async def read_to_the_end(client: Client) -> None:
    while True:
        await client.stream.receive()
