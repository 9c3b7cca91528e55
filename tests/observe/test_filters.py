"""The filter language: what each letter matches, how an expression binds, and what a wrong one is told."""

from __future__ import annotations

import re
import warnings
from time import monotonic

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coserver.lifecycle.phases import PHASES
from coserver.observe.filters import EVERYTHING, And, Filter, FilterError, Not, Or, Term, parse
from coserver.observe.letters import LETTERS, finder

from .subjects import Plain

MATCHING = [
    ("~u /items", Plain()),
    ("/ITEMS/1$|b=2", Plain()),
    ("'a=1&b=2'", Plain()),
    ("a=1&b=2", Plain()),
    ("~m post", Plain(method="POST")),
    ("~c 5xx", Plain(status=503)),
    ("~c 404", Plain(status=404)),
    ("~h 'accept: text'", Plain()),
    ("~hq ^host:", Plain()),
    ("~hs ^server", Plain()),
    ("~b ann", Plain()),
    ("~bq ann", Plain()),
    ("~bs hello.world", Plain()),
    ("~t json", Plain()),
    ("~tq json", Plain()),
    ("~ts plain", Plain()),
    ("~src :5000$", Plain()),
    ("~dst :8000$", Plain()),
    ("~d ^t.example$", Plain()),
    ("~q", Plain(status=0)),
    ("~s", Plain()),
    ("~e", Plain(error="the client left")),
    ("~marked", Plain(marked=True)),
    ("~at handler", Plain()),
    ("~took >200ms", Plain()),
    ("~took 0.25s", Plain()),
    ("~took <=1m & ~took <251ms & ~took >=250000us", Plain()),
    ("~up ^users$", Plain(upstreams=("shop", "users"))),
    ("~name shop", Plain()),
    ("~http", Plain()),
    ("~tcp", Plain(protocol="tcp")),
    ("~all", Plain()),
    ("", Plain()),
    ("~q | ~s", Plain()),
    ("!~q !~e", Plain()),
    ("!(~q | ~e)&~s", Plain()),
    ("~m GET items & !~c 5xx", Plain()),
]
NOT_MATCHING = [
    ("~m POST", Plain()),
    ("~c 50x", Plain(status=200)),
    ("~c 2xx", Plain(status=0)),
    ("~hs accept", Plain()),
    ("~bs Ann", Plain()),
    ("~ts json", Plain()),
    ("~took <200ms", Plain()),
    ("~at body", Plain()),
    ("~up users", Plain()),
    ("~marked", Plain()),
    ("!~all", Plain()),
    # Beside each other binds least: GET and (shop or users), as in mitmproxy.
    ("~m POST shop | items", Plain()),
]


@pytest.mark.parametrize(("text", "subject"), MATCHING)
def test_matches(text: str, subject: Plain) -> None:
    assert parse(text).matches(subject)


@pytest.mark.parametrize(("text", "subject"), NOT_MATCHING)
def test_does_not_match(text: str, subject: Plain) -> None:
    assert not parse(text).matches(subject)


def test_every_letter_is_tried() -> None:
    tried = {letter for text, _ in MATCHING for letter in re.findall(r"~([a-z]+)", text)}
    assert tried == set(LETTERS)


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("~u (a", 4, "~u needs a regex (the URL"),
        ("(~u a", 1, "never closed"),
        ("~u a)", 5, "closes nothing"),
        ("~uu a", 1, "did you mean ~u?"),
        ("~ a", 1, "a letter follows ~"),
        ("~m GET & ", 10, "the expression ends"),
        ("~m GET | & ~q", 10, "before this &"),
        ("()", 2, "before this )"),
        ("a ~c 5yy", 6, "three digits"),
        ("~took 200", 7, "its unit"),
        ("~at handlr", 5, "did you mean handler?"),
        ("~at nowhere", 5, "there are accept, handshake, head"),
        ("~u [a", 4, "no regular expression"),
        ("~bq '\\u00e9'", 5, "bytes"),
        ("~m !GET", 4, "!~m"),
        ("~m GET&~q", 7, "put a space before this &"),
        ("~h 'x", 4, "never closed"),
        ("!" * 60 + "~q", 51, "50 deep"),
        ("x" * 10_001, 10_000, "10000 characters"),
    ],
)
def test_a_wrong_one_is_told_where_and_what_to_do(text: str, column: int, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.column == column
    first, shown, caret = str(caught.value).split("\n")
    assert says in first
    assert (shown + " ")[caret.index("^")] == (text + " ")[column - 1]


def test_the_caret_stands_below_wide_characters() -> None:
    with pytest.raises(FilterError) as caught:
        parse("~u 中文 & ~zz")
    assert str(caught.value).split("\n")[1:] == ["  ~u 中文 & ~zz", "  " + " " * 10 + "^"]


def test_only_a_text_is_an_expression() -> None:
    with pytest.raises(FilterError, match="a filter is a text"):
        parse(3)  # type: ignore[arg-type]


def test_a_tree_is_an_expression_too() -> None:
    assert parse(EVERYTHING) is EVERYTHING
    assert parse("") is EVERYTHING


ARGUMENTS = {
    "regex": st.text("abZ09 ~!&|()\"'\\[]äß–\n\t", max_size=12).map(re.escape)
    | st.sampled_from([r"\d+ a", "", '"', "a'b", "\\\\", "~x", "!", "&|"]),
    "code": st.from_regex(r"[1-9x][0-9x]{2}", fullmatch=True),
    "duration": st.from_regex(r"(>=|<=|>|<|)[0-9]{1,4}(us|ms|s|m)", fullmatch=True),
    "phase": st.sampled_from(PHASES),
}


def _terms() -> st.SearchStrategy[Filter]:
    def one(letter: str) -> st.SearchStrategy[Filter]:
        takes = LETTERS[letter].takes
        return ARGUMENTS[takes].map(lambda argument: Term(letter, argument)) if takes else st.just(Term(letter))

    return st.sampled_from(sorted(LETTERS)).flatmap(one)


TREES: st.SearchStrategy[Filter] = st.recursive(
    _terms(),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=12,
)


@given(TREES)
def test_a_tree_prints_as_what_is_read_as_the_same_tree(tree: Filter) -> None:
    assert parse(str(tree)) == tree


@given(st.text(st.characters(max_codepoint=0x2FF), max_size=60) | st.text("~ucmhbqs!&|()\"'\\ ax5[]>ms", max_size=60))
def test_nothing_but_a_filter_error_is_raised(text: str) -> None:
    try:
        tree = parse(text)
    except FilterError as error:
        assert 1 <= error.column <= len(text) + 1  # noqa: PT017 - most texts are none
    else:
        tree.matches(Plain())
        assert parse(str(tree)) == tree


@pytest.mark.parametrize("letter", ["u", "hq", "b", "t", "up"])
def test_an_expression_that_would_search_for_years_gives_up(letter: str) -> None:
    """In ``re`` each of these takes longer than anybody lives, and no other thread runs meanwhile."""
    long = "a" * 5000 + "!"
    fields = (f"content-type: {long}",)
    subject = Plain(url=long, request=fields, sent=long.encode(), upstreams=(long,))
    started = monotonic()
    with pytest.raises(FilterError, match=r"takes more than 0.1 s for one text(.|\n)*\(column 1\)"):
        parse(f'~{letter} "(a|aa)+$"').matches(subject)
    assert monotonic() - started < 3


@settings(deadline=None)  # a busy machine
@given(st.text("ab{}0,1*+?|()[]^$.\\w{e}", max_size=8), st.text("abe{}0,w ", max_size=12))
@example("a{e}", "a{e}")
@example("/{id}+", "/{id}")
@example("a{}*", "a{}")
@example("a{,1}{", "a{")
def test_what_gives_up_finds_what_python_finds(expression: str, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = re.search(expression, text, re.IGNORECASE)
        except re.error:
            return
        assert finder(expression)(text) == (found is not None)
        assert finder(expression, in_bytes=True)(text.encode()) == (found is not None)
