"""Sockets in workers: streams, datagrams, UNIX; timeouts, closes, two readers, a slow one, a cancel at each wait."""

from __future__ import annotations

import array
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import RequestCancelled, run_blocking
from coserver.hooks import descriptors

from ..side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")


@contextmanager
def pair(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        yield one, other
    assert not descriptors._current().waiting


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    with one, other:
        yield one, other
    assert not descriptors._current().waiting


RECEIVES: dict[str, Callable[[socket.socket], Any]] = {
    "recv": lambda sock: sock.recv(100),
    "recv_into": lambda sock: _into(sock.recv_into),
    "recvfrom": lambda sock: sock.recvfrom(100)[0],
    "recvfrom_into": lambda sock: _into(lambda buffer: sock.recvfrom_into(buffer)[0]),
    "recvmsg": lambda sock: sock.recvmsg(100)[0],
    "recvmsg_into": lambda sock: _into(lambda buffer: sock.recvmsg_into([buffer])[0]),
    "read": lambda sock: sock.makefile("rb").readline(),
}


def _into(receive: Callable[[bytearray], int]) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: receive(buffer)])


SENDS: dict[str, Callable[[socket.socket, bytes], Any]] = {
    "send": lambda sock, data: sock.send(data),
    "sendall": lambda sock, data: sock.sendall(data),
    "sendmsg": lambda sock, data: sock.sendmsg([data[:2], data[2:]]),
}


@pytest.mark.parametrize("limit", [None, 5.0])
@pytest.mark.parametrize("call", RECEIVES)
async def test_receive_waits(call: str, limit: float | None) -> None:
    with pair() as (one, other):
        one.settimeout(limit)

        def send() -> None:
            time.sleep(0.01)
            other.sendall(b"hello\n")

        assert (await both(lambda: RECEIVES[call](one), send))[0] == b"hello\n"


@pytest.mark.parametrize("limit", [None, 5.0])
@pytest.mark.parametrize("call", SENDS)
async def test_send_waits(call: str, limit: float | None) -> None:
    with pair() as (one, other):
        _fill(one)
        one.settimeout(limit)
        order: list[str] = []

        def send() -> None:
            SENDS[call](one, b"the end")
            order.append("sent")

        def receive() -> bytes:
            time.sleep(0.01)
            order.append("reads")
            whole = b""
            while not whole.endswith(b"the end"):
                whole += other.recv(100_000)
            return whole[-7:]

        assert (await both(send, receive))[1] == b"the end"
        assert order == ["reads", "sent"]


def _fill(sock: socket.socket) -> None:
    sock.setblocking(False)
    try:
        while True:
            sock.send(b"x" * 100_000)
    except BlockingIOError:
        sock.setblocking(True)


@pytest.mark.parametrize("call", RECEIVES)
async def test_receive_times_out(call: str) -> None:
    with pair() as (one, _):
        one.settimeout(0.02)

        def receive() -> float:
            started = time.monotonic()
            with pytest.raises(TimeoutError, match="timed out"):
                RECEIVES[call](one)
            return time.monotonic() - started

        assert (await both(receive))[0] >= 0.02
        assert one.gettimeout() == 0.02


@pytest.mark.parametrize("call", SENDS)
async def test_send_times_out(call: str) -> None:
    with pair() as (one, _):
        _fill(one)
        one.settimeout(0.02)

        def send() -> None:
            with pytest.raises(TimeoutError, match="timed out"):
                SENDS[call](one, b"hello")

        await both(send)


async def test_non_blocking_mode_is_left_alone() -> None:
    with pair() as (one, other):
        one.setblocking(False)

        def blocking() -> None:
            for call in [*RECEIVES][:-1]:
                with pytest.raises(BlockingIOError):
                    RECEIVES[call](one)
            one.setblocking(True)
            with pytest.raises(BlockingIOError):
                one.recv(1, socket.MSG_DONTWAIT)
            _fill(one)
            with pytest.raises(BlockingIOError):
                one.send(b"x", socket.MSG_DONTWAIT)

        await both(blocking)
        assert other


async def test_a_huge_sendall_to_a_slow_reader() -> None:
    size = 20_000_000
    with tcp_pair() as (one, other):

        def send() -> None:
            one.sendall(memoryview(bytes(size)).cast("B"))
            one.shutdown(socket.SHUT_WR)

        def receive() -> int:
            got = 0
            while data := other.recv(200_000):
                got += len(data)
                if got < 2_000_000:
                    time.sleep(0.001)
            return got

        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await anyio.sleep(0.001)
                turns += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            assert (await both(send, receive))[1] == size
            tasks.cancel_scope.cancel()
        assert turns > 5


async def test_what_is_always_ready_lets_others_run() -> None:
    with pair() as (one, other):
        other.sendall(b"x" * 10_000)
        turns: list[int] = []

        async def others() -> None:
            while True:
                turns.append(1)
                await anyio.lowlevel.checkpoint()

        def receive() -> None:
            for _ in range(1000):
                one.recv(1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            await anyio.lowlevel.checkpoint()
            before = len(turns)
            await run_blocking(receive)
            tasks.cancel_scope.cancel()
        assert len(turns) - before > 5


async def test_wait_for_all() -> None:
    with pair() as (one, other):

        def send() -> None:
            for n in range(4):
                time.sleep(0.005)
                other.sendall(b"%d" % n * 3)
            other.close()

        def receive() -> tuple[Any, ...]:
            first = one.recv(5, socket.MSG_WAITALL)
            buffer = bytearray(5)
            size = one.recv_into(buffer, 0, socket.MSG_WAITALL)
            return first, size, bytes(buffer), one.recv(10, socket.MSG_WAITALL)

        assert (await both(receive, send))[0] == (b"00011", 5, b"12223", b"33")


async def test_peek_and_keywords() -> None:
    with pair() as (one, other):
        other.sendall(b"hello")

        def receive() -> bytes:
            assert one.recv(3, socket.MSG_PEEK) == b"hel"
            buffer = bytearray(10)
            assert one.recv_into(buffer=buffer, nbytes=2, flags=0) == 2
            return bytes(buffer[:2]) + one.recv(10)

        assert (await both(receive))[0] == b"hello"


async def test_descriptors_are_passed_on() -> None:
    with pair() as (one, other):

        def receive() -> int:
            _, fds, _, _ = socket.recv_fds(one, 10, 1)
            os.close(fds[0])
            return len(fds)

        def send() -> None:
            time.sleep(0.005)
            with open(os.devnull, "rb") as file:
                other.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])

        assert (await both(receive, send))[0] == 1


async def test_connect_and_accept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> bytes:
            with listener.accept()[0] as sock:
                assert sock.gettimeout() is None
                return sock.recv(100)

        def ask() -> None:
            time.sleep(0.01)
            with socket.create_connection(listener.getsockname(), timeout=5) as sock:
                assert sock.gettimeout() == 5
                sock.sendall(b"hello")

        assert (await both(serve, ask))[0] == b"hello"


async def test_connect_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def ask() -> None:
            with socket.socket() as sock:
                sock.connect(("localhost", listener.getsockname()[1]))

        await both(ask, lambda: listener.accept()[0].close())  # noqa: PLW0108


@pytest.mark.parametrize("limit", [None, 5.0])
async def test_connection_refused(limit: float | None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = taken.getsockname()

        def ask() -> None:
            with socket.socket() as sock:
                sock.settimeout(limit)
                with pytest.raises(ConnectionRefusedError) as caught:
                    sock.connect(address)
                assert caught.value.errno == errno.ECONNREFUSED
                assert sock.gettimeout() == limit
            with socket.socket() as sock:
                sock.settimeout(limit)
                assert sock.connect_ex(address) == errno.ECONNREFUSED

        await both(ask)


async def test_connect_times_out() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())

        def ask() -> None:
            with socket.socket() as sock:
                sock.settimeout(0.03)
                with pytest.raises(TimeoutError, match="timed out"):
                    sock.connect(full.getsockname())
            with socket.socket() as sock:
                sock.settimeout(0.03)
                assert sock.connect_ex(full.getsockname()) == errno.EAGAIN

        await both(ask)
        for sock in waiting:
            sock.close()


async def test_unix_with_a_full_backlog(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)

        def ask() -> None:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)

        def serve() -> None:
            time.sleep(0.02)
            for _ in range(3):
                listener.accept()[0].close()

        await both(ask, ask, ask, serve)


async def test_accept_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)

        def serve() -> None:
            with pytest.raises(TimeoutError, match="timed out"):
                listener.accept()

        await both(serve)


async def test_datagrams() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))

        def receive() -> list[bytes]:
            data, address = one.recvfrom(100)
            assert address == other.getsockname()
            return [data, *(one.recv(100) for _ in range(3))]

        def send() -> None:
            time.sleep(0.005)
            other.sendto(b"first", one.getsockname())
            other.sendto(b"", 0, one.getsockname())
            other.sendto(b"third", 0, ("localhost", one.getsockname()[1]))
            other.sendmsg([b"fourth"], [], 0, one.getsockname())

        assert (await both(receive, send))[0] == [b"first", b"", b"third", b"fourth"]


async def test_sendfile(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"0123456789" * 100_000)
    with tcp_pair() as (one, other):

        def send() -> int:
            with file.open("rb") as opened, one:
                return one.sendfile(opened, 10, 500_000)

        def receive() -> int:
            size = 0
            time.sleep(0.02)
            while data := other.recv(100_000):
                size += len(data)
            return size

        assert await both(send, receive) == [500_000, 500_000]


# Several at once, and closes.


async def test_two_readers() -> None:
    with pair() as (one, other):
        got: list[bytes] = []

        def receive() -> None:
            got.append(one.recv(1))

        def send() -> None:
            for piece in (b"a", b"b", b"cde"):
                time.sleep(0.01)
                other.sendall(piece)

        await both(receive, receive, receive, receive, receive, send)
        assert sorted(got) == [b"a", b"b", b"c", b"d", b"e"]


async def test_a_reader_and_a_writer() -> None:
    with pair() as (one, other):
        _fill(one)

        def write() -> None:
            one.sendall(b"end")

        def drive() -> None:
            time.sleep(0.01)
            other.sendall(b"x")
            while not other.recv(100_000).endswith(b"end"):
                pass

        assert (await both(write, lambda: one.recv(1), drive))[1] == b"x"


async def test_one_of_two_readers_gives_up() -> None:
    with pair() as (one, other):

        def impatient() -> None:
            one.settimeout(0.02)  # here: on trio it may be the second to begin
            with pytest.raises(TimeoutError):
                one.recv(1)

        def patient() -> bytes:
            one.settimeout(5)
            return one.recv(1)

        def late() -> None:
            time.sleep(0.05)
            other.sendall(b"x")

        assert (await both(impatient, patient, late))[1] == b"x"


@pytest.mark.parametrize("readers", [1, 3])
async def test_close_while_others_receive(readers: int) -> None:
    with pair() as (one, _):

        def receive() -> None:
            with pytest.raises(OSError) as caught:  # noqa: PT011
                one.recv(1)
            assert caught.value.errno == errno.EBADF

        def close() -> None:
            time.sleep(0.01)
            one.close()

        await both(*[receive] * readers, close)


@pytest.mark.parametrize("readers", [1, 3])
async def test_close_from_another_thread(readers: int) -> None:
    with pair() as (one, _):
        fd = one.fileno()

        def receive() -> None:
            with pytest.raises(OSError) as caught:  # noqa: PT011
                one.recv(1)
            assert caught.value.errno == errno.EBADF

        def close() -> None:
            thread = threading.Thread(target=one.close)
            time.sleep(0.01)
            thread.start()
            while thread.is_alive():
                time.sleep(0.001)
            assert one.fileno() == -1
            with pytest.raises(OSError):  # noqa: PT011
                os.fstat(fd)

        await both(*[receive] * readers, close)


async def test_close_from_a_task_of_the_loop() -> None:
    with pair() as (one, _):

        def receive() -> None:
            with pytest.raises(OSError) as caught:  # noqa: PT011
                one.recv(1)
            assert caught.value.errno == errno.EBADF

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, receive)
            await anyio.sleep(0.01)
            one.close()


async def test_a_reused_descriptor() -> None:
    """The number of a socket that was closed under a reader belongs to the next one, and to nobody else."""
    with pair() as (one, _):
        fd = one.fileno()
        got: list[bytes] = []

        def first() -> None:
            with pytest.raises(OSError):  # noqa: PT011
                one.recv(1)

        def again() -> None:
            time.sleep(0.01)
            one.close()
            with pair_of_numbers(fd) as (new, its_peer):
                its_peer.send(b"x")
                got.append(new.recv(1))

        await both(first, again)
        assert got == [b"x"]


@contextmanager
def pair_of_numbers(fd: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    if other.fileno() == fd:
        one, other = other, one
    assert one.fileno() == fd
    with one, other:
        yield one, other


async def test_a_foreign_thread_reads_too() -> None:
    """Its calls are the originals, and it may be faster."""
    with pair() as (one, other):
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(one.recv(1)))
        thread.start()

        def send() -> None:
            time.sleep(0.01)
            other.sendall(b"a")
            time.sleep(0.01)
            other.sendall(b"b")

        await both(lambda: got.append(one.recv(1)), send)
        while thread.is_alive():  # noqa: ASYNC110
            await anyio.sleep(0.001)
        assert sorted(got) == [b"a", b"b"]


async def test_a_task_waits_for_the_same() -> None:
    with pair() as (one, other):
        seen: list[str] = []

        async def task() -> None:
            await anyio.wait_readable(one)
            seen.append("task")

        def send() -> None:
            time.sleep(0.02)
            other.sendall(b"x")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(task)
            await anyio.lowlevel.checkpoint()
            assert (await both(lambda: one.recv(1), send))[0] == b"x"
            tasks.cancel_scope.cancel()


# Cancellation.


WAITING: dict[str, Callable[[socket.socket], Any]] = {
    **RECEIVES,
    "accept": lambda sock: sock.accept(),
    "sendall": lambda sock: sock.sendall(b"x" * 1_000_000),
    "two": lambda sock: sock.recv(1),
}


@pytest.mark.parametrize("limit", [None, 60.0])
@pytest.mark.parametrize("call", WAITING)
async def test_a_cancel_in_each(call: str, limit: float | None) -> None:
    with pair() as (one, other):
        sock = one
        if call == "accept":
            sock = socket.create_server(("127.0.0.1", 0))
        sock.settimeout(limit)
        events: list[str] = []

        def blocking() -> None:
            try:
                WAITING[call](sock)
            except RequestCancelled as error:
                events.append(str(error))
                raise

        with anyio.move_on_after(0.02) as scope:
            async with anyio.create_task_group() as tasks:
                for _ in range(2 if call == "two" else 1):
                    tasks.start_soon(run_blocking, blocking)
        assert scope.cancelled_caught
        assert set(events) == {"cancelled"}
        sock.close()
        assert other


async def test_one_of_two_readers_is_cancelled() -> None:
    for first in (True, False):
        with pair() as (one, other):
            got: list[bytes] = []

            async def cancelled(one: socket.socket = one) -> None:
                with anyio.move_on_after(0.02):
                    await run_blocking(one.recv, 1)

            async def kept(one: socket.socket = one, got: list[bytes] = got) -> None:
                got.append(await run_blocking(one.recv, 1))

            async with anyio.create_task_group() as tasks:
                for reader in (cancelled, kept) if first else (kept, cancelled):
                    tasks.start_soon(reader)
                    await anyio.lowlevel.checkpoint()
                await anyio.sleep(0.04)
                other.sendall(b"x")
            assert got == [b"x"]
