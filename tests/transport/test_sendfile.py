"""Sending from a file by the kernel: what it says of the file, what of the peer; and what the peer has taken."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from coserver.transport.loop import Loop
from coserver.transport.stream import CAN_SENDFILE

from .test_stream import pair, reset

pytestmark = pytest.mark.skipif(not CAN_SENDFILE, reason="the platform has no sendfile")

CONTENT = bytes(range(256)) * 40_000


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(CONTENT)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
async def test_a_part_and_the_end(fd: int, family: int) -> None:
    async with pair(family) as (stream, far):
        assert await stream.sendfile(fd, 10, 20) == 20
        assert far.recv(100) == CONTENT[10:30]
        assert await stream.sendfile(fd, len(CONTENT) - 3, 1000) == 3
        assert far.recv(100) == CONTENT[-3:]
        assert await stream.sendfile(fd, len(CONTENT), 1000) == 0
        assert stream.sent == 23
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0  # its own position is nobody's business


async def test_a_full_socket(fd: int) -> None:
    async with pair(socket.AF_INET) as (stream, far):
        got = bytearray()

        async def read() -> None:
            far.setblocking(False)
            while len(got) < len(CONTENT):
                await anyio.sleep(0.001)
                await anyio.wait_readable(far)
                got.extend(far.recv(1_000_000))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            at = 0
            while at < len(CONTENT):
                at += await stream.sendfile(fd, at, len(CONTENT) - at)
        assert got == CONTENT


async def test_a_cancel_while_it_waits(fd: int) -> None:
    async with pair(socket.AF_INET) as (stream, _):
        with anyio.move_on_after(0.1) as scope:
            at = 0
            while True:
                at += await stream.sendfile(fd, at % 1000, 500_000)
                await Loop.current().checkpoint()
        assert scope.cancelled_caught
        assert stream.sent == at


async def test_a_peer_that_leaves(fd: int) -> None:
    async with pair(socket.AF_INET) as (stream, far):
        reset(far)

        async def go_on() -> None:
            while True:
                await stream.sendfile(fd, 0, 500_000)

        with pytest.raises(anyio.BrokenResourceError):
            await go_on()


async def test_a_close_while_it_waits(fd: int) -> None:
    async with pair(socket.AF_INET) as (stream, _), anyio.create_task_group() as tasks:

        async def later() -> None:
            await anyio.sleep(0.05)
            stream.close()

        tasks.start_soon(later)

        async def go_on() -> None:
            while True:
                await stream.sendfile(fd, 0, 500_000)

        with pytest.raises(anyio.ClosedResourceError):
            await go_on()
    with pytest.raises(anyio.ClosedResourceError):
        await stream.sendfile(fd, 0, 10)


async def test_what_is_wrong_with_the_file_is_not_the_peers_fault(fd: int, tmp_path: Path) -> None:
    async with pair() as (stream, _):
        write_only = os.open(tmp_path / "file", os.O_WRONLY)
        try:
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                await stream.sendfile(write_only, 0, 10)
            assert caught.value.errno == errno.EBADF
        finally:
            os.close(write_only)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
async def test_what_the_peer_has_taken(family: int) -> None:
    """Beyond what its system took before it was full: then each byte counts, though the sender cannot go on yet."""
    async with pair(family) as (stream, far):
        assert stream.taken() == 0
        with anyio.move_on_after(0.1):
            await stream.send(bytes(50_000_000))
        before = stream.taken()
        assert before < stream.sent
        assert far.recv(200_000)
        with anyio.fail_after(5):
            while stream.taken() == before:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        stream.close()
        assert stream.taken() == stream.sent
