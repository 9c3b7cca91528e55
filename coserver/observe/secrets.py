"""What of a request is not shown to people: values whose name says that they are secret.

It is a courtesy to whoever shares a screen or a file, no security: a secret under another name is shown.
"""

from __future__ import annotations

import re

from .heads import Fields

MASK = "•••"
#: In a target, where only some characters may stand.
TARGET_MASK = "***"

NAMES = (
    r"pass(?:word|wd|phrase)|pwd|token|secret|authoriz|cookie|credential"
    r"|api[-_]?key|private[-_]?key|session[-_]?(?:id|key)"
)
_name = re.compile(NAMES, re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether what bears this name is not to be shown."""
    return _name.search(name) is not None


def mask_fields(fields: Fields) -> Fields:
    """The fields with their secrets masked. A cookie keeps its name, an Authorization its scheme."""
    return tuple([(name, _mask(name.lower(), value) if is_secret(name) else value) for name, value in fields])


def _mask(name: str, value: str) -> str:
    if name == "set-cookie":
        pair, end, attributes = value.partition(";")
        return f"{_mask_pair(pair)}{end}{attributes}"
    if name == "cookie":
        return ";".join([_mask_pair(pair) for pair in value.split(";")])
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space and name.endswith("authorization") else MASK


def _mask_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={MASK}" if equals else MASK


def mask_target(target: str) -> str:
    """A target whose query's secrets are masked."""
    path, mark, query = target.partition("?")
    if not mark or not is_secret(query):
        return target
    pairs = [pair.partition("=") for pair in query.split("&")]
    masked = [f"{name}={TARGET_MASK}" if equals and is_secret(name) else f"{name}{equals}{value}"
              for name, equals, value in pairs]  # fmt: skip
    return f"{path}?{'&'.join(masked)}"
