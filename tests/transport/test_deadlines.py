"""The sweeper: one task for every deadline."""

from __future__ import annotations

import math
from time import monotonic

import anyio
import pytest

from coserver.transport.deadlines import FINE, NEAR, TICK, Sweeper


class Subject:
    def __init__(self, deadline: float = math.inf, *, fails: bool = False) -> None:
        self.deadline = deadline
        self.expired = self.outlived = 0
        self.fails = fails

    def expire(self, now: float) -> None:
        self.expired += 1
        self.deadline = math.inf
        if self.fails:
            raise ValueError("at its deadline")

    def outlive(self, now: float) -> None:
        self.outlived += 1
        if self.fails:
            raise ValueError("at the sweep")


#: Generous: the machine may have other work.
GRAIN = 0.04


class Timed(Subject):
    at = 0.0

    def expire(self, now: float) -> None:
        super().expire(now)
        self.at = monotonic()


def test_only_the_late_expire() -> None:
    sweeper, early, late = Sweeper(), Subject(5.0), Subject(10.0)
    sweeper.add(early)
    sweeper.add(late)
    sweeper.sweep(7.0)
    assert (early.expired, late.expired) == (1, 0)
    sweeper.sweep(20.0)
    assert (early.expired, late.expired) == (1, 1)
    assert repr(sweeper) == "<Sweeper 2 subjects, 0 running>"


def test_those_that_run_are_looked_at_each_time() -> None:
    sweeper, runs, rests = Sweeper(), Subject(5.0), Subject(5.0)
    for subject in (runs, rests):
        sweeper.add(subject)
    sweeper.running.add(runs)
    sweeper.sweep(7.0, every=False)
    assert (runs.expired, runs.outlived, rests.expired, rests.outlived) == (1, 1, 0, 0)
    sweeper.discard(runs)
    sweeper.discard(runs)
    assert not sweeper.running
    sweeper.sweep(7.0)
    assert (runs.expired, rests.expired) == (1, 1)


async def test_a_near_deadline_is_kept_to_ten_milliseconds() -> None:
    sweeper = Sweeper()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sweeper.run_near)
        await anyio.sleep(0.01)  # it sleeps: there is nothing near
        for _ in range(2):  # awake, asleep and awake again
            begun = monotonic()
            soon, inside = Timed(begun + 0.02), Timed(begun + 0.03)
            far, never = Subject(begun + NEAR + 1), Subject()
            for subject in (inside, soon, far, never):
                sweeper.add(subject)
                sweeper.hasten(subject)
            while not inside.at:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            assert 0.02 <= soon.at - begun < 0.02 + GRAIN
            assert 0.03 <= inside.at - begun < 0.03 + GRAIN
            assert not far.expired
            await anyio.sleep(2 * FINE)
            assert not sweeper.near  # those whose deadline has moved away cost nothing
        sweeper.hasten(soon)
        sweeper.discard(soon)
        assert not sweeper.near
        tasks.cancel_scope.cancel()


def test_one_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    sweeper, bad, good = Sweeper(), Subject(5.0, fails=True), Subject(5.0)
    for subject in (bad, good):
        sweeper.add(subject)
        sweeper.running.add(subject)
    sweeper.sweep(7.0)
    assert (bad.expired, good.expired, good.outlived) == (1, 1, 1)
    assert "at its deadline" in caplog.text
    assert "at the sweep" in caplog.text


async def test_running() -> None:
    sweeper = Sweeper()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sweeper.run)
        await anyio.sleep(0.02)  # it sleeps: there is nothing to look at
        subject = Subject(monotonic() + 0.05)
        sweeper.add(subject)
        with anyio.fail_after(2):
            while not subject.expired:  # noqa: ASYNC110
                await anyio.sleep(TICK)
        sweeper.discard(subject)
        await anyio.sleep(0.05)
        again = Subject(monotonic())
        sweeper.add(again)
        with anyio.fail_after(2):
            while not again.expired:  # noqa: ASYNC110
                await anyio.sleep(TICK)
        tasks.cancel_scope.cancel()


def test_patient_subjects_are_looked_at_seldom_until_they_are_due() -> None:
    sweeper = Sweeper()
    patient, soon, other = Subject(10.0), Subject(2.5), Subject(2.5)
    sweeper.add_patient(patient)
    sweeper.add_patient(soon)
    sweeper.add(other)
    sweeper.sweep(1.0)  # from here on ``soon`` is looked at as all others are, and ``patient`` is not
    patient.deadline = 2.0
    sweeper.sweep(3.0, far=False)
    assert (patient.expired, soon.expired, other.expired) == (0, 1, 1)
    sweeper.sweep(3.1)
    assert patient.expired == 1


def test_a_patient_subject_may_become_impatient() -> None:
    sweeper = Sweeper()
    subject = Subject(10.0)
    sweeper.add_patient(subject)
    sweeper.sweep(1.0)
    sweeper.add(subject)
    sweeper.sweep(11.0, far=False)
    assert subject.expired == 1
    sweeper.discard(subject)
    sweeper.sweep(12.0)
    assert subject.expired == 1
