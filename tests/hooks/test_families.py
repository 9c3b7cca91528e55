"""DNS, select and its kin, pipes, children, file locks: that only the worker waits, and all else is as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import RequestCancelled, run_blocking
from coserver.hooks.shims import pipes

from .running import both, ticking

pytestmark = pytest.mark.usefixtures("hooked")


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reads, writes = os.pipe()
    try:
        yield reads, writes
    finally:
        for fd in (reads, writes):
            try:
                os.close(fd)
            except OSError:
                pass


# DNS.


async def test_look_ups() -> None:
    def look() -> tuple[Any, ...]:
        return (
            socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)[0][4][1],
            socket.getaddrinfo("127.0.0.1", 80)[0][4],
            socket.gethostbyname("localhost"),
            socket.gethostbyname_ex("localhost")[2][:1],
            socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
            isinstance(socket.gethostbyaddr("127.0.0.1")[0], str),
        )

    assert await run_blocking(look) == look()


async def test_a_slow_look_up_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from coserver.hooks.shims import dns

    go_on = threading.Event()
    monkeypatch.setattr(dns, "_getaddrinfo", lambda *args: (go_on.wait(10), args)[1])

    def look() -> Any:
        return socket.getaddrinfo("slow.example", 80, socket.AF_INET)

    def release() -> None:
        time.sleep(0.02)
        go_on.set()

    assert (await both(look, release))[0][:3] == ("slow.example", 80, socket.AF_INET)


async def test_what_has_no_name() -> None:
    def look() -> None:
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("no-such-host.invalid", 80)
        with pytest.raises(socket.gaierror):
            socket.create_connection(("no-such-host.invalid", 80))
        with pytest.raises(TypeError):
            socket.gethostbyname(5)  # type: ignore[arg-type]

    await run_blocking(look)


async def test_a_cancelled_look_up_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    from coserver.hooks.shims import dns

    go_on = threading.Event()
    monkeypatch.setattr(dns, "_gethostbyname", lambda name: go_on.wait(10) and "1.2.3.4")
    with anyio.move_on_after(0.02) as scope:
        await run_blocking(socket.gethostbyname, "slow.example")
    assert scope.cancelled_caught
    go_on.set()


# select, poll, epoll, selectors.


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


# Pipes.


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


# Children.


async def test_run_and_wait() -> None:
    def run() -> None:
        code = "import time, sys; time.sleep(0.05); print('out'); sys.exit(3)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (3, "out\n")
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
            assert cat.communicate(b"x" * 300_000)[0] == b"x" * 300_000
        assert subprocess.check_output(["echo", "x"]) == b"x\n"
        with os.popen("echo popen") as file:
            assert file.read() == "popen\n"
        assert os.system("exit 3") >> 8 == 3

    async with ticking() as turns:
        await run_blocking(run)
    assert len(turns) > 2


async def test_a_wait_times_out() -> None:
    def run() -> None:
        with subprocess.Popen(["sleep", "60"]) as child:
            started = time.monotonic()
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.03)
            assert time.monotonic() - started >= 0.03
            child.kill()
            assert child.wait() == -9
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "60"], timeout=0.03, check=False)

    await run_blocking(run)


async def test_a_wait_is_cancelled() -> None:
    events: list[str] = []

    def run() -> None:
        child = subprocess.Popen(["sleep", "60"])
        try:
            child.wait()
        except RequestCancelled:
            events.append("cancelled")
            raise
        finally:
            child.kill()
            events.append(str(child.wait()))

    with anyio.move_on_after(0.05) as scope:
        await run_blocking(run)
    assert scope.cancelled_caught
    assert events == ["cancelled", "-9"]


async def test_waits_by_os(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn() -> int:
        return os.posix_spawnp("sleep", ["sleep", "0.02"], os.environ)

    def run() -> None:
        pid = spawn()
        assert os.waitpid(pid, 0) == (pid, 0)
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, 0)
        pid = spawn()
        assert os.wait4(pid, 0)[:2] == (pid, 0)
        pid = spawn()
        found = os.waitid(os.P_PID, pid, os.WEXITED)
        assert found is not None
        assert found.si_pid == pid
        pid = spawn()
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        assert os.wait() == (pid, 0)
        pid = spawn()
        assert os.wait3(0)[0] == pid

    async with ticking() as turns:
        await run_blocking(run)
        from coserver.hooks.shims import processes

        monkeypatch.setattr(processes, "_pidfd_open", None)
        assert await run_blocking(lambda: subprocess.run(["sleep", "0.02"], check=False).returncode) == 0
    assert len(turns) > 2


# File locks.


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
