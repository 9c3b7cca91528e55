"""Members that fail, leave and come, and second attempts, under any schedule: no place is lost, nobody is forgotten.

A real client with its real members, pools, health and retries; only the connections stand in for real ones.
"""

from __future__ import annotations

import math
import socket
from threading import get_ident
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coserver import UpstreamLimits, UpstreamMember, UpstreamProtocolError
from coserver.transport.deadlines import Sweeper
from coserver.upstream.pool.balance import POLICIES
from coserver.upstream.pool.client import Client
from coserver.upstream.pool.members import Members
from coserver.upstream.pool.pool import Pool, PoolQueue
from coserver.upstream.pool.retry import Hedge, Retries
from coserver.upstream.subrequest import Subrequest

MOST = 2
ADDRESSES = [((socket.AF_INET, (f"10.0.0.{number}", 80)),) for number in range(3)]


class Connection:
    """Stands where UpstreamConnection does. ``sent``: its request is on the wire."""

    phase = "first byte"

    def __init__(self, client: Client, pool: Pool, sub: Subrequest) -> None:
        self.client = client
        self.pool = pool
        self.sent = False
        self.closed = False
        pool.connections.add(cast(Any, self))
        self._take(sub)

    def _take(self, sub: Subrequest) -> None:
        self.sub: Subrequest | None = sub
        sub.via = cast(Any, self)
        sub.placed = monotonic()
        sub.attempts += 1

    deadline = math.inf

    def alive(self) -> bool:
        return True

    def begin(self, sub: Subrequest, now: float) -> None:
        assert self.sub is None
        assert not self.closed
        self.sent = True
        self._take(sub)

    def release_unsent(self) -> Subrequest | None:
        sub = self.sub
        if self.sent or sub is None:
            return None
        self.sub = None
        sub.attempts -= 1
        self.close(hand_on=False)
        return sub

    def abandon(self, error: BaseException) -> None:
        self.sub = None
        self.close()

    def close(self, *, hand_on: bool = True) -> None:
        if not self.closed:
            self.closed = True
            if hand_on and self in cast(Any, self.pool.idle):
                self.pool.idle.remove(cast(Any, self))
            self.pool.connection_closed(cast(Any, self), hand_on=hand_on)


class Bench(Client):
    """A client without a loop."""

    def __init__(self, policy: str) -> None:
        limits = UpstreamLimits(max_connections=MOST, retries=2, retry_budget=50, eject_failures=2, hedge_percentile=95)
        self.name, self.limits, self.thread = "bench", limits, get_ident()
        self.sweeper = Sweeper()
        self.closed = False
        self.queue = PoolQueue(self.sweeper)
        self.key = lambda sub: sub.target
        self.retries = Retries(self)
        members = [UpstreamMember("http://127.0.0.1:1"), UpstreamMember("http://users.test", weight=2)]
        self._members = Members(self, members, POLICIES[policy])
        self.members_changed()

    def connect(self, pool: Pool, sub: Subrequest) -> None:
        Connection(self, pool, sub)


class MembersMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.client = Bench("least-connections")
        self.asked: list[Subrequest] = []
        self.before: list[Subrequest] = []  # the queue, as it was

    def live(self) -> list[Subrequest]:
        return [sub for sub in self.asked if not sub.done]

    def busy(self) -> list[Connection]:
        pools = self.client.all_pools
        found = [cast(Any, each) for pool in pools for each in pool.connections if each.sub is not None]
        return sorted(found, key=lambda each: each.sub.started)

    @rule(repeat=st.booleans())
    def ask(self, repeat: bool) -> None:
        sub = Subrequest(self.client, "GET", f"/{len(self.asked) % 5}", monotonic())
        sub.may_repeat = repeat
        self.asked.append(sub)
        self.client.begin(sub)

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), status=st.sampled_from([200, 503]))
    def answer(self, data: st.DataObject, status: int) -> None:
        """As UpstreamConnection does: free before anybody is told."""
        connection = data.draw(st.sampled_from(self.busy()))
        sub, connection.sub = connection.sub, None
        connection.sent = True
        if connection.pool.leaving:
            connection.close()
        else:
            connection.pool.give_back(cast(Any, connection))
        self.client.attempt_ended(sub, connection.pool, None, status)
        sub.finish(SimpleNamespace(status=status), monotonic())

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.busy()))
        sub, connection.sub = connection.sub, None
        connection.close()
        error = sub.make_error(UpstreamProtocolError, "broken")
        self.client.attempt_ended(sub, connection.pool, error, 0)
        self.client.attempt_failed(sub, error)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def be_sent(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.busy())).sent = True

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.live())).cancel()

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def hedge(self, data: st.DataObject) -> None:
        sub = data.draw(st.sampled_from(self.busy())).sub
        if sub.hedge is None and not isinstance(sub, Hedge) and self.client.retries._affordable():
            self.client.retries._hedge(sub)

    @precondition(lambda self: self.client.retries._waiting)
    @rule()
    def its_time_comes(self) -> None:
        later = min(self.client.retries._waiting, key=lambda each: each.sub.started)
        later.outlive(monotonic())
        if later in self.client.retries._waiting:
            later.expire(monotonic())

    @rule(data=st.data())
    def an_ejection_ends(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.client.pools)).health.expire(monotonic())

    @rule(well=st.booleans(), data=st.data())
    def check(self, well: bool, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.client.pools)).health.checked(well=well)

    @rule(found=st.lists(st.sampled_from(ADDRESSES), min_size=1, unique=True))
    def look_up(self, found: list[Any]) -> None:
        self.client._members.names[0]._found(found)

    @precondition(lambda self: any(pool.idle for pool in self.client.pools))
    @rule(data=st.data())
    def a_member_closes_an_idle_one(self, data: st.DataObject) -> None:
        idle = [each for pool in self.client.pools for each in pool.idle]
        data.draw(st.sampled_from(idle)).close()

    @invariant()
    def no_place_is_lost(self) -> None:
        for pool in self.client.all_pools:
            assert 0 <= pool.open <= MOST
            assert pool.open == len(pool.connections)
            assert {each for each in pool.connections if each.sub is None} == set(pool.idle)
            assert not any(cast(Any, each).closed for each in pool.connections)
            for each in pool.connections:
                assert each.sub is None or each.sub.via is each

    @invariant()
    def who_left_has_work_to_end_and_no_more(self) -> None:
        members = self.client._members
        assert not set(members.leaving) & set(members.pools)
        for pool in members.leaving:
            assert pool.leaving
            assert pool.busy == pool.open > 0
        assert not any(pool.leaving for pool in members.pools)

    @invariant()
    def everybody_is_somewhere(self) -> None:
        waiting = {later.sub for later in self.client.retries._waiting if later.sub.between}
        for sub in self.live():
            hedged = sub.hedge is not None and not sub.hedge.done and sub.error is not None
            assert (sub in self.client.queue.waiting) + (sub.via is not None) + (sub in waiting) + hedged == 1
        for sub in self.client.queue.waiting:
            assert not sub.done

    @invariant()
    def nobody_waits_while_somebody_could_serve(self) -> None:
        queue, pools = self.client.queue, self.client.pools
        if queue:
            assert not any(pool.has_room for pool in pools if not pool.out)
            assert not all(pool.out for pool in pools) or not any(pool.has_room for pool in pools)

    @invariant()
    def first_come_first_served(self) -> None:
        now = list(self.client.queue.waiting)
        left = [sub for sub in self.before if sub in self.client.queue.waiting]
        if left:
            overtaken = self.before.index(left[0])
            assert not any(sub.via is not None for sub in self.before[overtaken:] if sub not in left)
        self.before = now

    @invariant()
    def second_attempts_end(self) -> None:
        retries = self.client.retries
        assert not any(sub.done for sub in retries._extra)
        for sub in self.asked:
            if sub.done:
                assert sub.hedge is None or sub.hedge.done

    def teardown(self) -> None:
        for sub in self.live():
            sub.cancel()
        self.no_place_is_lost()
        assert not self.client.queue
        assert not self.client.retries._extra
        assert not self.client._members.leaving
        assert not self.busy()


TestMembers = MembersMachine.TestCase
TestMembers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
