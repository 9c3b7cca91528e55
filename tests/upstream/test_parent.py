"""Whose child a subrequest is: that of the exchange whose handler asked, and of no later one."""

from __future__ import annotations

import anyio
import pytest

from coserver import App, Limits, Request, Subrequest, Upstream

from ..server.clients import until
from .peers import OK, Peer, faulty, serving


class Straggler:
    """A task that a handler leaves behind; it asks when it is told to, and awaits its answer."""

    def __init__(self) -> None:
        self.go, self.answers = anyio.Event(), anyio.Event()
        self.sub: Subrequest | None = None
        self.heard: list[bytes] = []
        self.text = ""

    async def ask(self, users: Upstream) -> None:
        await self.go.wait()
        self.sub = users.get("/")
        self.text = (await self.sub).text()

    async def serve(self, peer: Peer) -> None:
        while True:
            self.heard.append(await peer.request())
            await self.answers.wait()
            await peer.send(OK)


@pytest.mark.parametrize("kept", [True, False])
async def test_what_outlives_its_exchange_is_no_child_of_the_next(kept: bool) -> None:
    straggler, app = Straggler(), App(limits=Limits(requests_per_connection=100 if kept else 1))
    left: list[int] = []
    async with faulty(straggler.serve) as back, anyio.create_task_group() as tasks:
        users = app.upstream("users", back.url)

        @app.get("/first")
        async def first(request: Request) -> str:
            tasks.start_soon(straggler.ask, users)
            return "first"

        @app.get("/second")
        async def second() -> str:
            straggler.go.set()
            await until(lambda: len(straggler.heard) == 1)
            left.append(len(straggler.heard))
            return "second"

        async with serving(app) as front, Upstream(front.url) as asking:
            assert (await asking.get("/first", headers={"traceparent": "first"})).text() == "first"
            assert (await asking.get("/second", headers={"traceparent": "second"})).text() == "second"
            sub = straggler.sub
            assert sub is not None
            assert sub.exchange is None
            assert not sub.done
            assert b"traceparent" not in straggler.heard[0]
            straggler.answers.set()
            await until(lambda: straggler.text == "ok")


async def test_tasks_of_a_handler_ask_for_its_own_exchange() -> None:
    """However often its connection was used before."""
    app = App()
    found: list[bool] = []

    async def answer(peer: Peer) -> None:
        while True:
            await peer.answer()

    async with faulty(answer) as back:
        users = app.upstream("users", back.url)

        @app.get("/")
        async def fan_out(request: Request) -> str:
            async def ask() -> None:
                sub = users.get("/")
                found.append(sub.exchange is not None and sub.exchange.id == request.id)
                await sub

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                tasks.start_soon(ask)
            return "done"

        async with serving(app) as front, Upstream(front.url) as asking:
            for _ in range(3):
                assert (await asking.get("/")).ok
            assert found == [True] * 6
