"""Where a person clicks to reach a server: its own URL, or the path through the proxy in front of the notebook.

JupyterHub, Binder and others run jupyter-server-proxy, which serves every local port below ``proxy/PORT/``; code-server
and its kin say their pattern in ``VSCODE_PROXY_URI``. ``COSERVER_PROXY_URI``, with ``{port}`` in it, is for all else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .address import Address

#: Variables with a pattern, the first one counts; code-server writes ``{{port}}``.
PATTERNS = ("COSERVER_PROXY_URI", "VSCODE_PROXY_URI")
HUB = "JUPYTERHUB_SERVICE_PREFIX"


def click_url(address: Address, environment: Mapping[str, str] = os.environ) -> str:
    """A URL, or a path on the notebook's own host. What is no plain HTTP has its own URL: proxies do not carry it."""
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
