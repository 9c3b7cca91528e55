"""What a person types to change what is held."""

from __future__ import annotations

from typing import Any

import pytest

from coserver.control.edit_syntax import read_answer, read_arguments, read_edit, read_hold


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("target=/x?a=b", {"target": "/x?a=b"}),
        ("status=404 body='not here'", {"status": 404, "body": "not here"}),
        ("X-Tag:a Cookie:", {"headers": {"X-Tag": "a", "Cookie": None}}),
        ("body='{\"a\": 1}' method=PUT", {"body": '{"a": 1}', "method": "PUT"}),
        ("Host:a:80 target=/y", {"headers": {"Host": "a:80"}, "target": "/y"}),
        ("body=", {"body": ""}),
    ],
)
def test_edits(line: str, changes: dict[str, Any]) -> None:
    assert read_edit(line) == changes


@pytest.mark.parametrize("line", ["", "  ", "target", "wrong=1", "status=x", "status=4040", "body='open", "=x", ":y"])
def test_wrong_edits(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_edit(line)


def test_answers() -> None:
    assert read_answer("") == (200, "", {})
    assert read_answer("503 'come later' Retry-After:5") == (503, "come later", {"Retry-After": "5"})
    for line in ("x", "200 two words", "200 'open"):
        with pytest.raises(ValueError, match=r"."):
            read_answer(line)


def test_the_arguments_of_an_action() -> None:
    assert read_arguments("until", "response") == {"phase": "response"}
    assert read_arguments("edit", "status=404 X:a") == {"status": 404, "headers": {"X": "a"}}
    assert read_arguments("respond", "503 later X:a") == {"status": 503, "body": "later", "headers": {"X": "a"}}
    assert read_arguments("next", "") == read_arguments("resume", "") == read_arguments("abort", "") == {}


def test_holds() -> None:
    assert read_hold("~u /x @handler,response") == ("~u /x", ["handler", "response"])
    assert read_hold("@head") == ("", ["head"])
    assert read_hold("~u /a@b") == ("~u /a@b", ["handler"])
    assert read_hold("") == ("", ["handler"])
