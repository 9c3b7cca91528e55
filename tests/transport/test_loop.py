"""What the servers of one event loop share, and that none depends on which of them came first."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from coserver import App, Limits
from coserver.transport.loop import Loop

from ..server.clients import connect, get, talking, until


def waiting_app(events: list[str]) -> App:
    app = App(limits=Limits(head_timeout=0.1, grace=0))

    @app.get("/wait")
    async def wait() -> None:
        try:
            await anyio.sleep(60)
        finally:
            events.append("finally")

    return app


async def test_one_loop_one_object() -> None:
    assert Loop.current() is Loop.current()


def test_outside_of_a_loop() -> None:
    with pytest.raises(RuntimeError):
        Loop.current()


def test_each_run_has_its_own() -> None:
    async def main() -> Loop:
        return Loop.current()

    assert anyio.run(main) is not anyio.run(main)


@pytest.mark.parametrize("first_to_stop", [0, 1])
async def test_the_second_server_goes_on(first_to_stop: int) -> None:
    """Deadlines and hang-ups still work when the server that ran the loop's tasks has stopped."""
    events: list[str] = []
    apps = [waiting_app(events), waiting_app(events)]
    stops = [anyio.Event(), anyio.Event()]
    ports: list[int] = [0, 0]

    async def serve(n: int) -> None:
        async with apps[n].serving() as server:
            ports[n] = server.port
            await stops[n].wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, 0)
        await until(lambda: ports[0])
        tasks.start_soon(serve, 1)
        await until(lambda: ports[1])
        for n in (first_to_stop, 1 - first_to_stop):
            other = 1 - n
            if not stops[other].is_set():
                stops[n].set()
                await anyio.sleep(0.05)
                async with connect(ports[other]) as late, connect(ports[other]) as leaver:
                    await leaver.send(get("/wait"))
                    await late.closed()  # by head_timeout: it said nothing
                    await leaver.stream.aclose()
                    await until(lambda: events == ["finally"])
        stops[1 - first_to_stop].set()


async def test_a_server_after_another_in_the_same_loop() -> None:
    for _ in range(3):
        events: list[str] = []
        async with talking(waiting_app(events)) as (_, client):
            await client.send(get("/wait"))
            await anyio.sleep(0.05)
            await client.stream.aclose()
            await until(lambda e=events: e)  # type: ignore[misc]


async def test_a_server_on_a_unix_socket(tmp_path: Path) -> None:
    app, path = App(), str(tmp_path / "s")
    peers: list[str] = []

    @app.get("/")
    async def index(request: object) -> str:
        peers.append(request.peer)  # type: ignore[attr-defined]
        return "ok"

    for _ in range(2):
        async with app.serving(uds=path), await anyio.connect_unix(path) as client:
            await client.send(get())
            assert (await client.receive()).endswith(b"ok")
        assert not Path(path).exists()  # noqa: ASYNC240
    assert peers == ["unix", "unix"]
