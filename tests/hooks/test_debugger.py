"""The debugger, faulthandler and signals, before, during and after a suspension."""

from __future__ import annotations

import faulthandler
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import anyio
import pytest

from coserver import run_blocking
from coserver.hooks.workers import in_worker

from .side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")


PROMPTS = """
import logging, sys, time
import anyio
from coserver import hooks, run_blocking
logging.basicConfig(stream=sys.stdout)
hooks.install()

def handler():
    first = "before"
    breakpoint()
    time.sleep(0.05)
    second = "after"
    breakpoint()
    return first + second

async def main():
    ticks = []
    async def tick():
        while True:
            ticks.append(1)
            await anyio.sleep(0.002)
    with hooks.watching():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            print("ends with", await run_blocking(handler), len(ticks) > 2)
            tasks.cancel_scope.cancel()

anyio.run(main, **{arguments!r})
"""

#: From Python 3.13 on a breakpoint stops at its own line, before that at the next.
_AT_ITS_LINE = sys.version_info >= (3, 13)
#: Commands, and what is shown for each. One steps over a suspension, the first "continue" goes to the next breakpoint.
DIALOGUE = (
    ("p first", "'before'"),
    *([("next", r"time\.sleep")] if _AT_ITS_LINE else []),
    ("next", 'second = "after"'),
    ("p 'still', first", r"\('still', 'before'\)"),
    ("next", r"breakpoint\(\)"),
    ("where", r"in _live|_live\(\)(?s:.*)handler\(\)"),
    ("continue", r"breakpoint\(\)" if _AT_ITS_LINE else "return first"),
    ("p first, second", r"\('before', 'after'\)"),
    ("continue", "ends with beforeafter True"),
)


def test_a_debugger_across_a_suspension(backend: str, tmp_path: Path) -> None:
    name, options = ("trio", {}) if backend == "trio" else ("asyncio", {"use_uvloop": backend == "uvloop"})
    script = tmp_path / "prompts.py"
    script.write_text(PROMPTS.format(arguments={"backend": name, "backend_options": options}))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdin is not None
        time.sleep(0.5)  # at the prompt the loop stands still, as it should: the watchdog tells nothing
        text, _ = process.communicate("".join(f"{command}\n" for command, _ in DIALOGUE), timeout=30)
    answers = text.split("(Pdb) ")[1:]
    assert len(answers) == len(DIALOGUE), text
    for (command, shown), answer in zip(DIALOGUE, answers, strict=True):
        assert re.search(shown, answer), (command, text)
    assert "has blocked" not in text


async def test_faulthandler_shows_the_handlers_frames(tmp_path: Path) -> None:
    files = [(tmp_path / name).open("w+") for name in ("before", "after", "thread")]

    def of_mine() -> None:
        faulthandler.dump_traceback(files[0], all_threads=False)
        time.sleep(0.005)
        faulthandler.dump_traceback(files[1], all_threads=False)
        runs: list[bool] = []

        def dump() -> None:
            while not runs:
                time.sleep(0.001)
            faulthandler.dump_traceback(files[2])

        thread = threading.Thread(target=dump)
        thread.start()
        until = time.monotonic() + 5
        runs.append(True)
        while thread.is_alive() and time.monotonic() < until:
            pass  # it runs

    await both(of_mine, lambda: time.sleep(0.01))
    for file in files:
        with file:
            file.seek(0)
            lines = file.read().splitlines()
        frames = [line for line in lines if line.startswith("  File")]
        assert any(f'"{__file__}"' in line and line.endswith(" in of_mine") for line in frames), lines
        assert any(line.endswith(" in _live") for line in frames)


class Signalled(list[tuple[bool, bool]]):
    """For each SIGUSR1: whether it ran in the main thread, and in a worker. There it waits for ``go_on``."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()


@pytest.fixture
def signalled() -> Iterator[Signalled]:
    ran = Signalled()

    def on_signal(number: int, frame: FrameType | None) -> None:
        ran.append((threading.get_native_id() == threading.main_thread().native_id, in_worker()))
        time.sleep(0.01)
        if in_worker():
            assert ran.go_on.wait(5)

    before = signal.signal(signal.SIGUSR1, on_signal)
    yield ran
    signal.signal(signal.SIGUSR1, before)


async def test_a_signal_while_all_are_suspended(signalled: Signalled) -> None:
    go_on = threading.Event()

    def waits() -> str:
        assert go_on.wait(5)
        return "went on"

    def sends() -> None:
        time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGUSR1)
        while not signalled:
            time.sleep(0.001)
        go_on.set()

    main = threading.main_thread().ident
    assert main is not None
    sender = threading.Thread(target=sends)
    sender.start()
    assert await both(waits, waits) == ["went on"] * 2
    await anyio.to_thread.run_sync(sender.join)
    assert signalled == [(True, False)]


async def test_a_signal_in_a_worker(signalled: Signalled) -> None:
    """Its handler runs in the worker, and what it waits for suspends that."""

    def other() -> None:
        while not signalled:
            time.sleep(0.001)
        signalled.go_on.set()

    await both(other, lambda: signal.raise_signal(signal.SIGUSR1))
    assert signalled == [(True, True)]


async def test_ctrl_c_in_a_worker() -> None:
    ended: list[str] = []

    def interrupted() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            time.sleep(0.005)
            ended.append("finally")

    with pytest.raises(KeyboardInterrupt):
        await run_blocking(interrupted)
    assert ended == ["finally"]
