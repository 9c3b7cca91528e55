"""The emitter: observers are told, gates may hold, and neither can hurt a connection."""

from __future__ import annotations

import pytest

from coserver.lifecycle.emitter import Emitter
from coserver.lifecycle.events import ConnectionClosed, Event

EVENT = ConnectionClosed(at=0.0, connection=1, reason="r")


async def hold() -> None:
    """Holds for no time at all."""


def test_watched_while_there_is_anyone() -> None:
    emitter = Emitter()
    seen: list[Event] = []
    assert not emitter.watched
    emitter.add_observer(seen.append)
    emitter.add_gate(gate := lambda event: None)
    assert repr(emitter) == "<Emitter 1 observers, 1 gates>"
    # A bound method is another object each time it is named.
    emitter.remove_observer(seen.append)
    emitter.remove_gate(gate)
    assert not emitter.gates
    assert not emitter.watched
    emitter.tell(EVENT)
    assert not seen


def test_observers_in_order_and_removed_twice() -> None:
    emitter, seen = Emitter(), []
    first, second = (lambda event: seen.append(1)), (lambda event: seen.append(2))
    emitter.add_observer(first)
    emitter.add_observer(second)
    emitter.tell(EVENT)
    emitter.remove_observer(first)
    emitter.remove_observer(first)
    emitter.tell(EVENT)
    assert seen == [1, 2, 2]
    emitter.remove_observer(second)
    assert not emitter.watched


def test_observing_for_a_while() -> None:
    emitter, seen = Emitter(), []
    with pytest.raises(ValueError, match="x"), emitter.observing(seen.append) as observer:  # noqa: PT012
        emitter.tell(EVENT)
        assert observer
        raise ValueError("x")
    emitter.tell(EVENT)
    assert seen == [EVENT]
    assert not emitter.watched


def test_an_observer_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    emitter, seen = Emitter(), []

    def bad(event: Event) -> None:
        seen.append("bad")
        raise ValueError("a bad observer")

    emitter.add_observer(bad)
    emitter.add_observer(lambda event: seen.append("good"))
    emitter.tell(EVENT)
    emitter.tell(EVENT)
    assert seen == ["bad", "good", "good"]
    assert "a bad observer" in caplog.text


def test_an_observer_that_removes_itself_and_adds_another() -> None:
    emitter, seen = Emitter(), []

    def once(event: Event) -> None:
        emitter.remove_observer(once)
        emitter.add_observer(lambda event: seen.append("late"))
        seen.append("once")

    emitter.add_observer(once)
    emitter.tell(EVENT)
    emitter.tell(EVENT)
    assert seen == ["once", "late"]


async def test_gates(caplog: pytest.LogCaptureFixture) -> None:
    emitter = Emitter()

    def bad(event: Event) -> None:
        raise ValueError("a bad gate")

    emitter.add_gate(lambda event: None)
    emitter.add_gate(bad)
    emitter.add_gate(lambda event: hold())
    assert len(emitter.gates) == 3
    holds = [*emitter.holds(EVENT)]
    assert len(holds) == 1
    await holds[0]
    assert len(emitter.gates) == 2
    assert "a bad gate" in caplog.text


def test_who_hears_of_smooth_exchanges_once_they_are_over(caplog: pytest.LogCaptureFixture) -> None:
    emitter, seen = Emitter(), []
    events: list[Event] = []
    emitter.add_observer(events.append, served=lambda exchange, at: seen.append((exchange, at)))
    assert (emitter.heard, emitter.watched, emitter.prompt) == (True, False, False)
    emitter.tell_served("an exchange", 1.5)
    emitter.tell(EVENT)
    assert seen == [("an exchange", 1.5)]
    assert events == [EVENT]
    emitter.add_observer(other := lambda event: None, brief=True)
    assert emitter.prompt
    emitter.remove_observer(other)
    emitter.add_gate(gate := lambda event: None)
    assert emitter.prompt
    emitter.remove_gate(gate)
    emitter.add_observer(failing := lambda event: None, served=lambda exchange, at: 1 / 0)
    emitter.tell_served("another", 2.5)
    assert "was removed" in caplog.text
    assert repr(emitter) == "<Emitter 1 observers, 0 gates>"
    emitter.remove_observer(failing)
    emitter.remove_observer(events.append)
    assert not emitter.heard
    emitter.tell_served("one more", 3.5)
    assert [one for one, _ in seen] == ["an exchange", "another"]
