"""Who may ask. Over the UNIX socket its owner, by the file's mode; over TCP whoever has the token.

A page in a browser can reach a port of this machine, by a name that it makes lead here (DNS rebinding): so the Host
must be an address or ``localhost``, and a request that says where it comes from must come from there.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ..server.handler.errors import HTTPException
from ..server.handler.request import Request

#: Characters that a token must have: what is shorter can be guessed, and what 128 bits take in base 64 is 22.
TOKEN_MIN = 16

_UNIX = "unix"


def check_token(token: Any) -> None:
    """Raises ValueError."""
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or len(token) < TOKEN_MIN:
        raise ValueError(
            f"a control token has {TOKEN_MIN} visible ASCII characters at least; secrets.token_urlsafe() makes one"
        )


def guard(token: str | None) -> Callable[[Request], None]:
    """What each request is shown to; it raises HTTPException (401, 403)."""

    def check(request: Request) -> None:
        origin = request.headers.get("origin")
        if origin is not None and not is_local(host_of(origin)):
            raise HTTPException(403, "Pages of other origins may not ask")
        if request.peer == _UNIX:
            return
        if not is_local(_host(request.head.host.decode("latin-1"))):
            raise HTTPException(403, "The Host must be localhost or an address, not a name that leads here")
        given = request.headers.get("authorization", "")
        scheme, _, said = given.partition(" ")
        right = token is not None and hmac.compare_digest(said.strip().encode(), token.encode())
        if scheme.lower() != "bearer" or not right:
            raise HTTPException(401, "Give the token: 'Authorization: Bearer …'", {"www-authenticate": "Bearer"})

    return check


def host_of(origin: str) -> str:
    """The host of an Origin; "" for one that is opaque ("null"), or none at all."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _host(field: str) -> str:
    if field.startswith("["):
        return field[1:].partition("]")[0]
    return field.partition(":")[0]


def is_local(host: str) -> bool:
    """Whether it is this machine by name or any address: no name that could be made lead here."""
    if host.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
