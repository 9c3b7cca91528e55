"""``def`` endpoints of FastAPI and Starlette in workers."""

from __future__ import annotations

import logging
import threading
import time
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

import coserver
from coserver.hosting import threadpool

from ..server.clients import connect, get, talking

pytest.importorskip("fastapi")

from fastapi import BackgroundTasks, Depends, FastAPI
from starlette import concurrency
from starlette.responses import StreamingResponse

mark: ContextVar[str] = ContextVar("mark", default="none")
ORIGINALS = concurrency.run_in_threadpool, concurrency.iterate_in_threadpool


def shop(seen: list[Any]) -> FastAPI:
    app = FastAPI()

    def dependency() -> str:
        time.sleep(0.01)
        return threading.current_thread().name

    @app.get("/sleep")
    def sleep() -> str:
        time.sleep(0.3)
        return threading.current_thread().name

    @app.get("/local")
    def local(name: str = Depends(dependency)) -> dict[str, Any]:
        before = mark.get()
        mark.set("set")
        seen.append((threading.get_native_id(), before))
        return {"native": threading.get_native_id()}

    @app.get("/boom")
    def boom() -> None:
        time.sleep(0.001)
        raise ValueError("boom")

    @app.get("/stream")
    def stream() -> StreamingResponse:
        def pieces() -> Any:
            for number in range(5):
                time.sleep(0.005)
                yield f"{number},"

        return StreamingResponse(pieces())

    @app.get("/work")
    def work(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: seen.append("done"))
        return "ok"

    @app.get("/spin")
    def spin() -> int:
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            pass
        return threading.get_native_id()

    @app.get("/from")
    def from_thread() -> str:
        async def inner() -> str:
            await anyio.sleep(0.001)
            return "from the loop"

        return anyio.from_thread.run(inner)

    return app


async def test_a_hundred_at_once_on_a_handful_of_threads() -> None:
    async with talking(coserver.host(shop([]))) as (server, _):
        before = threading.active_count()
        most = 0
        began = time.monotonic()

        async def one() -> None:
            nonlocal most
            async with connect(server.port) as client:
                assert (await client.ask(get("/sleep"))).status == 200
                most = max(most, threading.active_count())

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(one)
        assert time.monotonic() - began < 5  # in 40 threads at least three rounds; one after another 30 s
        assert most - before < 10


async def test_they_behave_as_in_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    async with talking(coserver.host(shop(seen))) as (_, client):
        here = threading.get_native_id()
        for _ in range(2):
            assert (await client.ask(get("/local"))).text == f'{{"native":{here}}}'
        assert seen == [(here, "none"), (here, "none")]  # a copy of the context, as in a thread
        assert (await client.ask(get("/stream"))).text == "0,1,2,3,4,"
        assert (await client.ask(get("/boom"))).status == 500
        assert (await client.ask(get("/from"))).text == '"from the loop"'
        assert (await client.ask(get("/work"))).text == '"ok"'
        with anyio.fail_after(5):
            while "done" not in seen:  # noqa: ASYNC110
                await anyio.sleep(0.01)


async def test_what_holds_the_loop_goes_to_threads(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threadpool, "_held", set())
    with caplog.at_level(logging.WARNING, "coserver.hosting"):
        async with talking(coserver.host(shop([]))) as (_, client):
            here = str(threading.get_native_id())
            assert (await client.ask(get("/spin"))).text == here
            assert (await client.ask(get("/spin"))).text != here
    told = [record for record in caplog.records if record.name == "coserver.hosting"]
    assert len(told) == 1
    assert "spin held the event loop for" in told[0].getMessage()


async def test_threads_if_they_are_asked_for() -> None:
    async with talking(coserver.host(shop([]), blocking="threads")) as (_, client):
        assert (await client.ask(get("/local"))).text != f'{{"native":{threading.get_native_id()}}}'


async def test_all_is_put_back() -> None:
    async with talking(coserver.host(shop([]))) as (_, client):
        assert (await client.ask(get("/local"))).status == 200
        assert concurrency.run_in_threadpool is not ORIGINALS[0]
        # Outside of an exchange they are the original ones.
        assert await concurrency.run_in_threadpool(threading.get_native_id) != threading.get_native_id()
    assert (concurrency.run_in_threadpool, concurrency.iterate_in_threadpool) == ORIGINALS
