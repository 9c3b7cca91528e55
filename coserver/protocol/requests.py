"""The client's sending half of HTTP/1.1, without I/O: a method, a target and fields to bytes (RFC 9112 §3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode

from .errors import LocalProtocolError
from .responses import encode_fields
from .syntax import METHOD, TARGET

_is_method = re.compile(METHOD).fullmatch
_is_target = re.compile(TARGET).fullmatch
# Fields for framing and for the connection belong to the connection.
_OURS = {
    "connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
}  # fmt: skip

#: Methods that may be sent twice without harm (RFC 9110 §9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
#: Methods whose requests say that they have no body, since a server might wait for one (RFC 9110 §8.6).
EXPECT_BODY = frozenset({"POST", "PUT", "PATCH"})


def check_method(method: str) -> None:
    """Check a method. Raises LocalProtocolError."""
    if method == "CONNECT" or not method.isascii() or not _is_method(method.encode()):
        raise LocalProtocolError(f"a method is a token like GET, and not CONNECT (RFC 9110 §9.1); got {method!r}")


def encode_target(target: str, params: Mapping[str, object] | Iterable[tuple[str, object]] | None = None) -> bytes:
    """The request-target for a path and the parameters of its query; other characters are percent-encoded.

    A parameter whose value is a list or a tuple is repeated. Raises LocalProtocolError.
    """
    if params:
        pairs = params if isinstance(params, Mapping) else list(params)
        target += ("&" if "?" in target else "?") + urlencode(pairs, doseq=True)
    if target[:1] != "/" and target != "*":
        raise LocalProtocolError(f"a target is a path, which begins with '/': '/items?id=1'; got {target!r:.80}")
    if "#" in target:
        raise LocalProtocolError(f"a target has no fragment, write '#' as %23 (RFC 9112 §3.2); got {target!r:.80}")
    raw = target.encode("utf-8", "surrogatepass")
    if not _is_target(raw):
        # No blank, line end or control character can get into the request line: all are quoted.
        raw = quote(raw, safe="%/:?[]@!$&'()*+,;=~").encode()
    return raw


def encode_request_fields(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """Field lines. Raises LocalProtocolError for invalid fields, and for those that belong to the connection."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    for name, _ in pairs:
        if isinstance(name, str) and name.lower() in _OURS:
            raise LocalProtocolError(f"field {name!r} belongs to the connection to the upstream; leave it out")
    return encode_fields(pairs)
