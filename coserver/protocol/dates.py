"""HTTP-dates, to text and back (RFC 9110 §5.6.7). The standard library would load half of its mail package."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# RFC 9110 §5.6.7: the form to send, and the two old ones that must be understood.
_DATES = (
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>\d\d) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) {_TIME} GMT",
    rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{{2}})-(?P<year>\d\d) {_TIME} GMT",
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
)


@lru_cache(maxsize=1024)
def format_date(seconds: int) -> str:
    """Seconds since 1970 as an HTTP-date (RFC 9110 §5.6.7)."""
    when = datetime.fromtimestamp(seconds, UTC)
    month = _MONTHS[3 * when.month - 3 : 3 * when.month]
    clock = f"{when.hour:02}:{when.minute:02}:{when.second:02}"
    return f"{_DAYS[when.weekday()]}, {when.day:02} {month} {when.year:04} {clock} GMT"


@lru_cache(maxsize=256)
def parse_date(text: str) -> int | None:
    """An HTTP-date in any of its three forms, as seconds since 1970; None if it is invalid (RFC 9110 §5.6.7)."""
    for form in _DATES:
        match = re.fullmatch(form, text, re.ASCII)
        if match is not None:
            break
    else:
        return None
    year = int(match["year"])
    month, within = divmod(_MONTHS.find(match["month"]), 3)
    if within:  # -1, no month at all, leaves 2
        return None
    if len(match["year"]) == 2:
        # By the RFC a date more than 50 years in the future is in the past. Without a clock, 1970 is the border.
        year += 2000 if year < 70 else 1900
    second = int(match["second"])
    if second == 60:  # a leap second, which Python does not know
        second = 59
    try:
        when = datetime(
            year, month + 1, int(match["day"]), int(match["hour"]), int(match["minute"]), second, tzinfo=UTC
        )
    except ValueError:
        return None
    return int(when.timestamp())
