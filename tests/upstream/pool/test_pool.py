"""The pool's invariants under any schedule: never above the maximum, no connection lost, first come first served."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coserver import UpstreamLimits, UpstreamMember
from coserver.transport.deadlines import Sweeper
from coserver.upstream.pool.client import Client
from coserver.upstream.pool.pool import Pool, PoolQueue

MOST = 3


class Connection:
    """Stands where UpstreamConnection does: what the pool sees of it."""

    def __init__(self, pool: Pool, sub: Any) -> None:
        self.pool = pool
        self.sub: Any = sub
        self.fresh = True
        self.closed = False
        self.stale = False
        pool.connections.add(cast(Any, self))
        sub.via = self

    @property
    def deadline(self) -> float:
        return 0.0 if self.stale else math.inf

    def begin(self, sub: Any, now: float) -> None:
        assert self.sub is None
        assert not self.closed
        self.sub = sub
        sub.via = self

    def close(self, *, hand_on: bool = True) -> None:
        if not self.closed:
            self.closed = True
            if hand_on and self in cast(Any, self.pool.idle):
                self.pool.idle.remove(cast(Any, self))
            self.pool.connection_closed(cast(Any, self), hand_on=hand_on)


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.left_queue: list[Any] = []
        client = SimpleNamespace(limits=UpstreamLimits(max_connections=MOST), connect=Connection, closed=False)
        sweeper = SimpleNamespace(add=lambda sub: None, discard=self.left_queue.append)
        self.queue = PoolQueue(cast(Sweeper, sweeper))
        self.pool = Pool(cast(Client, client), UpstreamMember("http://127.0.0.1:1"), self.queue)
        self.asked: list[Any] = []
        self.waiting: list[Any] = []  # the model of the queue
        self.number = 0

    def busy(self) -> list[Connection]:
        found = [cast(Any, each) for each in self.pool.connections if cast(Any, each).sub is not None]
        return sorted(found, key=lambda each: each.sub.number)

    @rule()
    def ask(self) -> None:
        self.number += 1
        sub = Sub(self.number)
        self.asked.append(sub)
        if self.pool.has_room:
            assert not self.queue  # a newcomer never overtakes
            self.pool.take(cast(Any, sub))
            assert sub.via is not None
        else:
            self.queue.join(cast(Any, sub), math.inf)
            self.waiting.append(sub)

    def settle_queue(self) -> None:
        """Each subrequest that got a connection was the first in the queue."""
        for sub in self.left_queue:
            assert sub is self.waiting.pop(0)
            assert sub.via is not None
        self.left_queue.clear()

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.busy()))
        connection.sub = None
        connection.fresh = False
        self.pool.give_back(cast(Any, connection))
        self.settle_queue()

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def give_up_or_break(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.busy()))
        connection.sub = None
        connection.close()
        self.settle_queue()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave_the_queue(self, data: st.DataObject) -> None:
        sub = data.draw(st.sampled_from(self.waiting))
        assert self.queue.leave(sub)
        assert not self.queue.leave(sub)
        assert self.left_queue.pop() is sub
        assert not self.left_queue
        self.waiting.remove(sub)

    @precondition(lambda self: self.pool.idle)
    @rule(data=st.data(), noticed=st.booleans())
    def member_closes_an_idle_one(self, data: st.DataObject, noticed: bool) -> None:
        connection = cast(Any, data.draw(st.sampled_from(list(self.pool.idle))))
        if noticed:
            connection.close()
        else:
            connection.stale = True

    @invariant()
    def never_above_the_maximum(self) -> None:
        assert 0 <= self.pool.open <= MOST
        assert self.pool.open == len(self.pool.connections)

    @invariant()
    def none_is_lost(self) -> None:
        idle = set(self.pool.idle)
        assert len(idle) == len(self.pool.idle)
        assert {each for each in self.pool.connections if cast(Any, each).sub is None} == idle
        assert not any(cast(Any, each).closed for each in self.pool.connections)

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        assert len(self.queue) == len(self.waiting)
        if self.waiting:
            assert not self.pool.has_room


class Sub:
    def __init__(self, number: int) -> None:
        self.number = number
        self.may_repeat = True
        self.via: Any = None
        self.pool: Any = None
        self.deadline = math.inf


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)


def test_a_queue_is_as_fast_at_its_head_however_long_it_is() -> None:
    queue = PoolQueue(Sweeper())
    subs: list[Any] = [Sub(number) for number in range(50_000)]
    for sub in subs:
        queue.join(sub, math.inf)
    for sub in subs[: len(subs) // 2]:
        assert queue.leave(sub)
    assert [queue.pop() for _ in range(len(queue))] == subs[len(subs) // 2 :]
    assert repr(queue) == "<PoolQueue 0 waiting>"
