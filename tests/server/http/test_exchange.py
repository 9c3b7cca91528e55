"""Whoever hears of smooth exchanges when they are over hears as much as who is told at once, whatever happens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import App, HTTPException, Request
from coserver.lifecycle import events as ev
from coserver.lifecycle.emitter import Emitter

from ..clients import Client, connect, get, post, until

#: What is told of a request without a body by who may miss all but the main events.
MAIN = (
    ev.RequestRead, ev.RequestRefused, ev.HandlerStarted, ev.HandlerFinished, ev.HandlerFailed, ev.HandlerCancelled,
    ev.Suspended, ev.Resumed, ev.ResponseFinished, ev.ResponseFailed, ev.ResponseCancelled,
)  # fmt: skip


class Patient:
    """Notes kinds and times, by exchange."""

    def __init__(self) -> None:
        self.found: dict[int, list[tuple[float, str]]] = {}
        self.at_once = 0

    def join(self, emitter: Emitter) -> None:
        emitter.add_observer(self.note, served=self.served)

    def note(self, event: ev.Event) -> None:
        if event.exchange is not None and isinstance(event, MAIN) and getattr(event, "size", 1):
            self.found.setdefault(event.exchange, []).append((event.at, type(event).__name__))

    def served(self, exchange: Any, at: float) -> None:
        self.at_once += 1
        begun, since = exchange.handler_started_at, exchange.since
        told = self.found.setdefault(exchange.id, [])
        told += [(begun, "HandlerStarted"), (since, "HandlerFinished"), (at, "ResponseFinished")]

    def stories(self) -> list[list[str]]:
        """Of each exchange what was told, in the order of its times."""
        return [[kind for _, kind in sorted(told)] for _, told in sorted(self.found.items())]


class Prompt(Patient):
    """The same, told of everything when it happens."""

    def join(self, emitter: Emitter) -> None:
        emitter.add_observer(self.note, brief=True)


def shop() -> App:
    app = App(name="shop")

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/plain")
    def plain() -> dict[str, int]:
        return {"a": 1}

    @app.get("/sleeps")
    def sleeps() -> str:
        time.sleep(0.001)
        return "ok"

    @app.get("/sleeps-and-fails")
    def sleeps_and_fails() -> str:
        time.sleep(0.001)
        raise ValueError("no")

    @app.get("/stream")
    async def stream() -> AsyncIterator[bytes]:
        yield b"a"
        await anyio.lowlevel.checkpoint()
        yield b"b"

    @app.get("/stream-fails-at-once")
    async def fails_at_once() -> AsyncIterator[bytes]:
        raise ValueError("no")
        yield b""

    @app.get("/boom")
    async def boom() -> str:
        raise ValueError("no")

    @app.get("/missing")
    async def missing() -> str:
        raise HTTPException(404)

    @app.get("/custom")
    async def custom() -> str:
        raise KeyError("mine")

    @app.error(KeyError)
    async def mine(request: Request, error: KeyError) -> str:
        return "handled"

    @app.get("/wrong")
    async def wrong() -> object:
        return object()

    @app.get("/big")
    async def big() -> bytes:
        return b"x" * 300_000

    @app.get("/forever")
    async def forever() -> None:
        await anyio.sleep_forever()

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    return app


PATHS = ("/", "/plain", "/sleeps", "/sleeps-and-fails", "/stream", "/stream-fails-at-once", "/boom", "/missing",
         "/custom", "/wrong", "/big", "/nowhere")  # fmt: skip


async def visit(port: int) -> None:
    async with connect(port) as client:
        for path in PATHS:
            await client.ask(get(path))
        await client.ask(get("/", method="HEAD"), "HEAD")
        await client.ask(post("/echo", b"abc"))
        await client.ask(get("/", "Connection: close"))
    async with connect(port) as client:
        await client.send(get("/forever"))
        await anyio.sleep(0.02)


async def told(patient: Patient) -> list[list[str]]:
    app = shop()
    async with app.serving() as server:
        patient.join(app.emitter)
        await visit(server.port)
        await until(lambda: patient.stories()[-1][-1] == "HandlerCancelled")
    return patient.stories()


@pytest.mark.filterwarnings("ignore")
async def test_as_much_is_told_whatever_happens() -> None:
    patient = Patient()
    assert await told(patient) == await told(Prompt())
    assert patient.at_once >= 5


async def while_it_runs(do: Callable[[Emitter], object], path: str = "/waits") -> list[list[str]]:
    """What is told of an exchange in whose handler ``do`` is done."""
    app, patient = shop(), Patient()

    @app.get("/waits")
    async def waits() -> str:
        do(app.emitter)
        return "ok"

    @app.get("/waits-and-fails")
    async def waits_and_fails() -> str:
        do(app.emitter)
        raise ValueError("no")

    async with app.serving() as server, connect(server.port) as client:
        patient.join(app.emitter)
        await client.ask(get(path))
        await ask_once_more(client, app.emitter)
    return patient.stories()


async def ask_once_more(client: Client, emitter: Emitter) -> None:
    answer = await client.ask(get("/"))
    assert answer.status == 200


SMOOTH = ["HandlerStarted", "HandlerFinished", "ResponseFinished"]


@pytest.mark.parametrize(
    "do",
    [
        lambda emitter: emitter.add_observer(lambda event: None),
        lambda emitter: emitter.add_observer(lambda event: None, brief=True),
        lambda emitter: emitter.add_gate(lambda event: None),
        lambda emitter: Patient().join(emitter),
    ],
    ids=["all", "brief", "gate", "patient"],
)
async def test_others_come_while_the_handler_runs(do: Callable[[Emitter], object]) -> None:
    assert await while_it_runs(do) == [SMOOTH, SMOOTH]
    failed = ["HandlerStarted", "HandlerFailed", "ResponseFinished"]
    assert await while_it_runs(do, "/waits-and-fails") == [failed, SMOOTH]


async def test_one_that_comes_while_the_handler_runs_hears_the_whole_answer() -> None:
    late = Prompt()
    await while_it_runs(late.join)
    assert late.stories() == [SMOOTH, SMOOTH]


async def test_one_that_leaves_while_the_handler_runs() -> None:
    app, patient = shop(), Patient()

    @app.get("/waits")
    async def waits() -> str:
        app.emitter.remove_observer(patient.note)
        return "ok"

    async with app.serving() as server, connect(server.port) as client:
        patient.join(app.emitter)
        await client.ask(get("/waits"))
        await client.ask(get("/"))
    assert patient.stories() == []


async def test_when_it_is_recycled_it_says_so() -> None:
    """The usual answer's exchange as any other."""
    app, found = shop(), []

    def look(event: ev.Event) -> None:
        if type(event) is ev.ConnectionRecycled:
            found.append((event.source.phase, event.source.connection.phase, event.source.over))

    app.emitter.add_observer(look)
    async with app.serving() as server, connect(server.port) as client:
        for _ in range(2):
            assert (await client.ask(get("/"))).status == 200
        assert (await client.ask(get("/", method="HEAD"))).status == 200
        await until(lambda: len(found) == 3)
    assert found == [("recycle", "recycle", True)] * 3


async def test_a_client_that_reads_nothing_while_the_answer_goes_out() -> None:
    app, patient = App(), Patient()

    @app.get("/")
    async def page() -> str:
        return "x" * 60_000

    async with app.serving() as server:
        patient.join(app.emitter)
        async with connect(server.port) as client:
            await client.send(get("/") * 200)  # more than both sockets' buffers hold
            await until(lambda: any("HandlerFinished" in story and "ResponseFinished" not in story
                                    for story in patient.stories()))  # fmt: skip
        await until(lambda: patient.stories()[-1][-1] == "ResponseCancelled" or "Failed" in patient.stories()[-1][-1])
    assert patient.stories()[0] == SMOOTH
    assert patient.stories()[-1][:2] == SMOOTH[:2]
