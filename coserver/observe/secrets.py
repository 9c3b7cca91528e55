"""Mask the values of a request whose names say that they are secret.

This helps people who share a screen or a file. It is no security: a secret under another name is shown.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from .text import Fields

MASK = "•••"
#: The mask in a target, where only some characters are allowed.
TARGET_MASK = "***"

NAMES = (
    r"pass(?:word|wd|phrase|code)|pwd|token|secret|authoriz|cookie|credential|jwt|signature"
    r"|(?:api|access|auth|private|session|signing)[-_]?key|session[-_]?id"
)
_name = re.compile(NAMES, re.IGNORECASE)
#: A parameter of a query or a fragment (OAuth answers with tokens in a fragment), and the user before a host.
_parameter = re.compile(r"(?P<before>[?&#;](?P<name>[^?&#;=]*+)=)(?P<value>[^?&#;]*+)")
_userinfo = re.compile(r"(://)[^/?#@]*+@")


def is_secret(name: str) -> bool:
    """Whether the value under this name is secret."""
    return _name.search(name) is not None


def mask_fields(fields: Fields) -> Fields:
    """Mask the secrets in fields.

    A cookie keeps its name, an Authorization its scheme, a URL (Location, Referer) all but the values of secret
    parameters.
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
    """Mask the secrets in a target or a URL: in its query, its fragment, and before its host."""
    if "@" in target:
        target = _userinfo.sub(rf"\1{TARGET_MASK}@", target)
    return _parameter.sub(_mask_parameter, target) if "=" in target else target


def _mask_parameter(found: re.Match[str]) -> str:
    """Mask a parameter. It is secret by its name, or because its value is a URL with a secret parameter."""
    value = unquote(found["value"])
    if is_secret(unquote(found["name"])) or ("=" in value and is_secret(value)):
        return f"{found['before']}{TARGET_MASK}"
    return found[0]
