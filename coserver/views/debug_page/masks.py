"""Mask secrets in a request and in a program's values, and cut long values.

A secret has a name such as "password" (of a field, key, variable or attribute), or is a value that the request sent
under such a name. This helps people who share a screen. It is not security: a secret under another name is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

from rich.pretty import Node, traverse

from ...server.handler.request import Request

MASK = "•••"
#: Characters of one value: several lines of a screen.
LEAF_SIZE = 200
#: Characters of one variable, with all its items.
VALUE_SIZE = 2000
#: Items of one container, and depth of nested containers.
_ITEMS, _DEPTH = 10, 4
#: Characters of a string that are searched for secrets before it is cut: more than any request's head.
_STRING = 40_000
#: Shorter values are no secrets: they occur everywhere.
_LEAST = 6

_NAMES = (
    r"pass(?:word|wd|phrase)|pwd|token|secret|authoriz|cookie|credential"
    r"|api[-_]?key|private[-_]?key|session[-_]?(?:id|key)"
)
_name = re.compile(_NAMES, re.IGNORECASE)
#: A secret's name and its value, as in a repr, a query or a head. All repeats are bounded: no quadratic time.
_named_value = re.compile(
    rf"((?:{_NAMES})[\w-]{{0,40}}['\"]?\s{{0,4}}[:=,]\s{{0,4}}b?)"
    r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^'\"\r\n\\,()\[\]{}&<>]+)",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether a value of this name is a secret."""
    return _name.search(name) is not None


class Masks:
    """The masks of one page. It knows the secrets that the request sent."""

    def __init__(self, request: Request | None) -> None:
        found = sorted(set(_sent(request)) if request is not None else (), key=len, reverse=True)
        self._sent = re.compile("|".join(map(re.escape, found))) if found else None

    def text(self, text: str) -> str:
        """``text`` with its secrets masked."""
        if self._sent is not None:
            text = self._sent.sub(MASK, text)
        return _named_value.sub(rf"\1{MASK}", text)

    def value(self, name: str, value: object) -> str:
        """The repr of a variable, on several lines if it is long. Never raises."""
        if is_secret(name):
            return MASK
        try:
            node = traverse(value, max_length=_ITEMS, max_string=_STRING, max_depth=_DEPTH)
            self._mask(node)
            shown = node.render(max_width=88)
        except (Exception, SystemExit, GeneratorExit) as error:  # a repr may raise anything
            shown = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
        return cut(shown, VALUE_SIZE)

    def _mask(self, node: Node) -> None:
        """Mask items of a container: by their key, or as the second of a pair."""
        children = node.children or []
        if len(children) == 2 and not children[0].key_repr and is_secret(children[0].value_repr):
            _hide(children[1])
        for child in children:
            if child.key_repr and is_secret(child.key_repr):
                _hide(child)
            else:
                self._mask(child)
        if node.value_repr and node.value_repr != MASK:
            node.value_repr = cut(self.text(node.value_repr), LEAF_SIZE)
        node.key_repr = cut(self.text(node.key_repr), LEAF_SIZE)


def cut(text: str, size: int) -> str:
    """The first ``size`` characters, and the number of further ones."""
    return text if len(text) <= size else f"{text[:size]} … {len(text) - size} more characters"


def _hide(node: Node) -> None:
    node.value_repr, node.children = MASK, None


def _sent(request: Request) -> Iterable[str]:
    """All secrets in the request's fields and query, as sent and decoded."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.head.fields]
    pairs += [(name, value) for name, _, value in (pair.partition("=") for pair in request.query_string.split("&"))]
    for name, value in pairs:
        if is_secret(name):
            parts = re.split(r"[;,\s]+|(?<!=)=(?!=|$)", value)  # each cookie's value; the token after "Bearer"
            for one in (value, *parts, unquote_plus(value)):
                if len(one) >= _LEAST and one.lower() not in ("bearer", "digest"):
                    yield one
