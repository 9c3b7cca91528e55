"""Loggers, whose locks the loop needs as well as workers."""

from __future__ import annotations

import logging
import logging.handlers
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from coserver import run_blocking
from coserver.hooks.locks import log_handlers, rlock

from ..side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")


class Slow(logging.Handler):
    """Its emit suspends, as a SocketHandler's may."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.holds, self.free = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if not self.free.is_set():
            self.holds.set()
            self.free.wait(5)
        self.seen.append(record.getMessage())


@pytest.fixture
def slow() -> Iterator[tuple[logging.Logger, Slow]]:
    log, handler = logging.Logger("slow"), Slow()
    log.addHandler(handler)
    yield log, handler
    assert not rlock.after_release


def log_in_the_loop(log: logging.Logger, *texts: str) -> None:
    for text in texts:
        log.warning("%s", text)


async def is_held(handler: Slow) -> None:
    await run_blocking(handler.holds.wait, 5)


async def test_loop_code_logs_while_a_worker_does(slow: tuple[logging.Logger, Slow]) -> None:
    log, handler = slow
    handler.addFilter(lambda record: record.getMessage() != "hidden")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, log.warning, "worker")
        await is_held(handler)
        log_in_the_loop(log, "loop", "hidden", "again")
        assert not handler.seen
        handler.free.set()
    assert handler.seen == ["worker", "loop", "again"]
    assert await run_blocking(_says, log) == "said"


def _says(log: logging.Logger) -> str:
    log.warning("x")
    return "said"


async def test_too_many_records_are_counted(slow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log, handler = slow
    monkeypatch.setattr(log_handlers, "QUEUED_MAX", 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, log.warning, "worker")
        await is_held(handler)
        log_in_the_loop(log, *"abcde")
        handler.free.set()
    assert handler.seen[:3] == ["worker", "a", "b"]
    assert handler.seen[3].startswith("3 records were dropped here")


async def test_workers_log_side_by_side(slow: tuple[logging.Logger, Slow]) -> None:
    log, handler = slow

    def frees() -> None:
        handler.holds.wait(5)
        handler.free.set()

    await both(frees, *[lambda number=number: log.warning("%d", number) for number in range(5)])  # type: ignore[misc]
    assert sorted(handler.seen) == list("01234")


async def test_what_is_left_survives_an_error(slow: tuple[logging.Logger, Slow]) -> None:
    log, handler = slow

    def emit(record: logging.LogRecord) -> None:
        Slow.emit(handler, record)
        if record.getMessage() == "bad":
            raise ValueError("bad")

    handler.emit = emit  # type: ignore[method-assign]

    def worker() -> None:
        with pytest.raises(ValueError, match="bad"):
            log.warning("worker")
        log.warning("next")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, worker)
        await is_held(handler)
        log_in_the_loop(log, "bad", "good")
        handler.free.set()
    assert sorted(handler.seen) == ["bad", "good", "next", "worker"]
