"""A listener's certificates: read from files, taken by the name that a client asks for, and read again when renewed.

A set is made whole or not at all, and put in the place of the one before in one step: connections that stand keep what
they were made with, and a file that is half written is tried again at the next look.
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

#: What is said of client certificates, and what OpenSSL calls it.
REQUIREMENTS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
#: Versions that may be the lowest. Older ones are broken (RFC 8996).
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: Whose end is so near is told of at each start; those of Let's Encrypt are renewed 30 days before.
_SOON = timedelta(days=7)
#: Bytes; a chain has 5,000.
_LARGEST = 1 << 20


class CertificateError(ValueError):
    """Files that no server can be made of; says which, why, and the way out."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a listener's TLS is made of; see ``app.tls.Tls`` for what each is. ``alpn`` names what is spoken."""

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
        """Each certificate's file, and its key's: the same one if no other is named."""
        return list(zip(self.certificates, self.keys or self.certificates, strict=True))

    @property
    def paths(self) -> list[str]:
        return [*dict.fromkeys([*self.certificates, *self.keys, *([self.authorities] if self.authorities else [])])]


@dataclass(frozen=True, slots=True)
class Loaded:
    """One set: contexts by name, and the first certificate's for every other; ``until`` the first of them expires."""

    first: ssl.SSLContext
    by_name: dict[str, ssl.SSLContext]
    until: datetime

    def find(self, name: str) -> ssl.SSLContext:
        """For the name itself, else for all names of its domain (RFC 6125 §6.4.3), else the first."""
        name = name.lower().rstrip(".")
        return self.by_name.get(name) or self.by_name.get(f"*.{name.partition('.')[2]}") or self.first


class Certificates:
    """Makes the engine of each connection. Raises CertificateError if there can be none. Any thread may reload."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._tried = self._stamp()
        self.loaded = self._load()

    def __repr__(self) -> str:
        return f"<Certificates {', '.join(self.files.certificates)} until {self.loaded.until:%Y-%m-%d}>"

    def engine(self) -> TlsEngine:
        """For a connection that has just come."""
        return TlsEngine(self.loaded.first, server_side=True)

    def reload(self) -> None:
        """Read the files again. Raises CertificateError, and then all stays as it was."""
        self._tried = self._stamp()
        self.loaded = self._load()
        log.info("certificates read again: %s, valid until %s", ", ".join(self.files.certificates), self.loaded.until)

    def reload_if_changed(self) -> None:
        """Read the files again if they have been written since the last look; what is wrong with them is logged."""
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
                f"1.3 are not chosen"
            ) from None
    if files.alpn:
        context.set_alpn_protocols(list(files.alpn))
    if files.authorities:
        try:
            where = {"capath" if os.path.isdir(files.authorities) else "cafile": files.authorities}
            context.load_verify_locations(**where)
        except OSError as error:  # of which SSLError is one
            raise CertificateError(
                f"no authorities can be read from {files.authorities}: {why(error)}; take a PEM file of certificates, "
                f"or a folder that 'openssl rehash' has gone over"
            ) from None
    context.verify_mode = REQUIREMENTS[files.clients]
    return context


def load_pair(context: ssl.SSLContext, certificate: str, key: str, password: str | None) -> None:
    """Raises CertificateError; never asks at the terminal, as OpenSSL would."""
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
        raise CertificateError(f"{certificate} and {key} are of no use: {why(error)}") from None


def _read_certificate(path: str) -> Certificate:
    try:
        return Certificate.from_pem(_read(path))
    except CertificateError:
        raise
    except ValueError as error:
        raise CertificateError(f"{path} is of no use as a certificate: {error}") from None


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
    """The reason in OpenSSL's or the system's words."""
    reason = getattr(error, "reason", None)
    return reason.lower().replace("_", " ") if reason else getattr(error, "strerror", None) or str(error)
