"""A peer's address as text: host:port, [v6]:port, or "unix"."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any


def show_address(address: Any) -> str:
    """The address of an accepted socket as text."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unix"


def split_address(peer: str) -> tuple[str, str]:
    """Host and port; an IPv6 host without its brackets, and no port for a UNIX socket."""
    host, _, port = peer.rpartition(":")
    if not host or not port.isdigit():
        return peer, ""
    return host.strip("[]"), port


def host_of(peer: str) -> str:
    """The address without its port; an IPv4 one that a dual-stack socket shows as IPv6 is IPv4 again."""
    return split_address(peer)[0].removeprefix("::ffff:")


def group_of(peer: str) -> str:
    """The group that a peer's offences are counted by: its host, of an IPv6 one the /64, which is one customer's."""
    host, _ = split_address(peer)
    if not peer.startswith("["):
        return host
    try:
        network = int(IPv6Address(host.partition("%")[0])) >> 64 << 64
    except ValueError:
        return f"[{host}]"
    return f"{IPv6Address(network)}/64"
