"""Handlers that no cancellation reaches: told with their place, their clients let go, and a stop that returns."""

from __future__ import annotations

import socket
import threading
import time

import anyio
import pytest

from coserver import App, Limits, testing

from .clients import connect, get, until

QUICK = Limits(grace=0.05, cleanup_timeout=0.3)


class Shielded:
    def __init__(self) -> None:
        self.app = App(limits=QUICK)
        self.begun = False
        self.release = False
        self.app.get("/shield")(self.shielded)
        self.app.get("/compute")(self.compute)

    async def shielded(self) -> str:
        self.begun = True
        with anyio.CancelScope(shield=True):
            while not self.release:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        return "late"

    async def compute(self) -> str:
        self.begun = True
        while not self.release:
            time.sleep(0.01)  # noqa: ASYNC251 - it stands for a computation that holds the loop
        return "late"


async def test_behind_a_shield_its_client_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    stuck = Shielded()
    async with testing.serving(stuck.app) as server, connect(server.port) as client:
        await client.send(get("/shield"))
        await until(lambda: stuck.begun)
        server.stop()
        assert await client.gone() == b""
        assert server.running
        stuck.release = True
        await until(lambda: not server.running)
    assert "ignores its cancellation, at line" in caplog.text
    assert "test_service_stuck.py, in Shielded.shielded" in caplog.text


@pytest.mark.parametrize("kind", ["shield", "compute"])
def test_a_stop_from_another_thread_returns(backend: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    stuck = Shielded()
    with testing.leak_check():
        server = stuck.app.start(backend=backend)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(get(f"/{kind}"))
            while not stuck.begun:
                time.sleep(0.005)
            threads = [threading.Thread(target=server.stop) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(8)
                assert not thread.is_alive()
            assert server.running
            assert "cannot be stopped; its thread still runs, at line" in caplog.text
            if kind == "compute":
                assert "test_service_stuck.py, in Shielded.compute" in caplog.text
            stuck.release = True
            server.stop()
        assert not server.running


async def test_a_slow_cleanup_within_its_time_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    app, ended = App(limits=Limits(grace=0)), []

    @app.get("/")
    async def careful() -> None:
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)
            ended.append(True)

    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(get())
        await until(lambda: server.exchanges)
        server.stop()
        await until(lambda: not server.running)
    assert ended
    assert "no cancellation" not in caplog.text
