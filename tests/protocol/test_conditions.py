"""Entity tags, dates and the order of preconditions (RFC 9110 §13)."""

from __future__ import annotations

import calendar
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.conditions import conditional_fields, judge, matches, range_applies
from coserver.protocol.dates import format_date, parse_date

THEN = 784111777  # the RFC's own example
EARLIER, LATER = format_date(THEN - 1), format_date(THEN + 1)
TAG = '"v1"'


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_three_forms_of_one_date(text: str) -> None:
    assert parse_date(text) == THEN


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "now", "784111777", "1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37"),
        "Sun, 6 Nov 1994 08:49:37 GMT",
        *("Sun, 06 Nov 1994 08:49:37 +0000", "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT"),
        *("Sun, 06 Nov 1994 25:49:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT", "Son, 06 Nov 1994 08:49:37 GMT"),
        *("Sun, 06 anF 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT", "Sun, ٠٦ Nov 1994 08:49:37 GMT"),
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
    ],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    assert parse_date(text) is None


def test_a_leap_second_and_the_years_of_two_digits() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == calendar.timegm((2016, 12, 31, 23, 59, 59))
    assert parse_date("Tuesday, 24-Nov-26 00:00:00 GMT") == calendar.timegm((2026, 11, 24, 0, 0, 0))
    assert parse_date("Sunday, 06-Nov-70 00:00:00 GMT") == calendar.timegm((1970, 11, 6, 0, 0, 0))


@given(st.integers(0, 253_402_300_799))
def test_dates_there_and_back(seconds: int) -> None:
    assert format_date(seconds) == formatdate(seconds, usegmt=True)
    assert parse_date(format_date(seconds)) == seconds


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert parse_date(text) is None or text


@pytest.mark.parametrize(
    ("tags", "etag", "strong", "weak"),
    [
        ('"v1"', '"v1"', True, True),
        ('W/"v1"', '"v1"', False, True),
        ('"v1"', 'W/"v1"', False, True),
        ('W/"v1"', 'W/"v1"', False, True),
        ('"v2"', '"v1"', False, False),
        ('"v2", "v1"', '"v1"', True, True),
        (' , "v2",,\t"v1" , ', '"v1"', True, True),
        ('"a,b"', '"a,b"', True, True),
        ('"a", b"', '"a"', False, False),  # malformed: it names nothing
        ("v1", '"v1"', False, False),
        ("", '"v1"', False, False),
        ("*", '"v1"', True, True),
        ("*", None, True, True),
        ('"v1"', None, False, False),
        ('w/"v1"', '"v1"', False, False),  # the W is an upper-case one
        ('"é"', '"é"', True, True),
    ],
)
def test_tags(tags: str, etag: str | None, strong: bool, weak: bool) -> None:
    assert matches(tags, etag, weak=False) is strong
    assert matches(tags, etag, weak=True) is weak


def test_a_long_list_takes_no_time() -> None:
    assert not matches('"a' * 10_000, TAG, weak=True)
    assert not matches('"a", ' * 10_000 + "x", TAG, weak=True)
    assert not matches(" ," * 10_000 + "x", TAG, weak=True)


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ({}, 200),
        ({b"if-match": TAG}, 200),
        ({b"if-match": '"v2"'}, 412),
        ({b"if-match": "*"}, 200),
        ({b"if-match": 'W/"v1"'}, 412),
        ({b"if-unmodified-since": EARLIER}, 412),
        ({b"if-unmodified-since": format_date(THEN)}, 200),
        ({b"if-unmodified-since": LATER}, 200),
        ({b"if-unmodified-since": "yesterday"}, 200),
        ({b"if-match": TAG, b"if-unmodified-since": EARLIER}, 200),  # the tag counts
        ({b"if-none-match": TAG}, 304),
        ({b"if-none-match": 'W/"v1"'}, 304),
        ({b"if-none-match": '"v2"'}, 200),
        ({b"if-none-match": "*"}, 304),
        ({b"if-modified-since": EARLIER}, 200),
        ({b"if-modified-since": format_date(THEN)}, 304),
        ({b"if-modified-since": LATER}, 304),
        ({b"if-modified-since": "yesterday"}, 200),
        ({b"if-none-match": '"v2"', b"if-modified-since": LATER}, 200),  # the tag counts
        ({b"if-none-match": TAG, b"if-modified-since": EARLIER}, 304),
        ({b"if-match": '"v2"', b"if-none-match": TAG}, 412),  # in this order
        ({b"if-unmodified-since": EARLIER, b"if-none-match": TAG}, 412),
        ({b"if-match": TAG, b"if-none-match": TAG}, 304),
    ],
)
def test_the_order_of_preconditions(asked: dict[bytes, str], verdict: int) -> None:
    assert judge(asked, TAG, THEN) == verdict


def test_a_representation_without_a_date() -> None:
    assert judge({b"if-modified-since": LATER}, TAG, None) == 200
    assert judge({b"if-unmodified-since": EARLIER}, TAG, None) == 200


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        (None, True),
        (TAG, True),
        ('"v2"', False),
        ('W/"v1"', False),
        (format_date(THEN), True),
        (EARLIER, False),
        (LATER, False),  # exactly, or not at all
        ("*", False),
        ("", False),
        ('"v1", "v2"', False),
    ],
)
def test_if_range(condition: str | None, applies: bool) -> None:
    assert range_applies(condition, TAG, THEN, settled=True) is applies


def test_if_range_wants_what_is_certain() -> None:
    assert not range_applies('W/"v1"', 'W/"v1"', THEN, settled=True)
    assert not range_applies(format_date(THEN), TAG, THEN, settled=False)
    assert range_applies(TAG, TAG, THEN, settled=False)
    assert not range_applies(TAG, None, None, settled=True)


def test_which_fields() -> None:
    fields = [(b"host", b"x"), (b"if-none-match", b'"a"'), (b"range", b"bytes=0-"), (b"if-none-match", b'"\xe9"')]
    assert conditional_fields(fields) == {b"if-none-match": '"a", "é"', b"range": "bytes=0-"}


@given(st.integers(-62135596800, 253402300799))
def test_dates_as_the_standard_library_writes_them(seconds: int) -> None:
    if seconds >= -30_000_000_000:  # before the year 1000 it leaves the zeros out
        assert format_date(seconds) == formatdate(seconds, usegmt=True)
    assert parse_date(format_date(seconds)) == seconds
