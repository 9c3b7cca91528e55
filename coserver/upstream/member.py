"""Where an upstream's members are: an address as it is written, and what follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

_match_url = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#@\s]+)/?").fullmatch
_HOST = r"\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+)"
_split_authority = re.compile(rf"(?:{_HOST})(?::(?P<port>[0-9]{{1,5}}))?").fullmatch

#: Scheme to default port.
SCHEMES: dict[str, int] = {"http": 80}


@dataclass(frozen=True, slots=True)
class Member:
    """``address`` is a URL without a path, "http://10.0.0.1:8080"; of ``weight`` 2 it gets twice the requests of 1.

    Raises ValueError.
    """

    address: str
    weight: int = 1
    scheme: str = field(init=False, compare=False)
    name: str = field(init=False, compare=False)  # of the host, or its address
    port: int = field(init=False, compare=False)
    authority: str = field(init=False, compare=False)  # as Host says it

    def __post_init__(self) -> None:
        match = _match_url(self.address)
        parts = _split_authority(match["authority"]) if match else None
        if match is None or parts is None:
            raise ValueError(f"a member is a URL without a path, 'http://127.0.0.1:8080'; got {self.address!r}")
        if match["scheme"] not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise ValueError(f"a member's scheme is one of {known}; got {self.address!r}")
        if not match["authority"].isascii():
            raise ValueError(f"a member's name is ASCII: write its IDNA form, 'xn--...'; got {self.address!r}")
        if isinstance(self.weight, bool) or not isinstance(self.weight, int) or self.weight < 1:
            raise ValueError(f"a member's weight is a whole number from 1; got {self.weight!r}")
        port = int(parts["port"] or SCHEMES[match["scheme"]])
        if not 0 < port < 65536:
            raise ValueError(f"a port is from 1 to 65535; got {self.address!r}")
        object.__setattr__(self, "scheme", match["scheme"])
        object.__setattr__(self, "name", parts["six"] or parts["name"])
        object.__setattr__(self, "port", port)
        object.__setattr__(self, "authority", match["authority"])

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address, which nobody needs to be asked for."""
        try:
            ip_address(self.name)
        except ValueError:
            return False
        return True
