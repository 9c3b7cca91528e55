"""A gateway's part: fields that tell the next hop of the client, and fields that an upstream's answer hands on.

What a trusted peer says of the client is handed on, with this hop added. What any other peer says of it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ...protocol.fields import decode_value
from ...protocol.responses import has_body
from ...transport.peer import host_of
from ...upstream.encode import end_to_end
from ...upstream.response import StreamedUpstreamResponse, UpstreamResponse

if TYPE_CHECKING:
    from .request import Request


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
