"""The order table and its check: planted violations are noticed, sound sequences are not."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from coserver.lifecycle import events as ev
from coserver.lifecycle import phases
from coserver.lifecycle.order import FIRST, FOLLOWS, HOLDABLE, OPENING, TRACKS, OrderCheck, OutOfOrder

BASES = (ev.Event, ev.SubrequestEvent)
KINDS = [
    kind
    for kind in vars(ev).values()
    if isinstance(kind, type) and issubclass(kind, ev.Event) and kind not in BASES
]

FACTS: dict[type, dict[str, Any]] = {
    ev.ConnectionOpened: {"peer": "p", "protocol": "tcp"},
    ev.RequestHead: {"method": "GET", "target": "/"},
    ev.RequestRead: {"size": 0},
    ev.RequestRefused: {"status": 400, "reason": "r"},
    ev.HandlerStarted: {"handler": "h"},
    ev.HandlerFailed: {"error": ValueError()},
    ev.SubrequestStarted: {"subrequest": 3, "upstream": "u", "method": "GET", "target": "/"},
    ev.SubrequestFinished: {"subrequest": 3, "status": 200, "member": "m"},
    ev.SubrequestFailed: {"subrequest": 3, "error": ValueError()},
    ev.SubrequestCancelled: {"subrequest": 3},
    ev.ResponseStarted: {"status": 200},
    ev.ResponseFinished: {"size": 0},
    ev.ResponseFailed: {"error": ValueError()},
    ev.ConnectionClosed: {"reason": "r"},
}


def make(kind: type[ev.Event], connection: int = 1, exchange: int | None = 7) -> ev.Event:
    return kind(at=0.0, connection=connection, exchange=exchange, **FACTS.get(kind, {}))


def run(*kinds: type[ev.Event]) -> OrderCheck:
    check = OrderCheck()
    for kind in kinds:
        check(make(kind))
    return check


OPEN, CLOSE, RECYCLE = ev.ConnectionOpened, ev.ConnectionClosed, ev.ConnectionRecycled
HEAD, READ, REFUSED = ev.RequestHead, ev.RequestRead, ev.RequestRefused
STARTED, FINISHED = ev.HandlerStarted, ev.HandlerFinished
BEGUN, SENT = ev.ResponseStarted, ev.ResponseFinished


def test_the_table_is_whole() -> None:
    tracked = [kind for kinds in TRACKS.values() for kind in kinds]
    assert sorted(tracked, key=repr) == sorted(KINDS, key=repr)
    assert set(FOLLOWS) == set(tracked)
    assert set(FIRST) == set(TRACKS)
    for track, kinds in TRACKS.items():
        assert set(FIRST[track]) <= set(kinds)
        for kind in kinds:
            assert set(FOLLOWS[kind]) <= set(kinds)
    assert set(OPENING) <= set(tracked)
    assert set(HOLDABLE) <= set(phases.PHASES)
    assert get_args(dict[str, int]) == (str, int)


@pytest.mark.parametrize(
    "kinds",
    [
        (OPEN, CLOSE),
        (OPEN, HEAD, READ, STARTED, FINISHED, BEGUN, SENT, RECYCLE, CLOSE),
        (OPEN, HEAD, STARTED, READ, FINISHED, BEGUN, SENT, RECYCLE, RECYCLE, CLOSE),
        (OPEN, READ, STARTED, BEGUN, SENT, BEGUN, SENT, FINISHED, RECYCLE, CLOSE),
        (OPEN, HEAD, STARTED, ev.HandlerCancelled, CLOSE),
        (OPEN, REFUSED, BEGUN, ev.ResponseFailed, CLOSE),
        (OPEN, HEAD, REFUSED, BEGUN, ev.ResponseCancelled, CLOSE),
    ],
)
def test_sound_sequences(kinds: tuple[type[ev.Event], ...]) -> None:
    check = run(*kinds)
    check.check()
    assert check.seen == len(kinds)


@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        ((CLOSE,), "ConnectionClosed after nothing"),
        ((OPEN, OPEN, CLOSE), "ConnectionOpened after ConnectionOpened"),
        ((OPEN, CLOSE, CLOSE), "ConnectionClosed after ConnectionClosed"),
        ((OPEN, CLOSE, RECYCLE), "ConnectionRecycled after ConnectionClosed"),
        ((OPEN, CLOSE, OPEN), "ConnectionOpened after ConnectionClosed"),
        ((OPEN, READ, HEAD, CLOSE), "RequestHead after RequestRead"),
        ((OPEN, HEAD, HEAD, CLOSE), "RequestHead after RequestHead"),
        ((OPEN, FINISHED, CLOSE), "HandlerFinished after nothing"),
        ((OPEN, STARTED, CLOSE), "HandlerStarted was never closed"),
        ((OPEN, STARTED, FINISHED, ev.HandlerFailed, CLOSE), "HandlerFailed after HandlerFinished"),
        ((OPEN, STARTED, FINISHED, FINISHED, CLOSE), "HandlerFinished after HandlerFinished"),
        ((OPEN, BEGUN, CLOSE), "ResponseStarted was never closed"),
        ((OPEN, BEGUN, BEGUN, SENT, CLOSE), "ResponseStarted after ResponseStarted"),
        ((OPEN, SENT, CLOSE), "ResponseFinished after nothing"),
        ((HEAD, OPEN, CLOSE), "RequestHead outside its life"),
        ((OPEN, CLOSE, HEAD), "RequestHead outside its life"),
        ((OPEN,), "no ConnectionClosed"),
        ((OPEN, RECYCLE), "no ConnectionClosed"),
    ],
)
def test_planted_violations(kinds: tuple[type[ev.Event], ...], problem: str) -> None:
    with pytest.raises(OutOfOrder, match=problem):
        run(*kinds).check()


def test_connections_and_exchanges_are_kept_apart() -> None:
    check = OrderCheck()
    for connection in (1, 2):
        check(make(OPEN, connection, None))
    for exchange in (1, 2, 3):
        for kind in (HEAD, READ, STARTED, FINISHED):
            check(make(kind, 1, exchange))
    check(make(STARTED, 2, 9))
    check(make(CLOSE, 1, None))
    assert not check.problems
    check(make(CLOSE, 2, None))
    assert check.problems == ["connection 2, exchange 9: HandlerStarted was never closed"]


def test_an_exchange_must_be_named() -> None:
    check = run(OPEN)
    check(make(HEAD, 1, None))
    assert "names no exchange" in check.problems[0]


def test_an_event_without_a_row() -> None:
    class Strange(ev.Event):
        pass

    check = OrderCheck()
    check(Strange(at=0.0, connection=1))
    assert check.problems == ["Strange has no row in TRACKS"]


def test_events_are_frozen_values() -> None:
    event = make(OPEN)
    with pytest.raises(AttributeError):
        event.at = 1.0  # type: ignore[misc]
    assert event == make(OPEN)
    assert "source" not in repr(event)
