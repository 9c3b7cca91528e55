"""Subrequests of handlers, of a block, of plain threads: started at once, waited for in every world."""

from __future__ import annotations

import logging
import re
from typing import Any

import anyio
import pytest

from coserver import (
    App,
    Request,
    Subrequest,
    SubrequestCancelled,
    Upstream,
    UpstreamError,
    UpstreamTimeout,
    gather,
    run_blocking,
)
from coserver.lifecycle import events as ev

from ..server.clients import connect, get, post, until
from .peers import Peer, answering, faulty, serving


def backend_app() -> App:
    """What is asked."""
    app = App()

    @app.get("/u/{id}")
    async def user(request: Request, id: int) -> Any:
        return {"id": id, "query": request.query_string}

    @app.post("/echo")
    async def echo(request: Request) -> Any:
        return {"body": request.body.decode(), "type": request.headers.get("content-type", "")}

    @app.get("/slow")
    async def slow() -> str:
        await anyio.sleep(60)
        return "late"

    @app.get("/headers")
    async def headers(request: Request) -> Any:
        return dict(request.headers)

    return app


async def test_a_handler_asks_and_gathers(codec: str) -> None:
    async with serving(backend_app()) as back:
        app = App()
        users = app.upstream("users", back.url, codec=codec)

        @app.get("/one")
        async def one() -> Any:
            return (await users.get("/u/1", params={"a": "ä b"})).json()

        @app.get("/two")
        async def two() -> Any:
            first, second = await gather(users.get("/u/1"), users.get("/u/2"))
            return [first.json()["id"], second.json()["id"]]

        @app.get("/plain")
        def plain() -> Any:
            first, second = gather(users.get("/u/3"), users.get("/u/4")).result()
            return [first.json()["id"], second.json()["id"], users.get("/u/5").result(timeout=5).json()["id"]]

        async with serving(app) as server, connect(server.port) as client:
            assert (await client.ask(get("/one"))).text == '{"id":1,"query":"a=%C3%A4+b"}'
            assert (await client.ask(get("/two"))).text == "[1,2]"
            assert (await client.ask(get("/plain"))).text == "[3,4,5]"
            assert (await client.ask(get("/two"))).text == "[1,2]"
        assert back.connections <= 2


async def test_bodies(codec: str) -> None:
    async with serving(backend_app()) as back, Upstream(back.url, codec=codec) as users:
        assert (await users.post("/echo", json={"a": 1})).json() == {"body": '{"a":1}', "type": "application/json"}
        assert (await users.post("/echo", json=None)).json()["body"] == "null"
        form = (await users.post("/echo", data={"a": [1, 2]})).json()
        assert form == {"body": "a=1&a=2", "type": "application/x-www-form-urlencoded"}
        assert (await users.post("/echo", content="é")).json()["body"] == "é"
        assert (await users.post("/echo", content=b"x", headers={"Content-Type": "a/b"})).json()["type"] == "a/b"
        assert (await users.post("/echo")).json()["body"] == ""


async def test_head_and_its_neighbours_on_one_connection(codec: str) -> None:
    async with serving(backend_app()) as back, Upstream(back.url, codec=codec) as users:
        for _ in range(3):
            answer = await users.head("/u/1")
            assert (answer.status, answer.body) == (200, b"")
            assert (await users.get("/u/1")).json()["id"] == 1
            missing = await users.get("/none")
            assert missing.status == 404
            assert not missing.ok


async def test_it_starts_where_it_is_made_and_tells_how_it_went() -> None:
    async with faulty(answering) as server, Upstream(server.url) as users:
        await users.get("/")
        sub = users.get("/x")
        assert not sub.done
        assert sub.status is None
        assert sub.attempts == 1  # it has gone out: no turn of the loop was needed
        assert "first byte" in repr(sub)
        answer = await sub
        assert answer.body == b"ok"
        assert (sub.status, sub.member, sub.done) == (200, server.url, True)
        assert list(sub.timeline) == ["wait", "send", "first byte", "body"]
        assert sum(sub.timeline.values()) == pytest.approx(sub.elapsed)
        assert await sub is answer
        assert sub.result() is answer
    assert server.accepted == 1


async def test_without_a_server_the_ways_out_are_named() -> None:
    app = App()
    users = app.upstream("users", "http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match=r"app\.start\(\).*async with Upstream"):
        users.get("/")
    async with serving(app):
        pass
    with pytest.raises(RuntimeError, match="is not open"):
        users.get("/")


async def test_result_on_its_own_loop_says_await() -> None:
    async with faulty(answering) as server, Upstream(server.url) as users:
        sub = users.get("/")
        with pytest.raises(RuntimeError, match="write 'await' instead"):
            sub.result()
        await sub
        together = gather(users.get("/"))
        with pytest.raises(RuntimeError, match="write 'await' instead"):
            together.result()
        await together


async def test_a_plain_thread_asks_and_blocks() -> None:
    async with faulty(answering) as server, Upstream(server.url) as users:

        def ask() -> list[bytes]:
            found = [users.get("/").result(5).body]
            found += [each.body for each in gather(users.get("/"), users.get("/")).result(5)]
            return found + [each.body for each in users.map(["/"] * 5, limit=2)]

        with anyio.fail_after(8):
            assert await anyio.to_thread.run_sync(ask) == [b"ok"] * 8


async def test_another_loop_awaits() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await anyio.sleep(0.05)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with faulty(talk) as server, Upstream(server.url) as users:
        mine = users.get("/mine")

        async def elsewhere() -> list[bytes]:
            both = await gather(mine, users.get("/yours"))
            return [each.body for each in both] + [(await users.get("/ours")).body]

        with anyio.fail_after(8):
            found = await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere))
        assert found == [b"ok"] * 3


async def test_a_worker_outside_any_handler() -> None:
    async with faulty(answering) as server, Upstream(server.url) as users:
        assert await run_blocking(lambda: users.get("/").result().body) == b"ok"
        assert await run_blocking(lambda: [each.body for each in users.map(["/", "/"], as_completed=True)]) == [
            b"ok",
            b"ok",
        ]


async def test_result_in_time_or_not() -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()
        await anyio.sleep(60)

    async with faulty(silent) as server, Upstream(server.url) as users:
        sub = users.get("/")
        with pytest.raises(TimeoutError):
            await run_blocking(lambda: sub.result(0.02))
        assert not sub.done  # it goes on
        with pytest.raises(TimeoutError):
            await anyio.to_thread.run_sync(lambda: sub.result(0.02))
        sub.cancel()
        with pytest.raises(SubrequestCancelled):
            await sub


async def test_whoever_waits_is_cancelled_and_the_connection_closed() -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.stream.receive()

    async with faulty(silent) as server, Upstream(server.url) as users:
        with anyio.move_on_after(0.05):
            await users.get("/")
        await until(lambda: server.accepted == 1 and not server.open)
        subs = [users.get("/") for _ in range(3)]
        with anyio.move_on_after(0.05):
            await gather(*subs)
        assert all(sub.cancelled for sub in subs)
        await until(lambda: not server.open)


async def test_the_first_failure_cancels_the_rest() -> None:
    async def talk(peer: Peer) -> None:
        request = await peer.request()
        if b"/bad" in request:
            return
        await anyio.sleep(60)

    async with faulty(talk) as server, Upstream(server.url) as users:
        slow, bad = users.get("/slow"), users.post("/bad")
        with anyio.fail_after(5), pytest.raises(Exception, match=r"without a response|connection broke"):
            await gather(slow, bad)
        assert slow.cancelled
        slow, bad = users.get("/slow"), users.post("/bad")
        both = gather(slow, bad, return_exceptions=True)
        await until(lambda: bad.done)
        assert not both.done
        slow.cancel()
        found = await both
        assert [type(each).__name__ for each in found] == ["SubrequestCancelled", "UpstreamProtocolError"]


async def test_the_first_k() -> None:
    async def talk(peer: Peer) -> None:
        request = await peer.request()
        if b"/slow" in request:
            await anyio.sleep(60)
        elif b"/ok" in request:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with faulty(talk) as server, Upstream(server.url) as users:
        slow = users.get("/slow")
        with anyio.fail_after(5):
            found = await gather(slow, users.post("/bad"), users.get("/ok"), users.get("/ok"), first=2)
        assert [each.body for each in found] == [b"ok", b"ok"]
        assert slow.cancelled
        with pytest.raises(Exception, match=r"without a response|connection broke"), anyio.fail_after(5):
            await gather(users.post("/bad"), users.get("/ok"), first=2)


@pytest.mark.parametrize(
    ("subs", "options", "match"),
    [
        ([1], {}, "takes subrequests"),
        ([], {"first": 1}, "from 1 to the number"),
    ],
)
def test_gather_takes_sound_arguments(subs: list[Any], options: dict[str, Any], match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        gather(*subs, **options)


async def test_gathering_nothing() -> None:
    assert await gather() == []
    assert gather().result() == []


async def test_map_keeps_to_its_limit_and_order() -> None:
    now = most = 0

    async def talk(peer: Peer) -> None:
        nonlocal now, most
        while True:
            request = await peer.request()
            now += 1
            most = max(most, now)
            number = int(request.split(b" ")[1][1:])
            await anyio.sleep(0.001 * (number % 3))
            now -= 1
            body = b"%d" % number
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with faulty(talk) as server, Upstream(server.url) as users:
        targets = [f"/{number}" for number in range(30)]
        found = [int(answer.body) async for answer in users.map(targets, limit=4)]
        assert found == list(range(30))
        assert most <= 4
        found = [int(answer.body) async for answer in users.map(targets, limit=4, as_completed=True)]
        assert sorted(found) == list(range(30))
        assert most <= 4
    with pytest.raises(ValueError, match="from 1"):
        users.map([], limit=0)


async def test_children_end_with_their_exchange(caplog: pytest.LogCaptureFixture) -> None:
    subs: list[Subrequest] = []
    async with serving(backend_app()) as back:
        app = App()
        users = app.upstream("users", back.url)

        @app.get("/forgets")
        async def forgets() -> str:
            subs.append(users.get("/slow"))
            return "done"

        async with serving(app) as server, connect(server.port) as client:
            with caplog.at_level(logging.WARNING, "coserver.upstream"):
                assert (await client.ask(get("/forgets"))).text == "done"
                await until(lambda: subs[0].done)
            assert subs[0].cancelled
            assert "use detach=True" in caplog.text
            await until(lambda: not back.connections)


async def test_a_client_that_leaves_takes_its_subrequests_along() -> None:
    subs: list[Subrequest] = []
    async with serving(backend_app()) as back:
        app = App()
        users = app.upstream("users", back.url)

        @app.get("/waits")
        async def waits() -> str:
            subs.append(users.get("/slow"))
            await subs[0]
            return "never"

        async with serving(app) as server:
            async with connect(server.port) as client:
                await client.send(get("/waits"))
                await until(lambda: subs and back.exchanges)
            await until(lambda: subs[0].cancelled)
            await until(lambda: not back.connections)


async def test_detached_outlives_its_exchange_and_is_waited_for() -> None:
    released = anyio.Event()
    told: list[Any] = []

    async def talk(peer: Peer) -> None:
        await peer.request()
        await released.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with faulty(talk) as back:
        app = App()
        jobs = app.upstream("jobs", back.url)

        @app.post("/go")
        async def go() -> str:
            jobs.post("/job", detach=True, on_done=lambda sub: told.append(("def", sub.status)))

            async def later(sub: Subrequest) -> None:
                told.append(("async", (await sub).body))

            jobs.post("/job", detach=True, on_done=later)
            return "going"

        async with serving(app) as server:
            async with connect(server.port) as client:
                assert (await client.ask(post("/go", b""))).text == "going"
            await until(lambda: not server.connections)
            server.stop()
            await anyio.sleep(0.05)
            assert server.running  # the drain waits for them
            released.set()
        assert sorted(told) == [("async", b"ok"), ("def", 200)]


async def test_a_detached_failure_that_nobody_sees_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()

    async with faulty(talk) as back:
        app = App()
        jobs = app.upstream("jobs", back.url)

        @app.post("/go")
        async def go() -> str:
            jobs.post("/job", detach=True)
            return "going"

        async with serving(app) as server, connect(server.port) as client:
            await client.ask(post("/go", b""))
            await until(lambda: "detached by exchange" in caplog.text)
        assert "without a response" in caplog.text


async def test_on_done_is_for_detached_ones() -> None:
    async with faulty(answering) as server, Upstream(server.url) as users:
        with pytest.raises(TypeError, match="detach=True"):
            users.get("/", on_done=print)


async def test_the_block_waits_for_detached_ones_that_stand_alone() -> None:
    told: list[int | None] = []
    async with faulty(answering) as server:
        async with Upstream(server.url) as users:
            users.get("/", detach=True, on_done=lambda sub: told.append(sub.status))
        assert told == [200]


async def test_the_rest_of_a_map_that_failed_is_not_said_to_be_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    nobody = app.upstream("nobody", "http://127.0.0.1:9")

    @app.get("/")
    async def each() -> Any:
        try:
            return [answer.text() async for answer in nobody.map(["/1", "/2", "/3"])]
        except UpstreamError as error:
            return error.reason

    async with serving(app) as server, connect(server.port) as client:
        assert "refused" in (await client.ask(get("/"))).text
    assert "nobody awaited" not in caplog.text


async def test_unhandled_failures_are_bad_gateways(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()
        await anyio.sleep(60)

    async with faulty(silent) as back:
        app = App()
        refusing = app.upstream("refusing", "http://127.0.0.1:9")
        slow = app.upstream("slow", back.url)

        @app.get("/refused")
        async def refused() -> Any:
            return (await refusing.get("/")).text()

        @app.get("/late")
        def late() -> Any:
            return slow.get("/", timeout=0.01).result().text()

        @app.get("/handled")
        async def handled() -> Any:
            try:
                await slow.get("/", timeout=0.01)
            except UpstreamTimeout as error:
                return [error.phase, error.member == back.url, error.attempts, "first byte" not in error.timeline]

        async with serving(app) as server, connect(server.port) as client:
            answer = await client.ask(get("/refused"))
            assert (answer.status, answer.text) == (502, "502 Bad Gateway\n")
            assert (await client.ask(get("/late"))).status == 504
            assert (await client.ask(get("/handled"))).text == '["total",true,1,true]'
        assert "member http://127.0.0.1:9: cannot connect: Connection refused" in caplog.text

        @app.error(502)
        def instead(error: Exception) -> str:
            return type(error).__name__

        async with serving(app) as server, connect(server.port) as client:
            answer = await client.ask(get("/refused"))
            assert (answer.status, answer.text) == (502, "UpstreamConnectError")


async def test_events_of_children() -> None:
    async with serving(backend_app()) as back:
        app = App()
        users = app.upstream("users", back.url)
        refusing = app.upstream("refusing", "http://127.0.0.1:9")
        seen: list[ev.SubrequestEvent] = []

        def look(event: ev.Event) -> None:
            if isinstance(event, ev.SubrequestEvent):
                seen.append(event)

        @app.get("/")
        async def index() -> str:
            await gather(users.get("/u/1"), refusing.get("/x"), return_exceptions=True)
            users.get("/slow")
            return "ok"

        async with serving(app) as server, connect(server.port) as client:
            with app.emitter.observing(look):
                await client.ask(get("/"))
                await until(lambda: len(seen) == 6)
        names = [type(event).__name__.removeprefix("Subrequest") for event in seen]
        assert sorted(names) == ["Cancelled", "Failed", "Finished", "Started", "Started", "Started"]
        assert len({event.exchange for event in seen}) == 1
        assert len({event.subrequest for event in seen}) == 3


async def test_depth_and_trace_are_handed_on() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with serving(backend_app()) as back:
        app = App()
        users = app.upstream("users", back.url)

        @app.get("/")
        async def index() -> Any:
            return (await users.get("/headers")).json()

        async with serving(app) as server, connect(server.port) as client:
            answer = await client.ask(get("/", f"traceparent: {trace}"))
            assert f'"traceparent":"{trace}"' in answer.text
            assert '"coserver-depth":"1"' in answer.text
            assert '"coserver-depth":"8"' in (await client.ask(get("/", "coserver-depth: 7"))).text
            assert (await client.ask(get("/", "coserver-depth: 8"))).status == 508
            assert (await client.ask(get("/", "coserver-depth: x"))).status == 508


async def test_a_server_that_asks_itself_ends_in_508() -> None:
    app = App()
    places: list[str] = []

    @app.get("/")
    async def index() -> Any:
        async with Upstream(places[0]) as itself:
            answer = await itself.get("/")
            return answer.body, answer.status

    async with serving(app) as server, connect(server.port) as client:
        places.append(server.url)
        assert (await client.ask(get("/"))).status == 508
        await until(lambda: server.connections == 1)


async def test_a_gate_holds_a_subrequest() -> None:
    async with serving(backend_app()) as back:
        app = App()
        users = app.upstream("users", back.url)
        go, held = anyio.Event(), []

        def gate(event: ev.Event) -> Any:
            if isinstance(event, ev.SubrequestStarted | ev.SubrequestFinished):
                held.append(type(event).__name__)
                return go.wait()
            return None

        @app.get("/")
        async def index() -> str:
            return (await users.get("/u/1", timeout=0.3)).text()

        async with serving(app) as server, connect(server.port) as client:
            app.emitter.add_gate(gate)
            await client.send(get("/"))
            await until(lambda: held)
            assert not back.connections
            await anyio.sleep(0.4)
            go.set()
            assert (await client.answer()).status == 200
            assert held == ["SubrequestStarted", "SubrequestFinished"]
            app.emitter.remove_gate(gate)


async def test_work_after_a_response_stands_alone() -> None:
    told: list[Any] = []
    async with serving(backend_app()) as back:
        app = App()
        users = app.upstream("users", back.url)

        async def note() -> None:
            sub = users.get("/u/1")
            told.append((sub.exchange, (await sub).status))

        @app.get("/")
        async def index(request: Request) -> str:
            request.after(note)
            return "ok"

        async with serving(app) as server, connect(server.port) as client:
            await client.ask(get("/"))
            await client.ask(get("/"))
            await until(lambda: len(told) == 2)
        assert told == [(None, 200)] * 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [("body", "did you mean 'content'?"), ("header", "did you mean 'headers'?"), ("verify_all", "there are content, ")],
)
async def test_an_unknown_option_is_told(name: str, hint: str) -> None:
    async with Upstream("http://127.0.0.1:1") as users:
        with pytest.raises(TypeError, match=f"a request has no option '{name}'; {re.escape(hint)}"):
            users.post("/", **{name: b"x"})  # type: ignore[misc, arg-type]
