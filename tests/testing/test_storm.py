"""Requests that end at any moment: whatever is cut where, the app and the client come out whole."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Request, testing
from coserver.testing import Disconnected

REQUESTS = 150


def make_app() -> App:
    app = App(limits=Limits(handler_timeout=0.05, body_size=300_000))
    app.get("/")(lambda: "ok")
    app.get("/boom")(lambda: 1 / 0)
    app.post("/echo")(echo)
    app.post("/both", stream=True)(both)
    app.get("/slow/{ms}")(slow)
    app.get("/half")(half)
    return app


def echo(request: Request) -> bytes:
    return request.body


async def both(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        yield piece


async def slow(ms: int) -> str:
    await anyio.sleep(ms / 1000)
    return "slow"


async def half() -> AsyncIterator[str]:
    yield "a" * 100_000
    raise RuntimeError


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        await anyio.sleep(0)  # noqa: ASYNC115
        yield b"x" * 9_000


async def one(c: testing.Client, chance: random.Random) -> None:
    what = chance.randrange(8)
    with anyio.move_on_after(chance.choice([0.0, 0.001, 0.01, 0.03, 5])):
        if what == 0:
            assert (await c.get("/")).text == "ok"
        elif what == 1:
            assert (await c.get("/boom")).status == 500
        elif what == 2:
            assert (await c.post("/echo", body=b"x" * 200_000)).status == 200
        elif what == 3:
            assert (await c.post("/echo", body=pieces(40))).status == 413
        elif what == 4:
            assert len((await c.post("/both", body=pieces(20))).body) == 180_000
        elif what == 5:
            assert (await c.get(f"/slow/{chance.randrange(100)}")).status in (200, 503)
        elif what == 6:
            with pytest.raises(Disconnected):
                await c.get("/half")
        else:
            async with c.stream("POST", "/both", body=pieces(20)) as r:
                await r.receive()


@pytest.mark.parametrize("seed", range(4))
async def test_storm(seed: int, anyio_backend: Any) -> None:
    chance = random.Random(seed)
    async with testing.client(make_app(), raise_errors=False) as c:
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for _ in range(REQUESTS // 3):
                    tasks.start_soon(one, c, chance)
        assert (await c.get("/")).text == "ok"
        with anyio.fail_after(10):
            while c.connections > len(c._idle):  # noqa: ASYNC110 - the server may be a turn behind
                await anyio.sleep(0.01)
