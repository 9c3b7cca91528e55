"""Run good and hostile clients against one server process for a long time: its resources must not grow.

``python -m benchmarks.soak [--seconds 600] [--backend trio]``, loopback only. Every few seconds all clients pause. When
the deadlines of the hostile clients are over, the server reports its memory, descriptors, tasks and threads. The soak
ends with 200 starts and stops under load. The exit code is 1 if anything has grown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median

import anyio
from anyio.abc import SocketAttribute, SocketStream

from coserver.app.config.validate import backend_arguments

HERE = Path(__file__).parent
#: Clients at once, and the most connections of a round: a round is bounded in number and in time.
CLIENTS, ROUND_MAX = 60, 4000
#: Seconds of load, then seconds of rest. The rest is longer than every timeout in soak_app.
LOAD, REST = 8.0, 4.5
#: The first rounds fill caches and pools.
WARM_UP = 3
#: The fewest rounds after the warm-up: the first three are compared with the last three.
ROUNDS = 6
#: Bytes beyond a tenth: two arenas. The allocator keeps some memory, so rounds differ; a leak lifts the minimum.
RSS_SLACK = 2 << 20
CYCLES = 200

Talk = Callable[[SocketStream], Awaitable[None]]


async def _ask(stream: SocketStream, request: bytes, least: int = 1) -> None:
    await stream.send(request)
    read = 0
    while read < least:
        read += len(await stream.receive())


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: soak\r\n\r\n".encode()


async def keep_alive(stream: SocketStream) -> None:
    for path in ("/", "/def", "/after", "/fail", "/nowhere", "/"):
        await _ask(stream, _get(path))


async def upload(stream: SocketStream) -> None:
    size = random.choice([0, 10, 100_000, 2_000_000])
    head = f"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: {size}\r\n\r\n".encode()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.send, head + bytes(size))
        await _ask(stream, b"", size)


async def download(stream: SocketStream) -> None:
    await _ask(stream, _get(random.choice(["/large", "/stream"])), 3_900_000)


async def pipelined(stream: SocketStream) -> None:
    await _ask(stream, _get("/") * 200, 200 * 60)


async def leaves_early(stream: SocketStream) -> None:
    await stream.send(_get(random.choice(["/slow", "/large", "/stream", "/def"])))
    await anyio.sleep(random.uniform(0, 0.1))


async def resets(stream: SocketStream) -> None:
    await leaves_early(stream)
    stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def half_closes(stream: SocketStream) -> None:
    await stream.send(_get("/slow"))
    await stream.send_eof()
    await _drain(stream)


async def trickles_a_head(stream: SocketStream) -> None:
    for byte in _get("/"):
        await stream.send(bytes([byte]))
        await anyio.sleep(0.1)


async def stops_in_a_body(stream: SocketStream) -> None:
    await stream.send(b"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: 5000000\r\n\r\n" + bytes(1_500_000))
    await _drain(stream)


async def never_reads(stream: SocketStream) -> None:
    await stream.send(_get("/large") * 3)
    await anyio.sleep(2.5)


async def garbage(stream: SocketStream) -> None:
    await stream.send(random.randbytes(random.randint(1, 3000)))
    await _drain(stream)


async def truncated(stream: SocketStream) -> None:
    request = _get("/")
    await stream.send(request[: random.randrange(len(request))])


async def idles(stream: SocketStream) -> None:
    await anyio.sleep(random.uniform(0, 2))


async def _drain(stream: SocketStream) -> None:
    while True:
        await stream.receive()


async def chats(stream: SocketStream) -> None:
    for _ in range(10):
        await _ask(stream, b"hello\n")


async def chat_breaks_off(stream: SocketStream) -> None:
    await stream.send(b"half a li")


HTTP: tuple[Talk, ...] = (
    keep_alive, keep_alive, keep_alive, upload, download, pipelined, leaves_early, resets, half_closes, trickles_a_head,
    stops_in_a_body, never_reads, garbage, truncated, idles,
)  # fmt: skip
TCP: tuple[Talk, ...] = (chats, chat_breaks_off)


async def pour(http: int, tcp: int, seconds: float) -> Counter[str]:
    """Run one round of load. Returns how many clients of each kind have ended."""
    until, made, done = time.monotonic() + seconds, itertools.count(), Counter[str]()

    async def client(number: int) -> None:
        while time.monotonic() < until and next(made) < ROUND_MAX:
            talk = random.choice(HTTP + TCP)
            try:
                with anyio.move_on_after(6):
                    async with await anyio.connect_tcp("127.0.0.1", tcp if talk in TCP else http) as stream:
                        await talk(stream)
                done[talk.__name__] += 1
            except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, ExceptionGroup):
                done[talk.__name__] += 1  # such clients end like this

    async with anyio.create_task_group() as tasks:
        for number in range(CLIENTS):
            tasks.start_soon(client, number)
    return done


async def holds(port: int) -> dict[str, int]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"GET /holds HTTP/1.0\r\n\r\n")
        said = b""
        try:
            while True:
                said += await stream.receive()
        except anyio.EndOfStream:
            found: dict[str, int] = json.loads(said.partition(b"\r\n\r\n")[2])
            return found


def grown(rows: list[dict[str, int]]) -> list[str]:
    """The resources that grew from the first third of the rounds to the last, without the warm-up."""
    rows = rows[WARM_UP:]
    third = max(len(rows) // 3, 3)
    problems = []
    for name in rows[0]:
        typical = min if name == "rss" else median
        before, after = (typical(row[name] for row in part) for part in (rows[:third], rows[-third:]))
        if after > before * (1.1 if name == "rss" else 1) + (RSS_SLACK if name == "rss" else 1):
            problems.append(f"{name} grew from {before:,.0f} to {after:,.0f}")
    return problems


async def soak(http: int, tcp: int, seconds: float) -> list[str]:
    until, rows, total = time.monotonic() + seconds, list[dict[str, int]](), Counter[str]()
    while time.monotonic() < until or len(rows) < WARM_UP + ROUNDS:
        total += await pour(http, tcp, LOAD)
        await anyio.sleep(REST)
        rows.append(await holds(http))
        print(f"round {len(rows):3}: {sum(total.values()):7} clients, {rows[-1]}", flush=True)
    print(", ".join(f"{name} {count}" for name, count in sorted(total.items())))
    return grown(rows)


async def cycles(count: int) -> list[str]:
    """Start and stop a server under load, in this process. The leak check raises for anything left behind."""
    from coserver.testing import checks

    from .servers.soak_app import app

    logging.getLogger("coserver").setLevel(logging.CRITICAL)

    async def load(port: int) -> None:
        try:
            while True:
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await random.choice((keep_alive, leaves_early, resets, truncated))(stream)
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            pass

    for number in range(count):
        with anyio.fail_after(60):
            async with checks.unleaking(), anyio.create_task_group() as tasks:
                async with app.serving() as server:
                    await checks.until_polling()
                    for _ in range(8):
                        tasks.start_soon(load, server.port)
                    await anyio.sleep(random.uniform(0, 0.05))
                    server.stop(random.choice([0, 0.05, 1]))
                    await server.wait()
                tasks.cancel_scope.cancel()
        if number % 50 == 49:
            print(f"{number + 1} starts and stops", flush=True)
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--backend", choices=["asyncio", "uvloop", "trio"], default="asyncio")
    asked = parser.parse_args()
    command = [sys.executable, "-m", "coserver_cli", "serve", "soak_app:app", "--app-dir", str(HERE / "servers"),
               "--port", "0", "--backend", asked.backend, "--no-access-log", "--log-level", "critical"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            ports: dict[str, int] = {}
            for line in process.stderr:
                if found := re.search(r"(http|tcp)://\S+:(\d+)", line):
                    ports[found[1]] = int(found[2])
                if "Press Ctrl" in line:
                    break
            problems = anyio.run(partial(soak, ports["http"], ports["tcp"], asked.seconds))
        finally:
            process.terminate()
            process.communicate(timeout=30)
    if process.returncode:
        problems.append(f"the server ended with code {process.returncode}")
    problems += anyio.run(partial(cycles, asked.cycles), **backend_arguments(asked.backend))
    print("\n".join(problems) or "flat")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
