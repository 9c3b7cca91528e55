"""A gateway's part: the target and the fields for the next hop, and fields that an upstream's answer hands on.

What a trusted peer says of the client is handed on, with this hop added. What any other peer says of it is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ...protocol.fields import decode_value
from ...protocol.responses import has_body
from ...transport.peer import host_of
from ...upstream.encode import end_to_end, max_forwards
from ...upstream.response import StreamedUpstreamResponse, UpstreamResponse
from .errors import HTTPException

if TYPE_CHECKING:
    from .request import Request

#: Fields that TRACE does not show (RFC 9110 §9.3.8).
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"x-api-key", b"x-forwarded-client-cert"})
#: The parts of a text that no target may have (RFC 3986 §3.3, §3.4). "[" and "]" are forbidden too, but usual.
_illegal = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]%]", re.DOTALL).findall
_absolute_form = re.compile(r"https?://[^/?]*(.*)", re.IGNORECASE).fullmatch


def forward_target(request: Request, target: str | None, strip: str | None, dot_segments: str) -> str:
    """The raw target for the next hop (RFC 9110 §7.7): the request's own, byte for byte, after the prefix.

    The prefix is ``strip``, or the mount of the handler's app. A given ``target`` is used as it is. Raises ValueError,
    TypeError; HTTPException (400) for a dot segment if ``dot_segments`` is "refuse".
    """
    if dot_segments not in ("pass", "refuse"):
        raise ValueError(f"dot_segments is 'pass' or 'refuse'; got {dot_segments!r}")
    if target is None:
        target = _strip(_raw_target(request), request.mount if strip is None else _check_strip(strip))
    elif strip is not None:
        raise ValueError(f"a target is sent as it is: give target or strip, not both; got {target!r} and {strip!r}")
    else:
        _check_target(request, target)
    if dot_segments == "refuse" and _has_dot_segment(target):
        raise HTTPException(400, "The path has a dot segment, '.' or '..', which is refused here")
    return target


def _raw_target(request: Request) -> str:
    """The request's target without scheme and authority (RFC 9112 §3.2.1, §3.2.4)."""
    raw = request.target
    form = _absolute_form(raw)
    if form is None:
        return raw
    rest = form[1]
    if not rest and request.method == "OPTIONS":
        return "*"
    return rest if rest.startswith("/") else f"/{rest}"


def _check_strip(strip: str) -> str:
    if not isinstance(strip, str):
        raise TypeError(f"strip is a str, the prefix to remove: '/api'; got {strip!r}")
    if strip and (not strip.startswith("/") or strip.endswith("/") or "?" in strip or "#" in strip):
        raise ValueError(
            f"strip starts with '/', does not end with '/', and has no query: '/api', or '' for none; got {strip!r}"
        )
    return strip


def _strip(target: str, prefix: str) -> str:
    """Remove the segments of ``prefix``, which are compared decoded; the rest stays as it is."""
    if not prefix or target == "*":
        return target
    path, mark, query = target.partition("?")
    segments, wanted = path.split("/"), prefix.split("/")
    count = len(wanted)
    if len(segments) < count or not all(map(_same_segment, segments, wanted)):
        raise ValueError(
            f"strip is a prefix of the request's target, in whole segments: {prefix!r} is none of {target!r:.200}; "
            f"give the prefix of this route, or strip='' to remove nothing"
        )
    return f"/{'/'.join(segments[count:])}{mark}{query}"


def _same_segment(segment: str, wanted: str) -> bool:
    return segment == wanted or unquote(segment) in (wanted, unquote(wanted))


def _check_target(request: Request, target: str) -> None:
    """Check a target that a handler gives. Raises ValueError, TypeError.

    An illegal part passes if the client itself sent it, since this server took it.
    """
    if not isinstance(target, str):
        raise TypeError(f"target is a str, the raw path and query: '/items?id=1'; got {target!r}")
    instead = "To remove a prefix from the request's own target, write strip='/prefix'"
    if target[:1] != "/" and not (target == "*" and request.method == "OPTIONS"):
        raise ValueError(f"a target is a raw path, which begins with '/'; got {target!r:.200}. {instead}")
    illegal = set(_illegal(target)).difference(_illegal(request.target))
    if illegal:
        raise ValueError(
            f"a target is sent as it is, so it must be percent-encoded (RFC 3986 §2.4); got {target!r:.200} with "
            f"{min(illegal)!r}. A path parameter and request.path are decoded. {instead}"
        )


def _has_dot_segment(target: str) -> bool:
    """Whether the path has "." or "..", encoded too, behind an encoded slash too, with parameters ("..;a") too."""
    path = unquote(target.partition("?")[0])
    return any(part.partition(";")[0] in (".", "..") for part in path.replace("\\", "/").split("/"))


def answer_last_hop(request: Request) -> tuple[int, list[tuple[str, str]], bytes] | None:
    """Answer OPTIONS and TRACE with ``Max-Forwards: 0`` here (RFC 9110 §7.6.2, §9.3.7, §9.3.8); None for any other.

    The body for TRACE is the request as it came, without the fields that may hold secrets.
    """
    head = request.head
    if max_forwards(head.method, head.fields) != 0:
        return None
    if head.method == "OPTIONS":
        allowed = request.service.router.allowed(head.path)
        return 204, [("allow", ", ".join(allowed))], b""
    lines = [f"{head.method} {head.target} HTTP/1.{head.minor}".encode("ascii")]
    lines += [b"%b: %b" % (name, value) for name, value in head.fields if name not in _SECRET]
    return 200, [("content-type", "message/http")], b"\r\n".join(lines) + b"\r\n\r\n"


def forwarded_fields(request: Request) -> list[tuple[str, str]]:
    """Make X-Forwarded-For, -Proto and -Host for the next hop; Forwarded too if a trusted peer sends it (RFC 7239)."""
    peer = host_of(request.peer)
    chain, elements = [peer], ""
    if request.trusts_peer:
        chain = [*request.headers.get_all("x-forwarded-for"), peer]
        elements = ", ".join(request.headers.get_all("forwarded"))
    fields = [("x-forwarded-for", ", ".join(chain)), ("x-forwarded-proto", request.scheme)]
    if request.host:
        fields.append(("x-forwarded-host", request.host))
    if elements:
        quoted = f'"[{peer}]"' if ":" in peer else peer
        fields.append(("forwarded", f"{elements}, for={quoted}"))
    return fields


def fields_of(answer: UpstreamResponse | StreamedUpstreamResponse) -> list[tuple[str, str]]:
    """The answer's fields for our client. Content-Length is among them if the body is a stream, or there is none."""
    whole = isinstance(answer, UpstreamResponse) and has_body(answer.status) and bool(answer.body)
    return [
        (name.decode("ascii"), decode_value(name, value))
        for name, value in end_to_end(answer.fields)
        if not (whole and name == b"content-length")
    ]


class LateTrailers(Mapping[str, str]):
    """An upstream's trailer fields. Read them after its body has been read."""

    def __init__(self, answer: UpstreamResponse | StreamedUpstreamResponse) -> None:
        self._answer = answer

    def __getitem__(self, name: str) -> str:
        return self._answer.trailers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answer.trailers)

    def __len__(self) -> int:
        return len(self._answer.trailers)
