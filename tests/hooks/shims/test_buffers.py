"""Family "buffers": files on pipes and sockets that several workers use at once."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from coserver import RequestCancelled, run_blocking

from ..side_by_side import both, pipe

pytestmark = pytest.mark.usefixtures("hooked")

SIZE = 300_000


@contextmanager
def writer(kind: str) -> Iterator[tuple[Any, int]]:
    """A file to write, and the descriptor at the other end."""
    if kind == "socket":
        ours, theirs = socket.socketpair()
        with ours, theirs, ours.makefile("wb") as file:
            yield file, theirs.fileno()
        return
    with pipe() as (reads, writes), os.fdopen(os.dup(writes), "w" if kind == "text" else "wb") as file:
        yield file, reads


def read_all(fd: int, size: int) -> bytes:
    got = b""
    while len(got) < size:
        time.sleep(0.001)
        got += os.read(fd, 20_000)
    return got


@pytest.mark.parametrize("kind", ["pipe", "socket", "text"])
async def test_writers_wait_for_each_other(kind: str) -> None:
    with writer(kind) as (file, other):

        def write(letter: str) -> None:
            whole = letter * SIZE
            for at in range(0, SIZE, 50_000):
                file.write(whole[at : at + 50_000] if kind == "text" else whole[at : at + 50_000].encode())
            file.flush()

        got: list[bytes] = []
        async with anyio.create_task_group() as tasks:
            for letter in "abc":
                tasks.start_soon(run_blocking, write, letter)
            got.append(await run_blocking(read_all, other, 3 * SIZE))
        assert sorted(got[0].decode()) == sorted("abc" * SIZE)


@pytest.mark.parametrize("kind", ["pipe", "socket", "text"])
async def test_readers_wait_for_each_other(kind: str) -> None:
    lines = [f"{number:06}" for number in range(3000)]
    ours, theirs = socket.socketpair()
    reads, writes = os.pipe()
    fd = theirs.fileno() if kind == "socket" else writes
    file: Any = ours.makefile("rb") if kind == "socket" else os.fdopen(reads, "r" if kind == "text" else "rb")
    found: list[str] = []

    def send() -> None:
        for at in range(0, len(lines), 100):
            os.write(fd, "".join(f"{line}\n" for line in lines[at : at + 100]).encode())
            time.sleep(0.001)
        os.close(theirs.detach() if kind == "socket" else writes)

    def read() -> None:
        for line in file:
            found.append((line if kind == "text" else line.decode()).strip())

    def readline() -> None:
        while line := file.readline():
            found.append((line if kind == "text" else line.decode()).strip())

    try:
        async with anyio.create_task_group() as tasks:
            for each in (send, read, readline, read):
                tasks.start_soon(run_blocking, each)
    finally:
        file.close()
        ours.close()
        for one in (reads, writes):
            if kind == "socket":
                os.close(one)
        theirs.close()
    assert sorted(found) == lines


def start_cat() -> subprocess.Popen[str]:
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


async def test_a_process_that_several_talk_to() -> None:
    with start_cat() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        answers: list[str] = []

        def write(letter: str) -> None:
            for _ in range(50):
                child.stdin.write(letter * 3000 + "\n")  # type: ignore[union-attr]
                child.stdin.flush()  # type: ignore[union-attr]

        def read() -> None:
            for line in child.stdout:  # type: ignore[union-attr]
                answers.append(line.strip())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, read)
            tasks.start_soon(run_blocking, read)
            async with anyio.create_task_group() as writers:
                for letter in "xyz":
                    writers.start_soon(run_blocking, write, letter)
            await run_blocking(child.stdin.close)
    assert sorted(answers) == sorted(letter * 3000 for letter in "xyz" for _ in range(50))


async def test_the_loop_is_told_who_is_inside() -> None:
    with pipe() as (reads, writes), os.fdopen(os.dup(reads), "rb") as file:

        def read() -> bytes:
            return file.read(5)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, read)
            await anyio.sleep(0.02)
            with pytest.raises(RuntimeError, match=r"in use by a handler that is suspended.*test_buffers") as refused:
                file.read(1)
            assert "BufferedReader" in str(refused.value)
            os.write(writes, b"hello")
        os.write(writes, b"x")
        assert file.read(1) == b"x"  # now nobody is inside


async def test_a_thread_waits_as_a_worker_does() -> None:
    with pipe() as (reads, writes), os.fdopen(os.dup(reads), "rb") as file:
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.append(file.read(5)))
        async with anyio.create_task_group() as tasks:

            async def first() -> None:
                found.append(await run_blocking(file.read, 5))

            tasks.start_soon(first)
            await anyio.sleep(0.02)
            thread.start()
            await anyio.sleep(0.02)
            os.write(writes, b"helloworld")
        await run_blocking(thread.join)
        assert found == [b"hello", b"world"]


async def test_a_close_waits_for_who_reads() -> None:
    with pipe() as (reads, writes):
        file = os.fdopen(os.dup(reads), "rb")

        def write_and_close() -> None:
            time.sleep(0.02)
            os.write(writes, b"hello")
            file.close()

        assert await both(lambda: file.read(5), write_and_close) == [b"hello", None]
        assert file.closed


async def test_a_cancelled_reader_leaves_the_file() -> None:
    with pipe() as (reads, writes), os.fdopen(os.dup(reads), "rb") as file:

        def read() -> bytes:
            try:
                return file.read(5)
            except RequestCancelled:
                return b"cancelled"

        with anyio.move_on_after(0.05):
            await run_blocking(read)
        os.write(writes, b"hello")
        assert await run_blocking(read) == b"hello"


async def test_a_cancelled_writer_loses_nothing_and_repeats_nothing() -> None:
    with pipe() as (reads, writes), os.fdopen(os.dup(writes), "wb") as file:

        def write() -> None:
            file.write(b"a" * SIZE)
            file.flush()

        with anyio.move_on_after(0.05):
            await run_blocking(write)

        def rest() -> None:
            file.write(b"b")
            file.flush()
            os.write(writes, b"|")

        got: list[bytes] = []

        def read() -> None:
            whole = b""
            while not whole.endswith(b"|"):
                whole += os.read(reads, 50_000)
            got.append(whole)

        await both(rest, read)
        text = got[0].decode()
        assert text.endswith("b|")
        assert text[:-2] == "a" * (len(text) - 2)
        assert len(text) - 2 <= SIZE


def test_the_classes_look_as_before() -> None:
    with pipe() as (reads, writes):
        with os.fdopen(os.dup(writes), "wb") as file:
            assert isinstance(file, io.BufferedWriter)
            assert type(file).__name__ == "BufferedWriter"
            assert type(file).__module__ == "_io"
        with os.fdopen(os.dup(reads), "r") as text:
            assert isinstance(text, io.TextIOWrapper)
            assert repr(text).startswith("<_io.TextIOWrapper")
            assert isinstance(text.buffer, io.BufferedReader)
    with open(os.devnull, "rb") as null, open(__file__, "rb") as plain:
        assert type(plain) is io.BufferedReader
        assert isinstance(null, io.BufferedReader)
