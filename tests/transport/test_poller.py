"""The pollers: a hang-up is told once, without reading a byte."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from coserver.transport.poller import EpollPoller, PeekPoller, Poller, has_epoll

KINDS = [pytest.param(PeekPoller, id="peek")]
if has_epoll():
    KINDS.append(pytest.param(EpollPoller, id="epoll"))

pytestmark = pytest.mark.parametrize("kind", KINDS)


@asynccontextmanager
async def running(kind: type[Poller]) -> AsyncIterator[Poller]:
    poller = kind()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poller.run)
        await anyio.lowlevel.checkpoint()
        try:
            yield poller
        finally:
            tasks.cancel_scope.cancel()
            poller.close()
            poller.close()


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    near.setblocking(False)
    return near, far


async def told(seen: list[str], count: int = 1) -> None:
    with anyio.fail_after(2):
        while len(seen) < count:  # noqa: ASYNC110
            await anyio.sleep(0.005)


@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
async def test_a_peer_that_leaves(kind: type[Poller], how: str) -> None:
    near, far = connected()
    seen: list[str] = []
    async with running(kind) as poller:
        poller.watch(near.fileno(), lambda: seen.append("left"), half_close=True)
        assert "watching 1" in repr(poller)
        await anyio.sleep(0.03)
        assert not seen
        if how == "shutdown":
            far.shutdown(socket.SHUT_WR)
        elif how == "close":
            far.close()
        else:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
        await told(seen)
        await anyio.sleep(0.06)
        assert seen == ["left"]  # once
        assert "watching 0" in repr(poller)
        # It may be watched again.
        poller.watch(near.fileno(), lambda: seen.append("again"), half_close=True)
        await told(seen, 2)
    near.close()
    far.close()


async def test_a_half_close_that_does_not_count(kind: type[Poller]) -> None:
    near, far = connected()
    seen: list[str] = []
    async with running(kind) as poller:
        poller.watch(near.fileno(), lambda: seen.append("left"), half_close=False)
        far.shutdown(socket.SHUT_WR)
        await anyio.sleep(0.06)
        assert not seen
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        await told(seen)
    near.close()


async def test_data_is_no_hang_up_and_is_not_taken(kind: type[Poller]) -> None:
    near, far = connected()
    seen: list[str] = []
    async with running(kind) as poller:
        poller.watch(near.fileno(), lambda: seen.append("left"), half_close=True)
        far.sendall(b"data")
        await anyio.sleep(0.06)
        assert not seen
        assert near.recv(10) == b"data"
        poller.forget(near.fileno())
        poller.forget(near.fileno())
        far.close()
        await anyio.sleep(0.06)
        assert not seen
    near.close()


async def test_one_call_forgets_another_of_the_same_moment(kind: type[Poller]) -> None:
    pairs = [connected() for _ in range(3)]
    seen: list[str] = []
    async with running(kind) as poller:

        def first_to_know() -> None:
            seen.append("told")
            for near, _ in pairs:
                poller.forget(near.fileno())

        for near, far in pairs:
            poller.watch(near.fileno(), first_to_know, half_close=True)
            far.close()
        await told(seen)
        await anyio.sleep(0.06)
        assert seen == ["told"]
        for near, _ in pairs:
            near.close()


async def test_a_call_that_raises(kind: type[Poller], caplog: pytest.LogCaptureFixture) -> None:
    pairs = [connected() for _ in range(2)]
    seen: list[str] = []

    def fail() -> None:
        raise ValueError("in the call")

    async with running(kind) as poller:
        poller.watch(pairs[0][0].fileno(), fail, half_close=True)
        poller.watch(pairs[1][0].fileno(), lambda: seen.append("left"), half_close=True)
        for _, far in pairs:
            far.close()
        await told(seen)
    assert "in the call" in caplog.text
    for near, _ in pairs:
        near.close()


async def test_it_may_run_again(kind: type[Poller]) -> None:
    near, far = connected()
    poller, seen = kind(), []
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0  # noqa: ASYNC240
    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poller.run)
            await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        poller.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poller.run)
        poller.watch(near.fileno(), lambda: seen.append("left"), half_close=True)
        far.close()
        await told(seen)
        tasks.cancel_scope.cancel()
    poller.close()
    near.close()
