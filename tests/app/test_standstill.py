"""A loop that stands still, in this process; the command is tested in tests/cli/serve."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from coserver import App, testing
from coserver.app import signals
from coserver.app.signals import Enforcer
from coserver.app.standstill import loop_watched
from coserver.hooks import uninstall

BACKENDS = ["asyncio", "trio"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_logged_once_and_its_end_too(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    uninstall()

    async def main() -> None:
        with loop_watched(0.3) as watch, loop_watched(0.3) as same:
            assert watch is same
            await anyio.sleep(0.3)
            assert watch.standstill(0.0) is None or watch.stood < 0.3
            time.sleep(1.2)  # noqa: ASYNC251 - that is the standstill
            await anyio.sleep(0.3)

    with caplog.at_level(logging.WARNING, "coserver.app"):
        anyio.run(main, backend=backend)
    told = [record.getMessage() for record in caplog.records if record.name == "coserver.app"]
    assert len(told) == 2
    assert "the event loop has stood still for" in told[0]
    assert "test_standstill.py" in told[0]
    assert "The thread waits" in told[0]
    assert "the event loop goes on after a standstill of" in told[1]


async def test_the_server_tells_it() -> None:
    async with testing.serving(App("shop")) as server:
        assert server.standstill is None
        assert server.snapshot().stands == 0.0


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_signals_end_a_loop_that_stands(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[int] = []
    removed: list[str] = []

    def leave(code: int) -> None:
        ended.append(code)
        server.loop_watch = None  # it has nothing to look at any more

    monkeypatch.setattr(signals, "_LOOK", 0.02)
    monkeypatch.setattr(signals.os, "_exit", leave)
    monkeypatch.setattr(signals.logging, "shutdown", lambda: None)
    found = SimpleNamespace(place="shop.py:15 in read")
    watch = SimpleNamespace(stood=5.0, ask=lambda: None, standstill=lambda least: found)
    limits = SimpleNamespace(grace=0.1, cleanup_timeout=0.0)
    server: Any = SimpleNamespace(
        settings=SimpleNamespace(limits=limits), loop_watch=watch, remove_files=lambda: removed.append("all")
    )
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with caplog.at_level(logging.WARNING, "coserver.app"), Enforcer(server):
            signal.raise_signal(signal.SIGTERM)
            wait_for(lambda: "hears no signal" in caplog.text)
            signal.raise_signal(signal.SIGTERM)
            wait_for(lambda: ended)
        assert os.read(reads, 10) == bytes([signal.SIGTERM] * 2)  # the loop has got them too
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        os.close(reads)
        os.close(writes)
    assert ended == [128 + signal.SIGTERM]
    assert removed == ["all"]
    assert "the process is ended by force: its event loop stands still, at shop.py:15 in read" in caplog.text
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "coserver signals"])
