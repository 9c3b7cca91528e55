"""curl over TLS: what people type first; by name, with certificates of clients, and with the wrong scheme."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver import App, Request, Server, Tls
from coserver.testing import leak_check, order_check

from ..certificates import write, write_authority
from .asking import BIG
from .conftest import KINDS, make

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def curl(*arguments: str, code: int = 0) -> bytes:
    """What it prints, of both kinds; ``code`` is how it must end."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == code, (done.returncode, done.stderr.decode())
    return done.stdout + done.stderr


def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """An alert is the client's last word: it may have ended before the server has read it."""
    until = time.monotonic() + 5
    while text not in caplog.text:
        assert time.monotonic() < until, caplog.text
        time.sleep(0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(params=KINDS, scope="module")
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    """Two certificates; clients may show one."""
    backend, codec = request.param.split("-")
    first, other = write(folder), write(folder, "shop.example", stem="shop")
    tls = Tls(
        certfile=[first[0], other[0]],
        keyfile=[first[1], other[1]],
        ca_certs=write_authority(folder),
        cert_reqs="optional",
    )
    app = make()

    @app.get("/tls")
    def tell(request: Request) -> str:
        assert request.tls is not None
        return f"{request.scheme} {request.tls.version} {request.tls.server_name} {request.tls.peer_name or 'nobody'}"

    with leak_check(), order_check(app), app.start(backend=backend, codec=codec, tls=tls) as server:
        yield server


@pytest.fixture
def trusting(folder: Path) -> tuple[str, str]:
    return "--cacert", write_authority(folder)


def test_keep_alive_and_alpn(server: Server, trusting: tuple[str, str]) -> None:
    url = f"https://localhost:{server.port}"
    out = curl(*trusting, "--verbose", url + "/plain/1", url + "/plain/2").decode()
    assert out.startswith('{"number":1}{"number":2}')
    assert "ALPN: server accepted http/1.1" in out
    assert out.count("SSL connection using") == 1


@pytest.mark.parametrize("version", ["2", "3"])
def test_versions(server: Server, trusting: tuple[str, str], version: str) -> None:
    flags = (f"--tlsv1.{version}", "--tls-max", f"1.{version}")
    out = curl(*trusting, *flags, f"https://localhost:{server.port}/tls")
    assert out == f"https TLSv1.{version} localhost nobody".encode()


def test_too_old(server: Server, trusting: tuple[str, str]) -> None:
    flags = ("--tlsv1.1", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    curl(*trusting, *flags, f"https://localhost:{server.port}/", code=35)


def test_large_ones(server: Server, trusting: tuple[str, str], tmp_path: Path) -> None:
    url = f"https://localhost:{server.port}"
    assert curl(*trusting, url + "/big") == BIG
    body = tmp_path / "body"
    body.write_bytes(BIG)
    assert curl(*trusting, "--data-binary", f"@{body}", url + "/echo") == BIG


def test_a_name(server: Server, trusting: tuple[str, str]) -> None:
    to = ("--connect-to", f"::127.0.0.1:{server.port}")
    assert curl(*trusting, *to, "https://shop.example/tls") == b"https TLSv1.3 shop.example nobody"
    assert b"no alternative certificate subject name" in curl(*trusting, *to, "https://other.example/", code=60)
    # An address is no name to ask for.
    assert curl(*trusting, f"https://127.0.0.1:{server.port}/tls") == b"https TLSv1.3  nobody"


def test_a_client_certificate(server: Server, trusting: tuple[str, str], folder: Path) -> None:
    certificate, key = write(folder, "ada@mail.example", stem="ada", common_name="Ada")
    url = f"https://localhost:{server.port}/tls"
    out = curl(*trusting, "--cert", certificate, "--key", key, url)
    assert out == b"https TLSv1.3 localhost Ada"
    certificate, key = write(folder, "eve@mail.example", stem="eve", by="theirs")
    curl(*trusting, "--cert", certificate, "--key", key, url, code=56)


def test_not_trusted(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    curl(f"https://localhost:{server.port}/", code=60)
    until_logged(caplog, "the peer refused our certificate: it does not trust who signed it")


def test_the_wrong_scheme(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Both ways round it is over at once, and the log says whose mistake it was."""
    out = curl("--include", f"http://localhost:{server.port}/")
    assert out.startswith(b"HTTP/1.1 400 ")
    assert b"use https://" in out
    assert "the client spoke plain HTTP" in caplog.text
    app = App()
    app.get("/")(lambda: "ok")
    with app.start() as plain:
        curl(f"https://localhost:{plain.port}/", code=35)
    until_logged(caplog, "this is a TLS handshake, and the port speaks plain HTTP")


def test_certificates_of_everybody_but_one(
    folder: Path, trusting: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Required: who shows none hears so, and so does the log."""
    certificate, key = write(folder)
    app = App()
    app.get("/")(lambda request: request.tls.peer_name)
    made = Tls(certfile=certificate, keyfile=key, ca_certs=write_authority(folder))
    with leak_check(), app.start(tls=made) as strict:
        url = f"https://localhost:{strict.port}/"
        assert b"certificate required" in curl(*trusting, url, code=56)
        until_logged(caplog, "the peer showed no certificate, and one is required")
        shown = write(folder, "bob@mail.example", stem="bob", common_name="Bob")
        assert curl(*trusting, "--cert", shown[0], "--key", shown[1], url) == b"Bob"
