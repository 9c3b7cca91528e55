"""The address of a listener: the URL for a client, and the link for a person who reads it in a notebook.

Between a notebook and the server there may be a proxy. JupyterHub, Binder and others run jupyter-server-proxy, which
serves each local port below ``proxy/PORT/``. code-server and its relatives publish a pattern in ``VSCODE_PROXY_URI``.
Any other proxy can be named in ``COSERVER_PROXY_URI``, with ``{port}`` in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Variables that may hold a pattern, in order of precedence. code-server writes ``{{port}}``.
PATTERNS = ("COSERVER_PROXY_URI", "VSCODE_PROXY_URI")
#: The variable that JupyterHub sets: the path of the person's own notebook server.
HUB = "JUPYTERHUB_SERVICE_PREFIX"

_OVER_TLS = {"http": "https", "tcp": "tls"}


@dataclass(frozen=True, slots=True)
class Address:
    """The address of one listener. ``name`` is the listener's: "http", or the name of the TCP handler.

    ``path`` is that of a UNIX socket, else "". ``serves`` tells people what answers there.
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
        """http, https, tcp, or tls for TCP over TLS."""
        return _OVER_TLS[self.protocol] if self.tls else self.protocol

    @property
    def url(self) -> str:
        """The URL for a client on this machine."""
        if self.path:
            return f"{self.scheme}+unix:{self.path}"
        return self._url_at(self.hosts[0])

    @property
    def hosts(self) -> list[str]:
        """The addresses and names that ``host`` lists."""
        return [one.strip() for one in self.host.split(",")]

    @property
    def urls(self) -> list[str]:
        """The URL at each of ``hosts``."""
        return [self.url] if self.path else [self._url_at(one) for one in self.hosts]

    def _url_at(self, host: str) -> str:
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


class Addressed:
    """The base of Server and IsolatedServer: a name, and the addresses of the listeners."""

    name: str
    addresses: tuple[Address, ...]

    @property
    def running(self) -> bool:
        """False once the server has ended."""
        raise NotImplementedError

    @property
    def address(self) -> Address:
        """The first listener's address: the HTTP listener's, if there is one."""
        return self.addresses[0]

    @property
    def url(self) -> str:
        """The URL of the first listener, for a client on this machine."""
        return self.address.url

    @property
    def public_url(self) -> str:
        """The link for a notebook: through JupyterHub's proxy if there is one, else ``url``."""
        return self.public_url_of(self.address)

    def public_url_of(self, address: Address) -> str:
        """``public_url`` for another listener."""
        return click_url(address)

    @property
    def host(self) -> str:
        """The first listener's host."""
        return self.address.host

    @property
    def port(self) -> int:
        """The first listener's port; the one that the system chose, if 0 was asked for."""
        return self.address.port

    def port_of(self, name: str) -> int:
        """The port of the listener with this name: "http", or the name of a TCP handler. Raises KeyError."""
        for address in self.addresses:
            if address.name == name:
                return address.port
        raise KeyError(f"no listener is named {name!r}; there are {', '.join(a.name for a in self.addresses)}")


def click_url(address: Address, environment: Mapping[str, str] = os.environ) -> str:
    """A URL, or a path on the notebook's host. Proxies carry plain HTTP alone: other listeners have their own URL."""
    if address.scheme != "http" or address.path:
        return address.url
    pattern, _ = proxy_pattern(environment)
    return pattern.replace("{port}", str(address.port)) if pattern else address.url


def proxy_pattern(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The pattern with ``{port}`` in it, and the variable that it comes from; "" and "" without a proxy."""
    for name in PATTERNS:
        pattern = environment.get(name, "").replace("{{port}}", "{port}")
        if "{port}" in pattern:
            return pattern, name
    prefix = environment.get(HUB, "")
    return (f"{prefix.rstrip('/')}/proxy/{{port}}/", HUB) if prefix.startswith("/") else ("", "")
