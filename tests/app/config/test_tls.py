"""Tls: what it is made of is checked when it is made, what must go together when an app starts."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from coserver import App, SetupError, Tls

from ...certificates import encrypt, write, write_authority


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"certfile": ""}, "certfile must be a file's path"),
        ({"certfile": ["a", 3]}, "certfile must be a file's path"),
        ({"keyfile": "a\0b"}, "keyfile must be a file's path"),
        ({"ca_certs": 3}, "ca_certs must be a text"),
        ({"cert_reqs": "sometimes"}, "cert_reqs must be none, optional, required; got 'sometimes'"),
        ({"min_version": "1.1"}, r"min_version must be 1\.2 or 1\.3; got '1\.1'"),
        ({"keyfile_password": b"secret"}, "keyfile_password must be a text; got something else"),
    ],
)
def test_nonsense(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SetupError, match=told):
        Tls(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "TLS needs a certificate: give certfile"),
        ({"keyfile": "a.key"}, "TLS needs a certificate: give certfile, not keyfile alone"),
        ({"certfile": ["a", "b"], "keyfile": "a.key"}, "2 certfile and 1 keyfile are given"),
        ({"certfile": "a", "cert_reqs": "required"}, "'required' needs ca_certs"),
    ],
)
def test_what_goes_together(given: dict[str, Any], told: str) -> None:
    for start in (
        lambda: App().start(tls=Tls(**given)),
        lambda: App().listen(port=0, tls=Tls(**given)),
        lambda: App().tcp(tls=Tls(**given)),
    ):
        with pytest.raises(SetupError, match=told):
            start()


def test_it_is_a_tls() -> None:
    for start in (
        lambda: App().start(tls="site.pem"),  # type: ignore[arg-type]
        lambda: App().listen(port=0, tls=True),
        lambda: App().start(tls=False),  # type: ignore[arg-type]
    ):
        with pytest.raises(SetupError, match="tls must be a Tls"):
            start()


def test_files_are_read_at_start(tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    with pytest.raises(SetupError, match=r"TLS cannot be served: .*gone cannot be read"):
        App().start(tls=Tls(certfile=str(tmp_path / "gone"), keyfile=key))
    with pytest.raises(SetupError, match="does not open the key"):
        App().start(tls=Tls(certfile=certificate, keyfile=encrypt(key, b"a"), keyfile_password="b"))


def test_names_of_the_standard_library(tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    made = Tls(certfile=certificate, keyfile=key, ca_certs=write_authority(tmp_path), cert_reqs=ssl.CERT_OPTIONAL)  # type: ignore[arg-type]
    assert made.cert_reqs == "optional"
    assert made.load().loaded.first.verify_mode is ssl.CERT_OPTIONAL
    assert (
        Tls(certfile=certificate, keyfile=key, ca_certs=made.ca_certs).load().loaded.first.verify_mode
        is ssl.CERT_REQUIRED
    )


def test_how_strict(tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    context = Tls(certfile=certificate, keyfile=key, min_version="1.3", ciphers="ECDHE+AESGCM").load().loaded.first
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert all("GCM" in one["name"] or one["protocol"] == "TLSv1.3" for one in context.get_ciphers())


def test_a_password_is_not_shown() -> None:
    assert "sesame" not in repr(Tls(certfile="a", keyfile_password="sesame"))


def test_one_server_shares_its_certificates(tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    app = App()
    app.get("/")(lambda: "ok")
    app.listen(port=0, name="second")
    with app.start(tls=Tls(certfile=certificate, keyfile=key)) as server:
        first, second = (one.certificates for one in server._services)
        assert first is second
        assert server.has_certificates
        before = first.loaded  # type: ignore[union-attr]
        server.reload_certificates()
        assert first.loaded is not before  # type: ignore[union-attr]
    with App().start() as server:
        assert not server.has_certificates
        server.reload_certificates()


def test_a_plain_server_after_one_with_tls(tmp_path: Path) -> None:
    """The place is taken over, what is spoken there is not."""
    certificate, key = write(tmp_path)

    def make() -> App:
        app = App("over")
        app.get("/")(lambda request: request.scheme)
        return app

    with make().start(tls=Tls(certfile=certificate, keyfile=key)) as first, make().start() as second:
        assert first.url.startswith("https://")
        assert second.url == f"http://127.0.0.1:{first.port}"
