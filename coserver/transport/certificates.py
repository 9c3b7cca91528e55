"""A listener's certificates: read from files, chosen by the name that a client asks for, read again when renewed.

A set of certificates is loaded completely or not at all, and replaces the old set in one step. Open connections keep
their old certificates. A file that is half written is tried again at the next check.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ..protocol.x509 import Certificate
from .tls_engine import NamedObject, TlsEngine

log = logging.getLogger("coserver.transport")

#: Policies for client certificates, and OpenSSL's names for them.
REQUIREMENTS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
#: The choices for the lowest version. Older versions are broken (RFC 8996).
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: A certificate that expires this soon is reported at each start. Those of Let's Encrypt are renewed 30 days before.
_SOON = timedelta(days=7)
#: Bytes; a chain has 5,000.
_LARGEST = 1 << 20


class CertificateError(ValueError):
    """Files that no TLS server can use. The message says which file, why, and the way out."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files and options of a listener's TLS; ``app.config.tls.Tls`` describes them. ``alpn`` lists protocols."""

    certificates: Sequence[str]
    keys: Sequence[str]
    password: str | None = field(repr=False, default=None)
    authorities: str | None = None
    clients: str = "none"
    ciphers: str | None = None
    least: str = "1.2"
    alpn: Sequence[str] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of a certificate's file and its key's file, which is the same unless another is named."""
        return list(zip(self.certificates, self.keys or self.certificates, strict=True))

    @property
    def paths(self) -> list[str]:
        return [*dict.fromkeys([*self.certificates, *self.keys, *([self.authorities] if self.authorities else [])])]


@dataclass(frozen=True, slots=True)
class Loaded:
    """One loaded set: SSL contexts by name, and the first certificate's for all other names. ``until``: the first
    expiry.
    """

    first: ssl.SSLContext
    by_name: dict[str, ssl.SSLContext]
    until: datetime

    def find(self, name: str) -> ssl.SSLContext:
        """The context for the name itself, else for all names of its domain (RFC 6125 §6.4.3), else the first."""
        name = name.lower().rstrip(".")
        return self.by_name.get(name) or self.by_name.get(f"*.{name.partition('.')[2]}") or self.first


class Certificates:
    """Makes the TLS engine of each connection. Raises CertificateError. ``reload`` may be called from any thread."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._tried = self._stamp()
        self.loaded = self._load()

    def __repr__(self) -> str:
        return f"<Certificates {', '.join(self.files.certificates)} until {self.loaded.until:%Y-%m-%d}>"

    def engine(self) -> TlsEngine:
        """The engine for a new connection."""
        return TlsEngine(self.loaded.first, server_side=True)

    def reload(self) -> None:
        """Read the files again. Raises CertificateError, and then nothing changes."""
        self._tried = self._stamp()
        self.loaded = self._load()
        log.info("certificates read again: %s, valid until %s", ", ".join(self.files.certificates), self.loaded.until)

    def reload_if_changed(self) -> None:
        """Read the files again if they changed since the last check. Errors are logged."""
        if self._stamp() == self._tried:
            return
        try:
            self.reload()
        except CertificateError as error:
            log.error("the certificates read before stay in use: %s", error)

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for path in self.files.paths:
            try:
                info = os.stat(path)
                found.append((info.st_mtime_ns, info.st_size, info.st_ino))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)

    def _load(self) -> Loaded:
        files = self.files
        contexts: list[ssl.SSLContext] = []
        by_name: dict[str, ssl.SSLContext] = {}
        untils: list[datetime] = []
        for certificate, key in files.pairs:
            known = _read_certificate(certificate)
            _tell_of_end(certificate, known)
            context = _make_context(files)
            load_pair(context, certificate, key, files.password)
            contexts.append(context)
            untils.append(known.until)
            for name in known.names:
                by_name.setdefault(name, context)
        loaded = Loaded(contexts[0], by_name, min(untils))
        contexts[0].sni_callback = _chooser(loaded)
        return loaded


def _chooser(loaded: Loaded) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def choose(secured: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name and isinstance(secured, NamedObject):
            secured.server_name = name
            context = loaded.find(name)
            if context is not loaded.first:
                secured.context = context

    return choose


def _make_context(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = NamedObject
    context.minimum_version = VERSIONS[files.least]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if files.ciphers:
        try:
            context.set_ciphers(files.ciphers)
        except ssl.SSLError:
            raise CertificateError(
                f"OpenSSL knows no cipher in {files.ciphers!r}; 'openssl ciphers' lists those of TLS 1.2, and those of "
                f"TLS 1.3 has no choice"
            ) from None
    if files.alpn:
        context.set_alpn_protocols(list(files.alpn))
    if files.authorities:
        try:
            where = {"capath" if os.path.isdir(files.authorities) else "cafile": files.authorities}
            context.load_verify_locations(**where)
        except OSError as error:  # SSLError is an OSError
            raise CertificateError(
                f"no authorities can be read from {files.authorities}: {why(error)}; take a PEM file of certificates, "
                f"or a folder prepared by 'openssl rehash'"
            ) from None
    context.verify_mode = REQUIREMENTS[files.clients]
    return context


def load_pair(context: ssl.SSLContext, certificate: str, key: str, password: str | None) -> None:
    """Load a certificate and its key. Raises CertificateError. Never prompts for a password, as OpenSSL would."""
    content = _read(key)
    if b"PRIVATE KEY-----" not in content:
        other = "name its key" if key == certificate else "name another file"
        raise CertificateError(f"{key} holds no private key in PEM (-----BEGIN PRIVATE KEY-----); {other} as keyfile")
    asked = False

    def answer() -> str:
        nonlocal asked
        asked = True
        return password or ""

    try:
        context.load_cert_chain(certificate, key, answer)
    except (ssl.SSLError, ValueError) as error:
        if asked and not password:
            raise CertificateError(f"the key in {key} is encrypted; give its password (keyfile_password)") from None
        reason = getattr(error, "reason", None) or ""
        if "MISMATCH" in reason:
            raise CertificateError(f"the key in {key} is not that of the certificate in {certificate}") from None
        if asked:
            raise CertificateError(f"the password (keyfile_password) does not open the key in {key}") from None
        raise CertificateError(f"{certificate} and {key} cannot be used: {why(error)}") from None


def _read_certificate(path: str) -> Certificate:
    try:
        return Certificate.from_pem(_read(path))
    except CertificateError:
        raise
    except ValueError as error:
        raise CertificateError(f"{path} is not a usable certificate: {error}") from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror or error}") from None


def _tell_of_end(path: str, known: Certificate) -> None:
    now = datetime.now(UTC)
    if known.until < now:
        log.warning("the certificate in %s expired on %s: clients will refuse it", path, known.until)
    elif known.begins > now:
        log.warning("the certificate in %s is not valid before %s: clients will refuse it", path, known.begins)
    elif known.until - now < _SOON:
        log.warning("the certificate in %s expires on %s", path, known.until)


def why(error: Exception) -> str:
    """The reason, in OpenSSL's or the system's words."""
    reason = getattr(error, "reason", None)
    return reason.lower().replace("_", " ") if reason else getattr(error, "strerror", None) or str(error)
