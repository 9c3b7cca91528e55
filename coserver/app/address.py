"""Where a server listens, and where a person clicks to reach it: the same for one of this process and of another."""

from __future__ import annotations

from dataclasses import dataclass, field

_OVER_TLS = {"http": "https", "tcp": "tls"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where one listener listens. ``name`` is its own, "http" or the TCP handler's; ``serves`` says what answers there.

    ``path`` is a UNIX socket's, else "".
    """

    name: str
    protocol: str
    host: str
    port: int
    path: str = ""
    serves: str = field(default="", compare=False)
    tls: bool = False

    @property
    def scheme(self) -> str:
        """http, https, tcp, or tls for TCP that speaks it."""
        return _OVER_TLS[self.protocol] if self.tls else self.protocol

    @property
    def url(self) -> str:
        """What a client on this machine opens."""
        if self.path:
            return f"{self.scheme}+unix:{self.path}"
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


class Addressed:
    """What has a name and listens."""

    name: str
    addresses: tuple[Address, ...]

    @property
    def running(self) -> bool:
        """False once it has ended."""
        raise NotImplementedError

    @property
    def address(self) -> Address:
        """The first listener's: HTTP if there is any."""
        return self.addresses[0]

    @property
    def url(self) -> str:
        """What a client on this machine opens: that of the first listener, which was named first."""
        return self.address.url

    @property
    def public_url(self) -> str:
        """What a person clicks in the notebook: through JupyterHub's proxy if there is one, else ``url``."""
        return self.public_url_of(self.address)

    def public_url_of(self, address: Address) -> str:
        """The same of another listener."""
        from .clicking import click_url

        return click_url(address)

    @property
    def host(self) -> str:
        """The first listener's address."""
        return self.address.host

    @property
    def port(self) -> int:
        """The first listener's port: the one that was taken, where 0 was asked for."""
        return self.address.port

    def port_of(self, name: str) -> int:
        """The port of a listener by its name: "http", or a TCP handler's name. Raises KeyError."""
        for address in self.addresses:
            if address.name == name:
                return address.port
        raise KeyError(f"no listener is named {name!r}; there are {', '.join(a.name for a in self.addresses)}")
