"""A handler's request as one for an upstream: what goes on to the next hop, and what does not (RFC 9110 §7.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol, TypedDict

from ..protocol.fields import RawFields

#: Fields of one hop alone, beside those that Connection names (RFC 9110 §7.6.1; RFC 9112 for the framing).
HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
#: Said anew for the next hop.
_OURS = frozenset(
    {b"host", b"expect", b"content-length", b"coserver-depth", b"traceparent", b"tracestate", b"forwarded"}
)
_VIA = "1.1 coserver"


class Forwardable(Protocol):
    """What is asked of a handler's request."""

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def head(self) -> Any: ...

    def stream(self) -> AsyncIterator[bytes]: ...

    def forwarded_fields(self) -> list[tuple[str, str]]:
        """Who asked, and how, for the next hop: X-Forwarded-For and its kin."""
        ...


class ForwardOptions(TypedDict, total=False):
    """The keywords of ``forward``."""

    target: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    keep_host: bool
    timeout: float


def end_to_end(fields: RawFields) -> RawFields:
    """The fields that are for the other end, not for the next hop."""
    named = {
        option.strip(b" \t").lower() for name, value in fields if name == b"connection" for option in value.split(b",")
    }
    return [(name, value) for name, value in fields if name not in HOP_BY_HOP and name not in named]


def forwarded(request: Forwardable, options: ForwardOptions) -> tuple[str, str, dict[str, Any]]:
    """Method, target and what else is asked."""
    head = request.head
    fields: list[tuple[str, str]] = []
    via = _VIA
    for name, value in end_to_end(head.fields):
        text = value.decode("latin-1")
        if name == b"via":
            via = f"{text}, {via}"
        elif name not in _OURS:
            fields.append((name.decode("ascii"), text))
    added = [*request.forwarded_fields(), ("via", via)]
    if options.get("keep_host") and head.host:
        added.append(("host", head.host.decode("ascii")))
    given = options.get("headers", ())
    added += list(given.items() if isinstance(given, Mapping) else given)
    replaced = {name.lower() for name, _ in added}
    fields = [field for field in fields if field[0] not in replaced]
    asked: dict[str, Any] = {"headers": fields + added, "stream": True}
    if head.length != 0:
        asked["content"] = request.stream()
        if head.length is not None:
            asked["headers"].append(("content-length", str(head.length)))
    if "timeout" in options:
        asked["timeout"] = options["timeout"]
    target = options.get("target")
    if target is None:
        target = head.path + (f"?{head.query}" if head.query else "")
    return request.method, target, asked
