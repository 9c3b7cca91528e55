"""The table of deadlines: each row names a limit and a phase that exist."""

from __future__ import annotations

from dataclasses import fields

from coserver import Limits
from coserver.lifecycle import phases
from coserver.server.hold import LATE, SLOW_BODY


def test_every_limit_of_the_table_is_a_field_of_limits() -> None:
    seconds = {each.name for each in fields(Limits) if each.metadata["unit"] == "seconds"}
    assert {limit for limit, _, _ in LATE.values()} <= seconds
    limit, _, _ = SLOW_BODY
    assert limit in {each.name for each in fields(Limits)}


def test_every_phase_but_the_response_has_a_row() -> None:
    """A response that waits for its client has the deadline of ``connection.pace``."""
    assert set(LATE) == set(phases.PHASES) - {phases.RESPONSE}
    assert len(set(phases.PHASES)) == len(phases.PHASES)


def test_every_row_says_how_long() -> None:
    for limit, status, words in (*LATE.values(), SLOW_BODY):
        assert words.count("{}") == 1, limit
        assert status in (0, 408, 503)
