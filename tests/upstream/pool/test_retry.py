"""Second attempts: when there is one, when there must be none, and that none is left over."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import anyio
import pytest

from coserver import (
    Upstream,
    UpstreamBusy,
    UpstreamConnectError,
    UpstreamError,
    UpstreamLimits,
    UpstreamProtocolError,
    gather,
)
from coserver.upstream.pool.client import Client

from ...server.clients import until
from ..peers import OK, Peer, answering, faulty
from ..test_faults import nobodys_port

TWO = UpstreamLimits(retries=2, eject_failures=0)


def client_of(users: Upstream) -> Client:
    client = users.client_of(threading.get_ident())
    assert client is not None
    return client


async def leaves(peer: Peer) -> None:
    await peer.request()


def leaves_until(number: int) -> Any:
    async def talk(peer: Peer) -> None:
        await peer.request()
        if peer.number >= number:
            await peer.send(OK)

    return talk


async def test_at_another_member_at_once() -> None:
    async with faulty(leaves) as bad, faulty(answering) as good:  # noqa: SIM117
        async with Upstream(bad.url, good.url, limits=TWO, policy="least-connections") as users:
            sub = users.get("/")
            assert (await sub).ok
            assert (sub.attempts, sub.member, bad.accepted) == (2, good.url, 1)
            assert sub.error is None


async def test_at_the_same_a_little_later() -> None:
    async with faulty(leaves_until(2)) as server, Upstream(server.url, limits=TWO) as users:
        sub = users.get("/")
        assert (await sub).ok
        assert (sub.attempts, server.accepted) == (3, 3)
        assert sub.elapsed > 0.025 / 2 + 0.05 / 2


async def test_no_more_than_allowed() -> None:
    async with faulty(leaves) as server, Upstream(server.url, limits=TWO) as users:
        with pytest.raises(UpstreamProtocolError, match=r"\(3 attempts\)") as raised:
            await users.get("/")
        assert (raised.value.attempts, server.accepted) == (3, 3)


async def test_what_may_not_be_repeated() -> None:
    async with faulty(leaves) as server, Upstream(server.url, limits=TWO) as users:
        with pytest.raises(UpstreamProtocolError):
            await users.post("/", content="x")
        assert server.accepted == 1
        with pytest.raises(UpstreamProtocolError):
            await users.get("/", repeat=False)
        assert server.accepted == 2
    async with faulty(leaves_until(1)) as server, Upstream(server.url, limits=TWO) as users:
        assert (await users.post("/", content="x", repeat=True)).ok


async def test_what_was_never_sent_may() -> None:
    async with faulty(answering) as good:
        gone = f"http://127.0.0.1:{nobodys_port()}"
        async with Upstream(gone, good.url, limits=TWO, policy="least-connections") as users:
            assert (await users.post("/", content="x")).ok

            def pieces() -> Iterator[bytes]:
                yield b"x"

            failures = await gather(
                users.post("/", content=pieces()), users.post("/", content=pieces()), return_exceptions=True
            )
            assert sum(isinstance(one, UpstreamConnectError) for one in failures) == 1


async def test_never_once_the_answer_has_begun() -> None:
    async def half(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with faulty(half) as server, Upstream(server.url, limits=TWO) as users:
        with pytest.raises(UpstreamProtocolError):
            await users.get("/")
        assert server.accepted == 1


async def test_once_unless_told_otherwise() -> None:
    """What may be repeated, and only that; not where it has begun to be answered; not for ever."""
    async with faulty(leaves_until(1)) as server, Upstream(server.url) as users:
        sub = users.get("/")
        assert (await sub).ok
        assert (sub.attempts, server.accepted) == (2, 2)
    async with faulty(leaves) as server, Upstream(server.url) as users:
        with pytest.raises(UpstreamProtocolError) as raised:
            await users.post("/", content="x")
        assert (raised.value.attempts, server.accepted) == (1, 1)
        with pytest.raises(UpstreamProtocolError) as raised:
            await users.put("/", content="x")
        assert (raised.value.attempts, server.accepted) == (2, 3)


async def test_a_line_that_is_full_is_no_failure_of_a_member() -> None:
    held = anyio.Event()

    async def silent(peer: Peer) -> None:
        await peer.request()
        held.set()
        await peer.stream.receive()

    async with faulty(silent) as server:
        limits = UpstreamLimits(max_connections=1, waiting=0, retries=2)
        async with Upstream(server.url, server.url + " weight=2", limits=limits) as users:
            first, second = users.get("/"), users.get("/")
            await held.wait()
            for sub in (users.get("/"), users.post("/", content="x")):
                with pytest.raises(UpstreamBusy):
                    await sub
                assert (sub.retried, sub.attempts) == (0, 0)
            first.cancel()
            second.cancel()


async def test_the_budget_caps_a_storm() -> None:
    async with faulty(leaves) as server, Upstream(server.url, limits=TWO) as users:
        answers = await gather(*[users.get("/") for _ in range(50)], return_exceptions=True)
        assert all(isinstance(answer, UpstreamError) for answer in answers)
        assert 50 < server.accepted <= 50 + 2 * 13


async def test_cancelled_between_two_attempts() -> None:
    limits = UpstreamLimits(retries=1, retry_backoff=30, retry_backoff_max=30)
    async with faulty(leaves) as server, Upstream(server.url, limits=limits) as users:
        sub = users.get("/")
        await until(lambda: sub.between)
        sub.cancel()
        assert sub.done
        await until(lambda: not client_of(users).retries._waiting)
        left = users.get("/")
        await until(lambda: left.between)
    assert left.cancelled  # with its upstream


async def test_no_attempt_that_would_come_too_late() -> None:
    limits = UpstreamLimits(retries=1, retry_backoff=30, retry_backoff_max=30)
    async with faulty(leaves) as server, Upstream(server.url, limits=limits) as users:
        with pytest.raises(UpstreamProtocolError):
            await users.get("/", timeout=5)
        assert server.accepted == 1


HEDGED = UpstreamLimits(hedge_percentile=95, retries=0)


class Slow:
    """Quick for ``quick`` requests, then silent until ``leave``, once for each connection."""

    def __init__(self) -> None:
        self.slow = False
        self.held = 0
        self.leave = anyio.Event()

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            if self.slow:
                self.held += 1
                await peer.stream.receive()
            await peer.send(OK)


async def warm(users: Upstream) -> None:
    for _ in range(40):
        await users.get("/")


async def test_a_hedge_wins_and_the_other_is_cancelled() -> None:
    slow = Slow()
    async with faulty(slow) as one, faulty(answering) as other, Upstream(one.url, other.url, limits=HEDGED) as users:
        await warm(users)
        slow.slow = True
        subs = [users.get("/") for _ in range(2)]
        answers = await gather(*subs)
        assert all(answer.ok for answer in answers)
        assert sorted(sub.attempts for sub in subs) == [1, 2]
        assert {sub.member for sub in subs} == {other.url}
        assert slow.held == 1
        await until(lambda: not one.open)
        assert [pool.health.failures for pool in client_of(users).pools] == [0, 0]  # cancelled, not blamed
        await until(lambda: not client_of(users).retries._waiting)


async def test_the_first_wins_and_the_hedge_is_cancelled() -> None:
    leave = anyio.Event()
    quick = True

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            if not quick and peer.number:
                await peer.stream.receive()
            elif not quick:
                await leave.wait()
            await peer.send(OK)

    async with faulty(talk) as server, Upstream(server.url, limits=HEDGED) as users:
        await warm(users)
        quick = False
        sub = users.get("/")
        await until(lambda: sub.hedge is not None and server.open == 2)
        leave.set()
        assert (await sub).ok
        await until(lambda: server.open == 1)
        assert client_of(users).pools[0].open == 1


async def test_a_hedge_whose_first_fails_and_a_parent_that_gives_up() -> None:
    slow = Slow()
    async with faulty(slow) as server, Upstream(server.url, limits=HEDGED) as users:
        await warm(users)
        slow.slow = True
        sub = users.get("/")
        await until(lambda: sub.hedge is not None and slow.held == 2)
        assert sub.via is not None
        sub.via.fail(UpstreamProtocolError, "gone")
        assert not sub.done
        hedge = sub.hedge
        assert hedge is not None
        assert hedge.via is not None
        hedge.via.fail(UpstreamProtocolError, "gone too")
        with pytest.raises(UpstreamProtocolError, match="gone"):
            await sub
        sub = users.get("/")
        await until(lambda: sub.hedge is not None)
        sub.cancel()
        await until(lambda: not server.open)
        assert not client_of(users).pools[0].open


async def test_no_hedge_for_what_may_not_be_repeated() -> None:
    slow = Slow()
    async with faulty(slow) as server, Upstream(server.url, limits=HEDGED) as users:
        await warm(users)
        slow.slow = True
        sub = users.post("/", content="x", timeout=0.3)
        began = monotonic()
        with pytest.raises(UpstreamError):
            await sub
        assert monotonic() - began >= 0.3
        assert (sub.attempts, slow.held) == (1, 1)


class Moody:
    """Answers, late at times; or closes, or falls silent, or breaks off."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            mood = self.chance.random()
            if mood < 0.15:
                return
            if mood < 0.2:
                await peer.send(OK[:20])
                return
            if mood < 0.4:
                await anyio.sleep(0.03 + mood / 10)
            await peer.send(OK)


async def test_a_storm_with_second_attempts() -> None:
    """Failures, retries, hedges and cancellations at once: when it is over nothing of it is left."""
    chance = random.Random(11)
    limits = UpstreamLimits(max_connections=8, retries=2, retry_backoff=0.01, hedge_percentile=60, eject_time=0.05)
    made = {"retried": 0, "hedged": 0}

    async def one(users: Upstream) -> None:
        with anyio.move_on_after(chance.random() * 0.2):
            sub = users.get("/") if chance.random() < 0.8 else users.post("/", content="x")
            try:
                await sub
            except UpstreamError:
                pass
            finally:
                made["retried"] += sub.retried
                made["hedged"] += sub.attempts > 1 + sub.retried

    async with faulty(Moody(1)) as first, faulty(Moody(2)) as second:  # noqa: SIM117
        async with Upstream(first.url, second.url, limits=limits) as users:
            client = client_of(users)
            for _ in range(6):
                async with anyio.create_task_group() as tasks:
                    for _ in range(40):
                        tasks.start_soon(one, users)
            assert made["retried"]
            assert made["hedged"]
            assert not client.queue
            assert not client.retries._extra
            await until(lambda: not client.retries._waiting)
            for pool in client.pools:
                assert pool.open == len(pool.idle) == len(pool.connections)
            await until(lambda: first.open + second.open == sum(pool.open for pool in client.pools))


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="at most 99"):
        UpstreamLimits(hedge_percentile=100)
