"""What of a request is not shown to people: values whose name says that they are secret.

It is a courtesy to whoever shares a screen or a file, no security: a secret under another name is shown.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from .text import Fields

MASK = "•••"
#: In a target, where only some characters may stand.
TARGET_MASK = "***"

NAMES = (
    r"pass(?:word|wd|phrase|code)|pwd|token|secret|authoriz|cookie|credential|jwt|signature"
    r"|(?:api|access|auth|private|session|signing)[-_]?key|session[-_]?id"
)
_name = re.compile(NAMES, re.IGNORECASE)
#: A parameter of a query or of a fragment (OAuth answers with tokens in one), and who asks, before a host.
_parameter = re.compile(r"(?P<before>[?&#;](?P<name>[^?&#;=]*+)=)(?P<value>[^?&#;]*+)")
_userinfo = re.compile(r"(://)[^/?#@]*+@")


def is_secret(name: str) -> bool:
    """Whether what bears this name is not to be shown."""
    return _name.search(name) is not None


def mask_fields(fields: Fields) -> Fields:
    """The fields with their secrets masked. A cookie keeps its name, an Authorization its scheme, a URL (Location,
    Referer) all but the values of its secret parameters.
    """
    return tuple(
        [(name, _mask(name.lower(), value) if is_secret(name) else mask_target(value)) for name, value in fields]
    )


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
    """A target or a URL, with the secrets in its query, its fragment and before its host masked."""
    if "@" in target:
        target = _userinfo.sub(rf"\1{TARGET_MASK}@", target)
    return _parameter.sub(_mask_parameter, target) if "=" in target else target


def _mask_parameter(found: re.Match[str]) -> str:
    """A secret may be in a parameter, or in one of a URL that is a parameter's value."""
    value = unquote(found["value"])
    if is_secret(unquote(found["name"])) or ("=" in value and is_secret(value)):
        return f"{found['before']}{TARGET_MASK}"
    return found[0]
