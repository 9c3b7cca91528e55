"""Subrequests in traces and snapshots, with what they went through."""

from __future__ import annotations

import anyio
import pytest

from coserver import App, gather, testing
from coserver.observe.trace.trace import STEP

from ...server.clients import connect, get, until

pytestmark = pytest.mark.usefixtures("company")


def upstream() -> tuple[App, anyio.Event]:
    app = App(name="users")
    go_on = anyio.Event()

    @app.get("/u/{id}")
    async def user(id: int) -> dict[str, int]:
        return {"user": id}

    @app.get("/slow")
    async def slow() -> str:
        await go_on.wait()
        return "done"

    return app, go_on


async def test_a_trace_shows_them_on_its_axis() -> None:
    users_app, _ = upstream()
    app = App(name="shop")
    async with testing.serving(users_app) as behind:
        users = app.upstream("users", behind.url)

        @app.get("/page/{id}")
        async def page(id: int) -> list[int]:
            answers = await gather(users.get(f"/u/{id}"), users.get(f"/u/{id + 1}"), users.get("/none?token=geheim"))
            return [answer.status for answer in answers]

        async with app.serving(record=True) as server, connect(server.port) as client:
            assert (await client.ask(get("/page/1"))).text == "[200,200,404]"
            (trace,) = server.traces("~up users")
            assert trace.upstreams == ["users"] * 3
            handler = next(span for span in trace.spans if span.kind == "handler")
            found = [span for span in trace.spans if span.kind == "subrequest"]
            assert [span.name for span in found] == ["GET /u/1", "GET /u/2", "GET /none?token=***"]
            assert [span.outcome for span in found] == ["ok"] * 3
            assert [span.detail.split()[0] for span in found] == ["200", "200", "404"]
            for span in found:
                assert handler.start <= span.start <= span.end <= handler.end
                assert all(step.kind == STEP and span.start <= step.start <= step.end for step in span.children)
                assert [step.name for step in span.children][-2:] == ["first byte", "body"]
                assert abs(span.children[-1].end - span.end) < 0.05


async def test_a_detached_one_that_ends_later_begins_no_other_trace() -> None:
    users_app, go_on = upstream()
    app = App(name="shop")
    ended: list[int] = []
    async with testing.serving(users_app) as behind:
        users = app.upstream("users", behind.url)

        @app.get("/")
        async def index() -> str:
            users.get("/slow", detach=True, on_done=lambda sub: ended.append(sub.status))
            return "ok"

        async with app.serving(record=True) as server, connect(server.port) as client:
            assert (await client.ask(get("/"))).text == "ok"
            go_on.set()
            await until(lambda: ended == [200])
            assert len(server.traces) == 1
            recorder = server.traces._recorder
            assert recorder._drafts == {}
            server.traces.clear()
            assert recorder.size == 0


async def test_one_that_fails_and_one_that_is_cancelled() -> None:
    users_app, go_on = upstream()
    app = App()
    async with testing.serving(users_app) as behind:
        users = app.upstream("users", behind.url)
        nobody = app.upstream("nobody", "http://127.0.0.1:9")

        @app.get("/")
        async def index() -> str:
            await gather(users.get("/slow"), nobody.get("/"))
            return "never"

        async with app.serving(record=True) as server, connect(server.port) as client:
            assert (await client.ask(get("/"))).status >= 500
            (trace,) = server.traces
            outcome = {span.upstream: span.outcome for span in trace.spans if span.kind == "subrequest"}
            assert outcome == {"users": "cancelled", "nobody": "failed"}
            assert trace.error
        go_on.set()


async def test_a_snapshot_shows_them_and_their_upstreams() -> None:
    users_app, go_on = upstream()
    app = App(name="shop")
    async with testing.serving(users_app) as behind:
        users = app.upstream("users", behind.url)

        @app.get("/")
        async def index() -> str:
            return (await users.get("/slow")).text()

        async with app.serving() as server, connect(server.port) as client:
            await client.send(get("/"))
            await until(lambda: server.snapshot().filter("~at subrequest ~up users"))
            snapshot = server.snapshot()
            (exchange,) = snapshot.exchanges
            (sub,) = exchange.subrequests
            assert (sub.upstream, sub.method, sub.target, sub.status) == ("users", "GET", "/slow", 0)
            assert sub.member == behind.url
            assert 0 < sub.seconds <= exchange.seconds
            (state,) = snapshot.upstreams
            (member,) = state.members
            assert (state.name, state.waiting) == ("users", 0)
            assert (member.address, member.open, member.in_flight, member.idle) == (behind.url, 1, 1, 0)
            assert member.latency is None
            assert type(snapshot).from_json(snapshot.to_json()).upstreams == snapshot.upstreams
            go_on.set()
            assert (await client.answer()).text == "done"
            snapshot = server.snapshot()
            (member,) = snapshot.upstreams[0].members
            assert (member.in_flight, member.idle) == (0, 1)
            assert member.latency is not None
            assert sub.seconds < member.latency < snapshot.seconds
