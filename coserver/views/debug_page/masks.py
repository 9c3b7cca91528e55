"""What of a request, and of a program's values, is shown to people: all but secrets, each cut to a sane size.

A secret is known by its name (a field, a key, a variable, an attribute), or by being a value that the request sent
under such a name. It is a courtesy to whoever shares a screen, no security: a secret under another name is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

from rich.pretty import Node, traverse

from ...server.handler.request import Request

MASK = "•••"
#: Characters of one value; a screen's width several times.
LEAF_SIZE = 200
#: Characters of one variable, with all that is in it.
VALUE_SIZE = 2000
#: Items of one container, and how deep it is looked into.
_ITEMS, _DEPTH = 10, 4
#: A secret is looked for in so much of a string before that is cut: more than any request's head.
_STRING = 40_000
#: Shorter values are in everything: no secret that could be told apart.
_LEAST = 6

_NAMES = (
    r"pass(?:word|wd|phrase)|pwd|token|secret|authoriz|cookie|credential"
    r"|api[-_]?key|private[-_]?key|session[-_]?(?:id|key)"
)
_name = re.compile(_NAMES, re.IGNORECASE)
#: A secret's name with its value after it, as in a repr, a query or a head. Bounded: nothing takes quadratic time.
_named_value = re.compile(
    rf"((?:{_NAMES})[\w-]{{0,40}}['\"]?\s{{0,4}}[:=,]\s{{0,4}}b?)"
    r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^'\"\r\n\\,()\[\]{}&<>]+)",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether what bears this name is not to be shown."""
    return _name.search(name) is not None


class Masks:
    """The masks of one page; it knows the secrets that the request itself sent."""

    def __init__(self, request: Request | None) -> None:
        found = sorted(set(_sent(request)) if request is not None else (), key=len, reverse=True)
        self._sent = re.compile("|".join(map(re.escape, found))) if found else None

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        if self._sent is not None:
            text = self._sent.sub(MASK, text)
        return _named_value.sub(rf"\1{MASK}", text)

    def value(self, name: str, value: object) -> str:
        """The repr of a variable, over several lines if it is long; never raises."""
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
        """Mask what is in a container: by its key, or as the second of a pair."""
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
    """At most ``size`` characters, and how many more there are."""
    return text if len(text) <= size else f"{text[:size]} … {len(text) - size} more characters"


def _hide(node: Node) -> None:
    node.value_repr, node.children = MASK, None


def _sent(request: Request) -> Iterable[str]:
    """Every secret in the request's fields and its query, as sent and decoded."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.head.fields]
    pairs += [(name, value) for name, _, value in (pair.partition("=") for pair in request.query_string.split("&"))]
    for name, value in pairs:
        if is_secret(name):
            parts = re.split(r"[;,\s]+|(?<!=)=(?!=|$)", value)  # each cookie's value; what follows "Bearer"
            for one in (value, *parts, unquote_plus(value)):
                if len(one) >= _LEAST and one.lower() not in ("bearer", "digest"):
                    yield one
