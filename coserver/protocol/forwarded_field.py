"""The Forwarded field (RFC 7239): one element for each proxy on the way of a request, the nearest one last.

Read from its right end, where the proxies nearest to this server wrote. A client's own inventions stand further left,
and must not hide the elements behind them, for example by an open quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Characters of one element that are read; an element with everything in RFC 7239 has 150.
_ELEMENT_MAX = 512

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 §5.6.2
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*"'
_PAIR = rf"{_TOKEN}=(?:{_TOKEN}|{_QUOTED})"
_is_element = re.compile(rf"{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*").fullmatch
_each_pair = re.compile(rf"({_TOKEN})=(?:({_TOKEN})|({_QUOTED}))").finditer
_unescape = re.compile(r"\\(.)").sub


def elements_from_right(text: str, most: int) -> Iterator[dict[str, str]]:
    """At most ``most`` elements, the last one first, each as a dict with names in lower case. Ends at an invalid
    element.

    RFC 7239 §4 forbids a parameter given twice in an element: such an element is invalid too.
    """
    end = len(text)
    for _ in range(most):
        start, written = _last_element(text, end)
        if written is None:
            return
        element: dict[str, str] = {}
        for pair in _each_pair(written):
            name = pair[1].lower()
            if name in element:
                return
            element[name] = pair[2] if pair[3] is None else _unescape(r"\1", pair[3][1:-1])
        if element:
            yield element
        if start < 0:
            return
        end = start


def _last_element(text: str, end: int) -> tuple[int, str | None]:
    """Parse the element that ends at ``end``. Returns the place of the comma before it (-1 for none), and it or None.

    An element may be empty, as in all lists (RFC 9110 §5.6.1).
    """
    start = end
    while start > 0:
        start = text.rfind(",", max(end - _ELEMENT_MAX, 0), start)
        if start < 0 and end > _ELEMENT_MAX:
            break
        written = text[start + 1 : end].strip(" \t")
        if not written or _is_element(written):
            return start, written
        if '"' not in written:  # otherwise the comma may stand in quotes, and an earlier one separates
            break
    return -1, None
