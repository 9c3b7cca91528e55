"""Cookies both ways, as text (RFC 6265): the Cookie fields of a request, one Set-Cookie of a response.

The standard http.cookies does not do: its reader stops at the first invalid pair, and its quoting knows ISO-8859-1
only. A value written here can be read by all readers of quoted octal escapes, such as http.cookies and Werkzeug.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypedDict

from .syntax import is_token
from .values import decode_octets

_escape = re.compile(rb"\\(?:([0-3][0-7][0-7])|(.))", re.DOTALL).sub
_plain_value = re.compile(r"[!#-+\--:<-\[\]-~]*").fullmatch  # cookie-octets, RFC 6265 §4.1.1
_cookie_octets = frozenset(octet for octet in range(128) if _plain_value(chr(octet)))
_path = re.compile(r"/[ -:<-~]*").fullmatch
_domain = re.compile(r"\.?(?!-)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*").fullmatch
_SAME_SITE = {"lax": "Lax", "strict": "Strict", "none": "None"}


class Attributes(TypedDict, total=False):
    """The attributes of a Set-Cookie; ``max_age`` in seconds."""

    max_age: int | None
    expires: datetime | None
    path: str | None
    domain: str | None
    secure: bool
    httponly: bool
    samesite: str | None
    partitioned: bool


def parse_cookies(fields: Iterable[bytes]) -> list[tuple[str, str]]:
    """The pairs of all Cookie fields. Of equal names the first counts, whose path is the most specific (RFC 6265 §5.4).

    Never raises: browsers also send what scripts and other servers have set, so an invalid pair is skipped. Quotes and
    the escapes within them are undone; bytes are UTF-8, else ISO-8859-1, so that none is lost.
    """
    found: dict[str, str] = {}
    for field in fields:
        for pair in field.split(b";"):
            name, equals, value = pair.partition(b"=")
            name = name.strip(b" \t")
            if name and equals:
                found.setdefault(decode_octets(name), _unquote(value.strip(b" \t")))
    return list(found.items())


def _unquote(value: bytes) -> str:
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
        if b"\\" in value:
            value = _escape(lambda found: bytes((int(found[1], 8),)) if found[1] else found[2], value)
    return decode_octets(value)


def encode_cookie(name: str, value: str, attributes: Attributes) -> str:
    """The value of one Set-Cookie field (RFC 6265 §4.1). Any text is a value: ``parse_cookies`` gives it back.

    Raises ValueError for a name, a path, a domain or a combination that browsers would refuse or misunderstand.
    """
    if not name.isascii() or not is_token(name.encode()):
        raise ValueError(f"a cookie's name must be a token (RFC 6265 §4.1.1), such as 'session'; got {name!r}")
    secure, path, domain = attributes.get("secure", False), attributes.get("path"), attributes.get("domain")
    samesite = attributes.get("samesite")
    _check_scope(path, domain)
    _check_prefix(name, secure, path, domain)
    parts = [f"{name}={_quote(value)}"]
    if (max_age := attributes.get("max_age")) is not None:
        if isinstance(max_age, bool) or not isinstance(max_age, int):
            raise ValueError(f"max_age must be a whole number of seconds; got {max_age!r}")
        parts.append(f"Max-Age={max_age}")
    if (expires := attributes.get("expires")) is not None:
        parts.append(f"Expires={_date(expires)}")
    if domain is not None:
        parts.append(f"Domain={domain}")
    if path is not None:
        parts.append(f"Path={path}")
    if secure:
        parts.append("Secure")
    if attributes.get("httponly"):
        parts.append("HttpOnly")
    if samesite is not None:
        parts.append(f"SameSite={_same_site(samesite, secure)}")
    if attributes.get("partitioned"):
        if not secure:
            raise ValueError("browsers accept partitioned=True only with secure=True")
        parts.append("Partitioned")
    return "; ".join(parts)


def _quote(value: str) -> str:
    if _plain_value(value):
        return value
    try:
        octets = value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a cookie's value must be text that UTF-8 can encode; got {value!r:.80}") from error
    escaped = "".join(chr(octet) if octet in _cookie_octets else f"\\{octet:03o}" for octet in octets)
    return f'"{escaped}"'


def _date(moment: datetime) -> str:
    from email.utils import format_datetime

    if moment.tzinfo is None:
        raise ValueError(f"expires must have a time zone: {moment!r}.replace(tzinfo=UTC), or seconds from now")
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def _check_scope(path: str | None, domain: str | None) -> None:
    if path is not None and not _path(path):
        raise ValueError(f"a cookie's path must begin with '/' and hold printable ASCII without ';'; got {path!r}")
    if domain is not None and not _domain(domain):
        raise ValueError(f"a cookie's domain must be a host name, a foreign one in its IDNA form; got {domain!r}")


def _check_prefix(name: str, secure: bool, path: str | None, domain: str | None) -> None:
    """Check the rules of ``__Secure-`` and ``__Host-``: browsers silently drop a cookie that breaks them (RFC 6265bis
    §4.1.3).
    """
    lower = name.lower()
    if lower.startswith("__secure-") and not secure:
        raise ValueError(f"browsers accept {name!r} only with secure=True")
    if lower.startswith("__host-") and not (secure and path == "/" and domain is None):
        raise ValueError(f"browsers accept {name!r} only with secure=True, path='/' and no domain")


def _same_site(samesite: str, secure: bool) -> str:
    word = _SAME_SITE.get(samesite.lower())
    if word is None:
        raise ValueError(f"samesite must be 'lax', 'strict', 'none' or None (leave it out); got {samesite!r}")
    if word == "None" and not secure:
        raise ValueError("browsers accept samesite='none' only with secure=True")
    return word
