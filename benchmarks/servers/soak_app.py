"""The app of the soak: a handler of each kind, and a report of the process's resources."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio

from coserver import App, Limits, Request, await_

# Short, so that each kind of hostile client ends many times in a minute.
LIMITS = Limits(head_timeout=1, body_timeout=1, write_timeout=1, idle_timeout=3, linger_timeout=0.5, handler_timeout=5)
app = App("soak", limits=LIMITS)


@app.get("/")
async def index() -> str:
    return "ok"


@app.get("/def")
def blocking() -> dict[str, int]:
    await_(anyio.sleep(0.005))
    return {"answer": 42}


@app.get("/slow")
async def slow() -> str:
    await anyio.sleep(0.5)
    return "late"


@app.get("/large")
async def large() -> bytes:
    return bytes(4_000_000)


@app.get("/stream")
async def stream() -> AsyncIterator[bytes]:
    for _ in range(200):
        yield bytes(20_000)


@app.post("/echo")
async def echo(request: Request) -> bytes:
    return request.body


@app.get("/after")
async def after(request: Request) -> str:
    request.after(lambda: None)
    return "ok"


@app.get("/fail")
async def fail() -> None:
    raise ValueError("as the soak wants it")


@app.tcp(name="lines", framing="lines")
async def lines(connection: Any) -> None:
    async for line in connection:
        await connection.send(line)


@app.get("/holds")
async def holds() -> dict[str, int]:
    gc.collect()
    if hasattr(_libc := ctypes.CDLL(None), "malloc_trim"):  # give back memory that only the allocator keeps
        _libc.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])  # noqa: ASYNC240
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        "fds": len(os.listdir("/proc/self/fd")),
        "tasks": len(anyio.get_running_tasks()),
        "threads": threading.active_count(),
    }
