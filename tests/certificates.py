"""Certificates for the tests, made when they are asked for and signed by an authority of each process's own."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import trustme


@cache
def authority(name: str = "ours") -> trustme.CA:
    """One whom clients trust; any other name is another one."""
    return trustme.CA(organization_name=f"authority {name}")


@cache
def issue(*names: str, by: str = "ours", days: int = 30, common_name: str | None = None) -> trustme.LeafCert:
    """A certificate and its key. ``days`` below 0: expired so long ago."""
    return authority(by).issue_cert(
        *names,
        common_name=common_name,
        not_before=datetime.now(UTC) - timedelta(days=100),
        not_after=datetime.now(UTC) + timedelta(days=days),
    )


def write(folder: Path, *names: str, stem: str = "cert", **options: Any) -> tuple[str, str]:
    """The files of a certificate with its chain and of its key."""
    leaf = issue(*(names or ("localhost", "127.0.0.1")), **options)
    chain, key = folder / f"{stem}.pem", folder / f"{stem}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return str(chain), str(key)


def write_authority(folder: Path, name: str = "ours") -> str:
    path = folder / f"authority-{name}.pem"
    authority(name).cert_pem.write_to_path(str(path))
    return str(path)


def encrypt(key: str, password: bytes) -> str:
    """The same key, encrypted, in another file."""
    from cryptography.hazmat.primitives import serialization as to

    plain = to.load_pem_private_key(Path(key).read_bytes(), None)
    form = (to.Encoding.PEM, to.PrivateFormat.PKCS8, to.BestAvailableEncryption(password))
    path = Path(key).with_suffix(".encrypted.key")
    path.write_bytes(plain.private_bytes(*form))
    return str(path)


def server_context(*names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issue(*(names or ("localhost", "127.0.0.1")), **options).configure_cert(context)
    return context


def client_context(
    *, trusts: str = "ours", shows: trustme.LeafCert | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A client's, which trusts our authority; ``version`` is the only one it speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority(trusts).configure_trust(context)
    if shows is not None:
        shows.configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context
