"""Family "pipes": pipes, terminals and files on them, read and written by workers."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import run_blocking
from coserver.hooks.shims import pipes

from ..side_by_side import both, pipe, ticking

pytestmark = pytest.mark.usefixtures("hooked")


async def test_read_waits_and_write_waits() -> None:
    with pipe() as (reads, writes):
        size = 500_000

        def write() -> int:
            time.sleep(0.01)
            sent = os.write(writes, bytes(size))
            sent += os.writev(writes, [b"a" * 50_000, b"b" * 50_000])
            os.close(writes)
            return sent

        def read() -> int:
            got = 0
            while data := os.read(reads, 7000):
                got += len(data)
            return got

        assert await both(write, read) == [size + 100_000, size + 100_000]


async def test_non_blocking_pipes_are_left_alone() -> None:
    with pipe() as (reads, writes):
        os.set_blocking(reads, False)
        os.set_blocking(writes, False)

        def ask() -> None:
            with pytest.raises(BlockingIOError):
                os.read(reads, 1)
            assert os.write(writes, bytes(1_000_000)) < 1_000_000
            with pytest.raises(BlockingIOError):
                os.write(writes, bytes(1_000_000))

        await run_blocking(ask)


@pytest.mark.parametrize("foreign", [False, True])
async def test_a_close_wakes_who_reads(foreign: bool) -> None:
    with pipe() as (reads, _):

        def read() -> None:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.read(reads, 1)

        def close() -> None:
            time.sleep(0.01)
            if foreign:
                thread = threading.Thread(target=os.close, args=(reads,))
                thread.start()
                while thread.is_alive():
                    time.sleep(0.001)
            else:
                os.close(reads)

        await both(read, close)


async def test_read_is_cancelled() -> None:
    with pipe() as (reads, _):
        with anyio.move_on_after(0.02) as scope:
            await run_blocking(os.read, reads, 1)
        assert scope.cancelled_caught


async def test_a_terminal() -> None:
    master, slave = pty.openpty()

    def type_in() -> None:
        time.sleep(0.01)
        os.write(master, b"hello\n")

    with os.fdopen(slave, "rb", buffering=0) as terminal:
        assert type(terminal) is pipes.PipeIO
        assert (await both(lambda: terminal.read(100), type_in))[0] == b"hello\n"
    os.close(master)


@pytest.mark.parametrize("mode", ["rb", "r"])
async def test_files_on_pipes(mode: str) -> None:
    reads, writes = os.pipe()

    def write() -> None:
        with open(writes, mode.replace("r", "w")) as file:
            for n in range(3):
                time.sleep(0.005)
                file.write(b"%d\n" % n if "b" in mode else f"{n}\n")
                file.flush()
            file.write(b"x" * 200_000 if "b" in mode else "x" * 200_000)

    def read() -> list[Any]:
        with open(reads, mode) as file:
            assert file.mode == mode
            lines = [file.readline(), file.readline(), file.readline()]
            return [*lines, len(file.read())]

    lines = (await both(read, write))[0]
    assert lines == [*(["0\n", "1\n", "2\n"] if mode == "r" else [b"0\n", b"1\n", b"2\n"]), 200_000]


def test_what_open_refuses_it_refuses_still() -> None:
    with pipe() as (reads, _):
        for arguments in ((reads, "q"), (reads, "rb", 1, "utf-8"), (reads, "r", 0), (reads, "rw")):
            with pytest.raises(ValueError, match=r"."):
                os.fdopen(*arguments)  # type: ignore[call-overload]
        with pytest.raises(OSError, match="Bad file"):
            os.fdopen(999_999)


@pytest.mark.parametrize("how", ["os.open", "open", "Path", "FileIO"])
async def test_a_named_pipe_is_opened_while_others_go_on(tmp_path: Path, how: str) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    opens: dict[str, tuple[Any, Any]] = {
        "os.open": (
            lambda: _read_by_descriptor(path),
            lambda: _write_by_descriptor(path),
        ),
        "open": (lambda: _closed(path.open("r"), "read"), lambda: _closed(path.open("w"), "write", "hello")),
        "Path": (path.read_text, lambda: path.write_text("hello")),
        "FileIO": (
            lambda: _closed(io.FileIO(path), "read").decode(),
            lambda: _closed(io.FileIO(str(path), "w"), "write", b"hello"),
        ),
    }
    read, write = opens[how]

    def late(function: Any) -> Any:
        time.sleep(0.02)
        return function()

    assert (await both(read, lambda: late(write)))[0] == "hello"
    assert (await both(lambda: late(read), write))[0] == "hello"


def _closed(file: Any, call: str, *args: Any) -> Any:
    with file:
        return getattr(file, call)(*args)


def _read_by_descriptor(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        assert os.get_blocking(fd)
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)


def _write_by_descriptor(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, b"hello")
    finally:
        os.close(fd)


async def test_an_eventfd_and_splice() -> None:
    event = os.eventfd(0)
    with pipe() as (reads, writes), pipe() as (other_reads, other_writes):

        def wait() -> tuple[int, int]:
            count = os.eventfd_read(event)
            return count, os.splice(reads, other_writes, 100)

        def set_and_write() -> bytes:
            time.sleep(0.02)
            os.eventfd_write(event, 7)
            time.sleep(0.02)
            os.write(writes, b"hello")
            return os.read(other_reads, 100)

        assert await both(wait, set_and_write) == [(7, 5), b"hello"]
    os.close(event)


async def test_lockf_of_os(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"x")
    script = (
        f"import os, time; fd = os.open({str(path)!r}, os.O_RDWR); os.lockf(fd, os.F_LOCK, 0); "
        "print(1, flush=True); time.sleep(0.2)"
    )
    with await anyio.to_thread.run_sync(
        lambda: subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    ) as child:
        assert child.stdout is not None
        await anyio.to_thread.run_sync(child.stdout.readline)
        fd = os.open(path, os.O_RDWR)

        async with ticking() as turns:
            await run_blocking(os.lockf, fd, os.F_LOCK, 0)
        assert len(turns) > 5
        os.close(fd)
