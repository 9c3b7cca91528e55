"""The letters of the filter language: the argument of each, and its test of an exchange. Many are mitmproxy's.

A new letter is one row of LETTERS. The parser, its errors and docs/reference/filters.md read the table.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..lifecycle.phases import PHASES
from .subject import Subject

#: Seconds for a search in one text, perhaps on the server's loop. A usual one takes microseconds.
PATIENCE = 0.1
#: Characters of a text for which releasing the interpreter is worth its cost.
_LONG = 1000
_repeats = re.compile(r"[*+?{]")
_brace = re.compile(r"(?<!\\)((?:\\\\)*)(?<!\\N)\{(?!(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\})")

Test = Callable[[Subject], bool]
Finder = Callable[[Any], bool]


class BadArgument(Exception):
    """An argument that its letter does not take, or a search that takes too long. The parser adds the column."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter. ``takes`` names its argument, "" for none; ``make`` turns the argument into the test.

    ``make`` raises BadArgument. ``whole`` is true for a test of fields or a body: a snapshot that came over the control
    socket has none.
    """

    takes: str
    make: Callable[[str], Test]
    about: str
    whole: bool = False


def finder(argument: str, *, in_bytes: bool = False) -> Finder:
    """Make the search for a regular expression of ``re`` in a text, or in bytes: as UTF-8, where "." is any byte.

    A search with nested repetitions may take years. So an expression with repetitions is searched by ``regex``, which
    has a timeout. Raises BadArgument for a wrong expression; the search raises it for a timeout.
    """
    given = argument.encode() if in_bytes else argument
    try:
        plain = re.compile(given, re.IGNORECASE | (re.DOTALL if in_bytes else 0)).search
        patient = _patient(argument, in_bytes) if _repeats.search(argument) else None
    except (re.error, OverflowError, RecursionError, ValueError, Warning) as error:
        problem = "cannot be searched in bytes: " if in_bytes else "is no regular expression: "
        way_out = "" if in_bytes else "; put a \\ before a special character"
        raise BadArgument(f"{argument!r:.60} {problem}{error}{way_out}") from None
    return patient or (lambda text: plain(text) is not None)


def _patient(argument: str, in_bytes: bool) -> Finder:
    """Make the search by ``regex``. Raises ValueError for an expression that only ``re`` knows."""
    import regex  # 12 ms, and most filters have no repetition

    text = _brace.sub(r"\1\{", argument)  # in ``regex`` {e} allows an error, in ``re`` it is plain text
    try:
        search = regex.compile(
            text.encode() if in_bytes else text, regex.IGNORECASE | (regex.DOTALL if in_bytes else 0)
        ).search
    except regex.error as error:
        raise ValueError(str(error)) from None

    def find(text: str | bytes) -> bool:
        try:  # in a long text it releases the interpreter to other threads
            return search(text, timeout=PATIENCE, concurrent=len(text) > _LONG) is not None
        except TimeoutError:
            raise BadArgument(
                f"{argument!r:.60} takes more than {PATIENCE:g} s for one text; write it with fewer repetitions, and "
                f"without nesting them"
            ) from None

    return find


def _regex(of: Callable[[Subject], str]) -> Callable[[str], Test]:
    def make(argument: str) -> Test:
        find = finder(argument)
        return lambda subject: find(of(subject))

    return make


def _lines(of: Callable[[Subject], Iterable[str]]) -> Callable[[str], Test]:
    def make(argument: str) -> Test:
        find = finder(argument)
        return lambda subject: any(find(line) for line in of(subject))

    return make


def _both(subject: Subject) -> Iterable[str]:
    yield from subject.request_lines()
    yield from subject.response_lines()


def _content(*of: Callable[[Subject], bytes]) -> Callable[[str], Test]:
    def make(argument: str) -> Test:
        finder(argument)
        find = finder(argument, in_bytes=True)
        return lambda subject: any(find(get(subject)) for get in of)

    return make


def _types(of: Callable[[Subject], Iterable[str]]) -> Callable[[str], Test]:
    def make(argument: str) -> Test:
        find = finder(argument)

        def test(subject: Subject) -> bool:
            pairs = (line.partition(": ") for line in of(subject))
            return any(find(value) for name, _, value in pairs if name.lower() == "content-type")

        return test

    return make


_code = re.compile(r"[1-9x][0-9x]{2}", re.IGNORECASE)


def _status(argument: str) -> Test:
    if not _code.fullmatch(argument):
        raise BadArgument(f"a status is three digits, x standing for any: 404, 5xx; got {argument!r:.60}")
    matches = re.compile(argument.lower().replace("x", "[0-9]")).fullmatch
    return lambda subject: matches(str(subject.status)) is not None


_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "": operator.ge,
}  # fmt: skip
_duration = re.compile(r"(>=|<=|>|<|) *([0-9]{1,12}(?:\.[0-9]{1,12})?) *(us|µs|ms|s|m)")


def _took(argument: str) -> Test:
    match = _duration.fullmatch(argument)
    if match is None:
        raise BadArgument(
            f"a duration is >, <, >= or <=, a number and its unit, us, ms, s or m: >200ms; got {argument!r:.60}"
        )
    compare, limit = _COMPARE[match[1]], float(match[2]) * _UNITS[match[3]]
    return lambda subject: compare(subject.seconds, limit)


def _phase(argument: str) -> Test:
    if argument not in PHASES:
        close = get_close_matches(argument, PHASES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(PHASES)}"
        raise BadArgument(f"{argument!r:.60} is not a phase; {hint}")
    return lambda subject: subject.phase == argument


def _upstream(argument: str) -> Test:
    find = finder(argument)
    return lambda subject: any(find(name) for name in subject.upstreams)


def _flag(test: Test) -> Callable[[str], Test]:
    return lambda argument: test


LETTERS: dict[str, Letter] = {
    "all": Letter("", _flag(lambda s: True), "everything"),
    "at": Letter("phase", _phase, "the exchange is in this phase, or ended in it"),
    "b": Letter("regex", _content(lambda s: s.request_content(), lambda s: s.response_content()),
                "either message's body", whole=True),
    "bq": Letter("regex", _content(lambda s: s.request_content()), "the request's body", whole=True),
    "bs": Letter("regex", _content(lambda s: s.response_content()), "the response's body", whole=True),
    "c": Letter("code", _status, "the response's status; x stands for any digit: 5xx"),
    "d": Letter("regex", _regex(lambda s: s.host), "the host in the request"),
    "dst": Letter("regex", _regex(lambda s: s.dst), "the listener's address"),
    "e": Letter("", _flag(lambda s: bool(s.error)), "the exchange has an error"),
    "h": Letter("regex", _lines(_both), "a field of either message, as a line: name: value", whole=True),
    "hq": Letter("regex", _lines(lambda s: s.request_lines()), "a field of the request", whole=True),
    "hs": Letter("regex", _lines(lambda s: s.response_lines()), "a field of the response", whole=True),
    "http": Letter("", _flag(lambda s: s.protocol == "http"), "the protocol is HTTP"),
    "m": Letter("regex", _regex(lambda s: s.method), "the method"),
    "marked": Letter("", _flag(lambda s: s.marked), "the exchange is marked"),
    "name": Letter("regex", _regex(lambda s: s.server), "the app's name"),
    "q": Letter("", _flag(lambda s: not s.status), "there is no response, or none yet"),
    "s": Letter("", _flag(lambda s: bool(s.status)), "there is a response"),
    "src": Letter("regex", _regex(lambda s: s.src), "the client's address and port"),
    "t": Letter("regex", _types(_both), "either message's Content-Type", whole=True),
    "tcp": Letter("", _flag(lambda s: s.protocol == "tcp"), "the protocol is TCP"),
    "took": Letter("duration", _took, "the time that the exchange took, or has taken so far: >200ms, <1s"),
    "tq": Letter("regex", _types(lambda s: s.request_lines()), "the request's Content-Type", whole=True),
    "ts": Letter("regex", _types(lambda s: s.response_lines()), "the response's Content-Type", whole=True),
    "u": Letter("regex", _regex(lambda s: s.url), "the URL; a bare word means the same"),
    "up": Letter("regex", _upstream, "the name of an upstream that the exchange asked"),
}  # fmt: skip


def letters_table() -> str:
    """Make the table of docs/reference/filters.md."""
    rows = ["| term | matches |", "|---|---|"]
    for name, letter in LETTERS.items():
        term = f"~{name} {letter.takes}".rstrip()
        rows.append(f"| `{term}` | {letter.about} |")
    return "\n".join(rows) + "\n"
