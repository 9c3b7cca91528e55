"""openssl s_client: versions, names, key updates, renegotiation, resumption; a client that does as it is told."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coserver import App, Server, Tls
from coserver.testing import leak_check, order_check

from ..certificates import write, write_authority

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    app = App()

    @app.get("/")
    async def tell(request: Any) -> str:
        tls = request.tls
        return f"{tls.version} {tls.server_name or '-'} {'resumed' if tls.resumed else 'new'}"

    @app.tcp(framing="lines", name="lines")
    async def echo(connection: Any) -> None:
        async for line in connection:
            await connection.send(line.upper())

    certificate, key = write(folder)
    other, other_key = write(folder, "shop.example", stem="shop")
    tls = Tls(certfile=[certificate, other], keyfile=[key, other_key])
    with leak_check(), order_check(app), app.start(tls=tls, backend=request.param) as server:
        yield server


def s_client(port: int, *flags: str, said: bytes = b"") -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *flags]
    done = subprocess.run(command, input=said, capture_output=True, timeout=20, check=False)
    return (done.stdout + done.stderr).decode("latin-1")


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("version", ["2", "3"])
def test_versions_names_and_the_chain(server: Server, folder: Path, version: str) -> None:
    trust = ("-CAfile", write_authority(folder), "-verify_return_error")
    out = s_client(server.port, f"-tls1_{version}", "-servername", "shop.example", *trust, "-ign_eof", said=REQUEST)
    assert f"TLSv1.{version} shop.example new" in out
    assert "Verify return code: 0 (ok)" in out
    assert "verify error" not in out


def test_alpn(server: Server) -> None:
    assert "ALPN protocol: http/1.1" in s_client(server.port, "-alpn", "h2,http/1.1", "-ign_eof", said=REQUEST)
    assert "No ALPN negotiated" in s_client(server.port, "-alpn", "h2", "-ign_eof", said=REQUEST)


def test_no_name(server: Server) -> None:
    assert "TLSv1.3 - new" in s_client(server.port, "-noservername", "-ign_eof", said=REQUEST)


@pytest.mark.parametrize("version", ["2", "3"])
def test_resumption(server: Server, tmp_path: Path, version: str) -> None:
    session = str(tmp_path / "session")
    flags = (f"-tls1_{version}", "-servername", "localhost", "-ign_eof")
    assert "localhost new" in s_client(server.port, *flags, "-sess_out", session, said=REQUEST)
    assert "localhost resumed" in s_client(server.port, *flags, "-sess_in", session, said=REQUEST)


def test_key_updates(server: Server) -> None:
    """K asks for new keys on both sides, in the middle of a conversation; nothing is lost."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port_of('lines')}", "-tls1_3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as talk:
        assert talk.stdin is not None
        for said, awaited in (
            (b"one", b"ONE"),
            (b"K", b"KEYUPDATE"),
            (b"two", b"TWO"),
            (b"k", b"KEYUPDATE"),
            (b"x", b"X"),
        ):
            talk.stdin.write(said + b"\n")
            talk.stdin.flush()
            assert talk.stdout is not None
            while line := talk.stdout.readline():
                if line.strip() == awaited:
                    break
            assert line, awaited
        talk.stdin.write(b"Q\n")
        talk.stdin.flush()
        assert talk.wait(10) == 0


def test_renegotiation_is_refused(server: Server) -> None:
    out = s_client(server.port, "-tls1_2", said=b"R\n" + REQUEST)
    assert "RENEGOTIATING" in out
    assert "no renegotiation" in out or "alert" in out


def test_old_versions(server: Server) -> None:
    out = s_client(server.port, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert "alert protocol version" in out
