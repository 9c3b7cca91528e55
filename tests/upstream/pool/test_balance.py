"""What each policy promises, over any weights and any order of things; then with real servers."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from coserver import App, Upstream, UpstreamConnectError, UpstreamLimits, UpstreamMember, gather
from coserver.upstream.pool import balance
from coserver.upstream.pool.balance import ConsistentHash, LeastConnections, PeakEwma, RoundRobin

from ..peers import Peer, answering, faulty, serving
from ..test_faults import nobodys_port

WEIGHTS = st.lists(st.integers(1, 9), min_size=2, max_size=6)
ERROR: Any = UpstreamConnectError("refused")


class Pool:
    """What a policy sees of one."""

    def __init__(self, number: int, weight: int = 1) -> None:
        self.address = f"http://10.0.0.{number}:80"
        self.member = UpstreamMember(self.address, weight)
        self.busy = 0


def pools_of(weights: list[int]) -> Any:
    return [Pool(number, weight) for number, weight in enumerate(weights)]


def asked_for(key: str) -> Any:
    return SimpleNamespace(client=SimpleNamespace(key=lambda sub: key), first=0.0, placed=0.0)


SUB = asked_for("")


@settings(deadline=None)
@given(WEIGHTS)
def test_round_robin_is_proportional_and_smooth(weights: list[int]) -> None:
    pools = pools_of(weights)
    policy, total = RoundRobin(pools), sum(weights)
    counts: Counter[Any] = Counter()
    for turn in range(1, 2 * total + 1):
        counts[policy.choose(pools, SUB)] += 1
        for pool in pools:  # at no moment is anybody a whole request from its share, but for who else was due
            assert abs(counts[pool] - turn * pool.member.weight / total) < len(pools)
    assert [counts[pool] for pool in pools] == [2 * weight for weight in weights]


def test_round_robin_as_nginx_makes_it() -> None:
    pools = pools_of([5, 1, 1])
    policy = RoundRobin(pools)
    assert "".join("abc"[pools.index(policy.choose(pools, SUB))] for _ in range(7)) == "aabacaa"


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40))
def test_a_weight_falls_with_failures_and_comes_back(outcomes: list[bool]) -> None:
    pools = pools_of([4, 4])
    policy = RoundRobin(pools)
    for well in outcomes:
        policy.attempt_ended(pools[0], SUB, None if well else ERROR)
        assert 4 / 64 <= policy._effective[pools[0]] <= 4
    for _ in range(3):
        policy.attempt_ended(pools[0], SUB, ERROR)
    counts = Counter(policy.choose(pools, SUB) for _ in range(900))
    assert 0 < counts[pools[0]] < 150
    for _ in range(8):
        policy.attempt_ended(pools[0], SUB, None)
    counts = Counter(policy.choose(pools, SUB) for _ in range(900))
    assert abs(counts[pools[0]] - 450) <= 5


@settings(deadline=None)
@given(WEIGHTS, st.data())
def test_least_connections_is_never_far_from_the_weights(weights: list[int], data: st.DataObject) -> None:
    pools = pools_of(weights)
    policy = LeastConnections(pools)
    for _ in range(30):
        pool = policy.choose(pools, SUB)
        assert all((pool.busy + 1) / pool.member.weight <= (one.busy + 1) / one.member.weight for one in pools)
        pool.busy += 1  # type: ignore[misc]
        under_way = [one for one in pools if one.busy]
        if data.draw(st.booleans()):
            data.draw(st.sampled_from(under_way)).busy -= 1


def test_least_connections_takes_turns_among_equals() -> None:
    pools = pools_of([1, 1, 1])
    policy = LeastConnections(pools)
    assert [pools.index(policy.choose(pools, SUB)) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_peak_ewma_leaves_the_slow_alone_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(balance, "monotonic", lambda: now)
    pools = pools_of([1, 1])
    policy = PeakEwma(pools)

    def took(seconds: float) -> Any:
        return SimpleNamespace(first=now, placed=now - seconds)

    policy.attempt_ended(pools[0], took(0.010), None)
    policy.attempt_ended(pools[1], took(0.500), None)
    assert {policy.choose(pools, SUB) for _ in range(20)} == {pools[0]}
    policy.attempt_ended(pools[0], took(2.0), None)  # a peak counts at once
    assert {policy.choose(pools, SUB) for _ in range(20)} == {pools[1]}
    policy.attempt_ended(pools[1], took(0.0), ERROR)  # a quick refusal is no attraction
    policy.attempt_ended(pools[0], took(0.001), None)
    now += 60
    for _ in range(3):
        policy.attempt_ended(pools[0], took(0.001), None)
    assert {policy.choose(pools, SUB) for _ in range(20)} == {pools[1]}  # a minute later it is tried again
    assert policy.choose(pools[:1], SUB) is pools[0]


@settings(max_examples=30, deadline=None)
@given(WEIGHTS, st.data())
def test_the_hash_moves_none_but_who_must(weights: list[int], data: st.DataObject) -> None:
    pools = pools_of(weights)
    policy = ConsistentHash(pools)
    keys = [f"10.1.{number}.7" for number in range(300)]
    before = {key: policy.choose(pools, asked_for(key)) for key in keys}
    gone = data.draw(st.sampled_from(pools))
    rest = [pool for pool in pools if pool is not gone]
    for key, pool in before.items():
        after = policy.choose(rest, asked_for(key))
        assert after is pool or pool is gone
    again = ConsistentHash(rest)  # made anew, with other objects around it
    assert all(again.choose(rest, asked_for(key)) is pool for key, pool in before.items() if pool is not gone)


def test_the_hash_gives_each_its_share() -> None:
    pools = pools_of([1, 2, 5])
    policy = ConsistentHash(pools)
    counts = Counter(policy.choose(pools, asked_for(str(number))) for number in range(8000))
    assert all(abs(counts[pool] - 1000 * pool.member.weight) < 150 for pool in pools)


async def answering_with_its_number(stack: AsyncExitStack, number: int) -> str:
    async def talk(peer: Peer) -> None:
        while True:
            await peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)

    return (await stack.enter_async_context(faulty(talk))).url


@pytest.mark.parametrize("policy", balance.POLICIES)
async def test_with_servers(policy: str) -> None:
    async with AsyncExitStack() as stack:
        urls = [await answering_with_its_number(stack, number) for number in range(3)]
        async with Upstream(*urls, policy=policy) as users:
            answers = await gather(*[users.get(f"/{number}") for number in range(60)])
            counts = Counter(answer.body for answer in answers)
            assert sorted(counts) == [b"0", b"1", b"2"]
            if policy in ("round-robin", "least-connections"):
                assert set(counts.values()) == {20}


async def test_a_weight_of_two_gets_twice_as_many() -> None:
    async with AsyncExitStack() as stack:
        urls = [await answering_with_its_number(stack, number) for number in range(2)]
        async with Upstream(f"{urls[0]} weight=2", urls[1]) as users:
            counts = Counter([(await users.get("/")).body for _ in range(30)])
            assert counts == {b"0": 20, b"1": 10}


async def test_a_member_that_refuses_gets_less_and_less() -> None:
    gone, limits = f"http://127.0.0.1:{nobodys_port()}", UpstreamLimits(retries=0)
    async with faulty(answering) as server, Upstream(server.url, gone, limits=limits) as users:
        answers = await gather(*[users.get("/") for _ in range(2)], return_exceptions=True)
        for _ in range(40):
            answers += await gather(users.get("/"), return_exceptions=True)
        assert 1 <= sum(isinstance(answer, Exception) for answer in answers) <= 10


async def test_a_hash_by_client_and_by_key() -> None:
    app = App()
    async with AsyncExitStack() as stack:
        urls = [await answering_with_its_number(stack, number) for number in range(3)]
        by_client = app.upstream("by_client", *urls, policy="consistent-hash")
        by_key = app.upstream("by_key", *urls, policy="consistent-hash", key=lambda sub: sub.target.encode())

        @app.get("/client")
        async def client() -> str:
            answers = await gather(*[by_client.get(f"/{number}") for number in range(10)])
            return " ".join(sorted({answer.text() for answer in answers}))

        server = await stack.enter_async_context(serving(app))
        async with Upstream(server.url) as front:
            seen = {(await front.get("/client")).text() for _ in range(3)}
            assert len(seen) == 1
            assert seen <= {"0", "1", "2"}
        answers = [(await by_key.get(f"/{number % 20}")).body for number in range(60)]
        assert answers[:20] == answers[20:40] == answers[40:]
        assert len(set(answers)) == 3


async def test_a_full_member_is_passed_over() -> None:
    entered = anyio.Event()

    async def holds(peer: Peer) -> None:
        await peer.request()
        entered.set()
        await peer.stream.receive()

    async with faulty(holds) as one, faulty(holds) as other:
        limits = UpstreamLimits(max_connections=1)
        key = lambda sub: "same"  # noqa: E731
        async with Upstream(one.url, other.url, policy="consistent-hash", key=key, limits=limits) as users:
            subs = [users.get("/"), users.get("/")]
            await entered.wait()
            assert {sub.member for sub in subs} == {one.url, other.url}
            for sub in subs:
                sub.cancel()


def test_a_key_is_for_the_hash() -> None:
    with pytest.raises(ValueError, match="a key is for policy 'consistent-hash'"):
        Upstream("http://a", "http://b", key=lambda sub: sub.target)


async def test_a_key_that_raises_is_whoever_asked_s() -> None:
    """From another thread too, where the loop asks for it on its own."""

    def key(sub: Any) -> str:
        return {}[sub.target]  # type: ignore[no-any-return]

    async with Upstream("http://127.0.0.1:1", "http://127.0.0.1:2", policy="consistent-hash", key=key) as users:
        with pytest.raises(KeyError, match="/a"):
            await users.get("/a")
        with pytest.raises(KeyError, match="/b"):
            await anyio.to_thread.run_sync(lambda: users.get("/b").result(timeout=5))
        with pytest.raises(KeyError, match="/c"):
            await gather(users.get("/c"))
