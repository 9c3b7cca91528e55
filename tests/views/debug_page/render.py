"""Render the debug page of a request whose handler raised, and check its markup."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from coserver import Request
from coserver.protocol.head import RequestHead
from coserver.views.debug_page.page import debug_page


def request(target: str = "/", **fields: str) -> Request:
    pairs = [(b"host", b"x"), *((n.replace("_", "-").encode(), v.encode("latin-1")) for n, v in fields.items())]
    return Request(RequestHead("GET", target.encode(), 1, pairs), 1, "127.0.0.1:5", {})


def raised(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def shown(error: BaseException, asked: Request | None = None) -> tuple[str, str]:
    """The debug page as text, and the text of its HTML."""
    asked = asked or request()
    pages = []
    for accept in ("*/*", "text/html"):
        asked.head.fields[:] = [*(f for f in asked.head.fields if f[0] != b"accept"), (b"accept", accept.encode())]
        asked._headers = None
        response = debug_page(asked, error)
        assert response.status == 500
        assert isinstance(response.body, bytes)
        pages.append(response.body.decode())
    check_markup(pages[1])
    return pages[0], pages[1]


class Checker(HTMLParser):
    """Checks that all tags are closed, and that there are only tags which the page writes."""

    known = frozenset(
        "html head meta title style body header main footer p h1 h2 pre section details summary "  # noqa: SIM905
        "code span div i table tr th td".split()
    )
    open_ended = frozenset(["meta", "tr", "th", "td"])

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.known, tag
        assert {name for name, _ in attrs} <= {"class", "open", "lang", "charset", "name", "content"}, attrs
        if tag not in self.open_ended:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.open_ended:
            assert self.stack.pop() == tag


def check_markup(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.stack == []
