"""Sizes, times and the other forms of values, as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.app.config import values
from coserver.app.config.table import table

SIZES = {
    "0": 0, "65536": 65536, "1_000": 1000, "64k": 65536, "64K": 65536, "64 KiB": 65536, "10 MiB": 10 * 1024**2,
    "1.5M": 3 * 2**19, " 2g ": 2**31, "1 TiB": 2**40, "7b": 7,
}  # fmt: skip
TIMES = {"0": 0.0, "30": 30.0, "0.5": 0.5, "30s": 30.0, "250 ms": 0.25, "5m": 300.0, "1h": 3600.0, "inf": math.inf,
         "INF": math.inf, "1.5h": 5400.0}  # fmt: skip


@pytest.mark.parametrize("text", SIZES)
def test_sizes(text: str) -> None:
    assert values.size(text) == SIZES[text]


@pytest.mark.parametrize("text", TIMES)
def test_times(text: str) -> None:
    assert values.seconds(text) == TIMES[text]


@pytest.mark.parametrize("text", ["", "k", "1.k", ".5k", "1 2", "1e3", "0.3b", "10 MB", "10 x", "1,5k", "inf", "９k"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the kind makes the message
        values.size(text)


@pytest.mark.parametrize("text", ["", "s", "nan", "1d", "1 s s", "1e3", "--1", "-1s", "1" * 100, "-", "-.", "-1.1.1"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        values.seconds(text)


@given(st.integers(0, 2**60), st.sampled_from(sorted(values.SIZES)), st.sampled_from(["", " ", "  "]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str, space: str) -> None:
    assert values.size(f"{number}{space}{unit.upper()}") == number * values.SIZES[unit]
    assert values.size(values.written(number, "bytes")) == number


@given(st.floats(0, 1e12))
def test_a_time_is_read_as_it_is_shown(number: float) -> None:
    shown = values.written(number, "seconds")
    if len(shown) <= 40:  # more digits than any time has
        assert values.seconds(shown) == number


@given(st.text() | st.from_regex(r"[0-9._]*\s?[a-zA-Z]*", fullmatch=True), st.sampled_from(sorted(table())))
def test_any_text_is_a_value_or_a_readable_error(text: str, key: str) -> None:
    try:
        table()[key].text(text)
        return
    except ValueError as error:
        said = str(error)
    assert said.startswith(table()[key].name)
    assert len(said) < 1000
