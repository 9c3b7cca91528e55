"""Where an app listens: UNIX sockets, IPv6, both families of localhost, every address, TCP beside HTTP."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from coserver import App, SetupError
from coserver.app.server import Address
from tests.ipv6 import needs_ipv6

from .get import TIMEOUT, get, get_from, say


def test_a_unix_socket(app: App, tmp_path: Path, backend: str) -> None:
    path = tmp_path / "shop.sock"
    with app.start(uds=str(path), backend=backend) as server:
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert server.url == f"http+unix:{path}"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            assert client.recv(1000).endswith(b"\r\n\r\nok")
    assert not path.exists()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_on_a_unix_socket(app: App, tmp_path: Path) -> None:
    path = str(tmp_path / "shop.sock")
    command = ["curl", "-sS", "--max-time", "10", "--unix-socket", path, "http://shop/", "http://shop/plain"]
    with app.start(uds=path):
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"okplain"


def test_a_socket_file_that_nobody_listens_on_is_replaced(app: App, tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with app.start(uds=str(path)) as server:
        assert server.running


def test_any_other_file_is_left_alone(app: App, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        app.start(uds=str(path))
    assert path.read_text() == "precious"


def test_a_unix_socket_in_use(app: App, tmp_path: Path) -> None:
    path = str(tmp_path / "used.sock")
    with socket.socket(socket.AF_UNIX) as used:
        used.bind(path)
        used.listen()
        with pytest.raises(OSError, match="is taken by another process"):
            app.start(uds=path)


@needs_ipv6
def test_ipv6(app: App, backend: str) -> None:
    with app.start(host="::1", backend=backend) as server:
        assert server.url == f"http://[::1]:{server.port}"
        assert get(server) == (200, "ok")


@needs_ipv6
@pytest.mark.skipif(
    socket.AF_INET6 not in {found[0] for found in socket.getaddrinfo("localhost", 80)}, reason="localhost is IPv4 here"
)
def test_localhost_is_both_families(app: App) -> None:
    with app.start(host="localhost") as server:
        assert server.url == f"http://localhost:{server.port}"
        assert get_from(server.port, host="127.0.0.1") == (200, "ok")
        assert get_from(server.port, host="::1") == (200, "ok")


def test_every_address(app: App) -> None:
    with app.start(host="0.0.0.0") as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert get_from(server.port) == (200, "ok")


@needs_ipv6
@pytest.mark.parametrize("host", ["::", "127.0.0.1, ::1"])
def test_both_families(app: App, host: str, backend: str) -> None:
    with app.start(host=host, backend=backend) as server:
        for place in ("127.0.0.1", "::1"):
            assert get_from(server.port, host=place) == (200, "ok")
        assert f":{server.port}" in server.url
        with App(app.name).start(host=host) as again:
            assert again.port == server.port


def test_several_hosts_have_a_url_each(app: App) -> None:
    address = Address("http", "http", "127.0.0.1, ::1", 80)
    assert address.url == "http://127.0.0.1:80"
    assert address.urls == ["http://127.0.0.1:80", "http://[::1]:80"]
    assert Address("http", "http", "", 0, "/run/s").urls == ["http+unix:/run/s"]
    with pytest.raises(SetupError, match="several with commas between them"):
        app.start(host="127.0.0.1,")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
        ("shop.example", "http://shop.example:80"),
    ],
)
def test_a_url_can_be_opened(host: str, url: str) -> None:
    assert Address("http", "http", host, 80).url == url


def test_tcp_beside_http_on_an_address_of_its_own(app: App) -> None:
    @app.tcp(host="127.0.0.1", framing="lines", name="echo")
    async def echo(connection):  # type: ignore[no-untyped-def]
        async for line in connection:
            await connection.send(line)

    with app.start(host="localhost") as server:
        assert [address.name for address in server.addresses] == ["http", "echo"]
        assert get(server) == (200, "ok")
        assert say(server.port_of("echo"), b"hello") == b"hello"
        assert "echo" in server._repr_mimebundle_()["text/html"]
        assert server.url in repr(server)
