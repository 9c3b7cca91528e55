"""Family "select": select, poll, epoll and selectors wait without the loop."""

from __future__ import annotations

import os
import select
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import run_blocking

from ..side_by_side import both, pipe

pytestmark = pytest.mark.usefixtures("hooked")


def _by_select(fd: int, timeout: float | None) -> Any:
    return select.select([fd], [], [], timeout)[0] != []


def _by_poll(fd: int, timeout: float | None) -> Any:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return poll.poll(None if timeout is None else timeout * 1000) != []


def _by_epoll(fd: int, timeout: float | None) -> Any:
    with select.epoll() as epoll:
        epoll.register(fd, select.EPOLLIN)
        return epoll.poll(timeout) != []


def _by_selector(kind: Any) -> Callable[[int, float | None], Any]:
    def ask(fd: int, timeout: float | None) -> Any:
        with kind() as selector:
            selector.register(fd, selectors.EVENT_READ)
            return selector.select(timeout) != []

    return ask


SELECTS: dict[str, Callable[[int, float | None], Any]] = {
    "select": _by_select,
    "poll": _by_poll,
    "epoll": _by_epoll,
    "SelectSelector": _by_selector(selectors.SelectSelector),
    "PollSelector": _by_selector(selectors.PollSelector),
    "EpollSelector": _by_selector(selectors.EpollSelector),
}


@pytest.mark.parametrize("how", SELECTS)
async def test_select_waits(how: str) -> None:
    with pipe() as (reads, writes):

        def write() -> None:
            time.sleep(0.02)
            os.write(writes, b"x")

        assert (await both(lambda: SELECTS[how](reads, None), write))[0] is True
        assert SELECTS[how](reads, 0) is True
        assert await run_blocking(SELECTS[how], reads, 5) is True


@pytest.mark.parametrize("how", SELECTS)
async def test_select_times_out(how: str) -> None:
    with pipe() as (reads, _):

        def ask() -> float:
            started = time.monotonic()
            assert SELECTS[how](reads, 0) is False
            assert SELECTS[how](reads, 0.02) is False
            return time.monotonic() - started

        assert await run_blocking(ask) >= 0.02


@pytest.mark.parametrize("how", SELECTS)
async def test_select_is_cancelled(how: str) -> None:
    with pipe() as (reads, _):
        for timeout in (None, 60):
            with anyio.move_on_after(0.02) as scope:
                await run_blocking(SELECTS[how], reads, timeout)
            assert scope.cancelled_caught


async def test_select_of_many_and_of_nothing(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch()

    def ask() -> None:
        with pipe() as (one, _), pipe() as (other, writes), file.open() as plain:
            os.write(writes, b"x")
            assert select.select([one, other], [writes], [], None) == ([other], [writes], [])
            assert select.select([plain, one], [], [], None) == ([plain], [], [])
            assert select.select([], [], [], 0.01) == ([], [], [])
            with pytest.raises(ValueError, match="must be non-negative"):
                select.select([one], [], [], -1)
            with pytest.raises(TypeError):
                select.select([one], [], [], "1")  # type: ignore[arg-type]

    await run_blocking(ask)
