"""The socket stream: every way it can end, and that it behaves as anyio's ByteStream on each backend."""

from __future__ import annotations

import _socket
import errno
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

from coserver.transport.loop import Loop
from coserver.transport.stream import SocketStream


def wrap(sock: socket.socket) -> SocketStream:
    sock.setblocking(False)
    return SocketStream(_socket.socket(sock.family, sock.type, 0, sock.detach()), Loop.current())


@asynccontextmanager
async def pair(family: int = socket.AF_UNIX) -> AsyncIterator[tuple[SocketStream, socket.socket]]:
    """A stream and the socket at its other end."""
    if family == socket.AF_UNIX:
        near, far = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            far = socket.create_connection(server.getsockname())
            near, _ = server.accept()
    stream = wrap(near)
    try:
        yield stream, far
    finally:
        stream.close()
        far.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_there_and_back() -> None:
    async with pair() as (stream, far):
        far.sendall(b"hello")
        assert await stream.receive() == b"hello"
        await stream.send(b"world")
        assert far.recv(100) == b"world"
        assert (stream.received, stream.sent) == (5, 5)
        assert f"fd={stream.fileno()} received=5 sent=5" in repr(stream)
        assert isinstance(stream, ByteStream)


async def test_receive_waits() -> None:
    async with pair() as (stream, far), anyio.create_task_group() as tasks:

        async def later() -> None:
            await anyio.sleep(0.01)
            far.sendall(b"late")

        tasks.start_soon(later)
        assert await stream.receive(2) == b"la"
        assert await stream.receive() == b"te"


async def test_send_more_than_fits() -> None:
    data = bytes(range(256)) * 20_000
    async with pair(socket.AF_INET) as (stream, far):
        got = bytearray()

        async def read() -> None:
            far.setblocking(False)
            while len(got) < len(data):
                await anyio.wait_readable(far)
                got.extend(far.recv(100_000))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await stream.send(data)
        assert got == data
        assert stream.sent == len(data)


async def test_send_now_says_how_much_it_took() -> None:
    async with pair() as (stream, _):
        total = 0
        while taken := stream.send_now(b"x" * 100_000):
            total += taken
        assert stream.sent == total > 0


async def test_end_of_stream() -> None:
    async with pair() as (stream, far):
        far.sendall(b"last")
        far.close()
        assert await stream.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_half_close() -> None:
    async with pair() as (stream, far):
        await stream.send_eof()
        assert far.recv(1) == b""
        far.sendall(b"still")
        assert await stream.receive() == b"still"
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"no more")


async def test_reset_by_the_peer() -> None:
    async with pair(socket.AF_INET) as (stream, far):
        reset(far)
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x")
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send_eof()
        stream.end_receiving()


async def test_our_reset() -> None:
    async with pair(socket.AF_INET) as (stream, far):
        stream.reset()
        with pytest.raises(ConnectionResetError):
            far.recv(1)
        stream.reset()


async def test_end_receiving() -> None:
    async with pair(socket.AF_INET) as (stream, far):
        far.sendall(b"arrived")
        await anyio.wait_readable(stream)
        stream.end_receiving()
        assert await stream.receive() == b"arrived"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.send(b"still")
        assert far.recv(10) == b"still"


@pytest.mark.parametrize("how", ["end_receiving", "close"])
async def test_waking_who_waits(how: str) -> None:
    async with pair(socket.AF_INET) as (stream, _):
        caught: list[type[BaseException]] = []

        async def wait() -> None:
            try:
                await stream.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
                caught.append(type(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.02)
            getattr(stream, how)()
        assert caught == [anyio.EndOfStream if how == "end_receiving" else anyio.ClosedResourceError]


async def test_after_the_close() -> None:
    async with pair() as (stream, far):
        await stream.aclose()
        await stream.aclose()
        stream.close()
        assert stream.fileno() == -1
        for call in (stream.receive(), stream.send(b"x"), stream.send_eof()):
            with pytest.raises(anyio.ClosedResourceError):
                await call
        assert far.recv(1) == b""


async def test_two_receivers() -> None:
    async with pair() as (stream, far), anyio.create_task_group() as tasks:
        tasks.start_soon(stream.receive)
        await anyio.sleep(0.01)
        with pytest.raises(anyio.BusyResourceError):
            await stream.receive()
        far.sendall(b"x")


async def test_cancellation_loses_nothing() -> None:
    async with pair() as (stream, far):
        with anyio.move_on_after(0.01) as scope:
            await stream.receive()
        assert scope.cancelled_caught
        far.sendall(b"x")
        assert await stream.receive() == b"x"


async def test_receive_yields_even_when_data_is_there() -> None:
    async with pair() as (stream, far):
        far.sendall(b"xy")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.receive(1)
        assert scope.cancelled_caught
        assert await stream.receive() == b"xy"


async def test_attributes() -> None:
    async with pair(socket.AF_INET) as (stream, far):
        assert stream.extra(SocketAttribute.family) == socket.AF_INET
        assert stream.extra(SocketAttribute.remote_address) == far.getsockname()
        assert stream.extra(SocketAttribute.local_address) == far.getpeername()
        assert stream.extra(SocketAttribute.raw_socket).fileno() == stream.fileno()


async def test_other_streams_compose() -> None:
    async with pair() as (stream, far):
        buffered = BufferedByteReceiveStream(stream)
        far.sendall(b"one\ntwo\n")
        assert await buffered.receive_until(b"\n", 100) == b"one"
        assert await buffered.receive_exactly(4) == b"two\n"


async def test_a_reset_that_the_system_refuses_an_option_for() -> None:
    """As macOS does once the peer is gone: it is closed all the same."""

    class Refusing(_socket.socket):
        def setsockopt(self, *args: object) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    near, far = socket.socketpair()
    with far:
        stream = SocketStream(Refusing(fileno=near.detach()), Loop.current())
        stream.reset()
        assert stream.fileno() == -1


# The loop attends to the socket for its life.


def count_registrations(stream: SocketStream) -> list[str]:
    """The calls that register the socket with the loop and take it away again, as they come; none on trio."""
    calls: list[str] = []
    native = stream._native

    class Counting:
        create_future = getattr(native, "create_future", None)

        def add_reader(self, fd: int, call: object) -> None:
            calls.append("add")
            native.add_reader(fd, call)

        def remove_reader(self, fd: int) -> None:
            calls.append("remove")
            native.remove_reader(fd)

    if native is not None:
        stream._native = Counting()
    return calls


async def send_later(far: socket.socket, data: bytes, seconds: float = 0.001) -> None:
    await anyio.sleep(seconds)
    far.sendall(data)


async def test_registers_once_for_many_waits() -> None:
    async with pair() as (stream, far):
        calls = count_registrations(stream)
        for number in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_later, far, b"%d" % number)
                assert await stream.receive() == b"%d" % number
        assert len(calls) <= 1


async def test_a_client_that_never_pauses_is_not_waited_for() -> None:
    async with pair() as (stream, far):
        calls = count_registrations(stream)
        for _ in range(20):
            far.sendall(b"x")
            assert await stream.receive() == b"x"
        assert calls == []


async def test_nothing_is_read_that_nobody_wants() -> None:
    async with pair(socket.AF_INET) as (stream, far):
        calls = count_registrations(stream)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_later, far, b"first")
            assert await stream.receive() == b"first"
        far.setblocking(False)
        sent = 0
        while True:  # a flood, until the system takes no more
            try:
                sent += far.send(bytes(65_536))
            except BlockingIOError:
                await anyio.sleep(0.01)
                try:
                    sent += far.send(bytes(65_536))
                except BlockingIOError:
                    break
        looks = 0
        readable = stream._readable

        def counted() -> None:
            nonlocal looks
            looks += 1
            readable()

        if "add" in calls and "remove" not in calls:
            stream._native.add_reader(stream.fileno(), counted)
        await anyio.sleep(0.05)
        assert looks <= 1
        assert stream.received == len(b"first")
        assert (len(calls), calls[-1:]) in ((0, []), (2, ["remove"]), (3, ["remove"]))
        got = 0
        while got < sent:
            got += len(await stream.receive())
        assert got == sent


async def test_a_task_cancelled_with_the_data_in_hand_loses_nothing(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("a task's own cancel() is asyncio's")
    import asyncio

    async with pair() as (stream, far):
        for max_bytes in (65_536, 3):
            task = asyncio.ensure_future(stream.receive())
            await asyncio.sleep(0.005)
            far.sendall(b"in hand")
            stream._readable()  # the loop has read it, and the task has not had its turn
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await stream.peek(4) == b"in h"
            far.sendall(b", more")
            got = b""
            while len(got) < len(b"in hand, more"):
                got += await stream.receive(max_bytes)
            assert got == b"in hand, more"


async def test_a_task_cancelled_with_the_end_or_an_error_in_hand_loses_neither(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("a task's own cancel() is asyncio's")
    import asyncio

    for end, raised in ((socket.socket.close, anyio.EndOfStream), (reset, anyio.BrokenResourceError)):
        async with pair(socket.AF_INET) as (stream, far):
            task = asyncio.ensure_future(stream.receive())
            await asyncio.sleep(0.005)
            end(far)
            stream._readable()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(raised):
                await stream.receive()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_a_descriptor_used_again_belongs_to_its_new_stream() -> None:
    async with pair() as (first, far), anyio.create_task_group() as tasks:
        tasks.start_soon(send_later, far, b"one")
        assert await first.receive() == b"one"
        number = first.fileno()
        first.close()
        async with pair() as (second, other):
            assert number in (second.fileno(), other.fileno())
            for _ in range(3):
                async with anyio.create_task_group() as sending:
                    sending.start_soon(send_later, other, b"two")
                    assert await second.receive() == b"two"
            with pytest.raises(anyio.ClosedResourceError):
                await first.receive()


async def test_peek_waits_and_takes_nothing() -> None:
    async with pair() as (stream, far):
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_later, far, b"seen")
                assert await stream.peek() == b"seen"
            assert await stream.peek(2) == b"se"
            assert await stream.receive(2) == b"se"
            assert await stream.receive() == b"en"


async def test_two_receivers_of_a_patient_stream() -> None:
    async with pair() as (stream, far), anyio.create_task_group() as tasks:
        tasks.start_soon(send_later, far, b"x")
        assert await stream.receive() == b"x"
        tasks.start_soon(stream.receive)
        await anyio.sleep(0.005)
        for call in (stream.receive, stream.peek):
            with pytest.raises(anyio.BusyResourceError):
                await call()
        far.sendall(b"y")


async def test_a_patient_stream_that_is_closed() -> None:
    async with pair() as (stream, far):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_later, far, b"x")
            assert await stream.receive() == b"x"
        stream.close()
        for call in (stream.receive, stream.peek):
            with pytest.raises(anyio.ClosedResourceError):
                await call()
