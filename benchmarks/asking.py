"""Run one client: `python -m benchmarks.asking WHO LOOP CODEC IN_FLIGHT COUNT PORT`. It prints a line of JSON.

WHO is coserver, aiohttp, httpx or urllib3. A tenth of the requests warms it up. CPU is the user and system time of this
process, and counts only the requests.
"""

import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable

import anyio


class Meter:
    """Measures CPU and time between ``begin`` and ``end``."""

    def begin(self) -> None:
        self._cpu, self._time = _cpu(), time.monotonic()

    def end(self) -> tuple[float, float]:
        return _cpu() - self._cpu, time.monotonic() - self._time


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def in_flight(ask: Callable[[], Awaitable[None]], width: int, count: int) -> None:
    """Make ``count`` requests, ``width`` at a time: each of ``width`` tasks makes one request after another."""

    async def one_after_another(times: int) -> None:
        for _ in range(times):
            await ask()

    if width == 1:
        await one_after_another(count)
        return
    async with anyio.create_task_group() as tasks:
        for _ in range(width):
            tasks.start_soon(one_after_another, count // width)


async def measured(ask: Callable[[], Awaitable[None]], width: int, count: int) -> tuple[float, float]:
    await in_flight(ask, width, max(count // 10, width))
    meter = Meter()
    meter.begin()
    await in_flight(ask, width, count)
    return meter.end()


async def coserver(codec: str, width: int, count: int, url: str) -> tuple[float, float]:
    from coserver import Upstream

    async with Upstream(url, codec=codec) as upstream:

        async def ask() -> None:
            answer = await upstream.get("/x")
            assert answer.body == b"ok"

        return await measured(ask, width, count)


async def aiohttp(codec: str, width: int, count: int, url: str) -> tuple[float, float]:
    from aiohttp import ClientSession, TCPConnector

    async with ClientSession(connector=TCPConnector(limit=100)) as session:

        async def ask() -> None:
            async with session.get(f"{url}/x") as answer:
                assert await answer.read() == b"ok"

        return await measured(ask, width, count)


async def httpx(codec: str, width: int, count: int, url: str) -> tuple[float, float]:
    from httpx import AsyncClient

    async with AsyncClient() as client:

        async def ask() -> None:
            answer = await client.get(f"{url}/x")
            assert answer.content == b"ok"

        return await measured(ask, width, count)


def urllib3(width: int, count: int, url: str) -> tuple[float, float]:
    """A thread for each request in flight, as urllib3 is usually used."""
    from threading import Thread

    from urllib3 import PoolManager

    pool = PoolManager(maxsize=width, block=True)

    def work(times: int) -> None:
        for _ in range(times):
            assert pool.request("GET", f"{url}/x").data == b"ok"

    def run(times: int) -> None:
        threads = [Thread(target=work, args=(times // width,)) for _ in range(width)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run(max(count // 10, width))
    meter = Meter()
    meter.begin()
    run(count)
    return meter.end()


CLIENTS = {"coserver": coserver, "aiohttp": aiohttp, "httpx": httpx}


def main() -> None:
    who, loop, codec, width, count, port = sys.argv[1:]
    url = f"http://127.0.0.1:{port}"
    if who == "urllib3":
        cpu, seconds = urllib3(int(width), int(count), url)
    else:
        backend = "trio" if loop == "trio" else "asyncio"
        options = {"use_uvloop": True} if loop == "uvloop" else {}
        client = CLIENTS[who]
        cpu, seconds = anyio.run(client, codec, int(width), int(count), url, backend=backend, backend_options=options)
    print(json.dumps({"cpu": cpu, "seconds": seconds, "requests": int(count) // int(width) * int(width)}))


if __name__ == "__main__":
    main()
