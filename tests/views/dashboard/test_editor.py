"""The text for the editor, and the changes that are read from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.views.dashboard.editor import as_text, changes_in
from coserver.views.held import example


def request(**changes: Any) -> dict[str, Any]:
    held = example()
    return {**held, "response": None, "request": {**held["request"], **changes}}


def test_a_request() -> None:
    held = request()
    text = as_text(held)
    assert text.splitlines()[1:] == ["POST /cart?coupon=spring", "host: shop.example", "cookie: session=abc", "",
                                     '{"item": 7}']  # fmt: skip
    assert changes_in(held, text) == {}
    assert changes_in(held, "") == {}
    changed = text.replace("POST", "PUT").replace("spring", "summer").replace("cookie: session=abc", "X-Tag:  a:b ")
    assert changes_in(held, changed.replace("7}", '7,\n\n "n": 2}')) == {
        "method": "PUT",
        "target": "/cart?coupon=summer",
        "headers": [["host", "shop.example"], ["X-Tag", "a:b"]],
        "body": '{"item": 7,\n\n "n": 2}',
    }
    assert changes_in(held, text.rstrip("\n")) == {}  # an editor may end the last line, or not


def test_an_answer() -> None:
    held = example()
    assert as_text(held).splitlines()[1] == "200"
    assert changes_in(held, as_text(held).replace("200", "404").replace("[7]", "[]")) == {
        "status": 404,
        "body": '{"items": []}',
    }


def test_a_message_is_a_body_alone() -> None:
    held = request(method="", target="", headers=[], body={"size": 5, "text": "hello"})
    assert as_text(held).partition("\n")[2] == "\nhello\n"
    assert changes_in(held, as_text(held).replace("hello", "bye")) == {"body": "bye"}


@pytest.mark.parametrize("body", [{"size": 3, "base64": "/wD/"}, {"size": 50_000_000, "text": "xx"}])
def test_a_body_that_is_not_shown_stays(body: dict[str, Any]) -> None:
    held = request(body=body)
    assert "is not shown" in as_text(held)
    assert changes_in(held, as_text(held).replace("/cart", "/c")) == {"target": "/c?coupon=spring"}
    assert changes_in(held, as_text(held) + "short\n")["body"].strip() == "short"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("POST /cart", "POST", "the first line must be a method and a target"),
        ("POST /cart", "POST  /cart", "the first line must be a method and a target"),
        ("host: shop.example", "host", "a field is .Name: value."),
        ("host: shop.example", " : x", "a field is .Name: value."),
    ],
)
def test_what_cannot_be_read_is_said(old: str, new: str, why: str) -> None:
    held = request(target="/cart")
    with pytest.raises(ValueError, match=why):
        changes_in(held, as_text(held).replace(old, new))
    with pytest.raises(ValueError, match="the first line must be a status"):
        changes_in(example(), as_text(example()).replace("200", "fine"))


@given(st.text(alphabet="ab#: \n\t中", max_size=30))
def test_any_body_is_itself_again(text: str) -> None:
    held = request(body={"size": len(text.encode()), "text": text})
    assert changes_in(held, as_text(held).replace("spring", "x")) == {"target": "/cart?coupon=x"}
    other = request(body={"size": 3, "text": "old"})
    assert changes_in(other, as_text(held)).get("body", "old") == text
