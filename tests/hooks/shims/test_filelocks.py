"""Family "filelocks": flock and lockf."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import run_blocking

from ..side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")


@pytest.mark.parametrize("how", ["flock", "lockf"])
async def test_file_locks(how: str, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    lock = getattr(fcntl, how)
    order: list[str] = []
    hold = (
        f"import fcntl, sys; f = open({str(path)!r}, 'w'); fcntl.{how}(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )

    def run() -> None:
        with path.open("w") as file:
            with pytest.raises(BlockingIOError):
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock(file, fcntl.LOCK_EX)
            order.append("locked")
            lock(file, fcntl.LOCK_UN)

    def let_go(child: Any) -> None:
        time.sleep(0.03)
        order.append("released")
        child.stdin.write(b"\n")
        child.stdin.close()

    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        await both(run, lambda: let_go(child))
    assert order == ["released", "locked"]


async def test_a_file_lock_is_not_broken_by_a_cancellation(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    events: list[str] = []
    with path.open("w") as held, path.open("w") as file:
        fcntl.flock(held, fcntl.LOCK_EX)

        def run() -> None:
            fcntl.flock(file, fcntl.LOCK_EX)
            events.append("locked")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, run)
            await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
            held.close()
    assert events == ["locked"]
