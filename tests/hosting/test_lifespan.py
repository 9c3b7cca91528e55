"""Startup and shutdown of ASGI applications."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

import coserver
from coserver import App, SetupError

from ..server.clients import get, talking


class Site:
    """An application whose lifespan does what ``start`` and ``stop`` say."""

    def __init__(self, start: str = "complete", stop: str = "complete") -> None:
        self.start, self.stop = start, stop
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.seen.append(dict(scope.get("state", {"none": True})))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        self.seen.append((await receive())["type"])
        scope["state"]["made"] = "at startup"
        await self.say("startup", self.start, send)
        if self.start == "return":
            return
        self.seen.append((await receive())["type"])
        await self.say("shutdown", self.stop, send)

    async def say(self, when: str, what: str, send: Any) -> None:
        if what == "raise":
            raise ValueError(f"at {when}")
        if what == "wrong":
            await send({"type": "lifespan.nonsense"})
        if what in ("complete", "failed"):
            await send({"type": f"lifespan.{when}.{what}", "message": "no database"})


async def test_startup_state_and_shutdown() -> None:
    site = Site()
    outer = App("outer")
    outer.mount("/a", site)
    async with talking(outer) as (_, client):
        for _ in range(2):
            assert (await client.ask(get("/a/"))).text == "ok"
    assert site.seen == ["lifespan.startup", {"made": "at startup"}, {"made": "at startup"}, "lifespan.shutdown"]


@pytest.mark.parametrize("start", ["raise", "return", "wrong"])
async def test_one_without_a_lifespan_is_served(start: str) -> None:
    site = Site(start)
    async with talking(coserver.host(site)) as (_, client):
        assert (await client.ask(get("/"))).text == "ok"
    assert site.seen == ["lifespan.startup", {"none": True}]
    with pytest.raises(SetupError, match=r"before lifespan\.startup\.complete; with lifespan='auto'"):
        async with coserver.host(Site(start), lifespan="on").serving():
            pass


async def test_a_failed_startup_ends_the_start() -> None:
    with pytest.raises(SetupError, match="the startup of Site failed: no database"):
        async with coserver.serving(Site("failed")):
            pass


@pytest.mark.parametrize("stop", ["failed", "raise"])
async def test_a_failed_shutdown_is_logged(stop: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        async with coserver.serving(Site(stop=stop)):
            pass
    assert "the shutdown of Site failed" in caplog.text


async def test_the_error_of_the_block_goes_on() -> None:
    site = Site()
    with pytest.raises(KeyError, match="mine"):
        async with coserver.serving(site):
            raise KeyError("mine")
    assert site.seen[-1] == "lifespan.shutdown"


async def test_a_cancelled_server_leaves_time_for_the_shutdown() -> None:
    site = Site()
    with anyio.CancelScope() as scope:
        async with coserver.serving(site) as server:
            scope.cancel()
            await server.wait()
    assert site.seen[-1] == "lifespan.shutdown"
