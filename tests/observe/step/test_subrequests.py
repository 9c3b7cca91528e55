"""Subrequests held before they are sent and when they are answered: changed, answered, cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Request, Server, gather
from coserver.observe.step.held import NotHeld

from ...server.clients import Client, connect, get, post, until
from ...upstream.peers import serving


def backend_app() -> App:
    app = App(name="back")

    @app.get("/u/{id}")
    async def user(request: Request, id: int) -> Any:
        return {"id": id, "tag": request.headers.get("x-tag"), "query": request.query_string}

    @app.post("/echo")
    async def echo(request: Request) -> Any:
        return {"body": request.body.decode(), "type": request.headers.get("content-type", "")}

    return app


@asynccontextmanager
async def fronted(**options: Any) -> AsyncIterator[tuple[Server, Server, Client]]:
    """The server that asks, the one that is asked, and a client of the first."""
    async with serving(backend_app()) as back:
        app = App(name="front")
        users = app.upstream("users", back.url)

        @app.get("/page")
        async def page() -> Any:
            answer = await users.get("/u/1", params={"a": "b"})
            return {"status": answer.status, "got": answer.text(), "x": answer.headers.get("x-new", "")}

        @app.get("/two")
        def two() -> Any:
            first, second = gather(users.get("/u/1"), users.get("/u/2")).result()
            return [first.json()["id"], second.json()["id"]]

        @app.post("/post")
        async def posts(request: Request) -> Any:
            return (await users.post("/echo", json={"n": 1})).json()

        async with serving(app, **options) as server, connect(server.port) as client:
            yield server, back, client


async def test_before_and_after() -> None:
    async with fronted() as (server, back, client):
        with server.step("~up users & /page", at="subrequest") as step:
            await client.send(get("/page"))
            one = await step.wait_async(5)
            assert (one.title, one.target, one.status) == ("users GET /u/1?a=b", "/u/1?a=b", 0)
            assert one.subrequest
            assert not back.connections
            assert dict(one.headers)["user-agent"] == "coserver"
            assert one.exchange.target == "/page"
            one.next()
            one = await step.wait_async(5)
            assert (one.status, one.answer_body) == (200, b'{"id":1,"tag":null,"query":"a=b"}')
            shown = one.as_dict()
            assert (shown["event"], shown["response"]["status"]) == ("SubrequestFinished", 200)
            one.next()  # there is no more of it: the handler goes on, to its answer
            one = await step.wait_async(5)
            assert one.phase == "response"
            one.resume()
            assert '"status":200' in (await client.answer()).text


async def test_changed() -> None:
    async with fronted() as (server, _, client):
        with server.step("", at="subrequest") as step:
            await client.send(get("/page"))
            one = await step.wait_async(5)
            one.edit(headers={"X-Tag": "t"})
            assert one.target == "/u/1?a=b"
            one.edit(target="/u/9")
            for wrong in ({"status": 200}, {"target": "none"}, {"headers": {"content-length": "3"}}, {"method": "HEAD"},
                          {"headers": {"a": "b\r\nc: d"}}):  # fmt: skip
                with pytest.raises(ValueError, match="cannot"):
                    one.edit(**wrong)
            one.resume()
            one = await step.wait_async(5)
            assert one.answer_body == b'{"id":9,"tag":"t","query":""}'
            one.edit(status=404, headers={"x-new": "n"}, body="none")
            with pytest.raises(ValueError, match="target cannot be changed"):
                one.edit(target="/x")
            one.resume()
            assert (await client.answer()).text == '{"status":404,"got":"none","x":"n"}'
            await client.send(post("/post", b""))
            one = await step.wait_async(5)
            assert one.body == b'{"n":1}'
            one.edit(body="longer than before", headers={"content-type": "text/plain"})
            one.resume()
            step.close()
            assert (await client.answer("POST")).text == '{"body":"longer than before","type":"text/plain"}'


async def test_answered_without_the_upstream() -> None:
    async with fronted() as (server, back, client):
        with server.step("", at="subrequest") as step:
            await client.send(get("/page"))
            (await step.wait_async(5)).respond(503, {"why": "x"}, {"x-new": "1"})
            one = await step.wait_async(5)
            assert one.status == 503
            one.respond(200, "after all")
            assert (await client.answer()).text == '{"status":200,"got":"after all","x":""}'
        assert not back.connections


async def test_cancelled_and_left() -> None:
    async with fronted() as (server, _, client):
        with server.step("", at="subrequest") as step:
            await client.send(get("/page"))
            one = await step.wait_async(5)
            one.abort()
            with pytest.raises(NotHeld):
                one.resume()
            assert (await client.answer()).status >= 500
            await client.send(get("/page"))
            await step.wait_async(5)
            await client.stream.aclose()
            await until(lambda: not server.connections)
            await until(lambda: not step.waiting)


async def test_several_at_once_and_no_deadline_runs() -> None:
    async with fronted(limits=Limits(handler_timeout=0.2)) as (server, _, client):
        with server.step("", at="subrequest") as step:
            await client.send(get("/two"))
            await until(lambda: len(step.waiting) == 2)
            assert server.snapshot().exchanges[0].held
            await anyio.sleep(0.4)
            first, second = step.waiting
            second.resume()
            await until(lambda: step.waiting != [first] and len(step.waiting) == 2)  # held again, with its answer
            await anyio.sleep(0.3)
            step.close()
            assert (await client.answer()).text == "[1,2]"
        # And when nothing is held it runs again.
        assert not server.snapshot().exchanges or not server.snapshot().exchanges[0].held


async def test_messages_and_streams() -> None:
    """A TCP upstream's message may be answered, a streamed answer have other fields; what cannot be is said."""
    back = backend_app()

    @back.tcp(framing="lines")
    async def shout(connection: Any) -> None:
        async for message in connection:
            await connection.send(message.upper())

    async with serving(back) as behind:
        app = App()
        tcp = app.upstream("shout", f"tcp://127.0.0.1:{behind.port_of('shout')}", framing="lines")
        users = app.upstream("users", behind.url)

        @app.get("/tcp")
        async def ask() -> Any:
            return await tcp.send("hello")

        @app.get("/stream")
        async def stream() -> Any:
            answer = await users.get("/u/1", stream=True)
            return {"status": answer.status, "size": len(await answer.read())}

        async with serving(app) as server, connect(server.port) as client:
            with server.step("", at="subrequest") as step:
                await client.send(get("/tcp"))
                one = await step.wait_async(5)
                with pytest.raises(ValueError, match="speaks no HTTP"):
                    one.edit(body="x")
                assert one.title == "shout SEND "
                one.respond(200, "hidden")
                step.resume(await step.wait_async(5))
                assert (await client.answer()).text == "hidden"
                await client.send(get("/stream"))
                one = await step.wait_async(5)
                with pytest.raises(ValueError, match="stream=True"):
                    one.respond(200, "x")
                one.resume()
                one = await step.wait_async(5)
                with pytest.raises(ValueError, match="stream=True"):
                    one.edit(body="x")
                one.edit(status=299)
                one.resume()
                assert (await client.answer()).text == '{"status":299,"size":30}'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["started", "finished"])
async def test_the_end_of_the_parent_ends_what_is_held(when: str, stream: bool) -> None:
    """It leaves neither a hold, nor a task, nor a connection that is not free."""
    app = App()
    async with serving(backend_app()) as back:
        users = app.upstream("users", back.url)
        held = anyio.Event()

        @app.get("/")
        async def leave() -> str:
            users.get("/u/1", stream=stream).awaited = True  # else its end is told
            await held.wait()
            return "done"

        async with serving(app) as server, connect(server.port) as client:
            client_of = users.client_of(server.thread)
            assert client_of is not None
            with server.step("", at="subrequest") as step:
                await client.send(get("/"))
                one = await step.wait_async(5)
                if when == "finished":
                    one.next()
                    one = await step.wait_async(5)
                    assert one.status == 200
                held.set()
                assert (await client.answer()).text == "done"
                await until(lambda: not step.waiting)
                with pytest.raises(NotHeld):
                    one.resume()
            await until(lambda: not client_of.holds.held)
            assert [pool.busy for pool in client_of.pools] == [0]
            assert not server.snapshot().connections[0].held
            await client.send(get("/"))
            assert (await client.answer()).text == "done"
