"""The in-memory stream beside a real pair of sockets: whatever one does, the other does as well."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from coserver.testing.memory import BUFFER_SIZE, MemoryStream, stream_pair
from coserver.transport.loop import Loop
from coserver.transport.stream import SocketStream

Pair = tuple[SocketStream, SocketStream]


def sockets(loop: Loop) -> Pair:
    ours, theirs = socket.socketpair()
    return _own(ours, loop), _own(theirs, loop)


def _own(sock: socket.socket, loop: Loop) -> SocketStream:
    sock.setblocking(False)
    return SocketStream(_socket.socket(sock.family, sock.type, sock.proto, sock.detach()), loop)


@pytest.fixture(params=[stream_pair, sockets])
def make(request: pytest.FixtureRequest) -> Callable[[Loop], Pair]:
    chosen: Callable[[Loop], Pair] = request.param
    return chosen


async def both(one: Callable[[], Awaitable[object]], other: Callable[[], Awaitable[object]]) -> None:
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            tasks.start_soon(other)


async def test_bytes_go_both_ways_and_are_counted(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())
    await a.send(b"hello")
    assert await b.receive(2) == b"he"
    assert await b.receive() == b"llo"
    await b.send(memoryview(b"you"))
    assert await a.receive() == b"you"
    assert (a.sent, a.received, b.sent, b.received) == (5, 3, 3, 5)
    assert a.send_now(b"") == 0
    a.close()
    b.close()


async def test_what_is_peeked_at_is_still_there(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())

    async def peek() -> None:
        assert await b.peek(3) == b"hel"

    await both(peek, lambda: a.send(b"hello"))
    assert await b.peek() == b"hello"
    assert b.received == 0
    assert await b.receive() == b"hello"
    a.close()
    with pytest.raises(anyio.EndOfStream):
        await b.peek()
    b.close()


async def test_a_full_buffer_makes_the_sender_wait(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())
    data = bytes(range(256)) * 4096 * 4
    got = bytearray()

    async def read() -> None:
        while len(got) < len(data):
            got.extend(await b.receive(10_000))

    await both(lambda: a.send(data), read)
    assert got == data
    taken = a.send_now(data)
    assert 0 < taken < len(data)
    assert a.send_now(data) == 0
    with anyio.move_on_after(0.05) as scope:
        await a.send(data)
    assert scope.cancelled_caught
    a.close()
    b.close()


async def test_a_half_close(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())
    await a.send(b"last")
    await a.send_eof()
    assert await b.receive() == b"last"
    for _ in range(2):
        with pytest.raises(anyio.EndOfStream):
            await b.receive()
    await b.send(b"more")
    assert await a.receive() == b"more"
    with pytest.raises(anyio.BrokenResourceError):
        await a.send(b"x")
    a.close()
    b.close()


async def test_a_close_lets_the_rest_be_read(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())
    await a.send(b"last")
    await a.aclose()
    a.close()
    assert await b.receive() == b"last"
    with pytest.raises(anyio.EndOfStream):
        await b.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await b.send(b"x")
    for call in (a.receive, lambda: a.send(b"x")):
        with pytest.raises(anyio.ClosedResourceError):
            await call()
    assert a.fileno() == -1
    b.close()


async def test_a_close_with_unread_bytes_is_a_reset(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())
    await b.send(b"unread")
    a.close()
    with pytest.raises(anyio.BrokenResourceError):
        await b.receive()
    b.close()


async def test_end_receiving_wakes_the_reader(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())

    async def read() -> None:
        with pytest.raises(anyio.EndOfStream):
            await a.receive()

    async def end() -> None:
        await anyio.sleep(0.02)
        a.end_receiving()

    await both(read, end)
    await a.send(b"still")
    assert await b.receive() == b"still"
    a.close()
    b.close()


@pytest.mark.parametrize("full", [False, True])
async def test_a_close_wakes_who_waits(make: Callable[[Loop], Pair], full: bool) -> None:
    a, b = make(Loop())

    async def wait() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await (a.send(b"x" * 10_000_000) if full else a.receive())

    async def close() -> None:
        await anyio.sleep(0.02)
        a.close()

    await both(wait, close)
    b.close()


async def test_the_peers_close_wakes_a_sender(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())

    async def send() -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await a.send(b"x" * 10_000_000)

    async def close() -> None:
        await anyio.sleep(0.02)
        b.close()

    await both(send, close)
    a.close()


async def test_two_readers_at_once_are_refused(make: Callable[[Loop], Pair]) -> None:
    a, b = make(Loop())
    refused = []

    async def read() -> None:
        try:
            await a.receive()
        except anyio.BusyResourceError as error:
            refused.append(error)
            await b.send(b"x")

    await both(read, read)
    assert len(refused) == 1
    a.close()
    b.close()


async def test_a_reset_is_no_orderly_end() -> None:
    a, b = stream_pair(Loop())
    await a.send(b"part")
    a.reset()
    a.reset()
    assert a.was_reset
    assert await b.receive() == b"part"
    with pytest.raises(anyio.BrokenResourceError):
        await b.receive()
    assert b.ended
    assert "closed" in repr(a)
    assert dict(a.extra_attributes) == {}


async def test_the_buffer_is_bounded() -> None:
    a, b = stream_pair(Loop())
    assert a.send_now(b"x" * (BUFFER_SIZE + 1)) == BUFFER_SIZE
    assert len(await b.receive(BUFFER_SIZE * 2)) == BUFFER_SIZE
    a.close()
    with pytest.raises(anyio.BrokenResourceError):
        await b.send_eof()


def test_nothing_of_a_sockets_stream_is_left_to_a_socket_that_is_not_there() -> None:
    inherited = {name for name in vars(SocketStream) if not name.startswith("_")} - set(vars(MemoryStream))
    assert inherited == {"aclose", "received", "sent"}  # which touch none


async def test_a_file(tmp_path: Path, make: Callable[[Loop], Pair]) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1024)
    a, b = make(Loop())
    got = bytearray()

    async def send() -> None:
        at = 1
        with path.open("rb") as file:
            while sent := await a.sendfile(file.fileno(), at, 100_000):
                at += sent
        await a.send_eof()

    async def read() -> None:
        try:
            while True:
                got.extend(await b.receive())
        except anyio.EndOfStream:
            pass

    await both(send, read)
    assert got == path.read_bytes()[1:]
    assert a.sent == len(got) == a.taken()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await b.sendfile(-1, 0, 10)
    a.close()
    b.close()


async def test_what_is_taken_is_what_the_peer_has_received() -> None:
    a, b = stream_pair(Loop())
    a.send_now(b"hello")
    assert (a.sent, a.taken()) == (5, 0)
    await b.receive(2)
    assert a.taken() == 2
