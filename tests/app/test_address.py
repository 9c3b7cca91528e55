"""Where a person clicks: through the notebook's proxy where there is one, and only what that carries."""

from __future__ import annotations

import pytest

from coserver.app.address import click_url
from coserver.app.server import Address

HERE = Address("http", "http", "127.0.0.1", 8123)


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8123"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}, "/user/ada/proxy/8123/"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/"}, "/proxy/8123/"),
        ({"JUPYTERHUB_SERVICE_PREFIX": ""}, "http://127.0.0.1:8123"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "javascript:x"}, "http://127.0.0.1:8123"),
        ({"VSCODE_PROXY_URI": "https://code.example/proxy/{{port}}/"}, "https://code.example/proxy/8123/"),
        ({"VSCODE_PROXY_URI": "https://code.example/"}, "http://127.0.0.1:8123"),
        ({"COSERVER_PROXY_URI": "/p/{port}/", "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}, "/p/8123/"),
    ],
)
def test_the_way_through_a_proxy(environment: dict[str, str], url: str) -> None:
    assert click_url(HERE, environment) == url


@pytest.mark.parametrize(
    "address",
    [
        Address("http", "http", "127.0.0.1", 8123, tls=True),
        Address("echo", "tcp", "127.0.0.1", 8123),
        Address("http", "http", "", 0, "/run/x.sock"),
    ],
)
def test_what_no_proxy_carries_has_its_own_url(address: Address) -> None:
    assert click_url(address, {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}) == address.url
