"""A gateway's part: what the next hop is told of the client, and how an upstream's answer becomes ours.

Whoever is trusted to say who the client is may be added to; what anybody else says of it goes no further.
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
    """X-Forwarded-For, -Proto and -Host for the next hop; Forwarded too, if a trusted peer writes that (RFC 7239)."""
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
    """What goes on to our client; the length too, where the body is still on its way or there is none."""
    whole = isinstance(answer, UpstreamResponse) and has_body(answer.status) and bool(answer.body)
    return [
        (name.decode("ascii"), decode_value(name, value))
        for name, value in end_to_end(answer.fields)
        if not (whole and name == b"content-length")
    ]


class LateTrailers(Mapping[str, str]):
    """An upstream's trailer fields, to be looked at when its body has been read."""

    def __init__(self, answer: UpstreamResponse | StreamedUpstreamResponse) -> None:
        self._answer = answer

    def __getitem__(self, name: str) -> str:
        return self._answer.trailers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answer.trailers)

    def __len__(self) -> int:
        return len(self._answer.trailers)
