"""Family "buffers": kinds of files above a pipe or a socket, and what may befall them while two workers use them."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import os
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from greenlet import getcurrent

from coserver import RequestCancelled, run_blocking

from ..side_by_side import both, pipe

pytestmark = pytest.mark.usefixtures("hooked")

SIZE = 1_000_000


def drain(fd: int) -> bytes:
    """All that comes until the other end is closed, slowly at first."""
    got = bytearray()
    time.sleep(0.02)
    while piece := os.read(fd, 64 * 1024):
        got += piece
    return bytes(got)


class Slow(io.RawIOBase):
    """A raw file in Python, which suspends in each call."""

    def __init__(self, whole: bytes = b"") -> None:
        self.whole = bytearray(whole)
        self.at = 0

    def readable(self) -> bool:
        return True

    writable = seekable = readable

    def readinto(self, buffer: Any) -> int:
        time.sleep(0.001)
        piece = self.whole[self.at : self.at + min(len(buffer), 1000)]
        buffer[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)

    def write(self, data: Any) -> int:
        time.sleep(0.001)
        piece = bytes(data[:1000])
        self.whole[self.at : self.at + len(piece)] = piece
        self.at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, len(self.whole))[whence]
        return self.at

    def tell(self) -> int:
        return self.at


async def test_text_both_ways_writes_while_another_reads() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rw", encoding="utf-8") as file:
        answers: list[str] = []

        def echo() -> None:
            with theirs.makefile("rwb") as other:
                for line in other:
                    other.write(line.upper())
                    other.flush()

        def read() -> None:
            answers.extend(file.readline() for _ in range(3))

        def write() -> None:
            for word in ("one", "two", "three"):
                time.sleep(0.01)
                file.write(word + "\n")
                file.flush()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, echo)
            with anyio.fail_after(5):
                await both(read, write)
            theirs.shutdown(socket.SHUT_RD)
        assert answers == ["ONE\n", "TWO\n", "THREE\n"]


async def test_text_both_ways_by_three_writers() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        file = ours.makefile("rw", encoding="utf-8")

        def write(letter: str) -> Callable[[], None]:
            def run() -> None:
                for _ in range(20):
                    file.write(letter * 5_000)

            return run

        async def write_all() -> None:
            await both(write("a"), write("b"), write("c"))
            await run_blocking(file.close)
            ours.shutdown(socket.SHUT_WR)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_all)
            got = await run_blocking(drain, theirs.fileno())
    assert sorted(got) == sorted(b"abc" * 100_000)


@pytest.mark.parametrize("how", ["random", "pair", "reader", "text"])
async def test_a_raw_file_in_python(how: str) -> None:
    lines = [b"%06d\n" % number for number in range(2000)]
    raw = Slow(b"".join(lines))
    file: Any = {
        "random": lambda: io.BufferedRandom(raw),
        "pair": lambda: io.BufferedRWPair(raw, raw),
        "reader": lambda: io.BufferedReader(raw),
        "text": lambda: io.TextIOWrapper(io.BufferedReader(raw), newline="\n"),
    }[how]()
    found: list[bytes] = []

    def read() -> None:
        while line := file.readline():
            found.append(line.encode() if how == "text" else line)

    await both(read, read, read)
    assert sorted(found) == lines


async def test_a_file_that_is_read_written_and_moved() -> None:
    raw = Slow(b"." * 9000)
    file = io.BufferedRandom(raw, 512)

    def write(letter: bytes) -> Callable[[], None]:
        def run() -> None:
            for _ in range(3):
                file.write(letter * 1000)
                file.flush()
                file.tell()

        return run

    await both(write(b"a"), write(b"b"), write(b"c"))
    assert sorted(raw.whole) == sorted(b"abc" * 3000)


class Lines(io.BufferedReader):
    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(size).rstrip(b"\n") + b"\r\n"


async def test_a_class_derived_from_a_buffered_file() -> None:
    with pipe() as (reads, writes), Lines(io.FileIO(os.dup(reads))) as file:
        assert isinstance(file, Lines)
        assert type(file).__name__ == "Lines"

        def write() -> None:
            time.sleep(0.01)
            os.write(writes, b"one\n")
            time.sleep(0.01)
            os.write(writes, b"two\n")

        assert sorted((await both(file.readline, file.readline, write))[:2]) == [b"one\r\n", b"two\r\n"]


async def test_print_to_one_stream() -> None:
    with pipe() as (reads, writes):
        file = os.fdopen(os.dup(writes), "w")
        os.close(writes)

        def say(word: str) -> Callable[[], None]:
            def run() -> None:
                for _ in range(100):
                    print(word * 1000, file=file, flush=True)

            return run

        async def all_say() -> None:
            await both(say("a"), say("b"), say("c"))
            file.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(all_say)
            got = await run_blocking(drain, reads)
    assert sorted(got.replace(b"\n", b"")) == sorted(b"abc" * 100_000)
    assert got.count(b"\n") == 300


async def test_a_fifo_by_path(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    keeps = os.open(path, os.O_RDWR)
    with path.open("rb") as reads, path.open("wb") as writes:
        os.close(keeps)

        def write(letter: bytes) -> Callable[[], None]:
            def run() -> None:
                writes.write(letter * 200_000)
                writes.flush()

            return run

        async def write_all() -> None:
            await both(write(b"a"), write(b"b"))
            writes.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_all)
            parts: list[bytes] = []

            def read() -> None:
                while piece := reads.read(10_000):
                    parts.append(piece)

            await both(read, read)
    assert sorted(b"".join(parts)) == sorted(b"ab" * 200_000)


async def test_readinto_and_peek() -> None:
    with pipe() as (reads, writes), os.fdopen(os.dup(reads), "rb") as file:

        def into() -> bytes:
            buffer = bytearray(5)
            file.readinto(buffer)
            return bytes(buffer)

        def peek() -> bytes:
            return file.peek()[:1]

        def write() -> None:
            time.sleep(0.01)
            os.write(writes, b"hello")
            time.sleep(0.01)
            os.write(writes, b"x")

        read, seen, _ = await both(into, peek, write)
        assert (read, seen) in [(b"hello", b"x"), (b"hello", b"h")]  # who comes first is the loop's choice


@pytest.mark.parametrize("kind", ["gzip", "bz2"])
async def test_a_compressed_file_above_a_pipe(kind: str) -> None:
    lines = [b"%07d\n" % number for number in range(20_000)]
    module: Any = {"gzip": gzip, "bz2": bz2}[kind]
    packed = module.compress(b"".join(lines))
    with pipe() as (reads, writes), os.fdopen(os.dup(reads), "rb") as below, module.open(below) as file:
        found: list[bytes] = []

        def write() -> None:
            for at in range(0, len(packed), 5_000):
                time.sleep(0.001)
                os.write(writes, packed[at : at + 5_000])
            os.close(writes)

        def read() -> None:
            found.extend(file)

        await both(write, read, read)
    assert sorted(found) == lines


async def test_archives_through_a_pipe() -> None:
    with pipe() as (reads, writes):

        def write() -> None:
            with os.fdopen(writes, "wb") as file, zipfile.ZipFile(file, "w") as archive:
                archive.writestr("one", os.urandom(SIZE // 2))
                archive.writestr("two", b"2")

        def read() -> list[str]:
            return zipfile.ZipFile(io.BytesIO(drain(reads))).namelist()

        assert (await both(write, read))[1] == ["one", "two"]
    with pipe() as (reads, writes):

        def pack() -> None:
            with os.fdopen(writes, "wb") as file, tarfile.open(fileobj=file, mode="w|gz") as archive:
                info = tarfile.TarInfo("big")
                info.size = SIZE
                archive.addfile(info, io.BytesIO(os.urandom(SIZE)))

        def unpack() -> list[str]:
            with os.fdopen(os.dup(reads), "rb") as file, tarfile.open(fileobj=file, mode="r|gz") as archive:
                return archive.getnames()

        assert (await both(pack, unpack))[1] == ["big"]


async def test_a_waiting_call_is_cancelled_as_io() -> None:
    with pipe() as (reads, writes), os.fdopen(os.dup(reads), "rb") as file:
        seen: list[str] = []

        def second() -> None:
            try:
                file.read(1)
            except RequestCancelled:
                seen.append("cancelled")
                raise

        async with anyio.create_task_group() as tasks:
            first: list[bytes] = []

            async def read() -> None:
                first.append(await run_blocking(file.read, 5))

            tasks.start_soon(read)
            await anyio.sleep(0.01)
            with anyio.fail_after(5):
                with anyio.move_on_after(0.03):
                    await run_blocking(second)
            assert seen == ["cancelled"]
            os.write(writes, b"hello")
        assert first == [b"hello"]
        os.write(writes, b"x")
        assert await run_blocking(file.read, 1) == b"x"


async def test_an_exception_of_the_holder_lets_the_next_one_in() -> None:
    with pipe() as (reads, writes):
        file = os.fdopen(os.dup(writes), "wb")

        def write() -> str:
            try:
                file.write(b"a" * SIZE)
                file.flush()
            except BrokenPipeError:
                return "broken"
            return "written"

        def end() -> None:
            time.sleep(0.02)
            os.close(reads)

        assert await both(write, write, end) == ["broken", "broken", None]
        with suppress(BrokenPipeError):
            file.close()
        assert file.closed


async def test_detach_and_reconfigure_wait() -> None:
    with pipe() as (reads, writes):
        file = os.fdopen(os.dup(writes), "w")

        def write() -> None:
            for _ in range(10):
                file.write("a" * 50_000)

        def other() -> Any:
            time.sleep(0.01)
            file.reconfigure(line_buffering=True)
            file.write("b\n")
            return file.detach()

        async with anyio.create_task_group() as tasks:
            found: list[bytes] = []

            async def read() -> None:
                found.append(await run_blocking(drain, reads))

            tasks.start_soon(read)
            try:
                buffer = (await both(other, write_or_detached(write)))[0]
            finally:
                os.close(writes)
            await run_blocking(buffer.close)
        assert b"b\n" in found[0]
        assert not found[0].strip(b"a") or found[0].replace(b"a", b"") == b"b\n"


def write_or_detached(write: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with suppress(ValueError):
            write()

    return run


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the file that nobody closed
async def test_the_collector_closes_a_file_with_unwritten_data() -> None:
    with pipe() as (reads, writes):

        def write() -> None:
            file = os.fdopen(writes, "wb", 1 << 20)
            file.write(b"a" * 500_000)
            del file
            gc.collect()

        assert (await both(write, lambda: drain(reads)))[1] == b"a" * 500_000


async def test_a_thread_and_workers_write() -> None:
    with pipe() as (reads, writes):
        file = os.fdopen(writes, "wb")

        def write(letter: bytes) -> Callable[[], None]:
            def run() -> None:
                for _ in range(20):
                    file.write(letter * 10_000)
                    file.flush()

            return run

        thread = threading.Thread(target=write(b"t"))

        async def write_all() -> None:
            thread.start()
            await both(write(b"a"), write(b"b"), thread.join)
            await run_blocking(file.close)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_all)
            got = await run_blocking(drain, reads)
    assert sorted(got) == sorted(b"abt" * 200_000)


async def test_a_thread_waits_for_a_worker_that_runs_in_the_file() -> None:
    """The frame of a greenlet that runs in another thread cannot be read, as if it had ended."""
    go: list[bool] = []
    holders: list[bool] = []

    class Spins(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            holders.append(file.__dict__.get("_inside") is getcurrent())
            if len(holders) == 1:  # the worker's call: it goes on while the thread finds the file taken
                go.append(True)
                end = time.perf_counter() + 0.05
                while time.perf_counter() < end:
                    pass
            return len(data)

    file: Any = io.BufferedWriter(Spins())

    def write() -> None:
        while not go:
            pass
        file.write(b"t" * 10_000)  # more than its buffer

    def work() -> None:
        file.write(b"w" * 10_000)

    thread = threading.Thread(target=write)
    thread.start()
    await run_blocking(work)
    await run_blocking(thread.join)
    assert holders == [True, True]


async def test_a_child_process_is_told_who_was_inside() -> None:
    with pipe() as (reads, writes), pipe() as (tells, told), os.fdopen(os.dup(reads), "rb") as file:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, file.read, 5)
            await anyio.sleep(0.02)

            def fork() -> None:
                child = os.fork()
                if not child:
                    try:
                        file.read(1)
                    except RuntimeError as error:
                        os.write(told, str(error).encode())
                    finally:
                        os._exit(0)
                os.waitpid(child, 0)

            with anyio.fail_after(5):
                await run_blocking(fork)
            os.write(writes, b"hello")
        assert b"in use by a handler that is suspended" in os.read(tells, 1000)


def test_a_file_on_disk_stays_as_it_is(tmp_path: Path) -> None:
    with open(tmp_path / "x", "w+b") as both_ways, open(tmp_path / "x") as text, open(tmp_path / "x", "wb") as writes:
        assert [type(one) for one in (both_ways, text, writes)] == [
            io.BufferedRandom, io.TextIOWrapper, io.BufferedWriter
        ]  # fmt: skip
        assert type(text.buffer) is io.BufferedReader
    assert type(io.TextIOWrapper(io.BytesIO())) is io.TextIOWrapper
