"""One TLS connection without I/O, server's or client's side: ciphertext in and out, plaintext out and in.

OpenSSL does the protocol, over memory (ssl.MemoryBIO); a stream or a poller brings the bytes. Nothing here waits. The
buffers of OpenSSL never shrink again, so they get and give one record at a time.
"""

from __future__ import annotations

import ssl

import anyio

#: The most bytes of plaintext in a TLS record (RFC 8446 §5.1).
RECORD = 16 * 1024
#: Bytes of ciphertext given to OpenSSL at once: a whole record with its head, padding and tag (RFC 5246 §6.2.3).
_PORTION = RECORD + 2048 + 5
#: CPython before 3.11.4 lets OpenSSL 3 take a cut for an end, as OpenSSL 1.1 did.
_CUT_IS_END = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)

#: Clearer words for OpenSSL's reasons; "peer" is the other side, "we" this one.
REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no certificate, and one is required",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer refused our certificate: it does not trust who signed it",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer asks for a certificate of ours, and we have shown none",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refused our certificate, and does not say why",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer refused our certificate: it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the peer refused our certificate: it has been revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refused our certificate: it is not valid, or names another host",
    "TLSV1_ALERT_DECRYPT_ERROR": "the peer refused our certificate's signature",
    "TLSV1_ALERT_ACCESS_DENIED": "the peer refused our certificate: access denied",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer speaks no version of TLS that we do",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the peer speaks no application protocol that we do (ALPN)",
    "TLSV1_UNRECOGNIZED_NAME": "the peer knows no server of the name that we asked for",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refused our handshake",
    "UNSUPPORTED_PROTOCOL": "the peer offers no version of TLS that we speak",
    "VERSION_TOO_LOW": "the peer offers no version of TLS that we speak",
    "NO_SHARED_CIPHER": "the peer offers no cipher that we take",
    "WRONG_VERSION_NUMBER": "the peer sent bytes that are no TLS",
    "WRONG_SSL_VERSION": "the peer sent bytes that are no TLS",
    "UNKNOWN_PROTOCOL": "the peer sent bytes that are no TLS",
    "HTTP_REQUEST": "the peer sent plain HTTP",
    "HTTPS_PROXY_REQUEST": "the peer sent plain HTTP",
}


class TlsError(anyio.BrokenResourceError):
    """TLS cannot go on. ``str`` says why, and which side is at fault; ``reason`` is OpenSSL's word, or ""."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class TlsCut(TlsError):
    """The peer's bytes ended without a close-notify, so more bytes may be missing (RFC 8446 §6.1)."""

    def __init__(self, message: str = "the connection was cut: no close-notify came") -> None:
        super().__init__(message, "UNEXPECTED_EOF_WHILE_READING")


class NamedObject(ssl.SSLObject):
    """An SSL object that keeps the name that a client asked for (SNI)."""

    server_name: str = ""


class TlsEngine:
    """``ended``: the peer's close-notify has come. The peer sends no more, and may still receive.

    After each ``handshake``, ``read``, ``write`` and ``close``, also after one that failed, send what ``take`` returns.
    """

    __slots__ = ("_early", "_incoming", "_outgoing", "_read", "_rest", "_write", "ended", "object")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool = False, server_hostname: str | None = None
    ) -> None:
        if context.options & _CUT_IS_END:
            context.options &= ~_CUT_IS_END
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._read, self._write = self.object.read, self.object.write
        self._rest = memoryview(b"")  # ciphertext not yet given to OpenSSL
        self._early = b""  # plaintext that came before it was asked for
        self.ended = False

    def __repr__(self) -> str:
        return f"<TlsEngine {self.object.version() or 'before its handshake'}{', ended' if self.ended else ''}>"

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the peer. All that was fed before must have been read."""
        if len(data) > _PORTION or self._rest:
            self._rest = memoryview(bytes(self._rest) + data)
            self._feed_more()
        else:
            self._incoming.write(data)

    def feed_eof(self) -> None:
        """Note that the peer sends no more bytes."""
        self._incoming.write_eof()

    def handshake(self) -> bool:
        """Continue the handshake: true when it is done, false if it needs more from the peer. Raises TlsError."""
        while True:
            try:
                self.object.do_handshake()
            except ssl.SSLWantReadError:
                if not self._feed_more():
                    return False
            except ssl.SSLError as error:
                raise _told(error) from error
            except ssl.CertificateError as error:  # a name that does not match, in older Pythons
                raise TlsError(f"the peer's certificate is refused: {error}") from error
            else:
                return True

    @property
    def readable(self) -> bool:
        """Whether ``read`` may return something without another ``feed``."""
        return bool(self._incoming.pending or self._early or self._rest or self.object.pending())

    def read(self, max_bytes: int = RECORD) -> bytes:
        """The plaintext of one record at most; empty if it needs more from the peer, or has ``ended``. Raises TlsError.

        Raises TlsCut if the peer's bytes end without a close-notify.
        """
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        if self.ended:
            return b""
        while True:
            try:
                data = self._read(max_bytes if max_bytes < RECORD else RECORD)  # OpenSSL makes room for as many
            except ssl.SSLWantReadError:
                if not self._feed_more():
                    return b""
            except ssl.SSLZeroReturnError:
                self.ended = True
                return b""
            except ssl.SSLError as error:
                raise _told(error) from error
            else:
                if not data:
                    self.ended = True
                return data

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt one record at most, and return the number of bytes. Raises TlsError."""
        try:
            return self._write(data if len(data) <= RECORD else data[:RECORD])
        except ssl.SSLError as error:
            raise _told(error) from error

    def take(self) -> bytes:
        """The ciphertext to send, empty if there is none."""
        return self._outgoing.read()

    @property
    def pending(self) -> int:
        """The number of bytes that ``take`` would return."""
        return self._outgoing.pending

    def close(self) -> None:
        """Write the close-notify: nothing more will be written. A second call does nothing, nor does one after an
        error.

        The peer may go on; ``read`` still returns what it sends.
        """
        try:
            # OpenSSL looks for the peer's own close-notify at once, and fails on data in its place.
            while data := self._read(RECORD):
                self._early += data
        except ssl.SSLError:
            pass
        else:
            self.ended = True
        try:
            self.object.unwrap()
            self.ended = True
        except (ssl.SSLError, ValueError):  # mostly SSLWantReadError: the peer has not answered, and need not
            pass

    def _feed_more(self) -> bool:
        """Give OpenSSL the next portion; false if there is none."""
        if not self._rest:
            return False
        self._incoming.write(self._rest[:_PORTION])
        self._rest = self._rest[_PORTION:]
        return True


def _told(error: ssl.SSLError) -> TlsError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(f"the peer's certificate is refused: {error.verify_message}", error.reason or "")
    reason = error.reason or ""
    if isinstance(error, ssl.SSLEOFError) or reason == "UNEXPECTED_EOF_WHILE_READING":  # the latter before 3.11.4
        return TlsCut()
    return TlsError(REASONS.get(reason) or f"TLS: {reason.lower().replace('_', ' ') or error}", reason)
