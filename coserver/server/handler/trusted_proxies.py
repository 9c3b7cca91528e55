"""The client's address, scheme, host and request id, as trusted proxies tell them.

Any client can send Forwarded, X-Forwarded-For and X-Request-ID. They count only if the peer, the other end of the
connection, is trusted. Only one of Forwarded and X-Forwarded-* counts, the one that the proxies write: they may pass
on the other one as the client sent it. Each value is worked out only when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ...protocol.fields import RawFields
from ...protocol.forwarded_field import elements_from_right
from ...protocol.syntax import is_host
from .errors import SetupError

#: The number of proxies in a row that are followed. CDN, balancer, ingress and sidecar are four; more are an attack.
_HOPS_MAX = 32
#: The number of addresses in the cache of judgements.
_REMEMBERED = 4096

# An entry that proxies write into X-Forwarded-For: an address, IPv6 perhaps in brackets, and perhaps a port.
_ZONE = r"(?:%[0-9A-Za-z._~-]{1,32})?"
_ENTRY = (
    rf"\[(?P<six>[0-9A-Fa-f:.]+{_ZONE})\](?::[0-9]{{1,5}})?"
    r"|(?P<four>[0-9.]+)(?::[0-9]{1,5})?"
    rf"|(?P<bare>[0-9A-Fa-f:.]+{_ZONE})"
    r"|(?P<unix>unix):?"
)

_Network = IPv4Network | IPv6Network


class Trust:
    """The trusted peers: addresses, networks (10.0.0.0/8), "unix" for UNIX sockets, "*" for all. Raises SetupError."""

    def __init__(self, peers: Sequence[str], fields: str = "x-forwarded") -> None:
        """``fields``: the kind of fields that the proxies write, "x-forwarded" or "forwarded" (RFC 7239)."""
        self.peers = tuple(peers)
        self._forwarded = fields == "forwarded"
        self._all = "*" in self.peers
        self._unix = self._all or "unix" in self.peers
        self._networks = [_network(peer) for peer in self.peers if peer not in ("*", "unix")]
        self._judge = lru_cache(_REMEMBERED)(self._judge_anew)

    def __repr__(self) -> str:
        return f"<Trust in {', '.join(self.peers) or 'nobody'}>"

    def trusts(self, peer: str) -> bool:
        """Whether ``peer`` is trusted: an address, with or without a port, or "unix"."""
        return self._judge(peer)[1]

    def client(self, peer: str, fields: RawFields) -> str:
        """The client's address, without a port: the first address, from ``peer`` on, that is not trusted.

        The search goes from the list's right end, where the nearest proxy wrote. A malformed entry ends it.
        """
        return self._walk(peer, fields)[0] or peer

    def scheme(self, peer: str, fields: RawFields, spoken: str = "http") -> str:
        """The nearest proxy's "http" or "https", if ``peer`` is trusted; else ``spoken``."""
        said = self._said(peer, fields, "proto", b"x-forwarded-proto").lower()
        return said if said in ("http", "https") else spoken

    def host(self, peer: str, fields: RawFields) -> str:
        """The host that the client asked for, as a trusted ``peer`` tells it; "" if there is no valid one."""
        said = self._said(peer, fields, "host", b"x-forwarded-host")
        return said if said and is_host(said.encode("latin-1")) else ""

    def _said(self, peer: str, fields: RawFields, parameter: str, name: bytes) -> str:
        """A value beside the client's address. In X-Forwarded-*, its hop is unknown, so the nearest one counts."""
        if not self.trusts(peer):
            return ""
        if self._forwarded:
            return self._walk(peer, fields)[1].get(parameter, "")
        return _joined(fields, name).rpartition(",")[2].strip(" \t")

    def _walk(self, peer: str, fields: RawFields) -> tuple[str, dict[str, str]]:
        """The client's address, and the element of Forwarded that names it, which a trusted proxy wrote."""
        client, trusted = self._judge(peer)
        said: dict[str, str] = {}
        for element in self._elements(fields) if trusted else ():
            said = element
            address, trusted = self._judge(element.get("for", ""))
            client = address or client
            if not trusted or not address:
                break
        return client, said

    def _elements(self, fields: RawFields) -> Iterator[dict[str, str]]:
        if self._forwarded:
            yield from elements_from_right(_joined(fields, b"forwarded"), _HOPS_MAX)
            return
        said = _joined(fields, b"x-forwarded-for")
        for entry in reversed(said.rsplit(",", _HOPS_MAX)[-_HOPS_MAX:]) if said else ():
            yield {"for": entry.strip(" \t")}

    def request_id(self, peer: str, fields: RawFields) -> str | None:
        """The X-Request-ID, if ``peer`` is trusted and sent a valid one: 1 to 128 visible ASCII characters."""
        given = [value for name, value in fields if name == b"x-request-id"]
        if len(given) == 1 and re.fullmatch(rb"[\x21-\x7e]{1,128}", given[0]) and self.trusts(peer):
            return given[0].decode("ascii")
        return None

    def _judge_anew(self, text: str) -> tuple[str, bool]:
        """The address without its port, "" if ``text`` is no address; and whether it is trusted."""
        match = re.fullmatch(_ENTRY, text) if len(text) <= 100 else None
        if match is None:
            return "", self._all
        if match["unix"]:
            return "unix", self._unix
        try:
            address = _plain(ip_address(match["six"] or match["four"] or match["bare"]))
        except ValueError:
            return "", self._all
        return str(address), self._all or any(address in network for network in self._networks)


def _joined(fields: RawFields, wanted: bytes) -> str:
    """A repeated field's values as one list (RFC 9110 §5.2)."""
    return b",".join([value for name, value in fields if name == wanted]).decode("latin-1")


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Turn ::ffff:192.0.2.1, an IPv4 address from a socket for both versions, into 192.0.2.1."""
    return (address.version == 6 and address.ipv4_mapped) or address


def _network(text: str) -> _Network:
    if "%" in text:
        raise SetupError(f"trusted_peers: an address must have no zone; leave the part from '%' on out of {text!r}")
    try:
        network = ip_network(text)
    except ValueError as error:
        raise SetupError(f"trusted_peers: {_wrong(text, error)}") from None
    if network.version == 6 and network.prefixlen >= 96 and (mapped := network.network_address.ipv4_mapped):
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _wrong(text: str, error: ValueError) -> str:
    try:
        return f"{text!r} names one address in a network; write the address alone, or {ip_network(text, strict=False)}"
    except ValueError:
        return (
            f"an entry is an address (192.0.2.1, ::1), a network (10.0.0.0/8), 'unix', or '*' for all; got {text!r} "
            f"({error})"
        )
