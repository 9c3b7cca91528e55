"""The clients of Python's people over TLS: the standard library, httpx, requests, aiohttp; how each ends it."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
import requests

from coserver import App, Server, Tls
from coserver.testing import leak_check, order_check

from ..certificates import client_context, issue, write, write_authority
from .asking import BIG
from .conftest import KINDS, make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(params=KINDS, scope="module")
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    backend, codec = request.param.split("-")
    certificate, key = write(folder)
    app = make()
    tls = Tls(certfile=certificate, keyfile=key)
    with leak_check(), order_check(app), app.start(backend=backend, codec=codec, tls=tls) as server:
        yield server


def test_http_client(server: Server) -> None:
    connection = http.client.HTTPSConnection("localhost", server.port, context=client_context(), timeout=20)
    try:
        for _ in range(3):
            connection.request("POST", "/echo", BIG)
            assert connection.getresponse().read() == BIG
    finally:
        connection.close()


def test_urllib(server: Server) -> None:
    with urllib.request.urlopen(f"https://localhost:{server.port}/", context=client_context(), timeout=20) as answer:
        assert answer.read() == b"hello"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name)
def test_a_socket_that_ends_in_order(server: Server, version: ssl.TLSVersion) -> None:
    """``unwrap`` waits for the server's close-notify, which comes."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as plain:
        secured = client_context(version=version).wrap_socket(plain, server_hostname="localhost")
        secured.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert secured.recv(9) == b"HTTP/1.1 "
        while not secured.recv(65536).endswith(b"hello"):
            pass
        secured.unwrap().close()


def test_httpx(server: Server) -> None:
    with httpx.Client(verify=client_context(), timeout=20) as client:
        assert client.post(f"https://localhost:{server.port}/echo", content=BIG).content == BIG
        assert client.get(f"https://localhost:{server.port}/").text == "hello"


def test_requests(server: Server, folder: Path) -> None:
    with requests.Session() as session:
        session.verify = write_authority(folder)
        session.trust_env = False
        for _ in range(2):
            assert session.get(f"https://localhost:{server.port}/big", timeout=20).content == BIG


def test_aiohttp(server: Server) -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            url = f"https://localhost:{server.port}/echo"
            async with session.post(url, data=io.BytesIO(BIG), ssl=client_context()) as answer:
                assert await answer.read() == BIG

    anyio.run(ask)


def test_a_client_certificate(folder: Path) -> None:
    certificate, key = write(folder)
    app = App()

    @app.get("/")
    def whoami(request: Any) -> dict[str, Any]:
        return {"name": request.tls.peer_name, "names": request.tls.peer_names, "der": len(request.tls.certificate_der)}

    made = Tls(certfile=certificate, keyfile=key, ca_certs=write_authority(folder))
    context = client_context(shows=issue("ada@mail.example", "host.example", common_name="Ada"))
    with leak_check(), app.start(tls=made) as server, httpx.Client(verify=context) as client:
        found = client.get(f"https://localhost:{server.port}/").json()
        assert found["name"] == "Ada"
        assert sorted(found["names"]) == ["ada@mail.example", "host.example"]
        assert found["der"] > 100
