"""The filter language: ``~m POST & (~c 5xx | ~took >200ms)``. A parser by hand gives better errors.

An expression becomes a tree; the tree prints as an expression that is parsed as the same tree. ``!`` binds closest,
then ``&``, then ``|``. Terms side by side must all hold; that binds least, as in mitmproxy. A bare word is searched in
the URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from unicodedata import east_asian_width

from .letters import LETTERS, BadArgument, Test
from .subject import Subject

#: Nesting of parentheses and ``!``. Without this limit Python's stack would be the limit.
DEPTH = 50
#: Characters of one expression: more than a screen holds.
SIZE = 10_000


class FilterError(ValueError):
    """An expression that cannot be parsed, or takes too long. ``column`` counts from 1; the message points at it."""

    def __init__(self, reason: str, text: str = "", column: int = 1) -> None:
        self.reason, self.text, self.column = reason, text, column
        shown = "".join(each if each.isprintable() else " " for each in text)
        start = max(0, column - 60)
        before = sum(2 if east_asian_width(each) in "WF" else 1 for each in shown[start : column - 1])
        super().__init__(f"{reason} (column {column})\n  {shown[start : start + 100]}\n  {' ' * before}^")


@dataclass(frozen=True, slots=True)
class Term:
    """One letter and its argument, "" for a letter without one. Raises FilterError for a wrong letter or argument."""

    letter: str
    argument: str = ""
    _test: Test = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        letter = LETTERS.get(self.letter)
        try:
            if letter is None:
                raise BadArgument(_unknown(self.letter))
            object.__setattr__(self, "_test", letter.make(self.argument))
        except BadArgument as error:
            raise FilterError(str(error), f"~{self.letter} {self.argument}".rstrip()) from None

    def __str__(self) -> str:
        return f"~{self.letter} {_quote(self.argument)}" if LETTERS[self.letter].takes else f"~{self.letter}"

    def matches(self, subject: Subject) -> bool:
        """Whether the subject matches. Raises FilterError for a search that takes too long."""
        try:
            return self._test(subject)
        except BadArgument as error:
            raise FilterError(str(error), str(self)) from None


@dataclass(frozen=True, slots=True)
class Not:
    """Matches where ``part`` does not."""

    part: Filter

    def __str__(self) -> str:
        return f"!{_part(self.part)}"

    def matches(self, subject: Subject) -> bool:
        return not self.part.matches(subject)


@dataclass(frozen=True, slots=True)
class And:
    """Matches where all parts do; there are two or more."""

    parts: tuple[Filter, ...]

    def __str__(self) -> str:
        return " & ".join([_part(part) for part in self.parts])

    def matches(self, subject: Subject) -> bool:
        return all(part.matches(subject) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Matches where any part does; there are two or more."""

    parts: tuple[Filter, ...]

    def __str__(self) -> str:
        return " | ".join([_part(part) for part in self.parts])

    def matches(self, subject: Subject) -> bool:
        return any(part.matches(subject) for part in self.parts)


Filter = Term | Not | And | Or

EVERYTHING = Term("all")


def parse(text: str | Filter) -> Filter:
    """Parse an expression; an empty one matches everything. A tree is returned as it is. Raises FilterError."""
    if isinstance(text, Term | Not | And | Or):
        return text
    if not isinstance(text, str):
        raise FilterError(f"a filter is a text, like '~m GET & ~c 5xx'; got {type(text).__name__}")
    if len(text) > SIZE:
        raise FilterError(f"a filter has {SIZE} characters at most; this one has {len(text)}", text, SIZE)
    return _Parser(text).read() if text.strip() else EVERYTHING


def needs_whole(part: Filter) -> bool:
    """Whether the filter asks for fields or bodies."""
    if isinstance(part, Term):
        return LETTERS[part.letter].whole
    return needs_whole(part.part) if isinstance(part, Not) else any(map(needs_whole, part.parts))


def _part(part: Filter) -> str:
    return f"({part})" if isinstance(part, And | Or) else str(part)


_bare = re.compile(r"[^\s()\"'~!&|][^\s()\"']*")
_glued = re.compile(r"[&|][~!]")  # a word may contain & and |, but here an operator is meant
_letter = re.compile(r"~([A-Za-z_]*)")
_space = re.compile(r"\s*")


def _quote(argument: str) -> str:
    if _bare.fullmatch(argument) and not _glued.search(argument):
        return argument
    return '"' + argument.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unknown(letter: str) -> str:
    if not letter:
        return "a letter follows ~, like ~u or ~m; put a pattern that begins with ~ in quotes"
    close = get_close_matches(letter, LETTERS, n=1)
    hint = f"did you mean ~{close[0]}?" if close else f"there are {' '.join(f'~{each}' for each in LETTERS)}"
    return f"there is no ~{letter}; {hint}"


class _Parser:
    """Parses the text in one pass; ``at`` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def read(self) -> Filter:
        tree = self._beside()
        if self.at < len(self.text):
            raise self._wrong("this ) closes nothing; remove it, or add a ( before")
        return tree

    def _beside(self) -> Filter:
        """Terms side by side, up to a ) or the end."""
        parts = [self._either()]
        while self._next() not in ("", ")"):
            parts.append(self._either())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _either(self) -> Filter:
        parts = [self._all()]
        while self._operator("|"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self) -> Filter:
        parts = [self._one()]
        while self._operator("&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self) -> Filter:
        first, begin = self._next(), self.at
        if first == "":
            raise self._wrong("the expression ends where a term is expected; add one, like ~u /path")
        if first == ")":
            raise self._wrong("a term is expected before this ); add one, like ~u /path")
        if first in "&|":
            raise self._wrong(f"a term is expected before this {first}; add one, or put a pattern in quotes")
        if first in "!(":
            self.at += 1
            self._deeper(begin)
            tree = Not(self._one()) if first == "!" else self._group(begin)
            self.depth -= 1
            return tree
        return self._term(begin) if first == "~" else self._make("u", self._word(), begin)

    def _group(self, begin: int) -> Filter:
        tree = self._beside()
        if self._next() != ")":
            raise self._wrong("this ( is never closed; add a )", begin)
        self.at += 1
        return tree

    def _term(self, begin: int) -> Filter:
        match = _letter.match(self.text, self.at)
        assert match is not None
        letter = LETTERS.get(match[1])
        if letter is None:
            raise self._wrong(_unknown(match[1]))
        self.at = match.end()
        if not letter.takes:
            return self._make(match[1], "", begin)
        first = self._next()
        if first == "!":
            raise self._wrong(f"~{match[1]} takes a {letter.takes}; to negate, put the ! before it: !~{match[1]} …")
        if first == "" or first in "&|()~":
            rule = f"~{match[1]} needs a {letter.takes} ({letter.about})"
            if first:
                rule += f"; '{first}' has its own meaning, so put a {letter.takes} that begins with it in quotes"
            raise self._wrong(rule)
        argument_at = self.at
        return self._make(match[1], self._word(), argument_at)

    def _word(self) -> str:
        """A bare word, or one in quotes; in quotes, \\ escapes the quote and itself."""
        quote = self.text[self.at]
        if quote not in "\"'":
            match = _bare.match(self.text, self.at)
            assert match is not None
            if glued := _glued.search(match[0]):
                raise self._wrong(
                    f"put a space before this {glued[0][0]}, or the pattern in quotes", self.at + glued.start()
                )
            self.at = match.end()
            return match[0]
        begin = self.at
        found: list[str] = []
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == quote:
                return "".join(found)
            if char == "\\" and self.text[self.at : self.at + 1] in ("\\", quote):
                char = self.text[self.at]
                self.at += 1
            found.append(char)
        raise self._wrong(f"this {quote} is never closed; add another", begin)

    def _make(self, letter: str, argument: str, at: int) -> Filter:
        try:
            return Term(letter, argument)
        except FilterError as error:
            raise self._wrong(error.reason, at) from None

    def _operator(self, which: str) -> bool:
        if self._next() != which:
            return False
        self.at += 1
        return True

    def _next(self) -> str:
        """Skip spaces; return the next character, "" at the end."""
        match = _space.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return self.text[self.at : self.at + 1]

    def _deeper(self, at: int) -> None:
        self.depth += 1
        if self.depth > DEPTH:
            raise self._wrong(f"parentheses and ! may be nested {DEPTH} deep; this is deeper", at)

    def _wrong(self, reason: str, at: int | None = None) -> FilterError:
        return FilterError(reason, self.text, (self.at if at is None else at) + 1)
