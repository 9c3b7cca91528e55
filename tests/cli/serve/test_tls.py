"""TLS from the command line: flags, files, variables, dev-cert, SIGHUP; and errors at the start."""

from __future__ import annotations

import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ...certificates import client_context, encrypt, write, write_authority
from ..conftest import COMMAND, Running

Coserver = Callable[..., subprocess.CompletedProcess[str]]


def port_of(running: Running, scheme: str = "https") -> int:
    port = int(running.wait_for(rf"{scheme}://\S+:(\d+)")[1])
    running.wait_for("Press Ctrl")
    return port


def shown(port: int, context: ssl.SSLContext | None = None) -> bytes | None:
    """The verified certificate that a client gets."""
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        (context or client_context()).wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := secured.recv(65536):
            answer += data
        assert answer.endswith(b"\r\n\r\nok")
        return secured.getpeercert(binary_form=True)


def test_flags(serve: Callable[..., Running], folder: Path, environment: dict[str, str]) -> None:
    """The app's TCP handler speaks TLS too, and its line says so. The key's password comes from the environment."""
    certificate, key = write(folder)
    environment["COSERVER_SSL_KEYFILE_PASSWORD"] = "sesame"
    running = serve("app:app", "--ssl-certfile", certificate, "--ssl-keyfile", encrypt(key, b"sesame"))
    assert shown(port_of(running))
    running.wait_for(r"tls://127\.0\.0\.1:\d+ ")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0


def test_a_renewed_certificate(serve: Callable[..., Running], folder: Path) -> None:
    """SIGHUP reads it again. A broken certificate changes nothing, and is logged."""
    certificate, key = write(folder)
    running = serve("app:app", "--ssl-certfile", certificate, "--ssl-keyfile", key)
    port = port_of(running)
    first = shown(port)
    write(folder, days=77)
    running.signal(signal.SIGHUP)
    running.wait_for("certificates read again")
    second = shown(port)
    assert second != first
    Path(key).write_text("half written")
    running.signal(signal.SIGHUP)
    running.wait_for("the certificates read before stay in use: .*holds no private key")
    assert shown(port) == second
    running.signal(signal.SIGTERM)
    assert running.ended() == 0


def test_a_terminal_that_is_gone(folder: Path, environment: dict[str, str]) -> None:
    """SIGHUP also means a lost terminal. Then no one can stop the server, so it stops."""
    certificate, key = write(folder)
    script = (
        "import os, pty, sys; pid, fd = pty.fork(); pid or os.execvp(sys.argv[1], sys.argv[1:]); "
        "import time; sys.stdin.readline(); os.close(fd); os.waitpid(pid, 0)"
    )
    command = [*COMMAND, "serve", "app:app", "--port", "0", "--ssl-certfile", certificate, "--ssl-keyfile", key]
    said = folder / "said"
    shell = ["/bin/sh", "-c", 'exec "$@" 2>"$0"', str(said), *command]
    with subprocess.Popen(
        [sys.executable, "-c", script, *shell], cwd=folder, env=environment, stdin=subprocess.PIPE
    ) as on:
        assert on.stdin is not None
        try:
            for _ in range(2000):
                if said.exists() and "Press Ctrl" in said.read_text():
                    break
                on.poll() is None or pytest.fail(said.read_text())
                signal.sigtimedwait([], 0.01)
            on.stdin.write(b"\n")
            on.stdin.close()
            assert on.wait(20) == 0
        finally:
            on.kill()


def test_a_file(serve: Callable[..., Running], folder: Path) -> None:
    """A listener may be plain, or have its own certificate with the other values of the top."""
    first, other = write(folder), write(folder, "localhost", stem="other", days=55)
    (folder / "coserver.toml").write_text(f"""
app = "app:app"
[tls]
certfile = "{first[0]}"
keyfile = "{first[1]}"
[[listener]]
name = "main"
port = 0
[[listener]]
name = "plain"
port = 0
tls = false
[[listener]]
name = "strict"
port = 0
[listener.tls]
certfile = ["{other[0]}"]
keyfile = "{other[1]}"
ca_certs = "{write_authority(folder)}"
cert_reqs = "optional"
""")
    running = serve(port=False)
    running.wait_for("Press Ctrl")
    found = [line.split()[0] for line in running.lines if "://127" in line]
    assert [url.partition(":")[0] for url in found] == ["https", "http", "https", "tls"]
    ports = [int(url.rpartition(":")[2]) for url in found]
    assert shown(ports[0]) != shown(ports[2])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--ssl-certfile", "gone.pem"], "TLS cannot be served: gone.pem cannot be read: No such file"),
        (["--ssl-certfile", "{certificate}", "--ssl-keyfile", "{locked}"], "is encrypted; give its password"),
        (["--ssl-keyfile", "{key}"], "--ssl-keyfile: TLS needs a certificate: give certfile"),
        (["--ssl-certfile", "{certificate}", "--ssl-cert-reqs", "required"], "needs ca_certs"),
        (["--ssl-cert-reqs", "maybe"], "may be none, optional, required; got 'maybe'"),
    ],
)
def test_what_is_wrong_is_said(coserver: Coserver, folder: Path, flags: list[str], told: str) -> None:
    certificate, key = write(folder)
    paths = {"certificate": certificate, "key": key}
    paths["locked"] = encrypt(key, b"sesame")
    done = coserver("serve", "app:app", "--port", "0", *(flag.format(**paths) for flag in flags))
    assert done.returncode in (1, 2)
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_file_that_is_wrong(coserver: Coserver, folder: Path) -> None:
    (folder / "coserver.toml").write_text(
        'app = "app:app"\n[tls]\nkeyfile = "a"\ncertfil = "b"\n[[listener]]\nport = 1\ntls = "yes"\n'
    )
    done = coserver("config", "check")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "coserver.toml:4: 'certfil' is no key of [tls]; did you mean certfile?" in said
    assert "coserver.toml:3: TLS needs a certificate" in said
    assert "coserver.toml:7: tls is a table: write [listener.tls] above its keys; got 'yes'" in said


def test_files_are_looked_at_by_check(coserver: Coserver, folder: Path) -> None:
    (folder / "coserver.toml").write_text('app = "app:app"\n[tls]\ncertfile = "gone.pem"\n')
    done = coserver("config", "check")
    assert done.returncode == 1
    assert "gone.pem cannot be read" in " ".join(done.stderr.split())


def test_a_password_is_not_shown(coserver: Coserver, environment: dict[str, str]) -> None:
    environment["COSERVER_SSL_KEYFILE_PASSWORD"] = "sesame"
    environment["COSERVER_SSL_CERTFILE"] = "a.pem"
    for form in ([], ["--json"]):
        done = coserver("config", "show", "--no-import", *form)
        assert "sesame" not in done.stdout + done.stderr
        assert "(secret)" in done.stdout
        assert "a.pem" in done.stdout


def test_dev_cert(coserver: Coserver, serve: Callable[..., Running], folder: Path) -> None:
    """Clients that trust its authority accept it; only the owner can read the key; nothing is overwritten."""
    done = coserver("dev-cert", "--dir", "made")
    assert done.returncode == 0, done.stderr
    made = folder / "made"
    assert stat.S_IMODE((made / "dev-cert.key").stat().st_mode) == 0o600
    running = serve("app:app", "--ssl-certfile", "made/dev-cert.pem", "--ssl-keyfile", "made/dev-cert.key")
    trusting = ssl.create_default_context(cafile=str(made / "dev-cert-ca.pem"))
    assert shown(port_of(running), trusting)
    before = (made / "dev-cert.pem").read_bytes()
    again = coserver("dev-cert", "--dir", "made")
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert (made / "dev-cert.pem").read_bytes() == before
    assert coserver("dev-cert", "--dir", "made", "--force", "my.test", "192.0.2.1").returncode == 0
    assert (made / "dev-cert.pem").read_bytes() != before
    assert coserver("dev-cert", "--dir", "app.py/x").returncode == 1
