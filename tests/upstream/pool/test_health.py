"""Members that fail are left alone, and come back; whoever cancels blames nobody."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import anyio
import pytest

from coserver import App, Upstream, UpstreamError, UpstreamLimits, gather
from coserver.upstream.pool.client import Client

from ...server.clients import until
from ..peers import OK, Peer, answering, faulty, serving
from ..test_faults import nobodys_port

QUICK = UpstreamLimits(eject_failures=3, eject_time=0.3)
ERROR = b"HTTP/1.1 500 Broken\r\nContent-Length: 2\r\n\r\nno"


def client_of(users: Upstream) -> Client:
    client = users.client_of(threading.get_ident())
    assert client is not None
    return client


async def fail(users: Upstream, times: int) -> None:
    await gather(*[users.get("/") for _ in range(times)], return_exceptions=True)


class Moody:
    """Closes without a word while it is ill; ``asked`` counts requests."""

    def __init__(self) -> None:
        self.ill = True
        self.asked = 0
        self.bad = b""

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.asked += 1
            if self.ill and not self.bad:
                return
            await peer.send(self.bad if self.ill else OK)


async def test_who_fails_is_left_alone_for_longer_each_time_until_it_answers() -> None:
    moody = Moody()
    async with faulty(moody) as bad, faulty(answering) as good:  # noqa: SIM117
        async with Upstream(bad.url, good.url, limits=QUICK, policy="least-connections") as users:
            pool = client_of(users).pools[0]
            health = pool.health
            await fail(users, 6)
            assert (health.state, health.failures, health.ejections) == ("ejected", 3, 1)
            first = health.deadline - monotonic()
            asked = moody.asked
            answers = await gather(*[users.get("/") for _ in range(10)])
            assert all(answer.ok for answer in answers)
            assert moody.asked == asked
            await until(lambda: not pool.out)
            assert (health.state, pool.troubled) == ("up", True)
            await fail(users, 2)  # one failure is enough now
            assert (health.state, health.ejections) == ("ejected", 2)
            assert health.deadline - monotonic() > first
            moody.ill = False
            await until(lambda: not pool.out)
            await gather(users.get("/"), users.get("/"))
            assert (health.state, health.ejections, pool.troubled, health.deadline) == ("up", 0, False, math.inf)


async def test_where_all_are_out_all_are_asked() -> None:
    moody = Moody()
    limits = UpstreamLimits(eject_failures=2, eject_time=60)
    async with faulty(moody) as one, faulty(moody) as other, Upstream(one.url, other.url, limits=limits) as users:
        await fail(users, 4)
        assert {pool.health.state for pool in client_of(users).pools} == {"ejected"}
        moody.ill = False
        assert (await users.get("/")).ok
        assert sorted(pool.health.state for pool in client_of(users).pools) == ["ejected", "up"]


async def test_a_single_member_is_asked_whatever_befell_it() -> None:
    moody = Moody()
    async with faulty(moody) as server, Upstream(server.url, limits=UpstreamLimits(eject_time=60)) as users:
        await fail(users, 5)
        assert client_of(users).pools[0].health.state == "ejected"
        moody.ill = False
        assert (await users.get("/")).ok
        assert client_of(users).pools[0].health.state == "up"


async def test_statuses_are_counted_apart() -> None:
    moody = Moody()
    moody.bad = ERROR
    async with faulty(moody) as bad, faulty(answering) as good:
        async with Upstream(bad.url, good.url, limits=QUICK) as users:
            await fail(users, 20)
            health = client_of(users).pools[0].health
            assert (health.state, health.failures, health.errors) == ("up", 0, 10)
        limits = UpstreamLimits(eject_errors=3)
        async with Upstream(bad.url, good.url, limits=limits) as users:
            await fail(users, 20)
            health = client_of(users).pools[0].health
            assert health.state == "ejected"
            assert health.failures == 0
            assert all(answer.ok for answer in await gather(*[users.get("/") for _ in range(6)]))


async def test_old_failures_are_forgotten() -> None:
    moody = Moody()
    limits = UpstreamLimits(eject_failures=3, eject_window=0, retries=0)
    async with faulty(moody) as server, Upstream(server.url, limits=limits) as users:
        for _ in range(6):
            await fail(users, 1)
        assert (client_of(users).pools[0].health.state, client_of(users).pools[0].health.failures) == ("up", 6)


async def test_a_cancelled_child_blames_nobody() -> None:
    app, entered = App(), anyio.Event()

    async def silent(peer: Peer) -> None:
        await peer.request()
        entered.set()
        await peer.stream.receive()

    async with faulty(silent) as server:
        limits = UpstreamLimits(eject_failures=1)
        users = app.upstream("users", server.url, limits=limits)

        @app.get("/")
        async def ask() -> str:
            users.get("/").awaited = True  # it ends with this exchange
            await entered.wait()
            return "done"

        async with serving(app) as front, Upstream(front.url) as asking:
            assert (await asking.get("/")).text() == "done"
            (member,) = front.snapshot().upstreams[0].members
            assert (member.state, member.failures) == ("up", 0)


async def test_whoever_waits_is_served_when_a_member_comes_back() -> None:
    moody, entered, leave = Moody(), anyio.Event(), anyio.Event()

    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            entered.set()
            await leave.wait()
            await peer.send(OK)

    limits = UpstreamLimits(eject_failures=1, eject_time=0.2, max_connections=1)
    async with faulty(moody) as bad, faulty(slow) as good, Upstream(bad.url, good.url, limits=limits) as users:
        first = users.get("/")
        second = users.get("/")
        await entered.wait()
        with pytest.raises(UpstreamError):
            await first
        third = users.get("/")  # the sound one is full, the other is out
        assert len(client_of(users).queue) == 1
        moody.ill = False
        assert (await third).ok
        assert third.member == bad.url
        leave.set()
        assert (await second).ok


async def test_whoever_waits_is_served_when_the_last_is_out() -> None:
    """In line for the only sound member, which fails: then all are asked."""
    moody, entered, leave = Moody(), anyio.Event(), anyio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        entered.set()
        await leave.wait()

    limits = UpstreamLimits(eject_failures=1, eject_time=60, max_connections=1, retries=0)
    async with faulty(moody) as bad, faulty(slow) as good, Upstream(bad.url, good.url, limits=limits) as users:
        first, second = users.get("/"), users.get("/")
        await entered.wait()
        with pytest.raises(UpstreamError):
            await first
        third = users.get("/")
        moody.ill = False
        leave.set()
        with pytest.raises(UpstreamError):
            await second
        await gather(third, return_exceptions=True)
        assert third.attempts == 1  # by whichever of the two


async def test_checks_put_a_member_out_and_bring_it_back() -> None:
    paths: list[bytes] = []
    well = {"well": True}

    async def checked(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.startswith(b"GET /health "):
                paths.append(request)
                await peer.send(OK if well["well"] else ERROR)
            else:
                await peer.send(OK)

    limits = UpstreamLimits(check_path="/health", check_interval=0.01, check_failures=2)
    async with faulty(checked) as one, faulty(answering) as other:  # noqa: SIM117
        async with Upstream(one.url, other.url, limits=limits) as users:
            first = client_of(users).pools[0]
            await until(lambda: len(paths) > 2)
            assert first.health.state == "up"
            well["well"] = False
            await until(lambda: first.health.state == "failing")
            answers = [users.get("/") for _ in range(6)]
            await gather(*answers)
            assert {sub.member for sub in answers} == {other.url}
            well["well"] = True
            await until(lambda: first.health.state == "up")
            assert first.health.failures == first.health.errors == 0  # checks are no requests


async def test_checks_of_a_member_that_is_not_there_and_of_a_silent_one() -> None:
    async def silent(peer: Peer) -> None:
        await peer.stream.receive()
        await anyio.sleep_forever()

    limits = UpstreamLimits(check_path="/", check_interval=0.01, check_timeout=0.05, check_failures=1)
    async with faulty(silent) as server:  # noqa: SIM117
        async with Upstream(server.url, f"http://127.0.0.1:{nobodys_port()}", limits=limits) as users:
            pools = client_of(users).pools
            await until(lambda: {pool.health.state for pool in pools} == {"failing"})
            assert "failing" in repr(pools[0].health)


async def test_a_snapshot_tells() -> None:
    app = App()
    limits = UpstreamLimits(eject_failures=3, retries=0)
    users = app.upstream("users", f"http://127.0.0.1:{nobodys_port()}", limits=limits)
    async with serving(app) as server:
        await fail(users, 3)
        (member,) = server.snapshot().upstreams[0].members
        assert (member.state, member.failures, member.errors) == ("ejected", 3, 0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: UpstreamLimits(check_path="health"), "begins with '/'"),
        (lambda: UpstreamLimits(check_failures=0), "check_failures must be at least 1"),
        (
            lambda: Upstream("tcp://a:1", framing="lines", limits=UpstreamLimits(check_path="/")),
            "check_path is for members that speak HTTP",
        ),
    ],
)
def test_what_cannot_be(make: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
    with pytest.raises(TypeError, match="check_path must be a path"):
        UpstreamLimits(check_path=7)  # type: ignore[arg-type]
