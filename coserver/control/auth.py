"""Access to the control: over the UNIX socket for its owner, by the file's mode; over TCP with the token.

A page in a browser can reach a port of this machine by a name that resolves to it (DNS rebinding). So the Host must be
an address or ``localhost``, and so must the Origin, if there is one.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ..server.handler.errors import HTTPException
from ..server.handler.request import Request

#: Characters of a token, at least: a shorter one can be guessed. 128 bits in base 64 take 22.
TOKEN_MIN = 16

_UNIX = "unix"


def check_token(token: Any) -> None:
    """Check a token. Raises ValueError."""
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or len(token) < TOKEN_MIN:
        raise ValueError(
            f"a control token has {TOKEN_MIN} visible ASCII characters at least; secrets.token_urlsafe() makes one"
        )


def guard(token: str | None) -> Callable[[Request], None]:
    """Make the function that checks each request; it raises HTTPException (401, 403)."""

    def check(request: Request) -> None:
        origin = request.headers.get("origin")
        if origin is not None and not is_local(host_of(origin)):
            raise HTTPException(403, "pages of other origins have no access")
        if request.peer == _UNIX:
            return
        if not is_local(_host(request.head.host.decode("latin-1"))):
            raise HTTPException(403, "the Host must be localhost or an address, not another name")
        given = request.headers.get("authorization", "")
        scheme, _, said = given.partition(" ")
        right = token is not None and hmac.compare_digest(said.strip().encode(), token.encode())
        if scheme.lower() != "bearer" or not right:
            raise HTTPException(401, "send the token: 'Authorization: Bearer …'", {"www-authenticate": "Bearer"})

    return check


def host_of(origin: str) -> str:
    """The host of an Origin; "" for an opaque one ("null") and for a wrong one."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _host(field: str) -> str:
    if field.startswith("["):
        return field[1:].partition("]")[0]
    return field.partition(":")[0]


def is_local(host: str) -> bool:
    """Whether the host is "localhost" or an address, and not a name that DNS could point here."""
    if host.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
