"""Measure blocking calls beside their alternatives: `python -m benchmarks.blocking WHAT LOOP`. Prints a line of JSON.

WHAT is a name in ``MEASURES``; its function returns figures by name. Time is the user and system CPU of this process.
Compared calls take turns within the process, in batches so short that the machine does not change meanwhile.
"""

import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import anyio.to_thread

from coserver import await_, hooks, run_blocking

Figures = dict[str, float]

BATCHES = 15
CALLS = 5_000
TRIPS = 800
FOREIGN_CALLS = 20_000
SUSPENDED = 2_000
HELD_SECONDS = 2.0
#: Seconds of the timeouts. They never come; setting them costs.
TIMEOUT = 30.0


async def calls() -> Figures:
    """Time a pooled worker that calls an empty function; in µs."""
    return {"call": 1e6 * median([await _per_call(_calls, CALLS) for _ in range(BATCHES)])}


async def _calls(times: int) -> None:
    for _ in range(times):
        await run_blocking(_nothing)


def _nothing() -> None:
    pass


async def _per_call(work: Callable[[int], Awaitable[object]], times: int) -> float:
    """CPU seconds of one call, out of ``times`` calls."""
    begin = time.process_time()
    await work(times)
    return (time.process_time() - begin) / times


async def trips() -> Figures:
    """Time a byte there and back, with a wait in each receive: between two workers, and between two ``async def``."""
    hooks.install()
    blocking, timed, plain, limited = (
        lambda times: _between(_blocking, None, times),
        lambda times: _between(_blocking, TIMEOUT, times),
        lambda times: _between(_async, None, times),
        lambda times: _between(_async, TIMEOUT, times),
    )
    ways = {"hooked": blocking, "async": plain, "hooked-timeout": timed, "async-timeout": limited}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        await way(TRIPS // 4)
    for _ in range(BATCHES):
        for name, way in ways.items():
            taken[name].append(await _per_call(way, TRIPS))
    return {name: 1e6 * median(them) for name, them in taken.items()} | {
        f"{name} ratio": median(a / b for a, b in zip(taken[name], taken[against], strict=True))
        for name, against in (("hooked", "async"), ("hooked-timeout", "async-timeout"))
    }


Peer = Callable[[socket.socket, int, bool, float | None], Awaitable[None]]


async def _between(peer: Peer, limit: float | None, times: int) -> None:
    one, other = socket.socketpair()
    with one, other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer, one, times, True, limit)
            tasks.start_soon(peer, other, times, False, limit)


async def _blocking(sock: socket.socket, times: int, first: bool, limit: float | None) -> None:
    sock.settimeout(limit)
    await run_blocking(_talk, sock, times, first)


def _talk(sock: socket.socket, times: int, first: bool) -> None:
    for _ in range(times):
        if first:
            sock.send(b".")
        sock.recv(1)
        if not first:
            sock.send(b".")


async def _async(sock: socket.socket, times: int, first: bool, limit: float | None) -> None:
    sock.setblocking(False)
    for _ in range(times):
        if first:
            sock.send(b".")
        if limit is None:
            await _received(sock)
        else:
            with anyio.fail_after(limit):
                await _received(sock)
        if not first:
            sock.send(b".")


async def _received(sock: socket.socket) -> bytes:
    while True:
        try:
            return sock.recv(1)
        except BlockingIOError:
            await anyio.wait_readable(sock)


async def foreign() -> Figures:
    """The extra cost of a hooked call in a thread that has nothing to do with coserver; in nanoseconds."""
    free: list[Any] = []
    await anyio.to_thread.run_sync(_foreign, free, "")
    hooks.install()
    async with anyio.create_task_group() as tasks:
        done = anyio.Event()
        tasks.start_soon(run_blocking, _hold, done)
        await anyio.sleep(0.1)  # now the worker holds its locks; otherwise the figures would repeat those above
        await anyio.to_thread.run_sync(_foreign, free, ", a worker has others")
        done.set()
    return dict(free)


def _hold(done: anyio.Event) -> None:
    lock, rlock = threading.Lock(), threading.RLock()
    with lock, rlock:
        await_(done.wait())


def _foreign(found: list[Any], suffix: str) -> None:
    """Install and uninstall the shims in turn. A worker that holds locks took them before that."""
    with _loops() as loops:
        taken: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(BATCHES):
            hooks.uninstall()
            before = {name: _timed(loop) for name, loop in loops.items()}
            hooks.install()
            for name, loop in loops.items():
                taken[name].append(_timed(loop) - before[name])
    found += ((name + suffix, 1e9 * median(them)) for name, them in taken.items())


def _timed(loop: Callable[[Any], object]) -> float:
    times = range(FOREIGN_CALLS)
    begin = time.thread_time()
    loop(times)
    return (time.thread_time() - begin) / FOREIGN_CALLS


@contextlib.contextmanager
def _loops() -> Iterator[dict[str, Callable[[Any], object]]]:
    """Loops by name. Each makes the calls of its name so many times, and never has to wait."""
    one, other = socket.socketpair()
    reading, writing = os.pipe()
    lock, rlock = threading.Lock(), threading.RLock()
    one.setblocking(False)
    other.setblocking(False)
    other.send(b".")

    def lock_pair(times: Any) -> None:
        for _ in times:
            with lock:
                pass

    def rlock_pair(times: Any) -> None:
        for _ in times:
            with rlock:
                pass

    def lock_calls(times: Any) -> None:
        for _ in times:
            lock.acquire()
            lock.release()

    def rlock_calls(times: Any) -> None:
        for _ in times:
            rlock.acquire()
            rlock.release()

    def receive(times: Any) -> None:
        for _ in times:
            one.recv(1, socket.MSG_PEEK)

    def write(times: Any) -> None:
        for _ in times:
            os.write(writing, b"")

    def look(times: Any) -> None:
        for _ in times:
            select.select((), (), (), 0)

    with one, other:
        try:
            yield {
                "with Lock": lock_pair,
                "with RLock": rlock_pair,
                "Lock.acquire, release": lock_calls,
                "RLock.acquire, release": rlock_calls,
                "socket.recv": receive,
                "os.write": write,
                "select.select": look,
            }
        finally:
            os.close(reading)
            os.close(writing)


async def held_async() -> Figures:
    """The memory of one task that sleeps in ``async def``; in KB."""
    return {"each": await _held(anyio.sleep)}


async def held_hooked() -> Figures:
    """The same with a worker in ``time.sleep``; in KB. It needs a new process, since freed memory is used again."""
    hooks.install()
    return {"each": await _held(_sleeps_in_worker)}


async def _sleeps_in_worker(seconds: float) -> None:
    await run_blocking(time.sleep, seconds)


async def _held(sleeps: Callable[[float], Awaitable[None]]) -> float:
    await sleeps(0.01)  # allocates what is needed only once
    before = _anonymous_kb()
    async with anyio.create_task_group() as tasks:
        for _ in range(SUSPENDED):
            tasks.start_soon(sleeps, HELD_SECONDS)
        await anyio.sleep(HELD_SECONDS / 2)
        more = _anonymous_kb() - before
    return more / SUSPENDED


def _anonymous_kb() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


#: The measurements. All but ``foreign`` run on each loop.
MEASURES: dict[str, Callable[[], Awaitable[Figures]]] = {
    "calls": calls,
    "trips": trips,
    "foreign": foreign,
    "held-async": held_async,
    "held-hooked": held_hooked,
}


def main() -> None:
    what, loop = sys.argv[1:]
    backend = "trio" if loop == "trio" else "asyncio"
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    print(json.dumps(anyio.run(MEASURES[what], backend=backend, backend_options=options)))


if __name__ == "__main__":
    main()
