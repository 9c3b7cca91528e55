"""The TLS stream over a stream in memory, whose buffer is small: partial writes, back-pressure, cancellation, ends."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from coserver.testing.memory import BUFFER_SIZE, MemoryStream, Pipe, stream_pair
from coserver.transport.loop import Loop
from coserver.transport.tls import NotTls, TlsStream
from coserver.transport.tls_engine import RECORD, TlsCut, TlsEngine, TlsError

from ..certificates import client_context, server_context

BIG = bytes(range(253)) * 8_000


class Counting(MemoryStream):
    """Knows how often it was written to."""

    __slots__ = ("writes",)

    def __init__(self, loop: Loop, incoming: Pipe, outgoing: Pipe) -> None:
        super().__init__(loop, incoming, outgoing)
        self.writes: list[int] = []

    def send_now(self, data: bytes | memoryview) -> int:
        self.writes.append(len(data))
        return super().send_now(data)


@asynccontextmanager
async def pair(version: ssl.TLSVersion | None = None) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    """A server's end and its client's, their hands shaken."""
    there, back = Pipe(), Pipe()
    near, far = Counting(Loop.current(), back, there), MemoryStream(Loop.current(), there, back)
    server = TlsStream(near, TlsEngine(server_context(), server_side=True))
    client = TlsStream(far, TlsEngine(client_context(version=version), server_hostname="localhost"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.handshake)
        tasks.start_soon(client.handshake)
    try:
        yield server, client
    finally:
        server.close()
        client.close()


async def read(stream: TlsStream, size: int, piece: int = 1 << 16) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive(min(piece, size - len(data)))
    return data


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return request.param


async def test_both_ways_at_once(version: ssl.TLSVersion) -> None:
    """Far more than fits, in both directions, each end sending and receiving at the same time."""
    async with pair(version) as (server, client), anyio.create_task_group() as tasks:
        for near, far in ((server, client), (client, server)):
            tasks.start_soon(near.send, BIG)

            async def receive(stream: TlsStream = far) -> None:
                assert await read(stream, len(BIG)) == BIG

            tasks.start_soon(receive)
    assert server.sent == client.received == len(BIG)


async def test_one_small_response_is_one_write() -> None:
    async with pair() as (server, client):
        plain = server._plain
        assert isinstance(plain, Counting)
        plain.writes.clear()
        assert server.send_now(b"x" * 1000) == 1000
        assert len(plain.writes) == 1
        assert await client.receive() == b"x" * 1000
        assert server.send_now(b"y" * 60_000) == 60_000  # four records
        assert len(plain.writes) == 2
        assert await client.receive() == b"y" * 60_000


async def test_a_partial_write_goes_on_where_it_stopped() -> None:
    """What was encrypted is never encrypted again; what ``send_now`` did not count comes next."""
    async with pair() as (server, client):
        data = os.urandom(5 * BUFFER_SIZE)
        sent = 0
        while taken := server.send_now(memoryview(data)[sent:]):
            sent += taken
        assert 0 <= sent < len(data)
        assert server.send_now(memoryview(data)[sent:]) == 0  # as often as one likes
        assert server.sent > sent
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.send, data[sent:])
            assert await read(client, len(data)) == data


async def test_another_message_after_a_cut_one_is_refused() -> None:
    async with pair() as (server, client):
        with anyio.move_on_after(0.05):
            await server.send(BIG)
        with pytest.raises(anyio.BrokenResourceError, match="cut short"):
            server.send_now(b"something else")
        with pytest.raises(anyio.BrokenResourceError, match="cut short"):
            await server.send(b"something else")
        server.close()  # no close-notify: a record is cut in its middle
        with pytest.raises(TlsCut):
            await read(client, len(BIG))


async def test_a_cancelled_send_may_go_on() -> None:
    """Cancelled in the middle of a record; whoever sends the same again sends what is left of it, once."""
    async with pair() as (server, client):
        with anyio.move_on_after(0.05):
            await server.send(BIG)
        begun = server._begun
        at = server.sent - len(begun)
        assert begun == BIG[at : server.sent]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.send, BIG[at:])
            assert await read(client, len(BIG)) == BIG


async def test_two_senders_at_once() -> None:
    async with pair() as (server, client), anyio.create_task_group() as tasks:
        tasks.start_soon(server.send, BIG)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        with pytest.raises(anyio.BusyResourceError):
            await server.send(b"x")
        assert await read(client, len(BIG)) == BIG


async def test_small_reads() -> None:
    async with pair() as (server, client), anyio.create_task_group() as tasks:
        tasks.start_soon(server.send, BIG[:100_000])
        assert await read(client, 100_000, piece=777) == BIG[:100_000]


async def test_half_close(version: ssl.TLSVersion) -> None:
    async with pair(version) as (server, client):
        await client.send(b"question")
        await client.send_eof()
        assert await server.receive() == b"question"
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await server.receive()
        await server.send(b"answer")
        assert await client.receive() == b"answer"
        await server.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await client.receive()


async def test_half_close_behind_a_full_buffer() -> None:
    async with pair() as (server, client), anyio.create_task_group() as tasks:

        async def say_all() -> None:
            await server.send(BIG)
            await server.send_eof()

        tasks.start_soon(say_all)
        assert await read(client, len(BIG)) == BIG
        with pytest.raises(anyio.EndOfStream):
            await client.receive()


async def test_after_its_own_end_it_reads_on(version: ssl.TLSVersion) -> None:
    """Data that crossed the close-notify is still given; what cannot be understood is read away."""
    async with pair(version) as (server, client):
        await client.send(b"crossing")
        await server.send_eof()
        assert await server.receive() == b"crossing"
        await client.send(b"later")
        assert await server.receive() == b"later"
        await client._plain.send(b"no TLS at all" * 10)
        client._plain.close()
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await server.receive()


async def test_closed_is_orderly(version: ssl.TLSVersion) -> None:
    async with pair(version) as (server, client):
        server.close()
        server.close()
        with pytest.raises(anyio.EndOfStream):
            await client.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await server.receive()
        with pytest.raises((anyio.ClosedResourceError, anyio.BrokenResourceError)):
            await server.send(b"x")
        assert server._plain.closed  # type: ignore[attr-defined]
        await server.aclose()


async def test_reset_is_not(version: ssl.TLSVersion) -> None:
    async with pair(version) as (server, client):
        server.reset()
        with pytest.raises(anyio.BrokenResourceError):
            await client.receive()


async def test_cut(version: ssl.TLSVersion) -> None:
    async with pair(version) as (server, client):
        await server.send(b"all?")
        await server._plain.send_eof()
        assert await client.receive() == b"all?"
        with pytest.raises(TlsCut, match="no close-notify"):
            await client.receive()


async def test_end_receiving_is_no_cut() -> None:
    async with pair() as (server, client):
        await client.send(b"last")
        server.end_receiving()
        assert await server.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await server.receive()


async def test_garbage() -> None:
    async with pair() as (server, client):
        await client._plain.send(b"\x17\x03\x03\x00\x20" + b"g" * 32)
        with pytest.raises(TlsError, match=r"bad record mac|decryption failed"):
            await server.receive()
        with pytest.raises(TlsError):  # the alert has come
            await client.receive()


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\x00\x02\x01\x00"])
async def test_no_hello(sent: bytes) -> None:
    near, far = stream_pair(Loop.current())
    server = TlsStream(near, TlsEngine(server_context(), server_side=True))
    await far.send(sent)
    with pytest.raises(NotTls) as caught:
        await server.handshake()
    assert caught.value.first == sent
    far.close()
    server.close()


@pytest.mark.parametrize("size", [0, 1, 100])
async def test_left_in_the_handshake(size: int) -> None:
    near, far = stream_pair(Loop.current())
    server = TlsStream(near, TlsEngine(server_context(), server_side=True))
    client = TlsEngine(client_context(), server_hostname="localhost")
    client.handshake()
    if size:
        await far.send(client.take()[:size])
    await far.send_eof()
    with pytest.raises(TlsCut if size else anyio.EndOfStream):
        await server.handshake()
    far.close()
    server.close()


async def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG[:200_000])
    fd = os.open(path, os.O_RDONLY)
    try:
        async with pair() as (server, client), anyio.create_task_group() as tasks:

            async def send() -> None:
                at = 0
                while sent := await server.sendfile(fd, at, 1 << 20):
                    at += sent

            tasks.start_soon(send)
            assert await read(client, 200_000) == BIG[:200_000]
    finally:
        os.close(fd)


async def test_it_says_what_it_is() -> None:
    async with pair() as (server, client):
        assert repr(server) == "<TlsStream fd=-1 received=0 sent=0>"
        assert server.extra_attributes == {}
        assert server.info.version == "TLSv1.3"
        assert server.info is server.info
        assert client.info.server_name == "localhost"
        assert ("DNS", "localhost") in (client.info.certificate or {})["subjectAltName"]
        assert client.info.peer_names == ("localhost", "127.0.0.1")
        assert server.info.facts()["peer_name"] == ""
        assert server.taken() > 0
        assert RECORD == 16384
