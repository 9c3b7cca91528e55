"""Conditional requests without I/O: entity tags and dates compared with those of the resource (RFC 9110 §8.8, §13)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .dates import parse_date

#: The fields that make a request conditional, or a range request, in lower case.
CONDITIONAL = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"}
)

# RFC 9110 §8.8.3: the tag may hold visible characters except quotes, and bytes beyond ASCII.
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_is_tag = re.compile(_TAG).fullmatch
# Empty elements are skipped (RFC 9110 §5.6.1). Each alternative begins with another character, so nothing is tried
# twice.
_is_tag_list = re.compile(rf"(?:{_TAG}|[ \t,])*").fullmatch
_find_tags = re.compile(_TAG).findall


def conditional_fields(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """The fields of a request that make it conditional; repeated ones joined (RFC 9110 §5.3). Mostly empty."""
    found: dict[bytes, str] = {}
    for name, value in fields:
        if name in CONDITIONAL:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def judge(asked: Mapping[bytes, str], etag: str | None, modified: int | None) -> int:
    """The status after the preconditions of a GET or HEAD, in the order of RFC 9110 §13.2.2: 200, 304 or 412.

    ``etag`` is quoted, ``modified`` in seconds since 1970; None if the representation has none.
    """
    if (tags := asked.get(b"if-match")) is not None:
        if not matches(tags, etag, weak=False):
            return 412
    elif (since := _date_of(asked, b"if-unmodified-since")) is not None and modified is not None and modified > since:
        return 412
    if (tags := asked.get(b"if-none-match")) is not None:
        return 304 if matches(tags, etag, weak=True) else 200
    since = _date_of(asked, b"if-modified-since")
    return 304 if since is not None and modified is not None and modified <= since else 200


def range_applies(condition: str | None, etag: str | None, modified: int | None, *, settled: bool) -> bool:
    """Whether the If-Range field, None if there is none, lets the Range apply (RFC 9110 §13.1.5).

    ``settled``: the last change is long enough ago that its date identifies the representation. A younger date might
    stand for two.
    """
    if condition is None:
        return True
    if '"' in condition:
        return bool(_is_tag(condition)) and condition == etag and not condition.startswith("W/")
    date = parse_date(condition)
    return settled and date is not None and date == modified


def matches(tags: str, etag: str | None, *, weak: bool) -> bool:
    """Whether a field's list of entity tags, or "*", names ``etag`` (RFC 9110 §8.8.3.2). A malformed list names none.

    "*" stands for any representation, also for one without a tag.
    """
    if tags.strip(" \t") == "*":
        return True
    if etag is None or not _is_tag_list(tags):
        return False
    if weak:
        return _opaque(etag) in map(_opaque, _find_tags(tags))
    return not etag.startswith("W/") and etag in _find_tags(tags)


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")


def _date_of(asked: Mapping[bytes, str], name: bytes) -> int | None:
    text = asked.get(name)
    return None if text is None else parse_date(text)
