"""Who asked: the client's address, scheme and request id, as proxies tell them that are trusted to.

Anybody can send X-Forwarded-For, X-Forwarded-Proto and X-Request-ID; they count only if the peer itself, the other end
of the connection, is trusted. Nothing is worked out before somebody asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ..protocol.fields import RawFields
from .errors import AppError

#: Proxies in a row that are walked through. CDN, balancer, ingress and sidecar are four; a longer list is an attack.
_HOPS_MAX = 32
#: Addresses whose judgement is remembered.
_REMEMBERED = 4096

# An address, an IPv6 one perhaps in brackets, and perhaps a port: what proxies write into X-Forwarded-For.
_ZONE = r"(?:%[0-9A-Za-z._~-]{1,32})?"
_ENTRY = (
    rf"\[(?P<six>[0-9A-Fa-f:.]+{_ZONE})\](?::[0-9]{{1,5}})?"
    r"|(?P<four>[0-9.]+)(?::[0-9]{1,5})?"
    rf"|(?P<bare>[0-9A-Fa-f:.]+{_ZONE})"
    r"|(?P<unix>unix):?"
)

_Network = IPv4Network | IPv6Network


class Trust:
    """Trusted peers: addresses, networks (10.0.0.0/8), "unix" for UNIX sockets, "*" for all. Raises AppError."""

    def __init__(self, peers: Sequence[str]) -> None:
        self.peers = tuple(peers)
        self._all = "*" in self.peers
        self._unix = self._all or "unix" in self.peers
        self._networks = [_network(peer) for peer in self.peers if peer not in ("*", "unix")]
        self._judge = lru_cache(_REMEMBERED)(self._judge_anew)

    def __repr__(self) -> str:
        return f"<Trust in {', '.join(self.peers) or 'nobody'}>"

    def trusts(self, peer: str) -> bool:
        """Whether ``peer`` (an address, or one with a port, or "unix") is believed."""
        return self._judge(peer)[1]

    def client(self, peer: str, fields: RawFields) -> str:
        """The client's address, without a port: from ``peer`` on, the first that is not trusted.

        X-Forwarded-For is walked from its right end, where the nearest proxy wrote; a malformed entry ends the walk.
        """
        client, trusted = self._judge(peer)
        if not trusted:
            return client or peer
        said = _joined(fields, b"x-forwarded-for")
        for entry in reversed(said.rsplit(",", _HOPS_MAX)[-_HOPS_MAX:]) if said else ():
            address, trusted = self._judge(entry.strip(" \t"))
            if not address:
                break
            client = address
            if not trusted:
                break
        return client or peer

    def scheme(self, peer: str, fields: RawFields) -> str:
        """What the nearest proxy said, "http" or "https", if ``peer`` is trusted; else "http"."""
        if self.trusts(peer):
            said = _joined(fields, b"x-forwarded-proto").rpartition(",")[2].strip(" \t").lower()
            if said in ("http", "https"):
                return said
        return "http"

    def request_id(self, peer: str, fields: RawFields) -> str | None:
        """The X-Request-ID, if ``peer`` is trusted and sent one that is sane: 1 to 128 visible ASCII characters."""
        given = [value for name, value in fields if name == b"x-request-id"]
        if len(given) == 1 and re.fullmatch(rb"[\x21-\x7e]{1,128}", given[0]) and self.trusts(peer):
            return given[0].decode("ascii")
        return None

    def _judge_anew(self, text: str) -> tuple[str, bool]:
        """The address alone, "" if it is none; and whether it is trusted."""
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
    """An IPv4 address that comes as ::ffff:192.0.2.1, from a socket of both kinds, is that IPv4 address."""
    return (address.version == 6 and address.ipv4_mapped) or address


def _network(text: str) -> _Network:
    if "%" in text:
        raise AppError(f"trusted_peers: a peer's address has no zone to compare with; leave it out of {text!r}")
    try:
        network = ip_network(text)
    except ValueError as error:
        raise AppError(f"trusted_peers: {_wrong(text, error)}") from None
    if network.version == 6 and network.prefixlen >= 96 and (mapped := network.network_address.ipv4_mapped):
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _wrong(text: str, error: ValueError) -> str:
    try:
        return f"{text!r} names one address in a network; write the address alone, or {ip_network(text, strict=False)}"
    except ValueError:
        return (
            f"{text!r} is none of them: an address (192.0.2.1, ::1), a network (10.0.0.0/8), 'unix', or '*' for "
            f"everybody ({error})"
        )
