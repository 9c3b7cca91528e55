"""A member of an upstream: its address as written, and the host, port and path in it."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

_match_url = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#@\s]+)/?").fullmatch
_HOST = r"\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+)"
_split_authority = re.compile(rf"(?:{_HOST})(?::(?P<port>[0-9]{{1,5}}))?").fullmatch
_match_unix = re.compile(r"(?P<scheme>http|tcp)\+unix:(?P<path>/.*|[^/].*)|unix:(?P<plain>.+)").fullmatch

#: Pairs of a family and an address, as ``connect`` takes it.
Addresses = tuple[tuple[int, Any], ...]

#: Schemes and their default ports; None: the address must have a port.
SCHEMES: dict[str, int | None] = {"http": 80, "https": 443, "tcp": None}


@dataclass(frozen=True, slots=True)
class UpstreamMember:
    """One server of an upstream. ``address`` is a URL without a path, "http://10.0.0.1:8080".

    A member of ``weight`` 2 gets twice the requests of 1.

    "http+unix:/run/users.sock" is a UNIX socket; "tcp://..." and "tcp+unix:..." are for an upstream with a framing.
    Raises ValueError.
    """

    address: str
    weight: int = 1
    scheme: str = field(init=False, compare=False, repr=False)
    name: str = field(init=False, compare=False, repr=False)  # the host name, or the host's IP address
    port: int = field(init=False, compare=False, repr=False)
    path: str = field(init=False, compare=False, repr=False)  # of a UNIX socket, else ""
    authority: str = field(init=False, compare=False, repr=False)  # as in the Host field

    def __post_init__(self) -> None:
        if isinstance(self.weight, bool) or not isinstance(self.weight, int) or self.weight < 1:
            raise ValueError(f"a member's weight is a whole number from 1; got {self.weight!r}")
        if unix := _match_unix(self.address):
            self._set(unix["scheme"] or "http", "", 0, unix["path"] or unix["plain"], "localhost")
            return
        match = _match_url(self.address)
        parts = _split_authority(match["authority"]) if match else None
        if match is None or parts is None:
            raise ValueError(f"a member is a URL without a path, 'http://127.0.0.1:8080'; got {self.address!r}")
        scheme = match["scheme"]
        if scheme not in SCHEMES:
            known = ", ".join(f"{each}://" for each in SCHEMES)
            raise ValueError(f"a member's scheme is one of {known}; got {self.address!r}")
        if not match["authority"].isascii():
            raise ValueError(f"a member's name is ASCII: write its IDNA form, 'xn--...'; got {self.address!r}")
        port = int(parts["port"]) if parts["port"] else SCHEMES[scheme]
        if port is None or not 0 < port < 65536:
            raise ValueError(f"a port is from 1 to 65535; got {self.address!r}")
        self._set(scheme, parts["six"] or parts["name"], port, "", match["authority"])

    @classmethod
    def parse(cls, text: str) -> UpstreamMember:
        """Parse an entry of the configuration file, an address and perhaps a weight: "http://10.0.0.1 weight=2"."""
        if not isinstance(text, str):
            raise TypeError(f"a member is a URL or an UpstreamMember; got {text!r}")
        address, _, said = text.strip().partition(" ")
        if not said:
            return cls(address)
        name, _, weight = said.strip().partition("=")
        if name != "weight" or not weight.isascii() or not weight.isdigit():
            raise ValueError(f"a member's address may be followed by its weight only, 'weight=2'; got {text!r}")
        return cls(address, int(weight))

    def _set(self, scheme: str, name: str, port: int, path: str, authority: str) -> None:
        values = {"scheme": scheme, "name": name, "port": port, "path": path, "authority": authority}
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @property
    def places(self) -> Addresses:
        """The addresses to connect to, if the member gives them; empty for a name, which needs a look-up."""
        if self.path:
            return ((socket.AF_UNIX, self.path),)
        if self.is_literal:
            return ((socket.AF_INET6 if ":" in self.name else socket.AF_INET, (self.name, self.port)),)
        return ()

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address, which needs no look-up."""
        try:
            ip_address(self.name)
        except ValueError:
            return False
        return True
