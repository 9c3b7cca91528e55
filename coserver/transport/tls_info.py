"""What the two sides of a TLS connection agreed on, and the peer's certificate: ``request.tls``."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .tls_engine import NamedObject


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The outcome of a TLS handshake.

    ``version`` is "TLSv1.3"; ``cipher`` is OpenSSL's name; ``alpn`` and ``server_name`` (SNI) are "" if there was none.

    ``certificate`` is the peer's verified certificate as ``ssl.SSLSocket.getpeercert`` returns it, None if it showed
    none. ``certificate_der`` is the same in bytes.
    """

    version: str
    cipher: str
    bits: int
    alpn: str
    server_name: str
    resumed: bool
    certificate: Mapping[str, Any] | None = field(repr=False, default=None)
    certificate_der: bytes | None = field(repr=False, default=None)

    @classmethod
    def of(cls, secured: ssl.SSLObject) -> TlsInfo:
        """Read an SSL object after its handshake."""
        name, _, bits = secured.cipher() or ("", "", 0)
        asked = secured.server_name if isinstance(secured, NamedObject) else secured.server_hostname
        shown = secured.getpeercert() or None
        der = secured.getpeercert(binary_form=True) if shown else None
        alpn = secured.selected_alpn_protocol() or ""
        return cls(
            secured.version() or "", name, bits or 0, alpn, asked or "", bool(secured.session_reused), shown, der
        )

    @property
    def peer_name(self) -> str:
        """The common name in the peer's certificate, "" if there is none."""
        return self._of_subject("commonName")

    @property
    def peer_names(self) -> tuple[str, ...]:
        """The names in the peer's certificate: hosts, IP addresses, mail addresses, URIs (RFC 5280 §4.2.1.6)."""
        return tuple(str(name) for _, name in (self.certificate or {}).get("subjectAltName", ()))

    def facts(self) -> dict[str, Any]:
        """Plain values, for snapshots."""
        return {
            "version": self.version,
            "cipher": self.cipher,
            "alpn": self.alpn,
            "server_name": self.server_name,
            "peer_name": self.peer_name,
        }

    def _of_subject(self, wanted: str) -> str:
        for part in (self.certificate or {}).get("subject", ()):
            for key, text in part:
                if key == wanted:
                    return str(text)
        return ""
