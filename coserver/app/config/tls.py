"""The TLS settings of a listener: certificates and keys, client certificates, ciphers and versions."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, fields

from ...field import option
from ...keywords import checked_fields
from ...server.handler.errors import SetupError
from ...transport.certificates import REQUIREMENTS, VERSIONS, CertificateError, Certificates, Files


@checked_fields("Tls", cert="certfile", key="keyfile", password="keyfile_password", ca="ca_certs")
@dataclass(frozen=True, kw_only=True)
class Tls:
    """The certificates of a listener, and its rules for those of clients. Raises SetupError.

    ``Tls(certfile="site.pem", keyfile="site.key")``; several certificates: ``certfile=["a.pem", "b.pem"]``.

    The files are read when the server starts, and again when they change or by ``Server.reload_certificates``.
    """

    certfile: Sequence[str] = option(
        (),
        "PEM files, each a certificate and its chain; the one for the requested host name is used, or else the first",
    )
    keyfile: Sequence[str] = option(
        (), "the private key of each, in the same order; not needed if the certificates' files hold them"
    )
    keyfile_password: str | None = option(
        None,
        "the password of the keys; set it by its variable: every user of the machine can read a flag",
        secret=True,
    )
    ca_certs: str | None = option(
        None, "a PEM file, or a folder, of the authorities whose client certificates are accepted"
    )
    cert_reqs: str | None = option(
        None,
        "whether clients must show a certificate: none, optional or required; required if ca_certs is given",
        of=tuple(REQUIREMENTS),
    )
    ciphers: str | None = option(
        None, "the ciphers of TLS 1.2, as OpenSSL lists them (ECDHE+AESGCM); Python's own choice if not given"
    )
    min_version: str = option("1.2", "the lowest TLS version that is accepted", of=tuple(VERSIONS))

    def __post_init__(self) -> None:
        for name in ("certfile", "keyfile"):
            value = getattr(self, name)
            paths = (value,) if isinstance(value, str) else tuple(value)
            if not all(isinstance(path, str) and path and "\0" not in path for path in paths):
                raise SetupError(f"{name} must be a file's path, or a list of them; got {value!r}")
            object.__setattr__(self, name, paths)
        for name in ("keyfile_password", "ca_certs", "ciphers"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                shown = "something else" if name == "keyfile_password" else repr(value)
                raise SetupError(f"{name} must be a text; got {shown}")
        numbers = {ssl.CERT_NONE: "none", ssl.CERT_OPTIONAL: "optional", ssl.CERT_REQUIRED: "required"}
        if isinstance(self.cert_reqs, int) and self.cert_reqs in numbers:  # the constants of ssl, which uvicorn takes
            object.__setattr__(self, "cert_reqs", numbers[ssl.VerifyMode(self.cert_reqs)])
        if self.cert_reqs is not None and self.cert_reqs not in REQUIREMENTS:
            raise SetupError(f"cert_reqs must be {', '.join(REQUIREMENTS)}; got {self.cert_reqs!r}")
        if self.min_version not in VERSIONS:
            raise SetupError(f"min_version must be {' or '.join(VERSIONS)}; got {self.min_version!r}")

    def check(self) -> None:
        """Check the fields that depend on each other. Raises SetupError."""
        if not self.certfile:
            given = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
            raise SetupError(f"TLS needs a certificate: give certfile{f', not {given[0]} alone' if given else ''}")
        if self.keyfile and len(self.keyfile) != len(self.certfile):
            raise SetupError(
                f"each certificate has its key, in the same order: {len(self.certfile)} certfile and "
                f"{len(self.keyfile)} keyfile are given"
            )
        if self.cert_reqs in ("optional", "required") and not self.ca_certs:
            raise SetupError(f"cert_reqs {self.cert_reqs!r} needs ca_certs: the authorities that are trusted")

    def load(self, alpn: Sequence[str] = ()) -> Certificates:
        """Read the files. Raises SetupError."""
        self.check()
        files = Files(
            certificates=tuple(self.certfile),
            keys=tuple(self.keyfile),
            password=self.keyfile_password,
            authorities=self.ca_certs,
            clients=self.cert_reqs or ("required" if self.ca_certs else "none"),
            ciphers=self.ciphers,
            least=self.min_version,
            alpn=tuple(alpn),
        )
        try:
            return Certificates(files)
        except CertificateError as error:
            raise SetupError(f"TLS cannot be served: {error}") from None
